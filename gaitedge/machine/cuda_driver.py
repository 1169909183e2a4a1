"""Asks NVIDIA's driver which devices it has; run as a program, because a driver may crash or hang.

A driver that does not fit its kernel module, or one in a container without its device files, can end
the process that calls it or never return. So `probe_driver` starts this file as a process of its own,
which calls libcuda through ctypes and prints one JSON object. The file imports nothing of GaitEdge.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["CudaDevice", "CudaDriver", "first_bus_id", "free_memory", "probe_driver"]

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
# CUdevice_attribute, by cuda.h
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76

COMMAND = (sys.executable, "-I", __file__)  # -I: neither this folder nor the user's settings on the path
TIMEOUT = 30.0  # seconds; a driver that wakes a sleeping GPU takes several


@dataclass(frozen=True)
class CudaDevice:
    """One device that the driver offers."""

    name: str
    compute_capability: tuple[int, int]
    memory: int
    """In bytes."""
    multiprocessors: int


@dataclass(frozen=True)
class CudaDriver:
    """What the driver answered."""

    state: Literal["ok", "absent", "broken"]
    """"absent": no driver library. A driver without a device is "ok" and has no devices."""
    detail: str = ""
    """What is wrong, where something is."""
    cuda: tuple[int, int] | None = None
    """The newest CUDA version that the driver runs."""
    devices: tuple[CudaDevice, ...] = ()


def probe_driver(command: Sequence[str] = COMMAND, timeout: float = TIMEOUT) -> CudaDriver:
    """Ask the driver in a process of its own. Never raises: whatever goes wrong is "broken"."""
    from gaitedge.machine.isolation import run_apart  # here, for the program below has no gaitedge to import

    outcome = run_apart(command, timeout)
    if outcome.problem is not None:
        return CudaDriver("broken", f"the probe of the NVIDIA driver {outcome.problem}")
    try:
        answer: dict[str, Any] = json.loads(outcome.output)
        answer["devices"] = tuple(
            CudaDevice(**{**device, "compute_capability": tuple(device["compute_capability"])})
            for device in answer["devices"]
        )
        answer["cuda"] = answer["cuda"] and tuple(answer["cuda"])
        return CudaDriver(**answer)
    except (ValueError, KeyError, TypeError):
        return CudaDriver("broken", f"the probe of the NVIDIA driver answered {outcome.output!r:.80}")


def free_memory(command: Sequence[str] = (*COMMAND, "free"), timeout: float = TIMEOUT) -> int | None:
    """Bytes that are free on the first device, its context there already; None where it does not say.

    A process of its own asks that too: it needs a context, which nothing here shall hold.
    """
    from gaitedge.machine.isolation import run_apart

    outcome = run_apart(command, timeout)
    text = outcome.output.strip()
    return int(text) if outcome.problem is None and text.isdecimal() else None


def first_bus_id(command: Sequence[str] = (*COMMAND, "bus"), timeout: float = TIMEOUT) -> str | None:
    """Where on the PCI bus the first device is, as in "0000:01:00.0"; None where the driver does not say."""
    from gaitedge.machine.isolation import run_apart

    outcome = run_apart(command, timeout)
    return outcome.output.strip() or None if outcome.problem is None else None


def _ask(library: str = _LIBRARY) -> CudaDriver:
    """Call the driver in this process."""
    if sys.platform == "darwin":
        return CudaDriver("absent", "macOS has no NVIDIA driver")
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        # Not where a library that it depends on is missing: that one is named first then.
        if str(error).startswith(f"{library}: cannot open") or isinstance(error, FileNotFoundError):
            return CudaDriver("absent", f"no {library}")
        return CudaDriver("broken", f"{library} cannot be loaded: {error}")
    code = cuda.cuInit(0)
    version = ctypes.c_int()
    known = cuda.cuDriverGetVersion(ctypes.byref(version)) == 0
    newest = (version.value // 1000, version.value % 1000 // 10) if known else None
    if code == _NO_DEVICE:
        return CudaDriver("ok", "the driver has no device", newest)
    if code != 0:
        return CudaDriver("broken", f"cuInit fails: {_error(cuda, code)}", newest)
    count = ctypes.c_int()
    code = cuda.cuDeviceGetCount(ctypes.byref(count))
    if code != 0:
        return CudaDriver("broken", f"cuDeviceGetCount fails: {_error(cuda, code)}", newest)
    devices = []
    for index in range(count.value):
        device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
        numbers = {attribute: ctypes.c_int() for attribute in (_MULTIPROCESSORS, _MAJOR, _MINOR)}
        codes = [
            cuda.cuDeviceGet(ctypes.byref(device), index),
            cuda.cuDeviceGetName(name, len(name), device),
            cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
            *(
                cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
                for attribute, number in numbers.items()
            ),
        ]
        if any(codes):
            return CudaDriver("broken", f"device {index} fails: {_error(cuda, max(codes))}", newest)
        devices.append(
            CudaDevice(
                name.value.decode(errors="replace"),
                (numbers[_MAJOR].value, numbers[_MINOR].value),
                memory.value,
                numbers[_MULTIPROCESSORS].value,
            )
        )
    return CudaDriver("ok", "", newest, tuple(devices))


def _ask_free(library: str = _LIBRARY) -> int | None:
    """Make a context on the first device in this process, and ask for what is left."""
    cuda = ctypes.CDLL(library)
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    code = (  # each needs what the one before it did
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
        or cuda.cuCtxSetCurrent(context)
        or cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    )
    return None if code else free.value


def _ask_bus_id(library: str = _LIBRARY) -> str:
    """Ask for the first device's place in this process; needs no context."""
    cuda = ctypes.CDLL(library)
    device, place = ctypes.c_int(), ctypes.create_string_buffer(32)
    code = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetPCIBusId(place, len(place), device)
    )
    return "" if code else place.value.decode(errors="replace")


def _error(cuda: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    if cuda.cuGetErrorString(code, ctypes.byref(text)) == 0 and text.value:
        return f"{text.value.decode(errors='replace')} (error {code})"
    return f"error {code}"


if __name__ == "__main__":
    if sys.argv[1:] == ["free"]:
        sys.stdout.write(str(_ask_free()))
    elif sys.argv[1:] == ["bus"]:
        sys.stdout.write(_ask_bus_id())
    else:
        sys.stdout.write(json.dumps(dataclasses.asdict(_ask())))
