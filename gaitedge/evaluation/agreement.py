"""Whether two engines of one network make the same embeddings of a store's sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.data.splits import choose_subjects
from gaitedge.data.store import Store
from gaitedge.engines import Embedder, Engine, embed_all, load, load_target
from gaitedge.errors import InputError
from gaitedge.evaluation.evaluating import Progress, Walks, evaluate_embeddings
from gaitedge.evaluation.protocols import PROTOCOLS, Walk, choose_protocol, select
from gaitedge.evaluation.reports import Table, percent
from gaitedge.evaluation.scoring import ROWS
from gaitedge.export.agreement import cosines, letter
from gaitedge.people.identification import distances

__all__ = [
    "Comparison",
    "DistanceChange",
    "PartCosine",
    "Rank1",
    "compare_embeddings",
    "tables",
    "verify",
    "verify_targets",
]


@dataclass(frozen=True)
class PartCosine:
    """Cosine of one part's two embeddings, over all sequences; of two zero vectors it is 1."""

    mean: float
    minimum: float


@dataclass(frozen=True)
class DistanceChange:
    """Where the distance of two sequences changed most (Sec. 3.4)."""

    pair: tuple[str, str]
    """Names of the two sequences."""
    first: float
    """Their distance by the first engine."""
    second: float
    """By the second one."""
    change: float
    """The one less the other, without its sign."""
    relative: float | None
    """The change over the mean distance; None where that is 0."""
    mean_distance: float
    """Of all pairs, by the first engine."""


@dataclass(frozen=True)
class Rank1:
    """Rank-1 of one probe set, a share from 0 to 1; None where it has no probes."""

    probe_set: str
    first: float | None
    second: float | None
    change: float | None
    """Second less first."""


@dataclass(frozen=True)
class Comparison:
    """How far two engines are apart on the sequences of a store."""

    sequences: int
    parts: tuple[PartCosine, ...]
    """Top to bottom."""
    mean_cosine: float
    minimum_cosine: float
    minimum_at: str
    """The sequence whose part has that cosine."""
    minimum_part: int
    """The number of that part, from 0."""
    distance: DistanceChange | None
    """None where there is one sequence alone."""
    protocol: str | None
    """"casia-b" or "oumvlp"; None where the sequences have no gallery or no probes for either."""
    rank1: tuple[Rank1, ...]
    """By probe set; empty without a protocol."""
    no_rank1: str | None
    """Why there is no rank-1, or None where there is."""


