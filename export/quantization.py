"""What makes a graph int8: scales, corrections, and the file that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gaitedge.weights import Weights

__all__ = ["Quantization"]


@dataclass(frozen=True)
class Quantization:
    """A calibration as the graph writer takes it; gaitedge.calibration makes it for a model's weights."""

    weights: Weights
    """Those that the graph is written with: the model's, or an equalised form of them."""
    scales: tuple[tuple[str, float], ...]
    """As Plan.scales."""
    pooled: float | None
    """Scale of what the last FConv gives, which HP reads; None where it is not known. A runtime that wants
    int8 at both ends of a convolution needs it."""
    biases: Mapping[str, NDArray[np.float32]]
    """As build_graph takes them."""
    record: bytes
    """The calibration file, which goes into the bundle."""
