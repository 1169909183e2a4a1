from __future__ import annotations

import ast
import inspect
import json
import sys
from pathlib import Path

import pynvml_fake
import pytest
from pynvml_fake import Driver

from gaitedge.errors import MachineError, MissingPackage
from gaitedge.machine import nvml
from gaitedge.machine.nvml import GpuEnergy, GpuPower, read_gpu


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with NVIDIA's kernel module."""
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    return tmp_path


def use(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> Driver:
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return driver


def test_the_energy_counter_begins_at_0(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = use(monkeypatch, Driver())
    sensor = GpuEnergy()
    assert sensor.name == "NVML, total energy of GPU 0 (NVIDIA A2)"
    assert sensor.joules() == 0
    driver.answers["nvmlDeviceGetTotalEnergyConsumption"] = 5_012_500
    assert sensor.joules() == 12.5
    sensor.close()
    assert driver.opened == 0


def test_power_in_watts(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = use(monkeypatch, Driver())
    sensor = GpuPower()
    assert (sensor.name, sensor.watts()) == ("NVML, power of GPU 0 (NVIDIA A2)", 40.0)
    sensor.close()
    assert driver.opened == 0


def test_of_several_gpus_the_one_that_cuda_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Driver("00000000:01:00.0", "00000000:41:00.0"))
    assert GpuEnergy(lambda: "0000:41:00.0").name.startswith("NVML, total energy of GPU 1 ")
    with pytest.raises(MachineError, match="there are 2 GPUs, and CUDA does not say"):
        GpuEnergy(lambda: None)


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (
            Driver(nvmlInit=pynvml_fake.NVMLError_LibraryNotFound()),
            r"\(NVML Shared Library Not Found\): there is no NVIDIA driver here, or this container was",
        ),
        (Driver(nvmlInit=pynvml_fake.NVMLError_DriverNotLoaded()), r"does not answer \(Driver Not Loaded\)"),
        (Driver("none"), "the NVIDIA driver has no device"),
        (
            Driver(nvmlDeviceGetTotalEnergyConsumption=pynvml_fake.NVMLError_NotSupported()),
            "management library fails: Not Supported",
        ),
    ],
)
def test_no_counter_in_words(monkeypatch: pytest.MonkeyPatch, driver: Driver, message: str) -> None:
    use(monkeypatch, driver)
    with pytest.raises(MachineError, match=message):
        GpuEnergy()
    assert driver.opened == 0


def test_a_gpu_that_is_lost_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = use(monkeypatch, Driver())
    sensor = GpuEnergy()
    driver.answers["nvmlDeviceGetTotalEnergyConsumption"] = pynvml_fake.NVMLError_GpuIsLost()
    with pytest.raises(MachineError, match="GPU is lost"):
        sensor.joules()


def test_clocks(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    driver = use(monkeypatch, Driver(nvmlDeviceGetCurrentClocksEventReasons=0x1 | 0x4 | 0x20))
    read = read_gpu(root)
    assert (
        json.loads(json.dumps(read))
        == read
        == {
            "name": "GPU 0 (NVIDIA A2)",
            "mhz": 1770,
            "mhz_limit": 1770,
            "memory_mhz": 6251,
            "temperature_c": 61,
            "power_limit_w": 60.0,
            "state": "P0",
            "slowed_by": ["power limit", "heat"],
            "held_back_s": {"power limit": 1.0, "heat": 2.0},
            "absent": {},
        }
    )
    assert driver.opened == 0


def test_what_a_device_does_not_tell_is_none_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    unsupported = pynvml_fake.NVMLError_NotSupported()
    use(
        monkeypatch,
        Driver(
            nvmlDeviceGetCurrentClocksEventReasons=unsupported,
            nvmlDeviceGetCurrentClocksThrottleReasons=unsupported,
            nvmlDeviceGetViolationStatus=unsupported,
            nvmlDeviceGetEnforcedPowerLimit=unsupported,
        ),
    )
    read = read_gpu(root)
    assert (read["slowed_by"], read["power_limit_w"]) == (None, None)
    assert read["held_back_s"] == {"power limit": None, "heat": None}
    names = {"slowed_by", "power_limit_w", "held_back_s.power limit", "held_back_s.heat"}
    assert read["absent"] == dict.fromkeys(names, "NVML says: Not Supported")


def test_an_older_driver_knows_the_reasons_by_their_first_name(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    use(
        monkeypatch,
        Driver(
            nvmlDeviceGetCurrentClocksEventReasons=pynvml_fake.NVMLError_NotSupported(),
            nvmlDeviceGetCurrentClocksThrottleReasons=0x8,
        ),
    )
    read = read_gpu(root)
    assert (read["slowed_by"], read["absent"]) == (["hardware slowdown"], {})


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a driver leaves no trace under /proc")
def test_without_a_driver_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not importable
    with pytest.raises(MachineError, match="no NVIDIA driver is loaded"):
        read_gpu(tmp_path)


def test_with_a_driver_the_package_is_named(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingPackage, match=r"pip install 'gaitedge\[cuda\]'"):
        read_gpu(root)


def names_used() -> set[str]:
    """Names of pynvml's that gaitedge.machine.nvml has, as attributes and in text."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(nvml))))
    words = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    words |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {word for word in words if word.startswith(("nvml", "NVML")) and word.isidentifier()}


def test_the_real_package_has_every_name() -> None:
    pynvml = pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    used = names_used() - {"nvml"}
    assert {"nvmlInit", "NVML_PERF_POLICY_THERMAL", "nvmlDeviceGetTotalEnergyConsumption"} < used
    assert sorted(name for name in used if not hasattr(pynvml, name)) == []
    values = {name: value for name, value in vars(pynvml_fake).items() if name.startswith(("NVML_", "nvml"))}
    assert values == {name: getattr(pynvml, name) for name in values}
    assert hasattr(pynvml.c_nvmlViolationTime_t, "violationTime")
    faked = {name for name in Driver().answers if name.startswith("nvml")}
    assert sorted(name for name in faked if not callable(getattr(pynvml, name, None))) == []


def test_the_real_package_without_a_driver(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    pynvml = pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        with pytest.raises(MachineError, match="there is no NVIDIA driver here"):
            read_gpu(root)
        return
    pynvml.nvmlShutdown()
    pytest.skip("this machine has a driver")
