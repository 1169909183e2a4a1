"""Which kernels a batch takes, and where each reads and writes: plain numbers, no GPU is touched.

Two forms. "Two launches", the paper's network: frame_network from silhouettes to part features, then
micro_motion to embeddings. "Layers", every other network and FP32: a launch an FConv, channels last, with
LeakyReLU and max-pool inside; HP; micro_motion. There the frames go through in chunks, so that activations
take a bounded part of the GPU's memory however long the walks are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gaitedge import cuda
from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig
from gaitedge.engines.cuda_payload import FRAME_NETWORK, TWO_LAUNCHES, Payload, scalar

__all__ = ["ALIGNMENT", "FRAME", "Batch", "Network", "Places", "make_network", "round_up"]

FRAME = HEIGHT * WIDTH
"""Bytes of a silhouette."""
ALIGNMENT = 256  # of every tensor, what CUDA's allocations have
SLOPE = 0.01  # of every LeakyReLU
_ACTIVATIONS = 48 << 20
"""Bytes of activations at once in the form "layers", unless eight frames have more: 216 frames of the paper's
network in FP16, more than enough to fill a GPU."""
_TYPES = {"fp32": cuda.FLOAT32, "fp16": cuda.FLOAT16, "int8": cuda.INT8}


def round_up(size: int) -> int:
    """Bytes to where the next tensor may begin."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Batch:
    """The sequences of a call; what has the same numbers runs in the same launches."""

    sequences: int
    frames: int
    """Of each sequence; 0 where their lengths differ."""
    total: int
    """Frames of all sequences together."""


@dataclass(frozen=True)
class Places:
    """Where a call's tensors lie on the GPU: addresses."""

    silhouettes: int
    """[total, 64, 44], uint8."""
    offsets: int
    """[sequences + 1], int32: the first frame of each sequence; read where their lengths differ."""
    scratch: int
    embeddings: int
    """[sequences, parts, dim], float32."""


class Network(Protocol):
    """A form: the launches of a batch."""

    def scratch(self, batch: Batch) -> int:
        """Bytes that Places.scratch must have."""

    def launches(self, batch: Batch, places: Places) -> list[ctypes.Structure]:
        """The kernels' arguments, in the order in which they must run."""


def make_network(config: GaitPartConfig, payload: Payload, weights: Mapping[str, int]) -> Network:
    """The form that a payload is packed for. weights: tensor -> its address on the GPU."""
    form = _TwoLaunches if payload.form == TWO_LAUNCHES else _Layers
    return form(config, payload.precision, weights)


class _Form:
    def __init__(self, config: GaitPartConfig, precision: str, weights: Mapping[str, int]) -> None:
        self._config, self._weights = config, weights
        self._type = _TYPES[precision]
        self._bytes = np.dtype(scalar(precision)).itemsize  # of a feature

    def _features(self, frames: int) -> int:
        """Bytes of the part features of frames."""
        return frames * self._config.parts * self._config.features * self._bytes

    def _temporal_head(self, batch: Batch, places: Places, features: int) -> cuda.MicroMotion:
        config, at = self._config, self._weights
        weights = cuda.MicroMotionWeights(
            fc=at["fc"],
            type=cuda.FLOAT32 if self._type == cuda.FLOAT32 else cuda.FLOAT16,
            parts=config.parts,
            channels=config.features,
            squeezed=config.features // config.squeeze,
            dim=config.embedding_dim,
            templates=sum(template for template in config.templates),  # 1 and 2 are the bits
            attention=int(config.attention),
            pooling=cuda.MAXIMUM if config.temporal_pooling == "max" else cuda.MEAN,
            slope=SLOPE,
        )
        for template in config.templates if config.attention else ():
            weights.squeeze[template - 1] = at[f"mtb{template}.squeeze"]
            weights.excite[template - 1] = at[f"mtb{template}.excite"]
        return cuda.MicroMotion(
            weights=weights,
            features=features,
            offsets=None if batch.frames else places.offsets,
            y=places.embeddings,
            y_type=cuda.FLOAT32,
            batch=batch.sequences,
            frames=batch.frames,
        )


class _TwoLaunches(_Form):
    """The paper's network: the features of all frames, then all embeddings."""

    def scratch(self, batch: Batch) -> int:
        return self._features(batch.total)

    def launches(self, batch: Batch, places: Places) -> list[ctypes.Structure]:
        frames = cuda.FrameNetwork(
            silhouettes=places.silhouettes,
            weights=self._weights[FRAME_NETWORK],
            features=places.scratch,
            pixels=cuda.UINT8,
            type=self._type,
            frames=batch.total,
            slope=SLOPE,
        )
        return [frames, self._temporal_head(batch, places, places.scratch)]


class _Layers(_Form):
    """Any network: the scratch holds the part features, then two maps that the FConvs write in turn."""

    def scratch(self, batch: Batch) -> int:
        return round_up(self._features(batch.total)) + self._chunk(batch) * sum(self._maps())

    def launches(self, batch: Batch, places: Places) -> list[ctypes.Structure]:
        chunk, features = self._chunk(batch), places.scratch
        first = features + round_up(self._features(batch.total))
        maps = (first, first + chunk * self._maps()[0])
        made: list[ctypes.Structure] = []
        for start in range(0, batch.total, chunk):
            count = min(chunk, batch.total - start)
            x, kind = places.silhouettes + start * FRAME, cuda.UINT8
            for layer, y, conv in self._convolutions(maps):
                conv.x, conv.x_type, conv.count = x, kind, count
                made.append(conv)
                x, kind = y, self._type
                last = layer
            made.append(
                cuda.PartPool(
                    x=x,
                    y=features + self._features(start),
                    type=self._type,
                    layout=cuda.CHANNELS_LAST,
                    count=count,
                    channels=self._config.features,
                    height=self._config.height(last),
                    width=self._config.width(last),
                    parts=self._config.parts,
                )
            )
        return [*made, self._temporal_head(batch, places, features)]

    def _convolutions(self, maps: tuple[int, int]) -> Iterator[tuple[int, int, cuda.FocalConv]]:
        """Every FConv but for what it reads: its number, where it writes, its arguments."""
        config = self._config
        for layer, strips in enumerate(config.strips):
            out, inputs, kernel, _ = config.shapes()[f"frame.{layer}"]
            y = maps[layer % 2]
            yield (
                layer,
                y,
                cuda.FocalConv(
                    weight=self._weights[f"frame.{layer}"],
                    y=y,
                    slope=SLOPE,
                    type=self._type,
                    layout=cuda.CHANNELS_LAST,
                    in_=inputs,
                    out=out,
                    height=config.height(layer),
                    width=config.width(layer),
                    kernel=kernel,
                    strips=strips,
                    pool=int(config.pooled_after(layer)),
                ),
            )

    def _maps(self) -> tuple[int, int]:
        """Bytes a frame of the two maps: the largest that FConvs of even and of odd number write."""
        sizes = [0, 0]
        for layer in range(len(self._config.strips)):
            shrunk = 2 if self._config.pooled_after(layer) else 1
            pixels = (self._config.height(layer) // shrunk) * (self._config.width(layer) // shrunk)
            size = pixels * self._config.channels[layer // 2] * self._bytes
            sizes[layer % 2] = max(sizes[layer % 2], round_up(size))
        return sizes[0], sizes[1]

    def _chunk(self, batch: Batch) -> int:
        """Frames that go through the FConvs at once."""
        most = _ACTIVATIONS // sum(self._maps())
        # In eights: the part features of a chunk begin at a multiple of 16 bytes, however many there are.
        return min(batch.total, max(8, most // 8 * 8))
