"""Exact search: the people of a large gallery who are nearest to a probe, without reading all of it.

The answer is that of the definition (Sec. 3.4): the mean over the parts of the Euclidean distance, in
float64, rounded to float32; a person is as near as his or her nearest sequence, and of equal distances
the one enrolled first comes first. Bounds decide which sequences need not be looked at; those that are
left are compared by the definition itself, so that no bound's rounding reaches the answer.

First bound, from a summary [parts, LEAD + 1, n] that takes 3.5 % of the embeddings' memory. With the
centre c and some directions Q of a part, an embedding b is summarised by s(b) = (Q(b-c), |b-c - QᵀQ(b-c)|).
The map x → (Qx, x - QᵀQx) keeps lengths where Q's rows are orthonormal, and the last entries of s(a)
and s(b) differ by no more than the vectors do whose lengths they are, so that |s(a) - s(b)| ≤ |a-b|:
Cauchy and Schwarz on what is left beside Q. Q are the principal directions of a sample, but that
makes the bound good, not valid: rows that are orthonormal to 1e-12 keep lengths to 1e-12.
    Rounding: in float64 s(b) is right to 1e-11 |b-c|, and to u |b-c| once it is rounded to float32
(u = 2⁻²⁴); so is s(a). The difference, sum of squares, root and sum over the parts in float32 cost a
factor of 1 ± (LEAD + parts + 8) u. Both are taken off, the first as 4 u (|a-c| + |b-c|) for each part.

Second bound, for what the first leaves: with q = a-c, |a-b|² = |b-c|² + |q|² + 2 c·q - 2 b·q. Only b·q
reads the embedding, 4 bytes a feature, in float32. In any order of summation, fused or not, that is
wrong by no more than γ|b||q|, where γ = dim u / (1 - dim u). With |b| ≤ |b-c| + |c|, q's own rounding,
that of the lengths and of the sums, the square is wrong by no more than (γ + 12 u)(|b-c| + |c| + |q|)².
This is taken off before the root.

Beyond LARGEST squares might overflow: no bounds then. Squares that underflow are wrong by less than
TINY², which is taken off too. A limit is put 2⁻²⁰ higher than the distance that it stands for, so that
what it excludes is farther after rounding to float32 too, and no tie is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError
from gaitedge.machine.cpu import usable_cores

__all__ = ["SMALL", "Found", "Index", "build_index", "nearest"]

Array = NDArray[np.float32]

SMALL = 512  # sequences, up to which bounds would cost more than they spare
LEAD = 8  # directions of a part in the summary
SAMPLE = 2048  # embeddings that the directions are taken from
TURNS = 6  # of the iteration that finds them: they need not be exact
BUILD_BLOCK = 64  # summarised at once: 2 MB in float64, and products too small for a BLAS to share out
SUMMARY_BLOCK = 4096  # sequences bounded at once by the summary: 150 KB, which a core's cache holds
PRODUCT_BLOCK = 128  # and by their products: 2 MB
EXACT_BLOCK = 64  # compared at once by the definition: 2 MB
SEEDS = 4  # people looked at for each one wanted, before there is a limit

_U = 2.0**-24  # float32's unit roundoff
LARGEST = 1e16  # magnitude of a feature
TINY = 1e-15
SLACK = 1 + 2.0**-20


@dataclass(frozen=True, eq=False)
class Found:
    """A person's nearest sequence."""

    row: int
    """Of the embeddings."""
    distance: float
    parts: NDArray[np.float64]
    """[parts]: the Euclidean distance of each, whose mean the distance is."""


@dataclass(frozen=True, eq=False)
class _Bounds:
    centre: NDArray[np.float64]  # [parts, dim]
    directions: NDArray[np.float64]  # [parts, lead, dim]
    summary: Array  # [parts, lead + 1, n]
    lengths: Array  # [n, parts]: |b - c|
    reach: Array  # [n]: their sum


@dataclass(frozen=True, eq=False)
class Index:
    """What is kept of embeddings beside them, for one state of a gallery; `build_index` makes it.

    It holds no reference to the embeddings, so that a gallery that changes can drop them first.
    """

    people: NDArray[np.intp]
    """[n]: whose each sequence is, people being numbered as they were enrolled."""
    threads: int
    bounds: _Bounds | None
    """None for a small gallery and for features whose squares float32 does not hold."""


