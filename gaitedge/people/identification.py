"""From a probe's embedding to ranked people, or to "unknown" (Sec. 3.4, "Testing")."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError
from gaitedge.people.gallery import Gallery, Record
from gaitedge.people.search import Index, build_index, nearest

__all__ = ["Identification", "Match", "distances", "identify", "rank", "suggest_threshold"]

PROBE_BLOCK, GALLERY_BLOCK = 1024, 2048  # pairs worked on at once: 16 MB for each array of them
DIRECT_BLOCK = 4096  # close pairs whose differences are taken at once: 8 MB of 256 features
CLOSE = 1e-6
"""Squared distance, relative to the squared lengths, below which a pair is computed anew.

|p|² + |g|² - 2 p·g in float64 is wrong by at most about 2 n 2⁻⁵³ (|p|² + |g|²) for n features: with
n = 256 and above this bound that is 6e-8 of the square, half of that for its root, and so less than
the 6e-8 that rounding the result to float32 may cost.
"""


@dataclass(frozen=True)
class Match:
    """A subject's nearest sequence."""

    subject: str
    distance: float
    condition: str | None
    view: str | None
    sequence: int
    """Its number in the gallery."""
    parts: tuple[float, ...] = ()
    """The distance of each part, from the head down; their mean is the distance."""


@dataclass(frozen=True)
class Identification:
    """Who a probe may be."""

    matches: tuple[Match, ...]
    """One a subject, nearest first."""
    unknown: bool
    """Whether even the nearest is beyond the threshold; never so without one."""
    threshold: float | None
    margin: float | None = None
    """By how much the next person is farther than the nearest; None where one alone is enrolled."""


_indexes: weakref.WeakKeyDictionary[Gallery, tuple[weakref.ref[NDArray[np.float32]], Index]]
_indexes = weakref.WeakKeyDictionary()  # of galleries that were searched, with the state that it is of


