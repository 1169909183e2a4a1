"""What int8 costs, layer by layer, and which layers to keep in floating point for a budget of rank-1."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.study import LATENCY_SHAPE, Change, Study
from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import InputError
from gaitedge.evaluation.evaluating import Progress
from gaitedge.evaluation.reports import Table, percent
from gaitedge.export.graph import Plan
from gaitedge.export.plan import layer_names
from gaitedge.weights import Weights

__all__ = ["LayerSensitivity", "Point", "Sensitivity", "find_sensitivity", "tables"]

_ROUNDING = 1e-9  # of a difference of two shares, in percentage points
_SETS = 20  # of layers to keep, of each size, at most: all that there are of six FConvs


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer's int8 costs."""

    layer: str
    alone: Change
    """Where it is quantised, and no other layer."""
    others: Change | None
    """Where all layers of the calibration are quantised but this one; None where there is no other one."""


@dataclass(frozen=True)
class Point:
    """One point of the frontier between accuracy and speed."""

    kept: tuple[str, ...]
    """Layers in floating point, beyond those that the calibration leaves there."""
    change: Change
    median_ms: float
    """Latency of LATENCY_SHAPE, measured in turn with the other points and FP32."""


@dataclass(frozen=True)
class Sensitivity:
    """What int8 costs by layer, and by how many of them."""

    sequences: int
    protocol: str
    fp32: dict[str, float | None]
    """Probe set -> rank-1 of the network in FP32, 0 to 1."""
    layers: tuple[LayerSensitivity, ...]
    """In the network's order."""
    together: Change
    """Where all of them are quantised."""
    max_drop: float | None = None
    """The budget, in percentage points."""
    frontier: tuple[Point, ...] = ()
    """From all layers quantised to one; empty without a budget."""
    kept: tuple[str, ...] = ()
    """The layers to keep in floating point, of the first point of the frontier that meets the budget."""
    fp32_ms: float | None = None
    """Latency of the network in FP32."""
    engine: str = ""
    """What the latencies were measured on."""