def build_index(embeddings: Array, subjects: Sequence[str], threads: int | None = None) -> Index:
    """Summarise embeddings [n, parts, dim] of these subjects, in the order of their enrolment.

    threads: for this and for searching; one a core by default. Takes about as long as 30 searches that
    read all embeddings. Raises InputError where the shapes do not fit or a value is not finite.
    """
    if embeddings.ndim != 3 or 0 in embeddings.shape[1:]:
        raise InputError(f"embeddings are [count, parts, dim], not {list(embeddings.shape)}")
    if len(subjects) != len(embeddings):
        raise InputError(f"{len(embeddings)} embeddings need as many subjects, not {len(subjects)}")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(subjects))}
    people = np.fromiter((numbers[name] for name in subjects), np.intp, len(subjects))
    largest = 0.0
    for start in range(0, len(embeddings), BUILD_BLOCK):
        block = embeddings[start : start + BUILD_BLOCK]
        extreme = max(float(block.max()), -float(block.min()))
        if not np.isfinite(extreme):
            raise InputError("embeddings to be searched hold NaN or infinite values")
        largest = max(largest, extreme)
    bounded = len(embeddings) > SMALL and largest <= LARGEST
    threads = threads or usable_cores()
    return Index(people, threads, _summarise(embeddings, threads) if bounded else None)


def nearest(embeddings: Array, index: Index, probe: Array, top: int = 1) -> list[Found]:
    """The nearest sequence of each of the `top` nearest people, nearest first.

    embeddings [n, parts, dim]: those that the index was built of; probe [parts, dim]. Fewer where
    the gallery has fewer people. Exact, as this module's docstring says, whatever the embeddings are;
    they only decide how many of them are read. Raises InputError where an argument is unfit.
    """
    if top < 1:
        raise InputError(f"top is the number of people to name, 1 or more, not {top}")
    if len(index.people) != len(embeddings):
        raise InputError(f"the index is of {len(index.people)} embeddings, not of {len(embeddings)}")
    if probe.shape != embeddings.shape[1:]:
        raise InputError(f"the probe is {list(probe.shape)}, the embeddings are {list(embeddings.shape[1:])}")
    if not np.isfinite(probe).all():
        raise InputError("the probe holds NaN or infinite values")
    rows = _candidates(embeddings, index, probe, top)
    parts = _definition(embeddings, rows, probe, index.threads)
    distance = parts.mean(axis=1).astype(np.float32)
    found: dict[int, Found] = {}
    for number in np.argsort(distance, kind="stable"):  # the rows ascend, so that ties keep their order
        row = int(rows[number])
        person = int(index.people[row])
        if person not in found:
            found[person] = Found(row, float(distance[number]), parts[number])
            if len(found) == top:
                break
    return list(found.values())


def _candidates(embeddings: Array, index: Index, probe: Array, top: int) -> NDArray[np.intp]:
    """Rows, ascending, among which the answer is."""
    rows = np.arange(len(embeddings))
    bounds = index.bounds
    if bounds is None or float(np.abs(probe).max()) > LARGEST:
        return rows

    def near(rows: NDArray[np.intp], lower: Array) -> NDArray[np.intp]:
        people = index.people[rows]
        seeds = _seeds(lower, people, top)
        found = _definition(embeddings, rows[seeds], probe, index.threads).mean(axis=1)
        kept: NDArray[np.intp] = rows[lower <= _limit(found, people[seeds], top)]
        return kept

    rows = near(rows, _from_summary(bounds, probe, index.threads))
    return near(rows, _from_products(bounds, embeddings, rows, probe, index.threads))


def _seeds(lower: Array, people: NDArray[np.intp], top: int) -> NDArray[np.intp]:
    """Where the smallest bounds are, of `top` people at least if there are so many."""
    count = SEEDS * top
    while count < len(lower):
        chosen = np.argpartition(lower, count)[:count]
        if len(np.unique(people[chosen])) >= top:
            return chosen
        count *= 4
    return np.arange(len(lower))


def _limit(distance: NDArray[np.float64], people: NDArray[np.intp], top: int) -> float:
    """A distance beyond which nobody is among the `top`, by those whose distances are known."""
    _, number = np.unique(people, return_inverse=True)
    nearest_of = np.full(int(number.max()) + 1, np.inf)
    np.minimum.at(nearest_of, number, distance)
    return float(np.partition(nearest_of, top - 1)[top - 1]) * SLACK if len(nearest_of) >= top else np.inf


def _definition(embeddings: Array, rows: NDArray[np.intp], probe: Array, threads: int) -> NDArray[np.float64]:
    """Distances [rows, parts] by the definition, in float64."""
    result = np.empty((len(rows), len(probe)))

    def work(start: int) -> None:
        difference = embeddings[rows[start : start + EXACT_BLOCK]].astype(np.float64)
        difference -= probe
        np.square(difference, out=difference)
        result[start : start + EXACT_BLOCK] = np.sqrt(difference.sum(axis=-1))

    _share(work, len(rows), EXACT_BLOCK, threads)
    return result