def distances(probes: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over the parts of the Euclidean distance of every probe to every gallery embedding (Sec. 3.4).

    probes [p, parts, dim], gallery [g, parts, dim] -> [p, g]. Exact to float32's rounding at any
    distance, an embedding's own copy is at 0. Beside its arguments and its result it takes about
    150 MB at most. Raises InputError where the shapes do not fit or a value is not finite.
    """
    if (
        probes.ndim != 3
        or gallery.ndim != 3
        or probes.shape[1:] != gallery.shape[1:]
        or 0 in probes.shape[1:]
    ):
        raise InputError(
            f"embeddings are [count, parts, dim], not {list(probes.shape)} against {list(gallery.shape)}"
        )
    for array in (probes, gallery):
        if not np.isfinite(array).all():
            raise InputError("embeddings to be compared hold NaN or infinite values")
    parts = probes.shape[1]
    result = np.empty((len(probes), len(gallery)), np.float32)
    for top in range(0, len(probes), PROBE_BLOCK):
        for left in range(0, len(gallery), GALLERY_BLOCK):
            block_p, block_g = probes[top : top + PROBE_BLOCK], gallery[left : left + GALLERY_BLOCK]
            total = np.zeros((len(block_p), len(block_g)))
            for part in range(parts):
                total += _euclidean(block_p[:, part], block_g[:, part])
            result[top : top + PROBE_BLOCK, left : left + GALLERY_BLOCK] = total / parts
    return result


def _euclidean(probes: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.float64]:
    """[p, dim], [g, dim] -> [p, g], in float64 through one matrix product."""
    # A common offset would only cost digits; taking it off is exact to float64's rounding.
    offset = gallery[:: max(1, len(gallery) // 64)].mean(axis=0, dtype=np.float64)
    p, g = probes - offset, gallery - offset
    lengths = (p**2).sum(axis=1)[:, None] + (g**2).sum(axis=1)
    square: NDArray[np.float64] = p @ g.T
    square *= -2
    square += lengths
    lengths *= CLOSE
    rows, columns = np.nonzero(square < lengths)
    for start in range(0, len(rows), DIRECT_BLOCK):
        row, column = rows[start : start + DIRECT_BLOCK], columns[start : start + DIRECT_BLOCK]
        difference = probes[row].astype(np.float64) - gallery[column]
        square[row, column] = (difference**2).sum(axis=1)
    return np.sqrt(square, out=square)


def identify(
    gallery: Gallery, probe: NDArray[np.float32], top: int = 5, threshold: float | None = None
) -> Identification:
    """Rank the enrolled people by their distance to one walk.

    probe: [parts, dim], of the gallery's model. top: how many people to name at most. threshold: the
    distance beyond which the walk is nobody's; the gallery's own where None. A person's distance is
    the smallest over his or her sequences: one walk with the probe's view and clothing is enough, and
    the others, which are far from it for their view's sake, do no harm. Of equal distances the one
    enrolled first comes first. A large gallery is summarised at the first probe, and again once it has
    changed (`gaitedge.people.search`); the ranks are the same. Raises GalleryError where nobody is
    enrolled, InputError where an argument is unfit.
    """
    if top < 1:
        raise InputError(f"top is the number of people to name, 1 or more, not {top}")
    if threshold is None:
        threshold = gallery.threshold
    elif not (math.isfinite(threshold) and threshold >= 0):
        raise InputError(f"a threshold is a distance of 0 or more, not {threshold}")
    if probe.shape != (gallery.parts, gallery.dim):
        expected = [gallery.parts, gallery.dim]
        raise InputError(f"the probe is {list(probe.shape)}, the gallery's embeddings are {expected}")
    embeddings, records = gallery.embeddings()
    if not records:
        raise GalleryError(f"nobody is enrolled in {gallery.path}; enrol somebody first")
    return rank(embeddings, records, _index(gallery, embeddings, records), probe, top, threshold)


def rank(
    embeddings: NDArray[np.float32],
    records: Sequence[Record],
    index: Index,
    probe: NDArray[np.float32],
    top: int,
    threshold: float | None,
) -> Identification:
    """As `identify`, among embeddings [n, parts, dim] that were read before: whoever keeps them goes on
    while the gallery's file is locked. index: of `build_index`; threshold: None for none."""
    found = nearest(embeddings, index, probe, max(top, 2))
    matches = []
    for one in found[:top]:
        record, parts = records[one.row], tuple(one.parts.tolist())
        matches.append(Match(record.subject, one.distance, record.condition, record.view, record.id, parts))
    margin = found[1].distance - found[0].distance if len(found) > 1 else None
    unknown = threshold is not None and found[0].distance > threshold
    return Identification(tuple(matches), unknown, threshold, margin)


def _index(gallery: Gallery, embeddings: NDArray[np.float32], records: Sequence[Record]) -> Index:
    """The index of the gallery as it is now, from the last probe or new."""
    state, index = _indexes.get(gallery, (None, None))
    if index is None or state is None or state() is not embeddings:
        index = build_index(embeddings, [record.subject for record in records])
        _indexes[gallery] = weakref.ref(embeddings), index
    return index


def suggest_threshold(embeddings: NDArray[np.float32], subjects: Sequence[str]) -> float:
    """A distance that tells the enrolled people's own walks from other people's.

    embeddings [n, parts, dim], subjects: the name of each. Every sequence is taken for a probe against
    all the others. Its nearest sequence of the same subject gives a genuine distance, as `identify`
    would see it, and its nearest one of another subject an impostor's distance, as if its own subject
    were not enrolled. The threshold is the equal-error point: midway between two neighbouring distances,
    where the share of genuine ones beyond it is closest to the share of impostors' not beyond it. Where
    no genuine distance is as large as an impostor's, that is the middle of the gap between them.

    It is as good as the enrolled walks are typical: a view or clothing that was not enrolled gives
    larger genuine distances, and walks cut from one recording smaller ones. Raises InputError where
    there are fewer than 2 subjects, none has 2 sequences, or all distances are equal.
    """
    names = np.asarray(subjects)
    if len(names) != len(embeddings):
        raise InputError(f"{len(embeddings)} embeddings need as many subjects, not {len(names)}")
    known, counts = np.unique(names, return_counts=True)
    if len(known) < 2:
        raise InputError(f"a threshold needs 2 subjects or more enrolled, not {len(known)}")
    if counts.max() < 2:
        raise InputError("a threshold needs a subject with 2 sequences or more; enrol a second walk")
    genuine, impostor = [], []
    for start in range(0, len(names), PROBE_BLOCK):
        block = distances(embeddings[start : start + PROBE_BLOCK], embeddings)
        same = names[start : start + PROBE_BLOCK, None] == names
        impostor.append(np.where(same, np.inf, block).min(axis=1))
        rows = np.arange(len(block))
        same[rows, start + rows] = False
        genuine.append(np.where(same, block, np.inf).min(axis=1))
    mine, others = np.concatenate(genuine).astype(np.float64), np.concatenate(impostor).astype(np.float64)
    mine = np.sort(mine[np.isfinite(mine)])  # a subject's only sequence has no genuine distance
    others = np.sort(others)
    values = np.unique(np.concatenate([mine, others]))
    if len(values) < 2:
        raise InputError("all enrolled walks are equally far from each other: no threshold tells them apart")
    between = (values[:-1] + values[1:]) / 2
    rejected = 1 - np.searchsorted(mine, between, side="right") / len(mine)
    accepted = np.searchsorted(others, between, side="right") / len(others)
    order = np.lexsort((between, rejected + accepted, np.abs(rejected - accepted)))
    return float(between[order[0]])
