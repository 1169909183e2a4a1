"""What may follow on a calibration: biases that mend a shift of the mean, and layers kept out of int8."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.collecting import choose, show, unfinished
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
    calibration: Calibration,
    out: Path,
    subjects: str = "all",
    *,
    corrected: bool = False,
    max_drop: float | None = None,
    judged_on: str | None = None,
    threads: int | None = None,
    frames: int = 30,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Calibration, Sensitivity | None]:
    """Correct a calibration, keep in floating point what a budget of rank-1 demands, and write it.

    calibration: of the model in `source`, not written yet. out: where to; what is there stays as it was on
    any error. subjects, frames, seed: as they were shown to `calibrate`. corrected: whether biases are
    corrected. max_drop: the budget, by how many percentage points rank-1 of any probe set may fall among the
    subjects `judged_on`, all of the store's if None. Without a budget nothing is kept; what each layer costs
    is measured where there is somebody to judge it on. Raises what the functions raise that do it.
    """
    model, data = open_model(source), Store(store)
    config, weights = model.config, model.weights()
    calibration.check(config, weights)
    if corrected:
        count = min(SEQUENCES, calibration.sequences)
        people = choose_subjects(subjects, (one.subject for one in data.sequences))
        shown = [show(data, number, frames, seed) for number in choose(data, people, count, seed)]
        report = None if progress is None else functools.partial(progress, "correcting biases")
        biases = correct_biases(config, weights, calibration, shown, report)
        calibration = dataclasses.replace(calibration, biases=biases)
    found = None
    if max_drop is not None or judged_on is not None:
        found = find_sensitivity(
            config,
            weights,
            calibration,
            data,
            judged_on or "all",
            max_drop,
            plan=Plan(placement="chain"),  # as a CPU's engine gets it
            threads=threads,
            progress=progress and (lambda done, total, name: progress(name, done, total)),
        )
        calibration = dataclasses.replace(calibration, floating=(*calibration.floating, *found.kept))
    calibration.save(out)
    unfinished(out).unlink(missing_ok=True)
    return calibration, found
