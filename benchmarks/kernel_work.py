"""What kernels.py times: each kernel at the paper's shapes, with the bytes and operations that it needs.

Bytes: every input, weight and output once. Operations: two a multiply-add, without halos and padding.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaitedge import cuda
from gaitedge.calibration.applying import find_quantization
from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig
from gaitedge.export.packing import pack_frame_network, pack_micro_motion
from gaitedge.weights import load_weights, shipped_weights

__all__ = ["Memory", "Work", "frame_network", "kernels", "micro_motion", "two_launches"]

SLOPE = 0.01
_SIZES = {cuda.FLOAT32: 4, cuda.FLOAT16: 2, cuda.INT8: 1, cuda.UINT8: 1}


class Memory:
    """Tensors of a device that live as long as this does; most methods give an address."""

    def __init__(self, device: str, seed: int = 0) -> None:
        import torch

        self._device = torch.device(device)
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._types = {cuda.FLOAT32: torch.float32, cuda.FLOAT16: torch.float16}
        self._tensors: dict[int, Any] = {}

    def find(self, address: int) -> Any:
        """The tensor that lies there."""
        return self._tensors[address]

    def keep(self, array: Any) -> int:
        """A NumPy array or a tensor, brought to the device."""
        import torch

        tensor = torch.as_tensor(array).contiguous().to(self._device)
        self._tensors[int(tensor.data_ptr())] = tensor
        return int(tensor.data_ptr())

    def zeros(self, *shape: int, kind: int = cuda.FLOAT32) -> int:
        import torch

        return self.keep(torch.zeros(shape, dtype=self._types[kind], device=self._device))

    def normal(self, *shape: int, kind: int = cuda.FLOAT32, scale: float = 1.0) -> int:
        import torch

        options = {"generator": self._generator, "device": self._device, "dtype": self._types[kind]}
        return self.keep(torch.randn(shape, **options) * scale)

    def silhouettes(self, frames: int) -> int:
        import torch

        shape = (frames, HEIGHT // 4, WIDTH // 4)
        bits = torch.randint(0, 2, shape, generator=self._generator, device=self._device, dtype=torch.uint8)
        return self.keep((bits * 255).repeat_interleave(4, 1).repeat_interleave(4, 2))


@dataclass(frozen=True)
class Work:
    """A launch: what it moves and computes at least, and how to make its arguments."""

    name: str
    bytes: int
    operations: int
    make: Callable[[Memory], ctypes.Structure]


def kernels(frames: int, batch: int, entries: int) -> list[Work]:
    """Every kernel. frames: of a batch of sequences; entries: of the gallery."""
    config = GaitPartConfig()
    made = [frame_network(frames, kind) for kind in (cuda.FLOAT16, cuda.INT8)]
    made += [micro_motion(batch, frames // batch), _stream(config, batch)]
    made += [_focal_conv(config, layer, frames) for layer in range(len(config.strips))]
    made += [_part_pool(config, frames, layout) for layout in (cuda.CHANNELS_FIRST, cuda.CHANNELS_LAST)]
    for probes in (1, batch):
        made += [_part_distance(config, probes, entries, kind) for kind in (cuda.FLOAT32, cuda.FLOAT16)]
    return made


def frame_network(frames: int, kind: int, config: GaitPartConfig | None = None) -> Work:
    """The frame network in one launch, with the shipped weights; kind: FLOAT16 or INT8."""
    config = config or GaitPartConfig()
    products, values = 0, 0
    for layer in range(len(config.strips)):
        shape = config.shapes()[f"frame.{layer}"]
        products += math.prod(shape) * config.height(layer) * config.width(layer)
        values += math.prod(shape)
    features = config.parts * config.features

    def make(memory: Memory) -> cuda.FrameNetwork:
        own, weights = load_weights(shipped_weights())
        if kind == cuda.INT8:
            found = find_quantization(shipped_weights())
            packed = pack_frame_network(own, found.weights, "int8", dict(found.scales), found.biases)
        else:
            packed = pack_frame_network(own, weights, "fp16")
        pointers = (memory.silhouettes(frames), memory.keep(packed))
        y = memory.zeros(frames, config.parts, config.features, kind=cuda.FLOAT16)
        return cuda.FrameNetwork(*pointers, y, cuda.UINT8, kind, frames, SLOPE)

    size = frames * (HEIGHT * WIDTH + 2 * features) + values * _SIZES[kind]
    name = f"frame_network, {'INT8' if kind == cuda.INT8 else 'FP16'}"
    return Work(name, size, 2 * products * frames, make)


def micro_motion(batch: int, frames: int, config: GaitPartConfig | None = None) -> Work:
    """The temporal head and FC of a batch, FP16, with the shipped weights."""
    config = config or GaitPartConfig()
    head, fc = _head_values(config)

    def make(memory: Memory) -> cuda.MicroMotion:
        features = memory.normal(batch * frames, config.parts, config.features, kind=cuda.FLOAT16)
        y = memory.zeros(batch, config.parts, config.embedding_dim)
        weights = _head_weights(memory, config)
        return cuda.MicroMotion(weights, features, None, y, cuda.FLOAT32, batch, frames)

    rows = batch * frames * config.parts * config.features
    size = 2 * (rows + head + fc) + 4 * batch * config.parts * config.embedding_dim
    return Work("micro_motion, FP16", size, 2 * batch * (frames * head + fc), make)


def two_launches(
    memory: Memory, kind: int, batch: int, frames: int
) -> tuple[cuda.FrameNetwork, cuda.MicroMotion]:
    """The whole network: the second launch reads what the first one writes."""
    first = frame_network(batch * frames, kind).make(memory)
    second = micro_motion(batch, frames).make(memory)
    second.features = first.features
    return first, second  # type: ignore[return-value]


def _head_values(config: GaitPartConfig) -> tuple[int, int]:
    """Weights of the MTBs, and of the FC; as many multiply-adds a frame, and a sequence."""
    shapes = config.shapes()
    return (
        sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("mtb")),
        math.prod(shapes["fc"]),
    )


def _head_weights(memory: Memory, config: GaitPartConfig) -> cuda.MicroMotionWeights:
    own, weights = load_weights(shipped_weights())
    at = {name: memory.keep(array) for name, array in pack_micro_motion(own, weights, "fp16").items()}
    struct = cuda.MicroMotionWeights(fc=at["fc"], type=cuda.FLOAT16, templates=3, attention=1, slope=SLOPE)
    struct.parts, struct.channels, struct.dim = config.parts, config.features, config.embedding_dim
    struct.squeezed, struct.pooling = config.features // config.squeeze, cuda.MAXIMUM
    for template in (1, 2):
        struct.squeeze[template - 1] = at[f"mtb{template}.squeeze"]
        struct.excite[template - 1] = at[f"mtb{template}.excite"]
    return struct


def _stream(config: GaitPartConfig, streams: int) -> Work:
    head, fc = _head_values(config)
    sizes = (streams, config.parts)

    def make(memory: Memory) -> cuda.MicroMotionStream:
        import torch

        features = memory.normal(*sizes, config.features, kind=cuda.FLOAT16)
        history = memory.normal(*sizes, 4, config.features, kind=cuda.FLOAT16)
        pooled = memory.normal(*sizes, config.features)
        seen = memory.keep(torch.full(sizes, 30, dtype=torch.int32))
        state = (history, pooled, seen)
        y = memory.zeros(*sizes, config.embedding_dim)
        weights = _head_weights(memory, config)
        return cuda.MicroMotionStream(weights, features, *state, *state, y, cuda.FLOAT32, streams)

    rows = streams * config.parts * config.features
    state = 2 * (4 * 2 + 4) * rows  # read and written
    size = 2 * (rows + head + fc) + state + 4 * streams * config.parts * config.embedding_dim
    # MTB1 and MTB2 of three frames: the newest changes what they give for the two before.
    return Work("micro_motion_stream, FP16", size, 2 * streams * (3 * head + fc), make)


def _focal_conv(config: GaitPartConfig, layer: int, frames: int) -> Work:
    out, inputs, kernel, _ = config.shapes()[f"frame.{layer}"]
    height, width, pool = config.height(layer), config.width(layer), config.pooled_after(layer)
    shrunk = 2 if pool else 1
    y_shape = (frames, height // shrunk, width // shrunk, out)

    def make(memory: Memory) -> cuda.FocalConv:
        first = inputs == 1
        x = (
            memory.silhouettes(frames)
            if first
            else memory.normal(frames, height, width, inputs, kind=cuda.FLOAT16)
        )
        fan = inputs * kernel**2
        weight = memory.normal(out, kernel, kernel, inputs, kind=cuda.FLOAT16, scale=fan**-0.5)
        y = memory.zeros(*y_shape, kind=cuda.FLOAT16)
        types = (cuda.FLOAT16, cuda.UINT8 if first else cuda.FLOAT16, cuda.CHANNELS_LAST)
        sizes = (frames, inputs, out, height, width, kernel, config.strips[layer], int(pool))
        return cuda.FocalConv(x, weight, None, None, y, SLOPE, 0.0, *types, *sizes)

    values = out * inputs * kernel**2
    read = frames * height * width * inputs * (1 if inputs == 1 else 2)
    size = read + 2 * values + 2 * math.prod(y_shape)
    return Work(f"focal_conv, FConv{layer + 1}, FP16", size, 2 * values * frames * height * width, make)


def _part_pool(config: GaitPartConfig, frames: int, layout: int) -> Work:
    last = len(config.strips) - 1
    height, width, channels, parts = config.height(last), config.width(last), config.features, config.parts

    def make(memory: Memory) -> cuda.PartPool:
        x = memory.normal(frames, channels, height, width, kind=cuda.FLOAT16)
        y = memory.zeros(frames, parts, channels, kind=cuda.FLOAT16)
        return cuda.PartPool(x, y, cuda.FLOAT16, layout, frames, channels, height, width, parts)

    values = frames * channels * height * width
    name = f"part_pool, FP16, {'NHWC' if layout == cuda.CHANNELS_LAST else 'NCHW'}"
    return Work(name, 2 * (values + frames * parts * channels), 2 * values, make)


def _part_distance(config: GaitPartConfig, probes: int, entries: int, kind: int, k: int = 10) -> Work:
    parts, dim = config.parts, config.embedding_dim

    def make(memory: Memory) -> cuda.PartDistance:
        given, gallery = memory.normal(probes, parts, dim), memory.normal(entries, parts, dim, kind=kind)
        found = (memory.zeros(probes, k), memory.keep(np.zeros((probes, k), np.int32)))
        # The tickets, zeros, and k keys of 512 blocks of 8 probes, which are more than any launch has.
        workspace = memory.keep(np.zeros(1024 + 512 * 8 * k * 8, np.uint8))
        return cuda.PartDistance(given, gallery, *found, workspace, kind, probes, entries, parts, dim, k)

    size = 4 * probes * parts * dim + _SIZES[kind] * entries * parts * dim + 8 * probes * k
    name = f"part_distance, {probes} of {entries}, {'FP16' if kind == cuda.FLOAT16 else 'FP32'}"
    return Work(name, size, 2 * probes * entries * parts * dim, make)
