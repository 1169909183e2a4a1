"""A fixed piece of work that needs no engine: what the machine itself was up to, beside a measurement."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

__all__ = ["control_times"]

_SIDE = 512  # of two float32 matrices, whose product is some milliseconds of arithmetic
_COPIED = 4 << 20  # bytes
_RUNS = 3


def control_times(clock: Callable[[], int] = time.perf_counter_ns) -> list[float]:
    """Milliseconds of the work, a few times over: a matrix product and a copy, with NumPy's threads."""
    rng = np.random.default_rng(0)
    left, right = (rng.random((_SIDE, _SIDE), np.float32) for _ in range(2))
    product, source = np.empty_like(left), np.ones(_COPIED, np.uint8)
    target = np.empty_like(source)
    times = []
    for _ in range(_RUNS + 1):
        before = clock()
        np.matmul(left, right, out=product)
        np.copyto(target, source)
        times.append((clock() - before) / 1e6)
    return times[1:]  # the first one wakes NumPy's threads, and touches its memory
