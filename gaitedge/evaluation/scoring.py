"""Ranks and distance histograms, a block of pairs at a time (Sec. 3.4, "Testing"; Sec. 4.1).

A block is some probes of one view against the gallery of another one. Its distances are turned into
ranks and counts and forgotten: no more than PAIRS of them are held, whatever the data set's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaitedge.people.identification import distances

__all__ = ["BINS", "RANKS", "Scores", "rank1", "ranks", "score"]

RANKS = 20  # of the CMC
PAIRS = 1 << 22  # of a block: about 120 MB with all that is made of its distances
BINS = 1 << 18
ROWS = 1024  # embeddings whose lengths are taken at once: 32 MB of 16 × 256 features


@dataclass(frozen=True)
class Scores:
    """Counts over all pairs of different views; s sets of probes, v views."""

    hits: NDArray[np.int64]
    """[s, probe view, gallery view, RANKS]: how many probes found their subject at rank 1, 2, …"""
    probes: NDArray[np.int64]
    """[s, probe view, gallery view]: how many were ranked."""
    with_gallery: NDArray[np.int64]
    """The same of those whose subject is in that gallery."""
    ever_ranked: NDArray[np.int64]
    """[s]: how many probes were ranked in one pair of views or more."""
    ever_with_gallery: NDArray[np.int64]
    """The same of those whose subject was in a gallery."""
    genuine: NDArray[np.int64]
    """[s, BINS]: how many pairs of one subject there are at a distance of i to i+1 resolutions."""
    impostor: NDArray[np.int64]
    """The same of pairs of two subjects."""
    resolution: float
    """Width of a bin: a power of two, so that telling a distance's bin is exact."""


