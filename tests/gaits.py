"""Drawn embeddings of people who walk as a data set's protocol wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONDITIONS = [*(f"nm-0{i}" for i in range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02"]


@dataclass(frozen=True)
class Walk:
    """A sequence, as far as a protocol looks at it."""

    subject: str
    condition: str
    view: str


def draw(
    subjects: int,
    views: Sequence[str],
    noise: float,
    conditions: Sequence[str] = CONDITIONS,
    seed: int = 0,
) -> tuple[NDArray[np.float32], list[Walk]]:
    """Every subject's walk at every condition and view: [n, 4, 8] about a centre of each subject."""
    rng = np.random.default_rng(seed)
    walks = [
        Walk(f"{subject:03}", condition, view)
        for subject in range(subjects)
        for condition in conditions
        for view in views
    ]
    centres = rng.standard_normal((subjects, 4, 8))
    embeddings = np.stack([centres[int(walk.subject)] for walk in walks])
    embeddings += noise * rng.standard_normal(embeddings.shape)
    return embeddings.astype(np.float32), walks
