from __future__ import annotations

import sys
from pathlib import Path

import pytest
from machine_fake import orin, write

from gaitedge.machine.jetson_state import power_mode, read_jetson

NOBODY = ("no-such-nvpmodel",)


@pytest.mark.parametrize("held", [False, True])
def test_an_orin(tmp_path: Path, held: bool) -> None:
    assert read_jetson(orin(tmp_path, held=held), NOBODY) == (
        {
            "power_mode": "MODE_10W (1)",
            "clocks_held": held,
            "gpu_mhz": 612.0,
            "gpu_mhz_limit": 624.75,
            "memory_mhz": 2133.0,
            "overcurrents": 7,
        },
        {},
    )


def test_nothing_can_be_read(tmp_path: Path) -> None:
    """In a container, say."""
    values, absent = read_jetson(tmp_path, NOBODY)
    assert set(values.values()) == {None}
    assert set(absent) == set(values) - {"gpu_mhz_limit"}
    assert "sudo nvpmodel -q" in absent["power_mode"]


@pytest.mark.parametrize(
    ("device", "is_the_gpu"),
    [("17000000.ga10b", True), ("gpu-gpc-0", True), ("17000000.gv11b", True), ("15480000.nvdec", False)],
)
def test_the_gpu_s_names(tmp_path: Path, device: str, is_the_gpu: bool) -> None:
    write(tmp_path / "sys/class/devfreq" / device / "cur_freq", 1_300_500_000)
    assert read_jetson(tmp_path, NOBODY)[0]["gpu_mhz"] == (1300.5 if is_the_gpu else None)


def test_the_mode_by_its_number_alone(tmp_path: Path) -> None:
    write(tmp_path / "var/lib/nvpmodel/status", "pmode:0002")
    assert power_mode(tmp_path, NOBODY) == "mode 2"


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ("NV Power Mode: MAXN_SUPER\\n2\\n", "MAXN_SUPER (2)"),
        ("NVPM WARN: fan mode is not set!\\nNV Power Mode: 15W\\n0", "15W (0)"),
        ("NV Power Mode: MAXN", "MAXN"),
        ("NVPM ERROR: no", None),
    ],
)
def test_nvpmodel_is_asked_where_it_left_no_file(tmp_path: Path, said: str, mode: str | None) -> None:
    assert power_mode(tmp_path, (sys.executable, "-c", f"print('{said}')")) == mode
