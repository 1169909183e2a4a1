"""Temporal heads for tests: random weights, a plain statement in NumPy, and the packing for the kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from host_build import TYPES, address, aligned
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.cuda import MAXIMUM, MEAN, MicroMotionWeights

Array = NDArray[Any]
SLOPE = 0.01


@dataclass(frozen=True)
class Head:
    """A temporal head with the weights as GaitPartConfig.shapes() has them, by template."""

    parts: int
    channels: int
    dtype: type
    squeeze: dict[int, Array]
    excite: dict[int, Array]
    fc: Array | None
    templates: tuple[int, ...] = (1, 2)
    pooling: str = "max"

    @classmethod
    def of_model(cls, config: GaitPartConfig, weights: dict[str, Array]) -> Head:
        return cls(
            config.parts,
            config.features,
            np.float32,
            {i: weights[f"mtb{i}.squeeze"] for i in config.templates},
            {i: weights[f"mtb{i}.excite"] for i in config.templates},
            weights["fc"],
            config.templates,
            config.temporal_pooling,
        )


def draw(
    dtype: type,
    *,
    parts: int,
    channels: int,
    squeezed: int,
    dim: int | None,
    templates: tuple[int, ...] = (1, 2),
    attention: bool = True,
    pooling: str = "max",
) -> Head:
    """Weights that make hidden activations of about 1, logits of about 1.5 and outputs of about 1."""
    rng = np.random.default_rng(channels)

    def weights(*shape: int, fan: int, gain: float = 1.0) -> Array:
        return (rng.normal(size=shape) * gain / np.sqrt(fan)).astype(dtype)

    used = templates if attention else ()
    return Head(
        parts,
        channels,
        dtype,
        {i: weights(parts, squeezed, channels, 3, fan=3 * channels) for i in used},
        {
            i: weights(parts, channels, squeezed, 2 * i - 1, fan=(2 * i - 1) * squeezed, gain=2.0)
            for i in used
        },
        None if dim is None else weights(parts, channels, dim, fan=channels),
        templates,
        pooling,
    )


def reference(head: Head, features: Array, dtype: type = np.float64) -> Array:
    """One sequence's embeddings, [frames, parts, C] → [parts, dim] or [parts, C] (Eq. 4 to 12).

    dtype: of every operation and its result, which with float16 is the plainest FP16 there is.
    """
    out = []
    for part in range(head.parts):
        x = features[:, part].astype(dtype)
        motion = sum((_builder(head, template, part, x) for template in head.templates), dtype(0))
        pooled = motion.max(axis=0) if head.pooling == "max" else motion.mean(axis=0, dtype=dtype)
        out.append(pooled if head.fc is None else pooled @ head.fc[part].astype(dtype))
    return np.stack(out)


def _builder(head: Head, template: int, part: int, x: Array) -> Array:
    """One MTB of one part (Eq. 4 to 6), [frames, C] → [frames, C]."""
    frames, dtype = len(x), x.dtype.type
    average, most = np.empty_like(x), np.empty_like(x)
    for t in range(frames):
        around = x[max(t - template, 0) : t + template + 1]
        average[t] = around.sum(axis=0) / dtype(2 * template + 1)
        most[t] = around.max(axis=0)
    if template not in head.squeeze:
        return average + most
    hidden = _convolve(x, head.squeeze[template][part].astype(dtype))
    hidden = np.where(hidden > 0, hidden, hidden * dtype(SLOPE))
    logits = _convolve(hidden, head.excite[template][part].astype(dtype))
    with np.errstate(over="ignore"):
        gate: Array = dtype(1) / (dtype(1) + np.exp(-logits))
    return (average + most) * gate


def _convolve(x: Array, weight: Array) -> Array:
    """Conv1d with zeros outside: x [frames, in], weight [out, in, k] → [frames, out]."""
    reach = weight.shape[2] // 2
    padded = np.pad(x, ((reach, reach), (0, 0)))
    y = np.zeros((len(x), weight.shape[0]), x.dtype)
    for tap in range(weight.shape[2]):
        y += padded[tap : tap + len(x)] @ weight[:, :, tap].T
    return y


@dataclass
class Packed:
    """The struct, and the memory that it points to."""

    weights: MicroMotionWeights
    memory: list[Array] = field(default_factory=list)


def pack(head: Head) -> Packed:
    """squeeze as [parts, S, 3, C], excite as [parts, C, k, S], fc as it is."""
    packed = Packed(MicroMotionWeights())
    w = packed.weights

    def keep(array: Array) -> int | None:
        packed.memory.append(aligned(np.ascontiguousarray(array)))
        return address(packed.memory[-1])

    for i in head.squeeze:
        w.squeeze[i - 1] = keep(head.squeeze[i].transpose(0, 1, 3, 2))
        w.excite[i - 1] = keep(head.excite[i].transpose(0, 1, 3, 2))
        w.squeezed = head.squeeze[i].shape[1]
    if head.fc is not None:
        w.fc = keep(head.fc)
        w.dim = head.fc.shape[2]
    w.type, w.parts, w.channels = TYPES[head.dtype], head.parts, head.channels
    w.templates = sum(1 << (i - 1) for i in head.templates)
    w.attention = int(bool(head.squeeze))
    w.pooling = MAXIMUM if head.pooling == "max" else MEAN
    w.slope = SLOPE
    return packed
