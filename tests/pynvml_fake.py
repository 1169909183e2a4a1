"""A `pynvml` that answers as NVML has been documented to; tests/machine/test_nvml.py holds its names against
the real one."""

from __future__ import annotations

from types import SimpleNamespace

NVML_CLOCK_SM = 1
NVML_CLOCK_MEM = 2
NVML_TEMPERATURE_GPU = 0
NVML_PERF_POLICY_POWER = 0
NVML_PERF_POLICY_THERMAL = 1
nvmlClocksEventReasonGpuIdle = 0x1  # noqa: N816
nvmlClocksEventReasonSwPowerCap = 0x4  # noqa: N816
nvmlClocksEventReasonHwSlowdown = 0x8  # noqa: N816
nvmlClocksEventReasonSwThermalSlowdown = 0x20  # noqa: N816
nvmlClocksEventReasonHwThermalSlowdown = 0x40  # noqa: N816
nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80  # noqa: N816


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801
    def __str__(self) -> str:
        return "NVML Shared Library Not Found"


class NVMLError_DriverNotLoaded(NVMLError):  # noqa: N801
    def __str__(self) -> str:
        return "Driver Not Loaded"


class NVMLError_NotSupported(NVMLError):  # noqa: N801
    def __str__(self) -> str:
        return "Not Supported"


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801
    def __str__(self) -> str:
        return "GPU is lost"


class Driver:
    """One module's worth of a fake: as `sys.modules["pynvml"]`, with devices by their bus."""

    def __init__(self, *buses: str, **answers: object) -> None:
        for name, value in globals().items():
            if name.lower().startswith("nvml"):
                setattr(self, name, value)
        self.buses = buses or ("00000000:01:00.0",)
        self.opened = 0
        self.answers: dict[str, object] = {
            "nvmlDeviceGetName": "NVIDIA A2",
            "nvmlDeviceGetTotalEnergyConsumption": 5_000_000,  # millijoules
            "nvmlDeviceGetPowerUsage": 40_000,  # milliwatts
            "nvmlDeviceGetEnforcedPowerLimit": 60_000,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPerformanceState": 0,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x1,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x1,
            "nvmlDeviceGetClockInfo": lambda kind: {NVML_CLOCK_SM: 1770, NVML_CLOCK_MEM: 6251}[kind],
            "nvmlDeviceGetMaxClockInfo": lambda kind: {NVML_CLOCK_SM: 1770}[kind],
            "nvmlDeviceGetViolationStatus": lambda policy: SimpleNamespace(
                violationTime=(policy + 1) * 10**9, referenceTime=1
            ),
            **answers,
        }

    def nvmlInit(self) -> None:  # noqa: N802
        self._raise("nvmlInit")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        assert self.opened > 0
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.buses) if self.buses != ("none",) else 0

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return self.buses[index]

    def nvmlDeviceGetHandleByPciBusId(self, bus: str) -> str:  # noqa: N802
        (found,) = (each for each in self.buses if each.endswith(bus))
        return found

    def nvmlDeviceGetIndex(self, handle: str) -> int:  # noqa: N802
        return self.buses.index(handle)

    def _raise(self, name: str) -> None:
        if isinstance(error := self.answers.get(name), Exception):
            raise error

    def __getattr__(self, name: str) -> object:
        if name not in self.__dict__.get("answers", {}):
            raise AttributeError(name)

        def answer(handle: str, *arguments: object) -> object:
            assert self.opened > 0, f"{name} outside of nvmlInit"
            assert handle in self.buses
            self._raise(name)
            value = self.answers[name]
            return value(*arguments) if callable(value) else value

        return answer
