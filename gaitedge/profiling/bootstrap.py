"""Ratios of times with 95 % intervals, by a bootstrap that stays honest with a handful of starts.

Times of one process are alike: a run that was slow because of the clock or of where its memory lies is
followed by more of them, and the next start lies elsewhere. So the runs are no independent draws, and what
counts is how many starts there were. Samples come as a list of repeats, each a process's times in order.

The typical time of several repeats is the geometric mean of their medians. A median leaves the spikes of one
process out; the median of five medians would jump from one of them to the next, where a mean uses them all;
and a mean of logarithms makes the ratio of A to B the inverse of that of B to A.

The interval is a hierarchical bootstrap-t. Each resample draws repeats, and within each blocks of
consecutive runs (moving-block bootstrap, blocks of √n runs), takes the difference of the two means of
logarithms, and divides its distance from the measured one by its own standard error. The quantiles of that
t, times the measured standard error, are the interval (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, Sec. 12.5). Percentiles of the resampled ratios themselves are too narrow with five repeats.

Two or three repeats are too few to draw from: they are drawn from a normal distribution with their mean and
deviation instead, which gives Welch's interval.

A single repeat is cut into eight stretches of consecutive runs, which take the place of repeats. That says
nothing of what another start changes, and `Estimate.starts_repeated` is False then.

What it is worth, by simulation of 600 pairs (tests/timings.py draws them: each start off by 1 % times a
normal number, its 200 runs correlated by 0.7 and scattered by 2 %, lognormal delays, 1 % spikes of up to
three times):

| starts of each | same times are "not distinguishable" | width of the interval | a difference that is seen |
| --- | --- | --- | --- |
| 10 | 95.7 % | 2.0 % | 1.5 % (88 %) |
| 5 | 96.2 % | 3.2 % | 2.5 % (83 %) |
| 3 | 95.7 % | 5.0 % | 4 % (89 %) |
| 2 | 96.8 % | 10 % | |
| 1, starts all alike | 93.0 % | 2.2 % | |

With 5 starts, of which three in ten are 3 % faster by luck, it is 96.3 %; of mean times, 95.7 %; of p99,
which hangs on a few spikes, 99.0 %. tests/profiling/test_bootstrap.py holds such shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError
from gaitedge.profiling.document import Interval
from gaitedge.profiling.figures import percentile

__all__ = ["Estimate", "Statistic", "paired_interval", "ratio_interval", "verdict"]

Statistic = Literal["median", "mean", "p99"]
"""Of a repeat's times: "mean" for throughput."""

_RESAMPLES = 2000
_REDRAWS = 250  # of each repeat's runs, which all resamples share
_STRETCHES = 8  # of a single repeat; fewer of a short one
_IN_A_STRETCH = 2  # runs, or more
_LEAST = 5  # stretches or rounds, below which there is no interval
_FEW_STARTS = 4  # below which they are drawn from a normal distribution
_ROUNDING = 1e-9  # standard errors below are none
_ENDLESS = 20.0  # logarithm of a ratio: as far as an interval goes


@dataclass(frozen=True)
class Estimate:
    """A ratio and what its interval covers."""

    interval: Interval
    starts_repeated: bool
    """Whether it covers what changes from one start of a process to the next; else only what changes
    within one."""


@dataclass(frozen=True)
class _Sample:
    """Logarithms: of each repeat, and of the repeats in each resample."""

    values: NDArray[np.float64]
    drawn: NDArray[np.float64]
    """[resamples, repeats]."""
    starts_repeated: bool


def ratio_interval(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    statistic: Statistic = "median",
    seed: int = 0,
) -> Estimate:
    """The ratio of the typical times of two measurements, `before` over `after`: above 1, after is faster.

    before, after: a list a repeat, each times in the order in which they were taken. Raises InputError where
    a time is no positive number, or where there are too few for an interval.
    """
    rng = np.random.default_rng(seed)
    return _ratio([_resample(before, statistic, rng), _resample(after, statistic, rng)])


def paired_interval(rounds: Sequence[Sequence[tuple[float, float]]], seed: int = 0) -> Estimate:
    """The ratio of two candidates that took turns: the first one's time over the second one's.

    rounds: a list a repeat (a start of both), each the times of both, round after round. A round gives one
    ratio, in which what both met at that moment cancels. Raises as ratio_interval does.
    """
    ratios = []
    for repeat in rounds:
        first, second = _checked([a for a, _ in repeat]), _checked([b for _, b in repeat])
        ratios.append((first / second).tolist())
    return _ratio([_resample(ratios, "median", np.random.default_rng(seed))])


