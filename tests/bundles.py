"""Bundles of random networks, and what the paper's letter makes of the same weights."""

from __future__ import annotations

import numpy as np
import pytest
from networks import random_weights
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, Bundle, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.export.graph import build_graph
from gaitedge.manifest import Target

PAPER = GaitPartConfig()
SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)
UNEVEN = GaitPartConfig(
    channels=(4, 8), strips=(1, 3, 5, 4), parts=5, templates=(2,), temporal_pooling="mean"
)


def bundle_of(
    config: GaitPartConfig,
    precision: str = "fp32",
    target: str = "cpu",
    engine: str = "openvino",
    seed: int = 0,
) -> Bundle:
    """A bundle, in memory, that was exported for one target."""
    weights = random_weights(config, seed)
    graph = build_graph(config, weights).SerializeToString()
    targets = {f"{target}-{precision}": Target(engine, precision)}
    return make_bundle(config, weights, {FOLD_GRAPH: graph}, targets)


def letter(config: GaitPartConfig, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The paper's letter in PyTorch, of the weights of seed 0."""
    torch = pytest.importorskip("torch")
    from gaitedge.model import GaitPart

    torch.set_num_threads(1)  # more would spin beside the engine's own
    with torch.inference_mode():
        model = GaitPart(config).load(random_weights(config, 0))
        return np.asarray(model(torch.from_numpy(silhouettes), letter=True).numpy())
