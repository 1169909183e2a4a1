"""A small network, and a store of a few short walks to calibrate it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from networks import random_silhouettes, random_weights
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.data.store import StoreWriter

SMALL = GaitPartConfig(channels=(4, 8), strips=(1, 2, 3, 4), parts=2, embedding_dim=5)
WEIGHTS = random_weights(SMALL, 0)
VIEWS, CONDITIONS, SUBJECTS = (
    ("000", "045", "090"),
    ("nm-01", "nm-02", "bg-01", "cl-01"),
    ("001", "002", "003"),
)
Walk = Callable[[int], NDArray[np.uint8]]


def some_walk(number: int) -> NDArray[np.uint8]:
    return random_silhouettes(1, 3 + number % 6, number)[0]


def make_store(path: Path, walk: Walk = some_walk) -> Path:
    """36 sequences of 3 to 8 frames."""
    with StoreWriter(path) as writer:
        names = ((s, c, v) for s in SUBJECTS for c in CONDITIONS for v in VIEWS)
        for number, name in enumerate(names):
            writer.append(*name, walk(number))
    return path
