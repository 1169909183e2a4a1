"""Stores of drawn silhouettes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gaitedge.data.store import StoreWriter


def walk(number: int, frames: int | None = None) -> np.ndarray:
    """Silhouettes that no other number gives."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (frames or 3 + number % 5, 64, 44)).astype(np.uint8)


NAMES = [(f"{s:03}", c, f"{v:03}") for s in (1, 2, 7) for c in ("nm-01", "nm-02", "bg-01") for v in (0, 90)]


def fill(path: Path, count: int = len(NAMES)) -> None:
    with StoreWriter(path) as writer:
        for number, name in enumerate(NAMES[:count]):
            writer.append(*name, walk(number))
