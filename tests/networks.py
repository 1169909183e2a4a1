"""Random networks for property-based tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from gaitedge.config import GaitPartConfig
from gaitedge.weights import Weights

# Small channel counts keep an example in milliseconds; the structure is what varies.
CHANNELS = st.lists(st.sampled_from([4, 8, 12]), min_size=1, max_size=4).map(tuple)


@st.composite
def configs(draw: st.DrawFn) -> GaitPartConfig:
    """Any network of Tables 1, 2, 5 and 6, strips and parts that divide the height or not."""
    channels = draw(CHANNELS)
    rows = [64 >> min(layer // 2, 2) for layer in range(2 * len(channels))]
    even = st.sampled_from([1, 2, 4, 8, 16])
    return GaitPartConfig(
        channels=channels,
        strips=tuple(draw(even | st.integers(1, min(row, 16))) for row in rows),
        parts=draw(st.sampled_from([1, 2, 4, 16]) | st.integers(1, 16)),
        templates=draw(st.sampled_from([(1,), (2,), (1, 2)])),
        attention=draw(st.booleans()),
        temporal_pooling=draw(st.sampled_from(["max", "mean"])),
        squeeze=draw(st.sampled_from([1, 2, 4])),
        embedding_dim=draw(st.sampled_from([1, 5, 16])),
    )


def random_weights(config: GaitPartConfig, seed: int) -> Weights:
    """Weights of a size that keeps activations near 1, so that relative errors mean something."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * (2 / max(1, np.prod(shape[1:]))) ** 0.5).astype(np.float32)
        for name, shape in config.shapes().items()
    }


def random_silhouettes(batch: int, frames: int, seed: int) -> np.ndarray:
    """uint8 [batch, frames, 64, 44] of blocks and noise: every grey level, flat areas too."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 2, (batch, frames, 8, 11)).repeat(8, axis=2).repeat(4, axis=3) * 255
    noise = rng.integers(0, 256, (batch, frames, 64, 44))
    return np.where(rng.random((batch, frames, 64, 44)) < 0.8, blocks, noise).astype(np.uint8)
