"""The kernels that take a network's weights, against gaitedge.model; see kernels_reference.py."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from kernels_reference import TYPES, Place, Result, compare, draw
from networks import random_silhouettes, random_weights
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own spelling)

from gaitedge import cuda
from gaitedge.config import GaitPartConfig
from gaitedge.export.packing import pack_frame_network, pack_micro_motion
from gaitedge.model import SLOPE, fconv_letter, horizontal_pooling

PAPER = GaitPartConfig()


def micro_motion_weights(
    place: Place, config: GaitPartConfig, dtype: torch.dtype
) -> tuple[cuda.MicroMotionWeights, list[Tensor]]:
    """The struct, and the tensors that must live as long as it is used."""

    arrays = pack_micro_motion(
        config, random_weights(config, 0), "fp16" if dtype is torch.float16 else "fp32"
    )
    kept = {name: place.put(torch.from_numpy(array)) for name, array in arrays.items()}
    sizes = (config.parts, config.features, config.features // config.squeeze, config.embedding_dim)
    pooling = cuda.MAXIMUM if config.temporal_pooling == "max" else cuda.MEAN
    numbers = (*sizes, sum(config.templates), int(config.attention), pooling, SLOPE)
    struct = cuda.MicroMotionWeights(fc=kept["fc"].data_ptr())
    names = [name for name, _ in struct._fields_]
    for name, number in zip(names[names.index("type") :], (TYPES[dtype], *numbers), strict=True):
        setattr(struct, name, number)
    for template in config.templates if config.attention else ():
        struct.squeeze[template - 1] = kept[f"mtb{template}.squeeze"].data_ptr()
        struct.excite[template - 1] = kept[f"mtb{template}.excite"].data_ptr()
    return struct, list(kept.values())


def heads(
    place: Place, config: GaitPartConfig, dtype: torch.dtype
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The temporal head of features [t, n, C] in FP64, and in `dtype`."""

    def head(precision: torch.dtype) -> Callable[[Tensor], Tensor]:
        model = place.model(config, precision, dtype)
        return lambda rows: model.temporal_head(rows.to(place.reference, precision)[None])[0]

    return head(torch.float64), head(dtype)


def micro_motion(
    place: Place, dtype: torch.dtype, lengths: Sequence[int], config: GaitPartConfig = PAPER, *, ragged: bool
) -> None:
    features = draw(sum(lengths), config.parts, config.features, seed=6, dtype=dtype)
    given, offsets = place.put(features), torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0)
    where = place.put(offsets.to(torch.int32))
    weights, kept = micro_motion_weights(place, config, dtype)
    y = Result(place, (len(lengths), config.parts, config.embedding_dim), torch.float32)
    first = where.data_ptr() if ragged else None
    frames = 0 if ragged else lengths[0]
    pointers = (given.data_ptr(), first, y.address)
    place.launch(cuda.MicroMotion(weights, *pointers, cuda.FLOAT32, len(lengths), frames))
    del kept
    rows = features.split(list(lengths))
    exact, plain = (torch.stack([head(own) for own in rows]) for head in heads(place, config, dtype))
    compare(y.read(), exact, plain.float())


def micro_motion_stream(
    place: Place, dtype: torch.dtype, frames: int, config: GaitPartConfig = PAPER
) -> None:
    """Two walks frame by frame; the second one began three frames earlier and begins anew."""
    streams, (parts, channels) = 2, (config.parts, config.features)
    walk = draw(frames, streams, parts, channels, seed=7, dtype=dtype)
    weights, kept = micro_motion_weights(place, config, dtype)
    history = place.put(torch.full((streams, parts, 4, channels), torch.nan, dtype=dtype))
    pooled = place.put(torch.full((streams, parts, channels), torch.nan))
    seen = place.put(torch.zeros((streams, parts), dtype=torch.int32))
    state = [history.data_ptr(), pooled.data_ptr(), seen.data_ptr()]
    exact_head, plain_head = heads(place, config, dtype)
    starts = [0, 0]
    for now in range(frames):
        if now == 3:
            starts[1] = now
            numbers = seen.cpu()
            numbers[1] = 0
            seen.copy_(numbers)
        given = place.put(walk[now])
        y = Result(place, (streams, parts, config.embedding_dim), torch.float32)
        place.launch(
            cuda.MicroMotionStream(
                weights, given.data_ptr(), *state, *state, y.address, cuda.FLOAT32, streams
            )
        )
        rows = [walk[start : now + 1, stream] for stream, start in enumerate(starts)]
        exact, plain = (torch.stack([head(own) for own in rows]) for head in (exact_head, plain_head))
        compare(y.read(), exact, plain.float())
    del kept


