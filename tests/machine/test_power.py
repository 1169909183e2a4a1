from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Literal

import pytest
from machine_fake import monitor, orin, orin_rails, write
from pynvml_fake import Driver, NVMLError_LibraryNotFound, NVMLError_NotSupported

from gaitedge.errors import MachineError, MissingPackage
from gaitedge.machine import power
from gaitedge.machine.power import Integrated, find_sensor, meter


def test_power_over_time_by_trapezoids() -> None:
    times, watts = iter((10.0, 11.0, 11.5, 14.0)), iter((2.0, 4.0, 4.0, 0.0))
    sensor = Integrated("mine", lambda: next(watts), clock=lambda: next(times))
    assert [sensor.joules() for _ in range(4)] == [0, 3.0, 5.0, 10.0]


class Counting:
    """Gives a joule a reading, and says when it was read so often."""

    name = "mine"
    interval_s = 0.001

    def __init__(self, stops_after: int = 10**9) -> None:
        self.readings = 0
        self.stops_after = stops_after
        self.read_often = threading.Event()

    def joules(self) -> float:
        self.readings += 1
        if self.readings >= 5:
            self.read_often.set()
        if self.readings > self.stops_after:
            raise MachineError("it is gone")
        return float(self.readings)

    def close(self) -> None:
        pass


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "energy"]


def test_it_is_read_while_the_work_runs() -> None:
    sensor, times = Counting(), iter((5.0, 7.5))
    done = meter(sensor, lambda: sensor.read_often.wait(60), lambda: next(times))
    assert (done.result, done.seconds) == (True, 2.5)
    assert done.joules == sensor.readings - 1 >= 5  # the first of them was at the beginning
    assert running() == []


def test_a_sensor_that_stops_on_the_way() -> None:
    sensor = Counting(stops_after=4)
    with pytest.raises(MachineError, match="it is gone"):
        meter(sensor, lambda: sensor.read_often.wait(60))
    assert running() == []


def test_work_that_fails_ends_the_reading() -> None:
    with pytest.raises(ZeroDivisionError):
        meter(Counting(), lambda: 1 // 0)
    assert running() == []


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_jetson_s_whole_module(tmp_path: Path, device: Literal["cpu", "gpu"]) -> None:
    orin_rails(orin(tmp_path))
    sensor = find_sensor(device, tmp_path)
    assert sensor.name == "INA3221, VDD_IN"
    assert sensor.interval_s <= 0.1
    sensor.joules()
    sensor.close()


def test_an_agx_orin_s_rails_are_summed_up(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit")
    rails: dict[str, object] = {}
    for channel, name in enumerate(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), 1):
        rails |= {f"in{channel}_label": name, f"in{channel}_input": 5000, f"curr{channel}_input": 1000}
    monitor(tmp_path, 1, "ina3221", **rails)
    sensor = find_sensor("gpu", tmp_path)
    assert isinstance(sensor, Integrated)
    assert sensor.name == "INA3221, VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
    assert sensor._watts() == 15.0


class Stats:
    rails = ("VDD_IN",)
    closed = False

    def watts(self) -> float:
        return 5.0

    def close(self) -> None:
        Stats.closed = True


def test_a_jetson_without_monitors_asks_tegrastats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "Tegrastats", Stats)
    sensor = find_sensor("gpu", orin(tmp_path))
    assert (sensor.name, sensor.joules()) == ("tegrastats, VDD_IN", 0)
    sensor.close()
    assert Stats.closed


def test_a_jetson_with_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"shows no power monitor .*, and tegrastats could not be started"):
        find_sensor("cpu", orin(tmp_path))


def test_a_processor(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    for name, text in (("name", "package-0"), ("energy_uj", 5), ("max_energy_range_uj", 10)):
        write(zone / name, text)
    assert find_sensor("cpu", tmp_path).name == "RAPL, package-0"


def test_a_gpu_by_its_counter_and_else_by_its_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    sensor = find_sensor("gpu", tmp_path)
    assert sensor.name == "NVML, total energy of GPU 0 (NVIDIA A2)"
    sensor.close()
    driver.answers["nvmlDeviceGetTotalEnergyConsumption"] = NVMLError_NotSupported()
    sensor = find_sensor("gpu", tmp_path)
    assert (sensor.name, sensor.joules()) == ("NVML, power of GPU 0 (NVIDIA A2)", 0)
    sensor.close()
    assert driver.opened == 0


def test_no_gpu_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver(nvmlInit=NVMLError_LibraryNotFound()))
    with pytest.raises(MachineError, match="there is no NVIDIA driver here"):
        find_sensor("gpu", tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingPackage, match=r"measuring a GPU's energy needs pynvml.*gaitedge\[cuda\]"):
        find_sensor("gpu", tmp_path)
