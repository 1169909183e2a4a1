"""Silhouettes to try an engine with, where no store is at hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT, WIDTH

__all__ = ["draw_silhouettes"]


def draw_silhouettes(batch: int, frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw white blobs with soft edges, [batch, frames, 64, 44]: no walkers, but such pixels as theirs."""
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None]
    columns = np.arange(WIDTH, dtype=np.float32)
    out = np.zeros((batch * frames, HEIGHT, WIDTH), np.uint8)
    for image in out:  # three ellipses about where head, trunk and legs are
        for centre, tall, wide in ((8, 8, 5), (28, 18, 9), (50, 14, 12)):
            y, x = rng.normal(centre, 2), rng.normal(WIDTH / 2, 2)
            squash = rng.uniform(0.6, 1.2, 2)
            radius = np.hypot((rows - y) / (tall * squash[0]), (columns - x) / (wide * squash[1]))
            np.maximum(image, np.clip((1.1 - radius) * 1275, 0, 255).astype(np.uint8), out=image)
    return out.reshape(batch, frames, HEIGHT, WIDTH)
