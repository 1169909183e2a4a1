"""A small network, its calibration by the largest magnitudes, and what it embeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from networks import random_silhouettes

from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.tensors import Probe
from gaitedge.config import GaitPartConfig
from gaitedge.model import GaitPart
from gaitedge.training.presets import Recipe
from gaitedge.weights import Weights, fingerprint

SMALL = GaitPartConfig(channels=(8, 8, 16), embedding_dim=16)
RECIPE = Recipe(iterations=10, subjects=4, samples=3, frames=6, precision="fp32", learning_rate=1e-3, seed=8)
HARSH = 4  # times smaller than the largest magnitude


def calibrated(config: GaitPartConfig, weights: Weights, *, harsh: float = 1, **fields: Any) -> Calibration:
    """The largest magnitude of every layer's input in the FP32 graph, over `harsh`."""
    probe = Probe(config, weights, 1)
    seen = probe.run(random_silhouettes(2, 6, 1))
    # A layer that sees nothing but zeros has any range.
    ranges = {
        layer: max(1e-6, *(float(np.abs(seen[name]).max()) for name in tensors)) / harsh
        for layer, tensors in probe.inputs.items()
    }
    ranges["fconv1"] = 255.0
    return Calibration(fingerprint(config, weights), "0" * 64, "minmax", 2, ranges, **fields)


def embed(model: GaitPart, silhouettes: np.ndarray) -> np.ndarray:
    """Embeddings by the model's fused form."""
    with torch.inference_mode():
        return model(torch.from_numpy(silhouettes)).numpy()