def _from_summary(bounds: _Bounds, probe: Array, threads: int) -> Array:
    """A lower bound [n] of each distance by the summary."""
    parts, size, count = bounds.summary.shape
    own, lengths = _summary_of(probe[None] - bounds.centre, bounds.directions)
    point = own[0].astype(np.float32)[..., None]  # [parts, size, 1]
    result = np.empty(count, np.float32)
    shrink, reach = 1 - (size + parts + 8) * _U, float(lengths.sum())

    def work(start: int) -> None:
        here = slice(start, start + SUMMARY_BLOCK)
        total = np.zeros(len(result[here]), np.float32)
        for summary, mine in zip(bounds.summary[:, :, here], point, strict=True):
            difference = summary - mine
            np.square(difference, out=difference)
            total += np.sqrt(difference.sum(axis=0))
        result[here] = (total * shrink - 4 * _U * (bounds.reach[here] + reach)) / parts - TINY

    _share(work, count, SUMMARY_BLOCK, threads)
    return result


def _from_products(
    bounds: _Bounds, embeddings: Array, rows: NDArray[np.intp], probe: Array, threads: int
) -> Array:
    """A lower bound [rows] of their distances by one product of the probe with each."""
    parts, dim = probe.shape
    offset = probe - bounds.centre  # float64
    length = np.sqrt(np.square(offset).sum(axis=1))
    constant = (np.square(offset).sum(axis=1) + 2 * (bounds.centre * offset).sum(axis=1)).astype(np.float32)
    beside = (length + np.sqrt(np.square(bounds.centre).sum(axis=1))).astype(np.float32)
    point = offset.astype(np.float32)
    wrong = dim * _U / (1 - dim * _U) + 12 * _U
    in_order = 2 * len(rows) > len(embeddings)  # then to read all is faster than to gather
    result = np.empty(len(embeddings) if in_order else len(rows), np.float32)

    def work(start: int) -> None:
        here = slice(start, start + PRODUCT_BLOCK)
        chosen = here if in_order else rows[here]
        square = np.einsum("npd,pd->np", embeddings[chosen], point)
        lengths = bounds.lengths[chosen]
        square *= -2
        square += constant
        square += np.square(lengths)
        square -= np.square(lengths + beside) * np.float32(wrong) + np.float32(TINY**2)
        np.sqrt(np.maximum(square, 0, out=square), out=square)
        result[here] = square.sum(axis=1) * ((1 - (parts + 8) * _U) / parts) - TINY

    _share(work, len(result), PRODUCT_BLOCK, threads)
    return result[rows] if in_order else result


def _summarise(embeddings: Array, threads: int) -> _Bounds:
    count, parts, _ = embeddings.shape
    sample = embeddings[np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.intp)].astype(np.float64)
    centre = sample.mean(axis=0)
    sample -= centre
    directions = np.stack([_leading(one.T @ one) for one in sample.transpose(1, 0, 2)])
    del sample
    summary = np.empty((parts, directions.shape[1] + 1, count), np.float32)
    lengths = np.empty((count, parts), np.float32)

    def work(start: int) -> None:
        here = slice(start, start + BUILD_BLOCK)
        own, lengths[here] = _summary_of(embeddings[here] - centre, directions)
        summary[:, :, here] = own.transpose(1, 2, 0)

    _share(work, count, BUILD_BLOCK, threads)
    return _Bounds(centre, directions, summary, lengths, lengths.sum(axis=1))


def _leading(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal rows [lead, dim] near to the leading directions, by subspace iteration."""
    dim = len(covariance)
    found = np.random.default_rng(0).standard_normal((dim, min(LEAD, dim)))
    for _ in range(TURNS):
        found = np.linalg.qr(covariance @ found)[0]
    rows: NDArray[np.float64] = found.T
    return rows


def _summary_of(
    offsets: NDArray[np.float64], directions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of b - c [n, parts, dim] its summaries [n, parts, lead + 1] and lengths [n, parts]."""
    count, parts, _ = offsets.shape
    summary = np.empty((count, parts, directions.shape[1] + 1))
    for part, rows in enumerate(directions):
        along = offsets[:, part] @ rows.T
        beside = offsets[:, part] - along @ rows
        summary[:, part, :-1] = along
        summary[:, part, -1] = np.sqrt(np.square(beside).sum(axis=1))
    return summary, np.sqrt(np.square(offsets).sum(axis=2))


def _share(work: Callable[[int], Any], count: int, block: int, threads: int) -> None:
    """Do the work for every block's start, NumPy's loops on several threads at once."""
    starts = range(0, count, block)
    if threads == 1 or len(starts) <= 1:
        for start in starts:
            work(start)
        return
    with ThreadPoolExecutor(min(threads, len(starts))) as pool:
        for _ in pool.map(work, starts):
            pass  # raises what the work raised
