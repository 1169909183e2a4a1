"""How fast an engine is on this machine: latency and throughput over batch sizes and lengths."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaitedge.engines import Engine
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import InputError
from gaitedge.profiling.figures import percentile

__all__ = ["Measurement", "bench"]

_INPUTS = 4  # different ones for each shape, taken in turn


@dataclass(frozen=True)
class Measurement:
    """Latency of one shape: milliseconds from silhouettes to embeddings, both in the host's memory."""

    batch: int
    frames: int
    runs: int
    min_ms: float
    mean_ms: float
    median_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    first_run_ms: float
    """The first run at this shape, which allocates; in none of the other figures."""
    sequences_per_second: float
    """From the mean, one call after the other."""
    frames_per_second: float


def bench(
    engine: Engine,
    batches: Sequence[int] = (1,),
    frames: Sequence[int] = (30,),
    warmup_s: float = 0.2,
    seconds: float = 1.0,
    minimum_runs: int = 10,
    seed: int = 0,
    progress: Callable[[Measurement], None] | None = None,
) -> list[Measurement]:
    """Measure an engine at every batch size with every length.

    Each shape warms up for `warmup_s` and then runs for `seconds`, at least `minimum_runs` times.
    progress: called with each result. Raises InputError where a value is out of range.
    """
    for name, values in (("batches", batches), ("frames", frames)):
        if not values or min(values) < 1:
            raise InputError(f"{name} must be one or more numbers from 1 up, not {list(values)}")
    if warmup_s < 0 or seconds < 0 or minimum_runs < 1:
        raise InputError(
            f"a measurement needs no negative times and 1 run or more, "
            f"not warmup_s={warmup_s}, seconds={seconds}, minimum_runs={minimum_runs}"
        )
    rng = np.random.default_rng(seed)
    results = []
    for batch in batches:
        for length in frames:
            inputs = [draw_silhouettes(batch, length, rng) for _ in range(_INPUTS)]
            first = _run(engine, inputs, 0.0, 1)[0]
            _run(engine, inputs, warmup_s, 1)
            results.append(_measurement(batch, length, first, _run(engine, inputs, seconds, minimum_runs)))
            if progress is not None:
                progress(results[-1])
    return results


def _run(
    engine: Engine, inputs: Sequence[NDArray[np.uint8]], seconds: float, minimum_runs: int
) -> list[float]:
    """Milliseconds of each run."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < minimum_runs or time.perf_counter() < end:
        silhouettes = inputs[len(times) % len(inputs)]
        start = time.perf_counter()
        engine.embed(silhouettes)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _measurement(batch: int, frames: int, first: float, times: list[float]) -> Measurement:
    times = sorted(times)
    mean = sum(times) / len(times)
    return Measurement(
        batch=batch,
        frames=frames,
        runs=len(times),
        min_ms=times[0],
        mean_ms=mean,
        median_ms=float(np.median(times)),
        p90_ms=percentile(times, 90),
        p95_ms=percentile(times, 95),
        p99_ms=percentile(times, 99),
        max_ms=times[-1],
        first_run_ms=first,
        sequences_per_second=batch * 1e3 / mean,
        frames_per_second=batch * frames * 1e3 / mean,
    )
