"""Rank-1 accuracy by CASIA-B's protocol (Sec. 4.1, Tab. 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gaitedge.data.store import Store
from gaitedge.engines import embed_all, load
from gaitedge.errors import InputError
from gaitedge.people.identification import distances

__all__ = ["CasiaBResult", "Walk", "evaluate", "evaluate_casia_b", "rank1"]

GALLERY = ("nm-01", "nm-02", "nm-03", "nm-04")
PROBES = {"NM": ("nm-05", "nm-06"), "BG": ("bg-01", "bg-02"), "CL": ("cl-01", "cl-02")}


class Walk(Protocol):
    """What the protocol needs to know of a sequence; gaitedge.data.store.Sequence is one."""

    @property
    def subject(self) -> str:
        """Who walks."""
        ...

    @property
    def condition(self) -> str:
        """How and the how-manieth time, such as "nm-01"."""
        ...

    @property
    def view(self) -> str:
        """The camera's angle in degrees, such as "090"."""
        ...


@dataclass(frozen=True)
class CasiaBResult:
    """Rank-1 accuracies from 0 to 1, identical views excluded."""

    by_view: dict[str, dict[str, float | None]]
    """"NM", "BG" and "CL" -> probe view -> mean over the gallery views; None where it has no probes."""
    means: dict[str, float | None]
    """"NM", "BG" and "CL" -> mean over the probe views that have probes; None where none has."""
    probes: dict[str, int]
    """"NM", "BG" and "CL" -> number of probes behind these figures."""


def evaluate(
    model: Path,
    store: Path,
    views: Sequence[str] | None = None,
    engine: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> CasiaBResult:
    """Evaluate a weights file or a bundle on a store by CASIA-B's protocol.

    views: the camera angles to take, all of the store's if None. engine: as gaitedge.engines.load
    takes it. Raises InputError where the store has no gallery or no probes at these views.
    """
    from gaitedge.export.exporter import open_model

    opened, data = load(open_model(model), engine), Store(store)
    chosen = data.select(views=views)
    if not chosen:
        raise InputError(f"{store} has no sequence at the views {', '.join(views or ())}")
    embeddings = embed_all(opened, [data[index] for index in chosen], progress=progress)
    return evaluate_casia_b(embeddings, [data.sequences[index] for index in chosen])


def rank1(
    between: NDArray[np.float32],
    probe_subjects: Sequence[str] | NDArray[np.str_],
    gallery_subjects: Sequence[str] | NDArray[np.str_],
) -> float:
    """Share of the probes whose nearest gallery sequence is of the same subject.

    between: distances [p, g], p and g at least 1. Of equal distances the first column counts; a probe
    of somebody who is not in the gallery counts as wrong.
    """
    nearest = np.asarray(gallery_subjects)[between.argmin(axis=1)]
    return float((nearest == np.asarray(probe_subjects)).mean())


def evaluate_casia_b(embeddings: NDArray[np.float32], sequences: Sequence[Walk]) -> CasiaBResult:
    """Evaluate the embeddings [n, parts, dim] of n sequences by CASIA-B's protocol.

    The gallery is nm-01 to nm-04; the probes are nm-05 and nm-06 (NM), bg-01 and bg-02 (BG), cl-01 and
    cl-02 (CL). Rank-1 accuracy of each pair of a probe view and a gallery view, without the pairs of
    identical views; a probe view's figure is the mean over its gallery views (Sec. 4.1). Sequences of
    other conditions do not count. Raises InputError where there is nothing to measure: no gallery, no
    probes, or a single view.
    """
    if len(embeddings) != len(sequences):
        raise InputError(f"{len(embeddings)} embeddings need as many sequences, not {len(sequences)}")
    gallery = [index for index, walk in enumerate(sequences) if walk.condition in GALLERY]
    if not gallery:
        raise InputError("no gallery for CASIA-B's protocol: there is no nm-01 to nm-04")
    in_protocol = {condition for conditions in PROBES.values() for condition in conditions}
    probes = [index for index, walk in enumerate(sequences) if walk.condition in in_protocol]
    if not probes:
        raise InputError("no probes for CASIA-B's protocol: there is no nm-05, nm-06, bg-01/02 or cl-01/02")
    views = sorted({sequences[index].view for index in gallery + probes})
    if len(views) < 2:
        raise InputError(f"only view {views[0]}: CASIA-B's protocol leaves identical views out, so needs 2")

    between = distances(embeddings[probes], embeddings[gallery])
    probe_subjects = np.array([sequences[index].subject for index in probes])
    probe_views = np.array([sequences[index].view for index in probes])
    probe_conditions = np.array([sequences[index].condition for index in probes])
    gallery_subjects = np.array([sequences[index].subject for index in gallery])
    gallery_views = np.array([sequences[index].view for index in gallery])
    by_view: dict[str, dict[str, float | None]] = {}
    counts: dict[str, int] = {}
    for name, conditions in PROBES.items():
        by_view[name], counts[name] = {}, 0
        for probe_view in views:
            rows = np.flatnonzero(np.isin(probe_conditions, conditions) & (probe_views == probe_view))
            pairs = [
                rank1(between[np.ix_(rows, columns)], probe_subjects[rows], gallery_subjects[columns])
                for gallery_view in views
                if gallery_view != probe_view and len(rows)
                if len(columns := np.flatnonzero(gallery_views == gallery_view))
            ]
            by_view[name][probe_view] = float(np.mean(pairs)) if pairs else None
            counts[name] += len(rows) if pairs else 0
    means: dict[str, float | None] = {}
    for name, figures in by_view.items():
        present = [figure for figure in figures.values() if figure is not None]
        means[name] = float(np.mean(present)) if present else None
    return CasiaBResult(by_view, means, counts)
