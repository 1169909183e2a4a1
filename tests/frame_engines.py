"""A frame engine that costs nothing, for what comes behind it."""

from __future__ import annotations

import numpy as np
from networks import random_weights
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.streaming.head import TemporalHead
from gaitedge.streaming.stream import Network

TINY = GaitPartConfig(channels=(8,), strips=(1, 1), parts=3, embedding_dim=5)


class PixelFrames:
    """A frame's features are its first pixels. Notes the frames of each call; raises what it is told to."""

    name = description = "pixels"
    precision, fingerprint = "fp32", "ab" * 32

    def __init__(self, config: GaitPartConfig = TINY) -> None:
        self.config = config
        self.calls: list[int] = []
        self.failures: list[Exception] = []

    def part_features(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls.append(len(silhouettes))
        if self.failures:
            raise self.failures.pop()
        size = (self.config.parts, self.config.features)
        pixels = silhouettes.reshape(len(silhouettes), -1)[:, : size[0] * size[1]]
        return (pixels.astype(np.float32) / 64 - 2).reshape(-1, *size)


def pixel_network(engine: PixelFrames | None = None) -> Network:
    """Such an engine, before a real temporal head."""
    engine = engine or PixelFrames()
    return Network(engine, TemporalHead(engine.config, random_weights(engine.config, 0)))
