"""What a measurement was made on: processor, system, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from gaitedge import __version__
from gaitedge.machine.cpu import cpu_model, usable_cores

__all__ = ["environment"]

_PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino", "torch")


def environment() -> dict[str, Any]:
    """This machine, as JSON can hold it."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "logical_cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "gaitedge": __version__,
        "packages": {package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
