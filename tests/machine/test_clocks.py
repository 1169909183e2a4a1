from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from machine_fake import orin, write
from pynvml_fake import Driver, NVMLError_NotSupported

from gaitedge.machine.clocks import changes, read_clocks

CPU = "sys/devices/system/cpu"


def desktop(root: Path) -> Path:
    """An x86 machine of four logical processors with NVIDIA's driver."""
    for cpu, khz in enumerate((3_400_000, 800_000, 4_200_000, 1_200_000)):
        write(root / f"{CPU}/cpu{cpu}/cpufreq/scaling_cur_freq", khz)
        write(root / f"{CPU}/cpu{cpu}/cpufreq/scaling_min_freq", 800_000)
        write(root / f"{CPU}/cpu{cpu}/cpufreq/scaling_max_freq", 4_400_000)
        write(root / f"{CPU}/cpu{cpu}/cpufreq/scaling_governor", "powersave")
        write(root / f"{CPU}/cpu{cpu}/thermal_throttle/core_throttle_count", 3)
        write(root / f"{CPU}/cpu{cpu}/thermal_throttle/package_throttle_count", 1)
    for zone, (kind, heat) in enumerate((("acpitz", 27_800), ("x86_pkg_temp", 54_000), ("acpitz", 29_000))):
        write(root / f"sys/class/thermal/thermal_zone{zone}/type", kind)
        write(root / f"sys/class/thermal/thermal_zone{zone}/temp", heat)
    for number, (kind, state) in enumerate((("Processor", 0), ("Fan", 3), ("intel_powerclamp", -1))):
        write(root / f"sys/class/thermal/cooling_device{number}/type", kind)
        write(root / f"sys/class/thermal/cooling_device{number}/cur_state", state)
    tick = os.sysconf("SC_CLK_TCK")
    times = [second * tick for second in (100, 0, 20, 870, 4, 0, 1, 5, 60, 0)]
    write(root / "proc/stat", f"cpu  {' '.join(map(str, times))}\ncpu0 1 2 3 4 5 6 7 8 9 10")
    write(root / "proc/loadavg", "1.25 0.50 0.25 3/512 4242")
    (root / "proc/driver/nvidia").mkdir(parents=True)
    return root


def test_a_desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    read = read_clocks(desktop(tmp_path))
    assert json.loads(json.dumps(read)) == read
    assert read["cpu"] == {
        "mhz": 2400.0,
        "mhz_lowest": 800.0,
        "mhz_highest": 4200.0,
        "mhz_floor": 800.0,
        "mhz_limit": 4400.0,
        "governor": "powersave",
        "throttles": 16,
        "load": [1.25, 0.5, 0.25],
        "total_s": 1000.0,
        "steal_s": 5.0,
    }
    assert read["temperatures_c"] == {"acpitz": 27.8, "x86_pkg_temp": 54.0, "acpitz (thermal_zone2)": 29.0}
    assert read["cooling"] == {"Processor (cooling_device0)": 0, "intel_powerclamp (cooling_device2)": -1}
    assert read["gpu"]["mhz"] == 1770
    assert (read["jetson"], read["absent"]) == (None, {})


def test_a_gpu_s_gaps_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver(nvmlDeviceGetTemperature=NVMLError_NotSupported()))
    read = read_clocks(desktop(tmp_path))
    assert read["gpu"]["temperature_c"] is None
    assert read["absent"] == {"gpu.temperature_c": "NVML says: Not Supported"}


def test_a_jetson(tmp_path: Path) -> None:
    read = read_clocks(orin(tmp_path))
    assert read["jetson"]["power_mode"] == "MODE_10W (1)"
    assert read["absent"]["gpu"] == "a Jetson's is under jetson"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    read = read_clocks(tmp_path)
    assert set(read["cpu"].values()) == {None}
    assert (read["temperatures_c"], read["cooling"], read["gpu"], read["jetson"]) == ({}, {}, None, None)
    known = {"cpu.mhz", "cpu.throttles", "cpu.load", "cpu.steal_s", "temperatures_c", "gpu"}
    assert set(read["absent"]) == known
    assert changes(read, read) == []


