"""What each of the CUDA engine's launches computes, by the names that the graphs of our plugins have."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from gaitedge import cuda
from gaitedge.engines.timing import LayerTime

__all__ = ["add_up", "name_launches"]

_PRECISIONS = {cuda.FLOAT32: "fp32", cuda.FLOAT16: "fp16", cuda.INT8: "int8"}


def name_launches(launches: Sequence[ctypes.Structure], times: Sequence[float]) -> Iterator[LayerTime]:
    """A launch after the other. times: milliseconds of each. Chunks of frames have the same names."""
    fconv = 0
    for launch, ms in zip(launches, times, strict=True):
        kind = type(launch).__name__
        match launch:
            case cuda.FrameNetwork():
                yield LayerTime("frame_network", kind, ("network",), _PRECISIONS[launch.type], ms)
            case cuda.FocalConv():
                fconv += 1
                name = f"fconv{fconv}"
                yield LayerTime(name, kind, (name,), _PRECISIONS[launch.type], ms)
            case cuda.PartPool():
                fconv = 0
                yield LayerTime("hp", kind, ("hp",), _PRECISIONS[launch.type], ms)
            case cuda.MicroMotion():
                precision = _PRECISIONS[launch.weights.type]
                yield LayerTime("micro_motion", kind, ("motion", "fc"), precision, ms)
            case _:
                yield LayerTime(kind, kind, (), None, ms)


def add_up(times: Iterable[LayerTime]) -> list[LayerTime]:
    """Sum up what has the same name, in the order in which names came first."""
    sums: dict[str, LayerTime] = {}
    for time in times:
        before = sums.get(time.name)
        sums[time.name] = time if before is None else replace(time, ms=before.ms + time.ms)
    return list(sums.values())
