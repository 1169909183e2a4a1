"""From the values that a layer was seen to read to the range that int8 is to represent.

int8 is symmetric here, 127 levels on each side of a zero-point of zero: a range r and a scale r/127, beyond
which values are clipped. What is wanted of a range is that neither clipping nor rounding costs much, and
the four methods weigh these differently. All of them read a histogram of magnitudes, because the values
themselves, some ten thousand million of them, fit nowhere.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError

__all__ = ["BINS", "LEVELS", "OBSERVERS", "Histogram", "entropy", "minmax", "mse", "percentile"]

LEVELS = 127
"""Of int8 on each side of zero: -128 is not used."""
BINS = 8192
"""Of a histogram. At least half of them lie below the largest magnitude, so a bin is less than 1/4096 of it,
1/32 of a level."""

_PIECE = 1 << 16  # values at a time: what is made of them on the way stays in the processor's cache
_LOWEST = -100  # two to this power is where a new histogram ends; nothing that matters is smaller
_CANDIDATES = 512  # ranges among which mse looks
_TINY = 2.0**-126  # the smallest normal float32


class Histogram:
    """How often each magnitude was seen, in BINS equal bins from 0 on.

    The bins end at a power of two, the smallest that is above the largest magnitude. When a larger one
    comes, neighbouring bins are merged: no count is ever divided, so the same values give the same
    histogram in any order and in any portions.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.exponent = _LOWEST
        """Of the power of two at which the bins end."""
        self.largest = 0.0
        """The largest magnitude itself."""

    @property
    def total(self) -> int:
        """How many values were seen."""
        return int(self.counts.sum())

    @property
    def width(self) -> float:
        """Of a bin; bin k holds the magnitudes from k·width to below (k + 1)·width."""
        return math.ldexp(1.0, self.exponent) / BINS

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the magnitudes of an array of any shape. Raises InputError where one is NaN or infinite."""
        if not values.size:
            return
        largest = max(float(values.max()), -float(values.min()))
        if not math.isfinite(largest):
            raise InputError("NaN or infinite values have no range")
        self._reach(largest)
        flat, inverse = values.reshape(-1), np.float32(1 / self.width)
        for start in range(0, flat.size, _PIECE):
            # Exact: the width is a power of two, and the conversion cuts off what is behind the point.
            scaled = np.abs(flat[start : start + _PIECE]) * inverse
            self.counts += np.bincount(scaled.astype(np.intp), minlength=BINS)

    def merge(self, other: Histogram) -> None:
        """Count what another histogram has counted."""
        self._reach(other.largest)
        self.counts += _merged(other.counts, self.exponent - other.exponent)

    def bins(self, count: int) -> tuple[NDArray[np.int64], float]:
        """The same in `count` bins, which divides BINS, and their width."""
        return self.counts.reshape(count, -1).sum(axis=1), self.width * (BINS // count)

    def _reach(self, largest: float) -> None:
        """Let the bins end above this magnitude."""
        exponent = max(self.exponent, math.frexp(largest)[1] if largest else _LOWEST)
        self.counts = _merged(self.counts, exponent - self.exponent)
        self.exponent, self.largest = exponent, max(self.largest, largest)


def _merged(counts: NDArray[np.int64], doublings: int) -> NDArray[np.int64]:
    """The counts where the bins are wider by a power of two, as many of them as before."""
    factor = min(1 << min(doublings, 62), BINS)
    merged = np.zeros_like(counts)
    merged[: BINS // factor] = counts.reshape(-1, factor).sum(axis=1)
    return merged


def minmax(histogram: Histogram) -> float:
    """The largest magnitude: nothing is clipped."""
    return histogram.largest


def percentile(histogram: Histogram, percent: float = 99.99) -> float:
    """The magnitude that `percent` of all values do not exceed, rounded up to the end of its bin."""
    wanted = math.ceil(percent / 100 * histogram.total)
    reached = int(np.searchsorted(histogram.counts.cumsum(), wanted))
    return min((reached + 1) * histogram.width, histogram.largest)


def entropy(histogram: Histogram, bins: int = 2048, levels: int = 128) -> float:
    """The range whose int8 distribution tells the most about the values: TensorRT's procedure.

    Of the ways to keep the first i of the bins, the one with the smallest Kullback–Leibler divergence of
    Q from P. P is the first i bins, to the last of which all beyond is added. Q is the first i bins merged
    into `levels` of equal width, each of which is then spread evenly over those of its bins that were not
    empty. The range is the middle of the bin behind those kept, or the largest magnitude, if that is less.
    Source: S. Migacz, "8-bit Inference with TensorRT", GPU Technology Conference 2017. Where `levels`
    does not divide i, of which the talk says nothing, bin k goes to level k·levels/i, rounded down. And as
    in NVIDIA's pytorch-quantization the first bin counts as much as the second: the background and the
    weak side of LeakyReLU pile up there, become 0 whatever the range is, and would decide about it.
    """
    counts, width = histogram.bins(bins)
    counts[0] = counts[1]
    if not counts.any():
        return histogram.largest
    seen = int(np.flatnonzero(counts)[-1]) + 1
    if seen <= levels:
        return histogram.largest
    numbers, total = np.arange(seen), counts.sum()
    least, kept = np.inf, seen
    for i in range(levels, seen + 1):
        beyond = total - counts[:i].sum()
        if beyond and not counts[i - 1]:
            continue  # P has something in a bin in which Q has nothing: infinitely far
        level = numbers[:i] * levels // i
        full = counts[:i] > 0
        spread = np.bincount(level, counts[:i]) / np.maximum(np.bincount(level, full), 1)
        q = spread[level][full]
        p = counts[:i][full].astype(np.float64)
        p[-1] += beyond
        divergence = float((p / total * np.log(p / total / (q / q.sum()))).sum())
        if divergence < least:
            least, kept = divergence, i
    return min((kept + 0.5) * width, histogram.largest)


def mse(histogram: Histogram) -> float:
    """The range that makes the mean squared error of the quantised values smallest, among the largest
    magnitude times 1/512, 2/512 and so on up to itself. A value is taken to be in the middle of its bin."""
    seen = np.flatnonzero(histogram.counts)
    values, counts = (seen + 0.5) * histogram.width, histogram.counts[seen]
    errors = []
    for candidate in _candidates(histogram.largest):
        scale = max(candidate / LEVELS, _TINY)
        error = values - np.minimum(np.rint(values / scale), LEVELS) * scale
        errors.append(float(counts @ (error * error)))
    return float(_candidates(histogram.largest)[int(np.argmin(errors))])


def _candidates(largest: float) -> NDArray[np.float64]:
    return largest * np.arange(1, _CANDIDATES + 1) / _CANDIDATES


OBSERVERS = {"minmax": minmax, "percentile": percentile, "entropy": entropy, "mse": mse}
"""Method -> what finds a range by it. The histogram must have seen another value than zero."""
