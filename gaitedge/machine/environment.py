"""What a measurement was made on: processor, memory, GPU, system, versions."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gaitedge import __version__
from gaitedge.machine.cpu import cpu_features, cpu_model, usable_cores
from gaitedge.machine.cuda_driver import CudaDriver, probe_driver
from gaitedge.machine.jetson import find_jetson
from gaitedge.machine.jetson_state import power_mode
from gaitedge.machine.sysfs import read_text

__all__ = ["environment"]

# A package and the distributions that may bring it.
_PACKAGES = {
    "numpy": ("numpy",),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "pycuda": ("pycuda",),
    "nvidia-ml-py": ("nvidia-ml-py",),
}


def environment(root: Path = Path("/"), driver: Callable[[], CudaDriver] = probe_driver) -> dict[str, Any]:
    """This machine, as JSON can hold it. What the system does not say is None.

    root: /proc, /sys and /etc are looked for below; driver: asks NVIDIA's, in a process of its own.
    """
    cpuinfo = root / "proc/cpuinfo"
    jetson, nvidia = find_jetson(root), driver()
    return {
        "cpu": cpu_model(cpuinfo),
        "cores": usable_cores(),
        "logical_cpus": os.cpu_count(),
        "memory_bytes": _memory(root),
        "governor": read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "virtual": _virtual(root, cpu_features(cpuinfo)),
        "nvidia_driver": {"state": nvidia.state, "detail": nvidia.detail, "cuda": _dotted(nvidia.cuda)},
        "gpus": [
            {
                "name": device.name,
                "compute_capability": _dotted(device.compute_capability),
                "memory_bytes": device.memory,
                "multiprocessors": device.multiprocessors,
            }
            for device in nvidia.devices
        ],
        "jetson": None if jetson is None else {**dataclasses.asdict(jetson), "power_mode": power_mode(root)},
        "system": platform.platform(),
        "python": platform.python_version(),
        "gaitedge": __version__,
        "packages": {package: _version(names) for package, names in _PACKAGES.items()},
    }


def _memory(root: Path) -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _virtual(root: Path, features: frozenset[str]) -> str | None:
    """Of a virtual machine its hypervisor or its maker, or "unknown"; None where nothing tells of one.

    x86's processors tell a guest by a flag. Arm's do not, and only the kernel may know.
    """
    hypervisor = read_text(root / "sys/hypervisor/type")
    if hypervisor is None and "hypervisor" not in features:
        return None
    return hypervisor or read_text(root / "sys/class/dmi/id/sys_vendor") or "unknown"


def _dotted(version: tuple[int, int] | None) -> str | None:
    return None if version is None else f"{version[0]}.{version[1]}"


def _version(names: tuple[str, ...]) -> str | None:
    """Of the first distribution that is installed."""
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None
