"""From counts of distances to error rates: ROC and EER."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gaitedge.evaluation.results import Histogram, OperatingPoint, Verification

__all__ = ["verify"]

PER_DECADE, DECADES = 10, 4  # of the ROC's false accept rates, from 1 down to 1e-4
ENOUGH = 10  # impostor pairs that a false accept rate must let in to mean anything
ROUNDING = 1e-12  # of a difference of two rates
COARSE = 100  # bins at most of the histogram that is shown


def verify(genuine: NDArray[np.int64], impostor: NDArray[np.int64], resolution: float) -> Verification | None:
    """Error rates of accepting all pairs nearer than a threshold.

    genuine, impostor: [bins], how many pairs are at a distance from i to i+1 times `resolution`. Every
    rate is exact for its threshold; thresholds are multiples of the resolution. None where there are no
    genuine or no impostor pairs.
    """
    if not genuine.any() or not impostor.any():
        return None
    end = int(np.flatnonzero(genuine + impostor)[-1]) + 1
    accepted = np.concatenate([[0], np.cumsum(genuine[:end])])  # [b]: nearer than b resolutions
    mistaken = np.concatenate([[0], np.cumsum(impostor[:end])])
    tar, far = accepted / accepted[-1], mistaken / mistaken[-1]

    gap = np.abs(far - (1 - tar))
    errors = np.where(gap <= gap.min() + ROUNDING, far + 1 - tar, np.inf)
    best = np.flatnonzero(errors <= errors.min() + ROUNDING)
    equal = int(best[len(best) // 2])  # where nothing lies between, the middle of the gap

    roc: dict[float, OperatingPoint] = {}
    at_far: dict[str, float | None] = {f"1e-{decade}": None for decade in range(1, DECADES + 1)}
    for step in range(PER_DECADE * DECADES + 1):
        allowed = 10 ** (-step / PER_DECADE) * mistaken[-1]
        if allowed < ENOUGH and step:
            break
        edge = int(np.searchsorted(mistaken, allowed * (1 + ROUNDING), side="right")) - 1
        point = OperatingPoint(edge * resolution, float(far[edge]), float(tar[edge]))
        roc[point.threshold] = point
        if step and step % PER_DECADE == 0:
            at_far[f"1e-{step // PER_DECADE}"] = point.tar
    return Verification(
        genuine=int(accepted[-1]),
        impostor=int(mistaken[-1]),
        eer=float(far[equal] + 1 - tar[equal]) / 2,
        threshold=equal * resolution,
        tar_at_far=at_far,
        roc=tuple(roc.values()),
        resolution=resolution,
        histogram=_coarse(genuine[:end], impostor[:end], resolution),
    )


def _coarse(genuine: NDArray[np.int64], impostor: NDArray[np.int64], resolution: float) -> Histogram:
    together = -(-len(genuine) // COARSE)
    starts = np.arange(0, len(genuine), together)
    counts = [tuple(np.add.reduceat(each, starts).tolist()) for each in (genuine, impostor)]
    return Histogram(together * resolution, *counts)