def test_a_sleeping_sensor_is_left_out(tmp_path: Path) -> None:
    """A GPU that is off has a zone, and no temperature."""
    write(tmp_path / "sys/class/thermal/thermal_zone0/type", "gpu-thermal")
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").mkdir()  # reading it is an error
    assert read_clocks(tmp_path)["temperatures_c"] == {}


def moved(read: dict[str, Any], *path: str, to: object) -> dict[str, Any]:
    after = copy.deepcopy(read)
    place = after
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return after


@pytest.mark.parametrize(
    ("path", "to", "line"),
    [
        (["cpu", "mhz_highest"], 4000.0, None),  # 4.8 %
        (["cpu", "mhz_highest"], 3000.0, "the clock of the fastest core moved from 4200 to 3000 MHz (-29%)"),
        (["cpu", "mhz_highest"], None, None),
        (["cpu", "mhz"], 3000.0, None),  # idle cores come and go
        (
            ["cpu", "mhz_limit"],
            2200.0,
            "the limit of the processor's clock moved from 4400 to 2200 MHz (-50%)",
        ),
        (
            ["cpu", "governor"],
            "performance",
            "the processor's governor changed from powersave to performance",
        ),
        (["cpu", "throttles"], 18, "the processor was throttled for heat, 2 times"),
        (
            ["cooling", "Processor (cooling_device0)"],
            2,
            "Processor (cooling_device0) slows down what it cools, by 2 steps",
        ),
        (["gpu", "mhz"], 1410, "the GPU's clock moved from 1770 to 1410 MHz (-20%)"),
        (["gpu", "memory_mhz"], 405, "its memory's clock moved from 6251 to 405 MHz (-94%)"),
        (["gpu", "slowed_by"], ["heat", "power limit"], "the GPU is slowed down by: heat, power limit"),
        (["gpu", "held_back_s", "heat"], 2.75, "the GPU was held back for 0.75 s by: heat"),
        (["gpu", "held_back_s", "heat"], None, None),
        (["gpu", "temperature_c"], 80, None),
        (["gpu"], None, None),
    ],
)
def test_changes_of_a_desktop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: list[str], to: object, line: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    before = read_clocks(desktop(tmp_path))
    assert changes(before, before) == []
    assert changes(before, moved(before, *path, to=to)) == ([] if line is None else [line])


@pytest.mark.parametrize(("stolen", "lines"), [(0.5, 0), (1.0, 1), (25.0, 1)])
def test_neighbours(tmp_path: Path, stolen: float, lines: int) -> None:
    before = read_clocks(desktop(tmp_path))
    after = moved(moved(before, "cpu", "total_s", to=1100.0), "cpu", "steal_s", to=5.0 + stolen)
    said = changes(before, after)
    assert len(said) == lines
    assert said == [f"neighbours of this virtual machine took {stolen:.1f}% of its processors' time"] * lines


@pytest.mark.parametrize(
    ("key", "to", "line"),
    [
        ("gpu_mhz", 306.0, "the GPU's clock moved from 612 to 306 MHz (-50%)"),
        ("memory_mhz", 665.6, "the memory's clock moved from 2133 to 666 MHz (-69%)"),
        ("power_mode", "MAXN (0)", "the power mode changed from MODE_10W (1) to MAXN (0)"),
        ("overcurrents", 8, "the module was throttled for its current, 1 times"),
        ("overcurrents", None, None),
    ],
)
def test_changes_of_a_jetson(tmp_path: Path, key: str, to: object, line: str | None) -> None:
    before = read_clocks(orin(tmp_path))
    assert changes(before, before) == []
    assert changes(before, moved(before, "jetson", key, to=to)) == ([] if line is None else [line])