@functools.cache
def layer_scales(seed: int = 10) -> dict[str, float]:
    """What a step of int8 is worth in the input of each FConv but the first."""
    x = torch.from_numpy(random_silhouettes(1, 4, seed))[0, :, None].double() / 255
    scales = {}
    for layer, strips in enumerate(PAPER.strips):
        if layer:
            scales[f"fconv{layer + 1}"] = float(x.abs().max()) / 127
        x = fconv_letter(x, torch.from_numpy(random_weights(PAPER, 0)[f"frame.{layer}"]).double(), strips)
        if PAPER.pooled_after(layer):
            x = F.max_pool2d(x, 2)
    return scales


def integer_features(silhouettes: Tensor) -> Tensor:
    """[frames, 16, 128] by exact sums of integers, rounded from layer to layer as INT8 is; FP64 else."""
    scales = layer_scales()
    x = silhouettes[:, None].double()
    for layer, strips in enumerate(PAPER.strips):
        weight = random_weights(PAPER, 0)[f"frame.{layer}"]
        largest = np.abs(weight).max(axis=(1, 2, 3)).astype(np.float32) / np.float32(127)
        rounded = torch.from_numpy(np.rint(weight / largest[:, None, None, None])).to(x)
        worth = torch.from_numpy(largest).to(x) * scales.get(f"fconv{layer + 1}", 1 / 255)
        cut = x.chunk(strips, dim=2)  # which divide the height
        sums = torch.cat([F.conv2d(strip, rounded, padding=rounded.shape[-1] // 2) for strip in cut], dim=2)
        x = F.leaky_relu(sums * worth[:, None, None], SLOPE)
        if PAPER.pooled_after(layer):
            x = F.max_pool2d(x, 2)
        if layer + 1 < len(PAPER.strips):
            x = (x / scales[f"fconv{layer + 2}"]).round().clamp(-127, 127)
    return horizontal_pooling(x, PAPER.parts)


def launch_frame_network(place: Place, silhouettes: Tensor, kind: int) -> Tensor:
    """Features [frames, 16, 128] of silhouettes [frames, 64, 44], uint8 or FP16."""
    precision: Any = "int8" if kind == cuda.INT8 else "fp16"
    packed = pack_frame_network(PAPER, random_weights(PAPER, 0), precision, layer_scales())
    weights, given = place.put(torch.from_numpy(packed)), place.put(silhouettes)
    frames = len(silhouettes)
    y = Result(place, (frames, PAPER.parts, PAPER.features), torch.float16)
    pointers = (given.data_ptr(), weights.data_ptr(), y.address)
    place.launch(cuda.FrameNetwork(*pointers, TYPES[silhouettes.dtype], kind, frames, SLOPE))
    return y.read()


def frame_network(place: Place, kind: int, pixels: torch.dtype, frames: int) -> None:
    silhouettes = torch.from_numpy(random_silhouettes(1, frames, 11))[0]
    found = launch_frame_network(place, silhouettes.to(pixels), kind)
    if kind == cuda.INT8:
        expected = integer_features(silhouettes.to(place.reference))
        error = (found.double() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
        assert error < 1e-3, f"relative error {error:.2g}"  # half a step of FP16 is a quarter of that
        return
    given = silhouettes.to(place.reference)[None]
    exact, plain = (
        place.model(PAPER, precision, torch.float16).part_features(given)[0]
        for precision in (torch.float64, torch.float16)
    )
    compare(found, exact, plain)


def two_launches(place: Place, frames: int) -> None:
    """The paper's network from silhouettes to embeddings, in FP16."""
    silhouettes = torch.from_numpy(random_silhouettes(2, frames, 12))
    features = place.put(launch_frame_network(place, silhouettes.flatten(0, 1), cuda.FLOAT16))
    weights, kept = micro_motion_weights(place, PAPER, torch.float16)
    y = Result(place, (2, PAPER.parts, PAPER.embedding_dim), torch.float32)
    place.launch(cuda.MicroMotion(weights, features.data_ptr(), None, y.address, cuda.FLOAT32, 2, frames))
    del kept
    exact, plain = (
        place.model(PAPER, precision, torch.float16)(silhouettes.to(place.reference))
        for precision in (torch.float64, torch.float16)
    )
    compare(y.read(), exact, plain.float())
