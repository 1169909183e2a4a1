"""Judge a model, or the embeddings that it made, by a protocol."""

from __future__ import annotations

import collections.abc
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from gaitedge.data.splits import choose_subjects
from gaitedge.data.store import Store
from gaitedge.engines import embed_all, load
from gaitedge.errors import InputError
from gaitedge.evaluation.protocols import Selection, Walk, choose_protocol, select
from gaitedge.evaluation.results import Accuracy, Evaluation, ProbeSet
from gaitedge.evaluation.scoring import ROWS, Scores, score
from gaitedge.evaluation.verification import verify

__all__ = ["Progress", "Walks", "evaluate", "evaluate_embeddings"]

Progress = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and of what: "embedding" or "comparing"."""


def evaluate(
    model: Path,
    store: Path,
    protocol: str = "auto",
    subjects: str = "all",
    views: Sequence[str] | None = None,
    engine: str = "auto",
    progress: Progress | None = None,
    shuffled: bool = False,
    precision: str | None = None,
) -> Evaluation:
    """Evaluate a weights file or a bundle on a store.

    protocol: "casia-b", "oumvlp" or "auto", by the conditions in the store. subjects: a choice as
    gaitedge.data.splits.choose_subjects takes it, such as "casia-b/test". views: the camera angles to
    take, all of the store's if None. engine, precision: as gaitedge.engines.load takes them. shuffled: as
    Walks takes it. Raises InputError where the store has no gallery or no probes among these subjects and
    views.
    """
    data = Store(store)
    people = choose_subjects(subjects, (sequence.subject for sequence in data.sequences))
    absent = sorted(set(views or ()) - {sequence.view for sequence in data.sequences})
    if absent:
        names = ", ".join(view or "''" for view in absent)
        there = ", ".join(sorted({sequence.view for sequence in data.sequences}))
        raise InputError(f"{store} has no sequence at the views {names}; there are {there}")
    chosen = data.select(subjects=people, views=views)
    walks = [data.sequences[number] for number in chosen]
    rules = choose_protocol(protocol, (walk.condition for walk in walks))
    selection = select(walks, rules)
    taken = sorted([*selection.gallery, *selection.probes])
    numbers, walks = [chosen[number] for number in taken], [walks[number] for number in taken]

    from gaitedge.export.exporter import open_model

    silhouettes = Walks(data, numbers, shuffled)
    report = (lambda done, total: progress(done, total, "embedding")) if progress else None
    loaded = load(open_model(model), engine, precision=precision)
    embeddings = embed_all(loaded, silhouettes, progress=report)
    result = evaluate_embeddings(embeddings, walks, rules.name, progress)
    return dataclasses.replace(result, engine=loaded.description)


def evaluate_embeddings(
    embeddings: NDArray[np.float32],
    sequences: Sequence[Walk],
    protocol: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate the embeddings [n, parts, dim] of n sequences; those of other conditions do not count.

    protocol: as `evaluate` takes it. The rank-1 accuracy of a pair of views is that of the probes of
    one view against the gallery of the other, by the mean over the parts of the Euclidean distance
    (Sec. 3.4). A probe view's figure is the mean over the gallery views, without its own; the figure
    of a probe set is the mean over its probe views (Sec. 4.1). Raises InputError where there is
    nothing to measure: no gallery, no probes, or a single view; where the shapes do not fit; and where
    an embedding is not finite, naming its sequence.
    """
    if len(embeddings) != len(sequences):
        raise InputError(f"{len(embeddings)} embeddings need as many sequences, not {len(sequences)}")
    if embeddings.ndim != 3 or 0 in embeddings.shape[1:]:
        raise InputError(f"embeddings are [count, parts, dim], not {list(embeddings.shape)}")
    rules = choose_protocol(protocol, (walk.condition for walk in sequences))
    selection = select(sequences, rules)
    _check_finite(embeddings, sequences, selection)
    _, subjects = np.unique([walk.subject for walk in sequences], return_inverse=True)
    views, sets = list(selection.views), list(rules.probes)
    gallery, probes = np.array(selection.gallery), np.array(selection.probes)
    scores = score(
        embeddings,
        subjects,
        np.array([views.index(walk.view) if walk.view in views else -1 for walk in sequences]),
        gallery,
        probes,
        np.array([sets.index(name) for name in selection.sets]),
        len(sets),
        (lambda done, total: progress(done, total, "comparing")) if progress else None,
    )
    return Evaluation(
        protocol=rules.name,
        views=selection.views,
        subjects=len(np.unique(subjects[np.concatenate([gallery, probes])])),
        gallery=len(gallery),
        probes=len(probes),
        probe_sets={name: _probe_set(scores, number, views) for number, name in enumerate(sets)},
    )


def _probe_set(scores: Scores, number: int, views: Sequence[str]) -> ProbeSet:
    hits = scores.hits[number]
    return ProbeSet(
        all_probes=_accuracy(hits, scores.probes[number], views, scores.ever_ranked[number]),
        with_gallery=_accuracy(hits, scores.with_gallery[number], views, scores.ever_with_gallery[number]),
        verification=verify(scores.genuine[number], scores.impostor[number], scores.resolution),
    )


def _accuracy(
    hits: NDArray[np.int64], probes: NDArray[np.int64], views: Sequence[str], count: np.int64
) -> Accuracy:
    """From counts of hits [probe view, gallery view, rank] and probes [probe view, gallery view]."""
    curves: dict[str, NDArray[np.float64]] = {}
    for number, view in enumerate(views):
        compared = probes[number] > 0
        if compared.any():
            shares = hits[number, compared].cumsum(axis=1) / probes[number, compared, None]
            curves[view] = shares.mean(axis=0)
    cmc = tuple(np.mean(list(curves.values()), axis=0).tolist()) if curves else None
    return Accuracy(
        by_view={view: float(curves[view][0]) if view in curves else None for view in views},
        mean=cmc[0] if cmc else None,
        cmc=cmc,
        probes=int(count),
    )


def _check_finite(embeddings: NDArray[np.float32], walks: Sequence[Walk], selection: Selection) -> None:
    rows = np.array([*selection.gallery, *selection.probes])
    for start in range(0, len(rows), ROWS):
        block = rows[start : start + ROWS]
        bad = block[~np.isfinite(embeddings[block]).all(axis=(1, 2))]
        if len(bad):
            walk = walks[int(bad[0])]
            raise InputError(
                f"the embedding of {walk.subject}/{walk.condition}/{walk.view} holds NaN or infinite values: "
                "the model or its training is broken"
            )


class Walks(collections.abc.Sequence[NDArray[np.uint8]]):
    """Sequences of a store, each read when it is asked for: all at once may not fit into memory.

    numbers: of the sequences. shuffled: their frames in a random order that is always the same, as row c
    of Tab. 7 has them; else as they were walked.
    """

    def __init__(self, store: Store, numbers: Sequence[int], shuffled: bool = False) -> None:
        self._store, self._numbers, self._shuffled = store, numbers, shuffled

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[np.uint8]]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Sequence[NDArray[np.uint8]]:
        if isinstance(index, slice):
            return Walks(self._store, self._numbers[index], self._shuffled)
        number = self._numbers[index]
        frames = self._store[number]
        return frames[np.random.default_rng(number).permutation(len(frames))] if self._shuffled else frames