def verdict(*intervals: Interval) -> str:
    """Of speedups that must all say so: "faster", "slower" or "not distinguishable"."""
    if all(interval.low > 1 for interval in intervals):
        return "faster"
    if all(interval.high < 1 for interval in intervals):
        return "slower"
    return "not distinguishable"


def _resample(repeats: Sequence[Sequence[float]], statistic: Statistic, rng: np.random.Generator) -> _Sample:
    """The statistic of each repeat, and resamples of them; a single repeat's stretches stand for repeats."""
    times = [_checked(repeat) for repeat in repeats if len(repeat)]
    if not times:
        raise InputError("there are no times to compare")
    if len(times) == 1:
        (single,) = times
        count = min(_STRETCHES, len(single) // _IN_A_STRETCH)
        if count < _LEAST:
            raise InputError(
                f"one start of {len(single)} runs is too little for an interval: "
                f"take {_LEAST * _IN_A_STRETCH} runs or more, better 5 repeats"
            )
        values = np.log([_of(stretch, statistic) for stretch in np.array_split(single, count)])
        return _Sample(values, values[rng.integers(0, count, (_RESAMPLES, count))], False)
    values = np.log([_of(repeat, statistic) for repeat in times])
    if len(times) < _FEW_STARTS:
        drawn = rng.normal(values.mean(), values.std(ddof=1), (_RESAMPLES, len(times)))
        return _Sample(values, drawn, True)
    if statistic == "p99":  # a few of the slowest runs are no blocks to draw from: repeats alone
        redrawn = np.repeat(values[:, None], _REDRAWS, axis=1)
    else:
        redrawn = np.log([_redraw(repeat, statistic, rng) for repeat in times])
    chosen = rng.integers(0, len(times), (_RESAMPLES, len(times)))
    return _Sample(values, redrawn[chosen, rng.integers(0, _REDRAWS, chosen.shape)], True)


def _redraw(
    times: NDArray[np.float64], statistic: Statistic, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The statistic of resamples of one repeat, by moving blocks."""
    runs = len(times)
    length = max(1, round(math.sqrt(runs)))
    starts = rng.integers(0, runs - length + 1, (_REDRAWS, -(-runs // length)))
    chosen = (starts[..., None] + np.arange(length)).reshape(_REDRAWS, -1)[:, :runs]
    drawn: NDArray[np.float64] = _of(times[chosen], statistic)
    return drawn


def _of(times: NDArray[np.float64], statistic: Statistic) -> Any:
    """Of the last axis."""
    if statistic == "mean":
        return np.mean(times, axis=-1)
    if statistic == "median":
        return np.median(times, axis=-1)
    return np.sort(times, axis=-1)[..., int(percentile(range(times.shape[-1]), 99))]


def _ratio(samples: Sequence[_Sample]) -> Estimate:
    """Bootstrap-t of the first sample's mean less the second's, or of one sample's alone."""
    difference = _difference([sample.values for sample in samples])
    error = _error([sample.values for sample in samples])
    low = high = float(difference)
    if error > _ROUNDING:
        distance = _difference([sample.drawn for sample in samples]) - difference
        drawn_error = _error([sample.drawn for sample in samples])
        # The same repeat over and over has no error: such a resample lies infinitely far.
        t = np.copysign(np.inf, distance)
        np.divide(distance, drawn_error, out=t, where=drawn_error > _ROUNDING * error)
        t.sort()
        outside = int(0.025 * len(t))
        low = min(max(float(difference - t[-1 - outside] * error), -_ENDLESS), low)
        high = max(min(float(difference - t[outside] * error), _ENDLESS), high)
    return Estimate(
        Interval(math.exp(difference), math.exp(low), math.exp(high)),
        all(sample.starts_repeated for sample in samples),
    )


def _difference(logarithms: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    means: list[NDArray[np.float64]] = [each.mean(axis=-1) for each in logarithms]
    return means[0] - means[1] if len(means) == 2 else means[0]


def _error(logarithms: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The standard error of _difference."""
    squares = np.sum([each.var(axis=-1, ddof=1) / each.shape[-1] for each in logarithms], axis=0)
    error: NDArray[np.float64] = np.sqrt(squares)
    return error


def _checked(times: Sequence[float]) -> NDArray[np.float64]:
    found = np.asarray(times, np.float64)
    wrong = found[~((found > 0) & np.isfinite(found))]
    if wrong.size:
        raise InputError(f"a time must be above 0 ms, not {wrong[0]}")
    return found
