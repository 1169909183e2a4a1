from __future__ import annotations

from pathlib import Path

import pytest

from gaitedge.errors import MachineError
from gaitedge.machine.rapl import find_rapl


def zone(root: Path, folder: str, name: str, microjoules: int, most: int = 262_143_328_850) -> Path:
    here = root / "sys/class/powercap" / folder
    here.mkdir(parents=True)
    (here / "name").write_text(f"{name}\n")
    (here / "max_energy_range_uj").write_text(f"{most}\n")
    counter = here / "energy_uj"
    counter.write_text(f"{microjoules}\n")
    return counter


def test_packages_and_their_memory_and_nothing_twice(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 500_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    for folder, name in (
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ):
        zone(tmp_path, folder, name, 0)
    sensor = find_rapl(tmp_path)
    assert sensor.name == "RAPL, package-0 + package-0 dram + package-1"
    assert sensor.joules() == 0
    first.write_text("3000000\n")
    memory.write_text("750000\n")
    second.write_text("7000001\n")
    assert sensor.joules() == pytest.approx(2.250001)


def test_a_counter_that_runs_over(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, most=10_000_000)
    sensor = find_rapl(tmp_path)
    read = [sensor.joules()]
    for microjoules in (9_500_000, 250_000, 5_000_000, 1_000_000):
        counter.write_text(f"{microjoules}\n")
        read.append(sensor.joules())
    assert read == [0, 0.5, 1.25, 6.0, 12.0]


def test_it_is_read_before_it_can_run_over_twice(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    assert find_rapl(tmp_path).interval_s == 10.0
    zone(tmp_path, "intel-rapl:0:0", "dram", 0, most=1_000_000_000)
    assert find_rapl(tmp_path).interval_s == 0.5


def test_a_counter_that_runs_over_an_unknown_range(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    (counter.parent / "max_energy_range_uj").unlink()
    sensor = find_rapl(tmp_path)
    sensor.joules()
    counter.write_text("9000001\n")
    assert sensor.joules() == pytest.approx(1e-6)
    counter.write_text("5\n")
    with pytest.raises(MachineError, match="energy_uj ran over, and its range is not known"):
        sensor.joules()


def test_a_counter_that_goes(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    sensor = find_rapl(tmp_path)
    counter.unlink()
    with pytest.raises(MachineError, match="energy_uj cannot be read any more"):
        sensor.joules()


def test_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(
        MachineError, match=r"permission denied\); run as root, .* sudo chmod a\+r /sys/class"
    ):
        find_rapl(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [("fpu sse hypervisor", "this is a virtual machine"), ("fpu sse", "sudo modprobe intel_rapl_msr")],
)
def test_none_in_words(tmp_path: Path, flags: str, message: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"flags\t\t: {flags}\n")
    with pytest.raises(MachineError, match=message):
        find_rapl(tmp_path)
