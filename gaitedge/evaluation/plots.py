"""An evaluation as a picture: distances of genuine and impostor pairs, ROC, CMC."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gaitedge.destinations import check_destination
from gaitedge.errors import require
from gaitedge.evaluation.protocols import PROTOCOLS
from gaitedge.evaluation.results import Evaluation, Histogram, Verification
from gaitedge.files import atomic_write

__all__ = ["check_plot", "save_plot"]

GENUINE, IMPOSTOR = "#1b7837", "#762a83"
SET_COLOURS = ("#1f77b4", "#d95f02", "#7570b3")


def check_plot(path: Path) -> Path:
    """Raise InputError unless a plot can be written at `path`, MissingPackage without matplotlib."""
    require("matplotlib", "a plot")
    return check_destination(path, ".png")


def save_plot(result: Evaluation, path: Path, heading: str) -> None:
    """Write a PNG: per probe set the distances of genuine and impostor pairs, then ROC and CMC of all.

    heading: what was evaluated, printed on top. A probe set without pairs has no panel; where none has
    any, there is the CMC alone. Raises MissingPackage without matplotlib, OSError where it cannot be
    written.
    """
    figures = require("matplotlib.figure", "a plot")
    found = {
        name: figures.verification for name, figures in result.probe_sets.items() if figures.verification
    }
    count = max(1, len(found))
    panels = [[name for name in found for _ in range(2)], ["ROC"] * count + ["CMC"] * count]
    figure = figures.Figure(figsize=(max(9.0, 4.2 * count), 7.0), layout="constrained")
    axes: dict[str, Any] = figure.subplot_mosaic(panels if found else [["CMC"]])
    title = PROTOCOLS[result.protocol].title
    subtitle = f"{title}'s protocol, {result.subjects} subjects, {len(result.views)} views"
    figure.suptitle(f"{heading}: {subtitle}", parse_math=False)  # $ in a file's name is no formula
    for name, verification in found.items():
        _distances(axes[name], name, verification)
        axes[name].set_xlim(_range(found))
    colours = dict(zip(result.probe_sets, SET_COLOURS, strict=False))
    if found:
        _roc(axes["ROC"], found, colours)
    _cmc(axes["CMC"], result, colours)
    with atomic_write(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box in the heading will do
        figure.savefig(file, format="png", dpi=150)


def _distances(axis: Any, name: str, verification: Verification) -> None:
    histogram = verification.histogram
    for counts, colour, label in (
        (histogram.genuine, GENUINE, f"genuine, {verification.genuine:,} pairs"),
        (histogram.impostor, IMPOSTOR, f"impostor, {verification.impostor:,} pairs"),
    ):
        axis.stairs(_density(histogram, counts), _edges(histogram), fill=True, color=colour, alpha=0.5)
        axis.stairs(_density(histogram, counts), _edges(histogram), color=colour, label=label)
    axis.axvline(
        verification.threshold,
        color="black",
        linestyle=":",
        label=f"EER {100 * verification.eer:.2f} % at {verification.threshold:#.3g}",
    )
    axis.set(title=f"{name}: distances of pairs of different views", xlabel="distance", ylabel="density")
    axis.set_ylim(top=1.35 * axis.get_ylim()[1])  # room for the legend
    axis.legend(fontsize="small", loc="upper right")


def _range(found: dict[str, Verification]) -> tuple[float, float]:
    """From the smallest to the largest distance of any probe set: one scale for all panels."""
    ends = []
    for verification in found.values():
        histogram = verification.histogram
        occupied = np.flatnonzero(np.add(histogram.genuine, histogram.impostor))
        ends += [occupied[0] * histogram.width, (occupied[-1] + 1) * histogram.width]
    return float(min(ends)), float(max(ends))


def _edges(histogram: Histogram) -> list[float]:
    return [number * histogram.width for number in range(len(histogram.genuine) + 1)]


def _density(histogram: Histogram, counts: tuple[int, ...]) -> list[float]:
    total = sum(counts)
    return [count / (total * histogram.width) for count in counts]


def _roc(axis: Any, found: dict[str, Verification], colours: dict[str, str]) -> None:
    for name, verification in found.items():
        points = [point for point in verification.roc if point.far > 0]
        far, tar = [point.far for point in points], [100 * point.tar for point in points]
        axis.plot(far, tar, ".-", color=colours[name], label=name)
    axis.set_xscale("log")
    axis.set(title="ROC", xlabel="false accept rate", ylabel="true accept rate in %")
    _percents(axis)


def _cmc(axis: Any, result: Evaluation, colours: dict[str, str]) -> None:
    for name, figures in result.probe_sets.items():
        if figures.all_probes.cmc:
            shares = [100 * share for share in figures.all_probes.cmc]
            axis.plot(range(1, len(shares) + 1), shares, ".-", color=colours[name], label=name)
    axis.set(title="CMC, mean over pairs of views", xlabel="rank", ylabel="probes found in %")
    axis.set_xticks([1, 5, 10, 15, 20])
    _percents(axis)


def _percents(axis: Any) -> None:
    axis.set_ylim(min(90, axis.get_ylim()[0]), 101)  # a range so small would have marks above 100
    axis.grid(alpha=0.3)
    axis.legend()
