"""The weights as the CUDA kernels read them: NumPy arrays that go to the GPU as they are.

kernels/include/gaitedge/frame_network_weights.h and arguments.h say what reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError

if TYPE_CHECKING:
    from gaitedge.weights import Weights

__all__ = ["fits", "pack_frame_network", "pack_micro_motion"]

_STEP = 32  # bytes of a k step


def fits(config: GaitPartConfig) -> bool:
    """Whether the frame network is the one that the kernel of one launch serves: the paper's for CASIA-B."""
    paper = GaitPartConfig()
    return (config.channels, config.strips, config.parts) == (paper.channels, paper.strips, paper.parts)


def pack_frame_network(
    config: GaitPartConfig,
    weights: Weights,
    precision: Literal["fp16", "int8"],
    scales: Mapping[str, float] | None = None,
    biases: Mapping[str, NDArray[np.float32]] | None = None,
) -> NDArray[np.uint8]:
    """What FrameNetwork.weights points to, [bytes].

    weights: `frame.0` to `frame.5` of GaitPartConfig.shapes(); scales: as Plan.scales, for int8: of fconv2
    to fconv6, since FConv1 reads the silhouettes' bytes as they are; biases: as build_graph takes them, zeros
    where a layer has none. Raises InputError where the network is another, a layer lacks its scale, a bias is
    of another length, or a weight is beyond FP16.
    """
    if not fits(config):
        raise InputError(
            "the kernel of the frame network has channels (32, 64, 128), strips (1, 1, 4, 4, 8, 8) and 16 "
            f"parts, not {config.channels}, {config.strips} and {config.parts}; take one kernel a layer"
        )
    names = [f"fconv{layer + 1}" for layer in range(len(config.strips))]
    matrices = [_matrix(weights[f"frame.{layer}"]) for layer in range(len(names))]
    bias = [_bias(biases or {}, name, len(rows)) for name, rows in zip(names, matrices, strict=True)]
    if precision == "fp16":
        numbers = [_half(rows, name) for rows, name in zip(matrices, names, strict=True)]
        tail: list[NDArray[Any]] = [*bias]
    else:
        inputs = [1 / 255, *(_scale(scales or {}, name) for name in names[1:])]
        steps = [_weight_scales(rows) for rows in matrices]
        numbers = [
            np.rint(rows / step[:, None]).astype(np.int8) for rows, step in zip(matrices, steps, strict=True)
        ]
        worth = [scale * step.astype(np.float64) for scale, step in zip(inputs, steps, strict=True)]
        tail = [*bias, *worth, np.array([*(1 / scale for scale in inputs[1:]), 0, 0, 0])]
    sections = [*map(_fragments, numbers), *(part.astype(np.float32) for part in tail)]
    return np.concatenate([np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in sections])


def pack_micro_motion(
    config: GaitPartConfig, weights: Weights, precision: Literal["fp32", "fp16"]
) -> dict[str, NDArray[np.float32] | NDArray[np.float16]]:
    """The temporal head's weights as MicroMotionWeights has them, contiguous and in that type.

    `mtb1.squeeze` [parts, S, 3, C], `mtb1.excite` [parts, C, k, S], the same of `mtb2`, of those that the
    network has, and `fc` [parts, C, dim]. Raises InputError where a weight is beyond FP16.
    """
    packed: dict[str, NDArray[np.float32] | NDArray[np.float16]] = {}
    for name in config.shapes():
        if not name.startswith("frame."):
            array = weights[name] if name == "fc" else weights[name].transpose(0, 1, 3, 2)
            packed[name] = np.ascontiguousarray(
                _half(array, name) if precision == "fp16" else array.astype(np.float32)
            )
    return packed


def _matrix(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """[out, in, k, k] → [out, depth], (tap, input channel); FConv1's rows of five taps get a sixth, zero, and
    all of them two zeros more."""
    rows: NDArray[np.float32] = weight.transpose(0, 2, 3, 1)
    if weight.shape[1] == 1:
        rows = np.pad(rows[..., 0], ((0, 0), (0, 0), (0, 1)))
    rows = rows.reshape(len(rows), -1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % _STEP)))


def _fragments(
    matrix: NDArray[np.float16] | NDArray[np.int8],
) -> NDArray[np.float16] | NDArray[np.int8]:
    """[out, depth] → [out/16, k steps, 8 columns, 4 words, 2 tiles, 2 halves, numbers of a word]."""
    word = 4 // matrix.itemsize
    cut = matrix.reshape(len(matrix) // 16, 2, 8, -1, 2, 4, word)
    lanes: NDArray[np.float16] | NDArray[np.int8] = cut.transpose(0, 3, 2, 5, 1, 4, 6)
    return lanes


def _half(array: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise InputError(f"a weight of {name} is beyond FP16: the largest is {np.abs(array).max():g}")
    return half


def _weight_scales(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a step of each row's int8 is worth; 1 where the row is all zeros."""
    steps: NDArray[np.float32] = np.abs(matrix).max(axis=1).astype(np.float32) / np.float32(127)
    return np.where(steps > 0, steps, np.float32(1))


def _scale(scales: Mapping[str, float], name: str) -> float:
    if name not in scales:
        given = f": {', '.join(scales)}" if scales else " none"
        raise InputError(f"the frame network in int8 needs a scale of {name}; there are{given}")
    if not (math.isfinite(scales[name]) and scales[name] > 0):
        raise InputError(f"the scale of {name} must be a positive number, not {scales[name]}")
    return float(scales[name])


def _bias(biases: Mapping[str, NDArray[np.float32]], name: str, channels: int) -> NDArray[np.float32]:
    bias = biases.get(name, np.zeros(channels, np.float32))
    if bias.shape != (channels,):
        raise InputError(f"the bias of {name} must be {channels} numbers, not {list(bias.shape)}")
    return bias
