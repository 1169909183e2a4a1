"""TensorRT's timings of kernels, kept between builds, so that they need not be taken again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gaitedge.files import atomic_write, user_cache
from gaitedge.machine.cuda_driver import CudaDevice

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["default_cache", "keep_cache", "use_cache"]


def default_cache(device: CudaDevice, version: str) -> Path | None:
    """Where the timings for this GPU and this version of TensorRT lie, in the user's cache; None without."""
    folder = user_cache("timing")
    name = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-") or "gpu"
    major, minor = device.compute_capability
    return folder and folder / f"{name}-sm{major}{minor}-tensorrt-{version}.cache"


def use_cache(config: trt.IBuilderConfig, path: Path | None) -> None:
    """Give a build the timings at `path`; none where there are none, or none that TensorRT takes.

    TensorRT itself refuses what is damaged, of another GPU or of another version; such a file is
    replaced after the build.
    """
    try:
        data = b"" if path is None else path.read_bytes()
    except OSError:
        data = b""  # not there yet, or not to be read: a cache saves time and nothing else
    cache: trt.ITimingCache | None = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, False):
        fresh: trt.ITimingCache = config.create_timing_cache(b"")
        config.set_timing_cache(fresh, False)


def keep_cache(data: bytes, path: Path) -> None:
    """Write what ITimingCache.serialize gave, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(data)
