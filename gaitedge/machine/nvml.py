"""What a GPU takes and how fast it runs, by NVIDIA's management library through the package nvidia-ml-py.

Source: NVIDIA's NVML API Reference Guide.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gaitedge.errors import MachineError, require
from gaitedge.machine.cuda_driver import first_bus_id

__all__ = ["GpuEnergy", "GpuPower", "nvml", "open_gpu", "read_gpu"]

# Reasons that slow a GPU down; the others are idleness, a user's own setting, and a display's.
_SLOWING = {
    "nvmlClocksEventReasonSwPowerCap": "power limit",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwThermalSlowdown": "heat",
    "nvmlClocksEventReasonHwThermalSlowdown": "heat, by hardware",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "external power brake",
}
_DRIVER = ("proc/driver/nvidia", "dev/nvidiactl", "dev/dxg")  # the last is Windows' subsystem for Linux


@contextlib.contextmanager
def nvml(why: str) -> Iterator[Any]:
    """The module `pynvml`, started. Raises MachineError where it is not there, or has no driver.

    Every error of NVML's inside of the block becomes a MachineError.
    """
    module = require("pynvml", why)
    try:
        module.nvmlInit()
        try:
            yield module
        finally:
            module.nvmlShutdown()
    except module.NVMLError as error:
        raise _said(module, error) from None


def _said(module: Any, error: Exception) -> MachineError:
    if isinstance(error, (module.NVMLError_LibraryNotFound, module.NVMLError_DriverNotLoaded)):
        return MachineError(
            f"NVIDIA's management library does not answer ({error}): there is no NVIDIA driver here, or this "
            "container was started without the GPU; see gaitedge doctor"
        )
    return MachineError(f"NVIDIA's management library fails: {error}")


def open_gpu(module: Any, bus_id: Callable[[], str | None] | None = None) -> tuple[Any, int]:
    """NVML's handle and number of the device that CUDA calls 0, on which our engines run.

    The two count differently: CUDA puts the fastest first, and leaves out what CUDA_VISIBLE_DEVICES does.
    bus_id: asks CUDA for the device's place on the bus; only called where there are several.
    """
    count = module.nvmlDeviceGetCount()
    if count == 1:
        return module.nvmlDeviceGetHandleByIndex(0), 0
    if count == 0:
        raise MachineError("the NVIDIA driver has no device")
    place = (bus_id or _bus_id)()
    if place is None:
        raise MachineError(
            f"there are {count} GPUs, and CUDA does not say which one it uses; see gaitedge doctor"
        )
    handle = module.nvmlDeviceGetHandleByPciBusId(place)
    return handle, module.nvmlDeviceGetIndex(handle)


@functools.cache
def _bus_id() -> str | None:
    return first_bus_id()  # a process each time, and the answer stays


class _Gpu:
    """NVML held open on one device."""

    _kind: str

    def __init__(self, bus_id: Callable[[], str | None] | None = None) -> None:
        self._open = contextlib.ExitStack()
        self._nvml = self._open.enter_context(nvml("measuring a GPU's energy"))
        try:
            self._handle, index = open_gpu(self._nvml, bus_id)
            self.name = f"NVML, {self._kind} of GPU {index} ({self._nvml.nvmlDeviceGetName(self._handle)})"
            self._value()  # not every device has it
        except self._nvml.NVMLError as error:
            self._open.close()
            raise _said(self._nvml, error) from None
        except BaseException:
            self._open.close()
            raise

    def _value(self) -> int:
        raise NotImplementedError

    def _read(self) -> int:
        try:
            return self._value()
        except self._nvml.NVMLError as error:
            raise _said(self._nvml, error) from None

    def close(self) -> None:
        """Let go of NVML."""
        self._open.close()


class GpuEnergy(_Gpu):
    """The GPU's own counter of energy, which Volta and newer ones have: every 20 to 100 ms a step."""

    interval_s = 60.0  # 64 bits of millijoules do not run over
    _kind = "total energy"

    def __init__(self, bus_id: Callable[[], str | None] | None = None) -> None:
        super().__init__(bus_id)
        self._first: int | None = None

    def _value(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def joules(self) -> float:
        """Since the first call. Raises MachineError where NVML fails."""
        value = self._read()
        if self._first is None:
            self._first = value
        return (value - self._first) / 1e3


class GpuPower(_Gpu):
    """The GPU's power, where it counts no energy. Some devices give the mean of the last second."""

    _kind = "power"

    def _value(self) -> int:
        return int(self._nvml.nvmlDeviceGetPowerUsage(self._handle))

    def watts(self) -> float:
        """At the moment. Raises MachineError where NVML fails."""
        return self._read() / 1e3


def read_gpu(root: Path = Path("/"), bus_id: Callable[[], str | None] | None = None) -> dict[str, Any]:
    """Clocks, heat and what slows the GPU down. Raises MachineError where there is none to ask."""
    if sys.platform == "linux" and not any((root / path).exists() for path in _DRIVER):
        raise MachineError("no NVIDIA driver is loaded")
    with nvml("reading a GPU's clocks") as module:
        gpu, index = open_gpu(module, bus_id)

        name = module.nvmlDeviceGetName(gpu)  # the rest may be unknown to a device, this is not
        absent: dict[str, str] = {}

        def asked(key: str, question: str, *arguments: Any) -> Any:
            """NVML's answer, or None where this device or driver has none to that question."""
            try:
                answer = getattr(module, question)(gpu, *arguments)
            except module.NVMLError as error:
                absent[key] = f"NVML says: {error}"
                return None
            absent.pop(key, None)
            return answer

        reasons = asked("slowed_by", "nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # a driver before R535 knows them by their first name
            reasons = asked("slowed_by", "nvmlDeviceGetCurrentClocksThrottleReasons")
        held_back = {}
        for text, policy in (("power limit", "NVML_PERF_POLICY_POWER"), ("heat", "NVML_PERF_POLICY_THERMAL")):
            status = asked(f"held_back_s.{text}", "nvmlDeviceGetViolationStatus", getattr(module, policy))
            held_back[text] = None if status is None else status.violationTime / 1e9  # nanoseconds
        limit = asked("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit")
        state = asked("state", "nvmlDeviceGetPerformanceState")
        return {
            "name": f"GPU {index} ({name})",
            "mhz": asked("mhz", "nvmlDeviceGetClockInfo", module.NVML_CLOCK_SM),
            "mhz_limit": asked("mhz_limit", "nvmlDeviceGetMaxClockInfo", module.NVML_CLOCK_SM),
            "memory_mhz": asked("memory_mhz", "nvmlDeviceGetClockInfo", module.NVML_CLOCK_MEM),
            "temperature_c": asked("temperature_c", "nvmlDeviceGetTemperature", module.NVML_TEMPERATURE_GPU),
            "power_limit_w": None if limit is None else limit / 1e3,
            "state": None if state is None else f"P{state}",
            "slowed_by": None if reasons is None else _slowing(module, reasons),
            "held_back_s": held_back,
            "absent": absent,
        }


def _slowing(module: Any, reasons: int) -> list[str]:
    return [text for name, text in _SLOWING.items() if reasons & getattr(module, name)]
