"""Times summed up by the rules of NVIDIA's trtexec."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gaitedge.errors import InputError

__all__ = ["Distribution", "percentile", "summarize"]


@dataclass(frozen=True)
class Distribution:
    """Times of one thing, in milliseconds."""

    runs: int
    min_ms: float
    mean_ms: float
    median_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    variation: float
    """The coefficient of variation: standard deviation over mean."""


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The percentile of ascending values by the rule of NVIDIA's trtexec.

    The largest value once the upper (100 - percent) % are left out, rounded down.
    """
    left_out = len(ordered) * (100 - percent) // 100
    return ordered[max(len(ordered) - 1 - left_out, 0)]


def summarize(times: Sequence[float]) -> Distribution:
    """Sum up times in milliseconds. Raises InputError where there is none."""
    if not times:
        raise InputError("there are no times to sum up")
    ordered = sorted(times)
    mean = statistics.fmean(ordered)
    return Distribution(
        runs=len(ordered),
        min_ms=ordered[0],
        mean_ms=mean,
        median_ms=statistics.median(ordered),
        p90_ms=percentile(ordered, 90),
        p95_ms=percentile(ordered, 95),
        p99_ms=percentile(ordered, 99),
        max_ms=ordered[-1],
        variation=statistics.pstdev(ordered, mean) / mean if mean else 0.0,
    )