def verify(
    first: Embedder,
    second: Embedder,
    store: Store,
    subjects: str = "all",
    protocol: str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Run two engines of one network on every sequence of a store and compare what they make.

    subjects: a choice as gaitedge.data.splits.choose_subjects takes it. protocol: "casia-b", "oumvlp" or
    "auto", by the conditions in the store. progress: called with how much is done, of how much, and of
    what: "embedding" or "comparing". Raises InputError where the engines are of two networks, and as
    compare_embeddings does.
    """
    if first.config != second.config:
        raise InputError("these engines are of two networks: their configurations differ")
    if protocol != "auto":
        choose_protocol(protocol, ())  # an unknown one is told before hours of embedding
    numbers = store.select(
        subjects=choose_subjects(subjects, (sequence.subject for sequence in store.sequences))
    )
    made = []
    for done_before, engine in ((0, first), (len(numbers), second)):

        def report(done: int, total: int, before: int = done_before) -> None:
            if progress is not None:
                progress(before + done, 2 * total, "embedding")

        made.append(embed_all(engine, Walks(store, numbers), progress=report))
    walks = [store.sequences[number] for number in numbers]
    return compare_embeddings(made[0], made[1], walks, protocol, progress)


def verify_targets(
    bundle: Path,
    store: Path,
    targets: str | None = None,
    protocol: str = "auto",
    subjects: str = "all",
    progress: Progress | None = None,
) -> tuple[tuple[str, str], Comparison]:
    """Compare two targets of a bundle on a store; gives their names too.

    targets: two names, as in "cpu-fp32,tensorrt-fp16"; "letter" is the paper's network in FP32, as written
    down. None compares the letter with the target that gaitedge.engines.load would take. The others as
    `verify` takes them. Raises BundleError, StoreError, and what load_target and `verify` raise.
    """
    opened, data = Bundle.open(bundle), Store(store)
    names = ["letter", "auto"] if targets is None else [name.strip() for name in targets.split(",")]
    if len(names) != 2:
        raise InputError(f"two targets are compared, not {len(names)}: {targets!r}")
    engines = []
    for name in names:
        if name == "letter":
            engines.append(letter(opened.config, opened.weights()))
        else:
            engines.append(load(opened) if name == "auto" else load_target(opened, name))
    first, second = (
        _target_of(opened, engine) if name == "auto" else name
        for name, engine in zip(names, engines, strict=True)
    )
    return (first, second), verify(engines[0], engines[1], data, subjects, protocol, progress)


def _target_of(bundle: Bundle, engine: Engine) -> str:
    """The name of the target that an engine runs; what runs a portable bundle is none of its targets."""
    for name, target in bundle.manifest.targets.items():
        if (target.engine, target.precision) == (engine.name, engine.precision):
            return name
    return f"{engine.name}-{engine.precision}"


def compare_embeddings(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    sequences: Sequence[Walk],
    protocol: str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Compare two engines by their embeddings [n, parts, dim] of the same n sequences.

    protocol: as `verify` takes it; where the sequences have no gallery or no probes for it, the comparison
    says so and has no rank-1. Every sequence is compared with every other one, a block of pairs at a time:
    the time grows with the square of n, the memory does not. Raises InputError where the shapes do not
    fit, and where an embedding is not finite, naming its sequence.
    """
    if first.shape != second.shape or first.ndim != 3 or 0 in first.shape or len(first) != len(sequences):
        raise InputError(
            f"embeddings of {len(sequences)} sequences are [{len(sequences)}, parts, dim] twice, "
            f"not {list(first.shape)} and {list(second.shape)}"
        )
    names = [f"{walk.subject}/{walk.condition}/{walk.view}" for walk in sequences]
    for which, embeddings in (("first", first), ("second", second)):
        _check_finite(which, embeddings, names)
    found = np.concatenate(
        [cosines(first[i : i + ROWS], second[i : i + ROWS]) for i in range(0, len(first), ROWS)]
    )
    least, part = (int(place) for place in np.unravel_index(found.argmin(), found.shape))
    rank1, rules, why = _rank1(first, second, sequences, protocol)
    return Comparison(
        sequences=len(names),
        parts=tuple(PartCosine(float(each.mean()), float(each.min())) for each in found.T),
        mean_cosine=float(found.mean()),
        minimum_cosine=float(found[least, part]),
        minimum_at=names[least],
        minimum_part=part,
        distance=_distance_change(first, second, names, progress),
        protocol=rules,
        rank1=rank1,
        no_rank1=why,
    )


def tables(result: Comparison, first: str, second: str) -> list[Table]:
    """Cosines by part, the largest change of a distance, and rank-1. first, second: the engines' names."""
    title = f"{second} against {first}, {result.sequences} sequences"
    rows: list[list[object]] = [
        [number, f"{part.mean:.6f}", f"{part.minimum:.6f}"] for number, part in enumerate(result.parts)
    ]
    rows.append(["all", f"{result.mean_cosine:.6f}", f"{result.minimum_cosine:.6f}"])
    notes = [f"The smallest is of part {result.minimum_part} of {result.minimum_at}."]
    notes += [f"No rank-1: {result.no_rank1}."] if result.no_rank1 else []
    found = [Table(f"Cosine by part: {title}", ["part", "mean", "minimum"], rows, notes)]
    if (change := result.distance) is not None:
        row = [
            " and ".join(change.pair),
            f"{change.first:.5g}",
            f"{change.second:.5g}",
            f"{change.change:.2g}",
            None if change.relative is None else f"{100 * change.relative:.2g}",
        ]
        columns = ["sequences", first, second, "change", "% of the mean distance"]
        found.append(Table("Largest change of a distance between two sequences", columns, [row]))
    if result.protocol is not None:
        rows = [
            [each.probe_set, percent(each.first, 2), percent(each.second, 2), _points(each.change)]
            for each in result.rank1
        ]
        columns = ["probe", first, second, "change"]
        found.append(Table(f"Rank-1 in %, {PROTOCOLS[result.protocol].title}'s protocol", columns, rows))
    return found


def _check_finite(which: str, embeddings: NDArray[np.float32], names: Sequence[str]) -> None:
    bad = [
        start + int(row)
        for start in range(0, len(names), ROWS)
        for row in np.flatnonzero(~np.isfinite(embeddings[start : start + ROWS]).all(axis=(1, 2)))
    ]
    if bad:
        raise InputError(
            f"the {which} engine is broken: its embeddings of {len(bad)} of {len(names)} sequences hold NaN "
            f"or infinite values, the first of them that of {names[bad[0]]}"
        )


def _distance_change(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    names: Sequence[str],
    progress: Progress | None,
) -> DistanceChange | None:
    n = len(names)
    if n < 2:
        return None
    total, done, largest, sum_of_all = n * (n - 1) // 2, 0, -1.0, 0.0
    pair, both = (0, 1), (0.0, 0.0)
    for top in range(0, n, ROWS):
        for left in range(top, n, ROWS):
            old, new = (
                distances(made[top : top + ROWS], made[left : left + ROWS]).astype(np.float64)
                for made in (first, second)
            )
            # Each pair once, and no sequence with itself.
            counted = np.arange(left, left + old.shape[1]) > np.arange(top, top + old.shape[0])[:, None]
            change = np.where(counted, np.abs(new - old), -1.0)
            row, column = np.unravel_index(change.argmax(), change.shape)
            if change[row, column] > largest:
                largest = float(change[row, column])
                pair = top + int(row), left + int(column)
                both = float(old[row, column]), float(new[row, column])
            sum_of_all += float(old[counted].sum())
            done += int(counted.sum())
            if progress is not None:
                progress(done, total, "comparing")
    mean = sum_of_all / total
    return DistanceChange(
        pair=(names[pair[0]], names[pair[1]]),
        first=both[0],
        second=both[1],
        change=largest,
        relative=largest / mean if mean else None,
        mean_distance=mean,
    )


def _rank1(
    first: NDArray[np.float32], second: NDArray[np.float32], walks: Sequence[Walk], protocol: str
) -> tuple[tuple[Rank1, ...], str | None, str | None]:
    """Rank-1 of both, the protocol's name, and why there is none of either."""
    named = None if protocol == "auto" else choose_protocol(protocol, ())
    try:
        rules = named or choose_protocol(protocol, (walk.condition for walk in walks))
        select(walks, rules)
    except InputError as error:
        return (), None, str(error)
    before, after = (evaluate_embeddings(made, walks, rules.name).probe_sets for made in (first, second))
    found = []
    for name in rules.probes:
        old, new = before[name].all_probes.mean, after[name].all_probes.mean
        found.append(Rank1(name, old, new, None if old is None or new is None else new - old))
    return tuple(found), rules.name, None


def _points(change: float | None) -> str | None:
    """A change of a share in percentage points, with its sign."""
    return None if change is None else f"{100 * change:+.2f}"