def ranks(
    between: NDArray[np.float32],
    probe_subjects: Sequence[str] | NDArray[np.generic],
    gallery_subjects: Sequence[str] | NDArray[np.generic],
) -> NDArray[np.int64]:
    """How many-th of the gallery's subjects each probe's own one is, from 1; 0 where it is not there.

    between: distances [p, g], g at least 1 -> [p]. A subject is as near as its nearest sequence; of equal
    distances the first column counts, as in `identify`.
    """
    names = np.asarray(gallery_subjects)
    own = np.asarray(probe_subjects)[:, None] == names
    candidates = np.where(own, between, np.float32(np.inf))
    first = candidates.argmin(axis=1)[:, None]
    nearest = np.take_along_axis(candidates, first, axis=1)
    ahead = between < nearest
    ahead |= (between == nearest) & (np.arange(len(names)) < first)
    _, codes = np.unique(names, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    if len(starts) < len(names):  # some have several sequences and count once
        ahead = np.logical_or.reduceat(ahead[:, order], starts, axis=1)
    counted: NDArray[np.int64] = np.where(own.any(axis=1), 1 + ahead.sum(axis=1), 0)
    return counted


def rank1(
    between: NDArray[np.float32],
    probe_subjects: Sequence[str] | NDArray[np.generic],
    gallery_subjects: Sequence[str] | NDArray[np.generic],
) -> float:
    """Share of the probes whose nearest gallery sequence is of the same subject.

    between: distances [p, g], p and g at least 1. Of equal distances the first column counts; a probe
    of somebody who is not in the gallery counts as wrong.
    """
    return float((ranks(between, probe_subjects, gallery_subjects) == 1).mean())


def score(
    embeddings: NDArray[np.float32],
    subjects: NDArray[np.int64],
    views: NDArray[np.int64],
    gallery: NDArray[np.int64],
    probes: NDArray[np.int64],
    sets: NDArray[np.int64],
    n_sets: int,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Compare every probe with the gallery of every other view.

    embeddings [n, parts, dim], finite; subjects, views: of each, as numbers from 0. gallery, probes:
    rows of `embeddings`; sets: of each probe, as numbers below n_sets. progress: called with the number
    of pairs done and of all. Takes about 300 MB beside the embeddings and one view's gallery.
    """
    n_views = int(views.max()) + 1
    resolution = _resolution(embeddings, np.concatenate([gallery, probes]))
    shape = (n_sets, n_views, n_views)
    scores = Scores(
        hits=np.zeros((*shape, RANKS), np.int64),
        probes=np.zeros(shape, np.int64),
        with_gallery=np.zeros(shape, np.int64),
        ever_ranked=np.zeros(n_sets, np.int64),
        ever_with_gallery=np.zeros(n_sets, np.int64),
        genuine=np.zeros((n_sets, BINS), np.int64),
        impostor=np.zeros((n_sets, BINS), np.int64),
        resolution=resolution,
    )
    ranked, found = np.zeros(len(probes), bool), np.zeros(len(probes), bool)
    in_gallery, in_probes = (np.bincount(views[rows], minlength=n_views) for rows in (gallery, probes))
    done, total = 0, int(in_gallery.sum() * in_probes.sum() - in_gallery @ in_probes)
    for gallery_view in np.flatnonzero(in_gallery).tolist():
        columns = gallery[views[gallery] == gallery_view]
        known = embeddings[columns]
        rows = max(1, PAIRS // len(columns))
        for probe_view in np.flatnonzero(in_probes).tolist():
            if probe_view == gallery_view:
                continue
            here = np.flatnonzero(views[probes] == probe_view)
            for start in range(0, len(here), rows):
                chosen = here[start : start + rows]
                between = distances(embeddings[probes[chosen]], known)
                names = subjects[probes[chosen]], subjects[columns]
                ranked[chosen] = True
                found[chosen] |= _count(scores, between, *names, sets[chosen], (probe_view, gallery_view))
                done += between.size
                if progress is not None:
                    progress(done, total)
    scores.ever_ranked[:] = np.bincount(sets[ranked], minlength=n_sets)
    scores.ever_with_gallery[:] = np.bincount(sets[found], minlength=n_sets)
    return scores


def _count(
    scores: Scores,
    between: NDArray[np.float32],
    probe_subjects: NDArray[np.int64],
    gallery_subjects: NDArray[np.int64],
    sets: NDArray[np.int64],
    pair: tuple[int, int],
) -> NDArray[np.bool_]:
    """Add one block to the scores; tells which probes' subjects are in its gallery."""
    own = probe_subjects[:, None] == gallery_subjects
    placed = ranks(between, probe_subjects, gallery_subjects)
    bins = np.minimum(between * np.float32(1 / scores.resolution), BINS - 1).astype(np.intp)
    for number in np.unique(sets):
        mine = sets == number
        where = (number, *pair)
        scores.probes[where] += mine.sum()
        scores.with_gallery[where] += (placed[mine] > 0).sum()
        scores.hits[where] += np.bincount(placed[mine], minlength=RANKS + 1)[1 : RANKS + 1]
        every = np.bincount(bins[mine].ravel(), minlength=BINS)
        genuine = np.bincount(bins[mine][own[mine]], minlength=BINS)
        scores.genuine[number] += genuine
        scores.impostor[number] += every - genuine
    return placed > 0


def _resolution(embeddings: NDArray[np.float32], rows: NDArray[np.int64]) -> float:
    """A width at which BINS bins reach beyond every distance between two of these rows.

    By the triangle inequality, part by part, no two are farther apart than both together are from a
    common centre.
    """
    centre = embeddings[rows[:: max(1, len(rows) // ROWS)]].mean(axis=0, dtype=np.float64)
    radius = 0.0
    for start in range(0, len(rows), ROWS):
        offsets = embeddings[rows[start : start + ROWS]] - centre
        radius = max(radius, float(np.sqrt((offsets**2).sum(axis=2)).mean(axis=1).max()))
    # At most twice the width that would do; at least 2⁻¹²⁶, for its inverse must be a float32.
    return float(2.0 ** max(-126, math.ceil(math.log2(2 * radius / BINS)))) if radius else 1.0
