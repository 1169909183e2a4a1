"""Times as processes give them, drawn: what the intervals of gaitedge.profiling.bootstrap are tried with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_times(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    typical_ms: float = 10.0,
    between: float = 0.01,
    within: float = 0.02,
    correlation: float = 0.7,
    lucky: float = 0.0,
) -> NDArray[np.float64]:
    """[…, processes, runs]: each process off by `between` times a normal number, its runs an AR(1) of
    `within`, with lognormal delays and 1 % spikes of up to three times. lucky: a share of the processes that
    start in a better place, 3 % faster."""
    *processes, runs = shape
    logarithm = rng.normal(0, within, shape)
    for run in range(1, runs):
        logarithm[..., run] *= np.sqrt(1 - correlation**2)
        logarithm[..., run] += correlation * logarithm[..., run - 1]
    logarithm += rng.normal(0, between, processes)[..., None]
    logarithm -= 0.03 * (rng.random(processes) < lucky)[..., None]
    delays = 1 + rng.lognormal(-4.5, 1.0, shape)
    spikes = np.where(rng.random(shape) < 0.01, rng.uniform(1.2, 3.0, shape), 1.0)
    return typical_ms * np.exp(logarithm) * delays * spikes