def find_sensitivity(
    config: GaitPartConfig,
    weights: Weights,
    calibration: Calibration,
    store: Store,
    subjects: str = "all",
    max_drop: float | None = None,
    protocol: str = "auto",
    plan: Plan | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Quantise each layer alone, and all layers but each, and measure embeddings and rank-1 against FP32.

    Layers are those that the calibration quantises, with its factors and biases. In every network that is
    measured the other layers are in FP32, so that what is found is due to int8.

    max_drop: a budget: by how many percentage points rank-1 may fall, in the probe set in which it falls
    most. With it, the frontier is measured: one point for each number of layers that are kept in floating
    point, and the fewest within the budget are taken. Which layers a point keeps goes by the mean cosine that
    is reached where each alone is kept, not by rank-1, whose differences between single layers are mostly
    chance. Where these do not do, other sets of as many are tried, the most promising by the same cosines
    first: all of them for six FConvs, and 20 of each size for more layers; none where not even a single layer
    can be quantised within the budget. Every point is measured.

    subjects: a choice as gaitedge.data.splits.choose_subjects takes it. protocol: as `evaluate` takes it.
    plan: the form in which the graph will be exported for a CPU; its scales are not looked at. threads: of
    the engines. progress: called with the number of embeddings done, of all, and "embedding".

    Embeddings are made by ONNX Runtime, or by OpenVINO, which is faster in int8, where both are installed and
    the graph gives the same in both on some sequences: OpenVINO computes some placements of int8 wrongly.
    Latency is measured on the engine that will be exported, OpenVINO where it is installed.

    Raises InputError where the calibration is of other weights or quantises nothing, where max_drop is
    negative or not finite, and where no point meets it; MissingPackage without ONNX Runtime; and what
    `evaluate` raises.
    """
    if max_drop is not None and not (math.isfinite(max_drop) and max_drop >= 0):
        raise InputError(f"the largest drop of rank-1 must be 0 percentage points or more, not {max_drop}")
    calibration.check(config, weights)
    scales = dict(calibration.scales())
    layers = tuple(layer for layer in layer_names(config) if layer in scales)
    if not layers:
        raise InputError("this calibration quantises no layer: all of them are to stay in floating point")
    study = Study(config, weights, calibration, plan or Plan(), threads, store, subjects, protocol)
    study.report(progress, _count(len(layers), max_drop is not None))
    fp32 = study.embed_fp32()
    found = []
    for layer in layers:
        rest = [one for one in layers if one != layer]
        found.append(LayerSensitivity(layer, study.change([layer]), study.change(rest) if rest else None))
    together = study.change(layers)
    result = Sensitivity(len(study.numbers), study.protocol, fp32, tuple(found), together, max_drop)
    return result if max_drop is None else _with_frontier(result, study, layers, max_drop)


def _with_frontier(
    result: Sensitivity, study: Study, layers: tuple[str, ...], max_drop: float
) -> Sensitivity:
    gains = {one.layer: one.others.mean_cosine if one.others else 0.0 for one in result.layers}
    names = sorted(gains, key=gains.__getitem__, reverse=True)
    searching = any(_is_within(one.alone, max_drop) for one in result.layers)
    tried: list[tuple[Change, list[str]]] = []
    points: list[tuple[Change, list[str]]] = []
    taken: int | None = None
    for count in range(len(names)):
        sets = sorted(
            itertools.combinations(names, count), key=lambda some: -math.fsum(gains[one] for one in some)
        )
        found: list[tuple[Change, list[str]]] = []
        for some in sets[: _SETS if searching and taken is None else 1]:
            rest = [layer for layer in layers if layer not in some]
            found.append((study.change(rest), rest))
            if _is_within(found[-1][0], max_drop):
                taken = count if taken is None else taken
                break
        points.append(found[-1] if taken == count else found[0])
        tried += found
    if taken is None:
        best, rest = min(tried, key=lambda pair: pair[0].drop)
        quantised = " and ".join(rest)
        raise InputError(
            f"int8 does not keep rank-1 within {max_drop:g} points, whichever number of layers stays in "
            f"floating point: the smallest fall is {best.drop:.2f}, with {quantised} in int8; allow "
            "more, or calibrate on more sequences or by another method"
        )
    times, fp32_ms, engine = study.latency([rest for _, rest in points])
    kept = [tuple(layer for layer in layers if layer not in rest) for _, rest in points]
    frontier = tuple(
        Point(some, change, time) for some, (change, _), time in zip(kept, points, times, strict=True)
    )
    return replace(result, frontier=frontier, kept=kept[taken], fp32_ms=fp32_ms, engine=engine)


def _is_within(change: Change, max_drop: float) -> bool:
    return change.drop <= max_drop + _ROUNDING


def _count(layers: int, frontier: bool) -> int:
    """How many networks are measured, FP32 among them: each set of layers once. A search beyond the sets that
    the cosines propose takes more."""
    everything = frozenset(range(layers))
    sets = {everything, *(frozenset([layer]) for layer in everything)}
    sets |= {everything - {layer} for layer in everything}
    if frontier:
        sets |= {frozenset(range(layer, layers)) for layer in everything}
    return 1 + len(sets - {frozenset()})


def tables(result: Sensitivity) -> list[Table]:
    """Each layer quantised alone and left out alone; with a budget also the frontier."""
    sets = list(result.fp32)
    figures = [*sets, "mean cosine", "minimum cosine", "relative error"]
    about = f"{result.sequences} sequences; change of rank-1 in points"
    fp32 = ", ".join(f"{name} {percent(share, 2) or '–'}" for name, share in result.fp32.items())
    notes = [f"Rank-1 in FP32, in %: {fp32}."]
    alone = [[one.layer, *_figures(one.alone)] for one in result.layers]
    alone.append(["all", *_figures(result.together)])
    others = [[one.layer, *_figures(one.others)] for one in result.layers if one.others]
    found = [Table(f"One layer in int8, {about}", ["int8", *figures], alone, notes)]
    if others:
        found.append(Table(f"All layers in int8 but one, {about}", ["not int8", *figures], others, notes))
    if result.frontier:
        found.append(_frontier(result, sets))
    return found


def _frontier(result: Sensitivity, sets: Sequence[str]) -> Table:
    batch, frames = LATENCY_SHAPE
    rows = [
        [
            len(point.kept),
            ", ".join(point.kept) or "none",
            *(percent(share, 2) for share in point.change.rank1.values()),
            f"{point.change.drop:.2f}",
            f"{point.change.mean_cosine:.6f}",
            f"{point.median_ms:.2f}",
            "taken" if point.kept == result.kept else None,
        ]
        for point in result.frontier
    ]
    columns = ["kept", "in floating point", *sets, "largest drop", "mean cosine", "ms", ""]
    latency = (
        f"Median latency of {batch}×{frames} frames, {result.engine}; FP32 in turn with them: "
        f"{result.fp32_ms:.2f} ms."
    )
    notes = [
        f"Rank-1 in %. Budget: {result.max_drop:g} points in the probe set in which rank-1 falls most.",
        latency,
    ]
    return Table("Layers kept in floating point, beyond those of the calibration", columns, rows, notes)


def _figures(change: Change) -> Iterable[object]:
    points = (None if value is None else f"{value:+.2f}" for value in change.change.values())
    others = (f"{change.mean_cosine:.6f}", f"{change.minimum_cosine:.6f}", f"{change.relative_error:.2g}")
    return itertools.chain(points, others)
