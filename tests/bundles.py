"""Bundles of random networks, and what the paper's letter makes of the same weights."""

from __future__ import annotations

import numpy as np
import pytest
from networks import random_weights
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, Bundle, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.export.graph import build_graph
from gaitedge.manifest import Agreement, Build, Target

PAPER = GaitPartConfig()
SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)
UNEVEN = GaitPartConfig(
    channels=(4, 8), strips=(1, 3, 5, 4), parts=5, templates=(2,), temporal_pooling="mean"
)
BUILD = Build(
    member="engines/tensorrt-fp16.plan",
    graph="graphs/tensorrt-fp16.onnx",
    device="NVIDIA Orin",
    compute_capability=(8, 7),
    versions={"tensorrt": "10.3.0", "cuda": "12.6"},
    options={"batch": [1, 1, 8], "workspace": 0.5},
    seconds=41.5,
    layers={"fconv1": "fp16", "fc": "fp32"},
    fell_back=("fc",),
)
TARGETS = {
    "cpu-fp32": Target("openvino", "fp32", Agreement("ONNX Runtime 1.31.1", 7e-7, 0.9999999)),
    "tensorrt-fp16": Target("tensorrt", "fp16", Agreement("ONNX Runtime 1.31.1", 3e-3, 0.99999), BUILD),
}


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
