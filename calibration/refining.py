"""What may follow on a calibration: biases that mend a shift of the mean, and layers kept out of int8."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.collecting import choose, show
from gaitedge.calibration.correction import correct_biases
from gaitedge.calibration.sensitivity import Sensitivity, find_sensitivity
from gaitedge.data.splits import choose_subjects
from gaitedge.data.store import Store
from gaitedge.export.exporter import open_model
from gaitedge.export.graph import Plan

__all__ = ["SEQUENCES", "refine"]

SEQUENCES = 64
"""That biases are computed on, of those that the calibration was shown first."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


def refine(
    source: Path,
    store: Path,
    path: Path,
    subjects: str = "all",
    *,
    corrected: bool = False,
    max_drop: float | None = None,
    judged_on: str = "all",
    threads: int | None = None,
    frames: int = 30,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Calibration, Sensitivity | None]:
    """Correct a calibration, keep in floating point what a budget of rank-1 demands, and write it again.

    path: the calibration, of the model in `source`; it stays as it was on any error. subjects, frames, seed:
    as they were shown to `calibrate`. corrected: whether biases are corrected. max_drop: the budget, by how
    many percentage points rank-1 of any probe set may fall among the subjects `judged_on`; without one
    nothing is judged. Raises what the functions raise that do it.
    """
    model, data, calibration = open_model(source), Store(store), Calibration.load(path)
    config, weights = model.config, model.weights()
    calibration.check(config, weights)
    before = calibration
    if corrected:
        people = choose_subjects(subjects, (one.subject for one in data.sequences))
        shown = [show(data, number, frames, seed) for number in choose(data, people, SEQUENCES, seed)]
        report = None if progress is None else functools.partial(progress, "correcting biases")
        biases = correct_biases(config, weights, calibration, shown, report)
        calibration = dataclasses.replace(calibration, biases=biases)
    found = None
    if max_drop is not None:
        found = find_sensitivity(
            config,
            weights,
            calibration,
            data,
            judged_on,
            max_drop,
            plan=Plan(placement="chain"),  # as a CPU's engine gets it
            threads=threads,
            progress=progress and (lambda done, total, name: progress(name, done, total)),
        )
        calibration = dataclasses.replace(calibration, floating=(*calibration.floating, *found.kept))
    if calibration != before:
        calibration.save(path)
    return calibration, found
