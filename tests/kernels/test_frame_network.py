"""The frame network in one launch: FP16 against gaitedge.model, INT8 against integers in NumPy."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from host_build import ORDERS, TYPES, Host, Output, address, aligned
from networks import random_weights
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.cuda import FLOAT16, FLOAT32, INT8, UINT8, FrameNetwork
from gaitedge.errors import InputError
from gaitedge.export.packing import pack_frame_network
from gaitedge.weights import Weights

Array = NDArray[Any]
PAPER = GaitPartConfig()
SLOPE = 0.01


@functools.cache
def weights() -> Weights:
    return random_weights(PAPER, 0)


@functools.cache
def biases() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {
        f"fconv{layer + 1}": rng.normal(0, 0.3, PAPER.channels[layer // 2]).astype(np.float32)
        for layer in range(6)
    }


def walkers(frames: int, seed: int = 2) -> Array:
    """uint8 [frames, 64, 44]: a body of ellipses at a place of its own in every frame, 0 or 255; it touches
    the frame's edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :44]
    found = np.zeros((frames, 64, 44), bool)
    for frame in range(frames):
        for _ in range(7):
            centre, radius = rng.uniform((0, 8), (63, 36)), rng.uniform(3, 14, 2)
            found[frame] |= ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
    return found.astype(np.uint8) * 255


def noise(frames: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (frames, 64, 44)).astype(np.uint8)


def run(host: Host, silhouettes: Array, packed: Array, arithmetic: int = FLOAT16, order: int = 0) -> Array:
    """[frames, 16, 128], FP16."""
    given, blob, y = aligned(silhouettes), aligned(packed), Output((len(silhouettes), 16, 128), np.float16)
    with host.order(order):
        host.launch(
            FrameNetwork(
                address(given),
                address(blob),
                address(y.array),
                TYPES[silhouettes.dtype.type],
                arithmetic,
                len(silhouettes),
                SLOPE,
            )
        )
    return y.check()


def model(
    silhouettes: Array, added: dict[str, Array], given: Weights | None = None, *, half: bool = False
) -> list[Array]:
    """The letter of the paper in float64, over weights rounded to FP16: what each FConv reads, and the
    PR-Matrix last, [frames, 16, 128]. half: what goes from layer to layer is rounded to FP16."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    given = given or weights()
    x, found = torch.from_numpy(silhouettes.astype(np.float64))[:, None], []
    for layer, strips in enumerate(PAPER.strips):
        found.append(x.numpy())
        weight = torch.from_numpy(given[f"frame.{layer}"].astype(np.float16).astype(np.float64))
        convolved = [F.conv2d(part, weight, padding=weight.shape[-1] // 2) for part in x.chunk(strips, dim=2)]
        x = torch.cat(convolved, dim=2) / (255 if layer == 0 else 1)
        if added:
            x = x + torch.from_numpy(added[f"fconv{layer + 1}"].astype(np.float64))[:, None, None]
        x = F.leaky_relu(x, SLOPE)
        if PAPER.pooled_after(layer):
            x = F.max_pool2d(x, 2)
        if half and layer < 5:
            x = x.half().double()
    return [*found, (x.mean(dim=3) + x.amax(dim=3)).transpose(1, 2).numpy()]


def check_half(found: Array, silhouettes: Array, added: dict[str, Array]) -> None:
    """The error is that of FP16 between the layers, which the kernel has too, and the rounding of the
    result. A quarter more, since the order of FP32's sums sends some values to the other neighbour."""
    expected = model(silhouettes, added)[-1]
    allowed = model(silhouettes, added, half=True)[-1] - expected
    error = np.abs(found.astype(np.float64) - expected) - np.abs(expected) * 2**-11
    assert np.isfinite(found).all()
    assert error.max() <= 1.25 * np.abs(allowed).max()
    assert np.sqrt((error.clip(0) ** 2).mean()) <= 1.25 * np.sqrt((allowed**2).mean())


# FP16 ---------------------------------------------------------------------------------------------


def test_the_statement_is_the_network() -> None:
    import torch

    from gaitedge.model import GaitPart

    silhouettes = np.concatenate([walkers(2), noise(1)])
    rounded = {name: array.astype(np.float16).astype(np.float32) for name, array in weights().items()}
    with torch.no_grad():
        network = GaitPart(PAPER).load(rounded).double()
        expected = network.part_features(torch.from_numpy(silhouettes)[None])[0].numpy()
    np.testing.assert_allclose(model(silhouettes, {})[-1], expected, rtol=1e-9, atol=1e-9)


def test_half(host: Host) -> None:
    silhouettes = np.concatenate([walkers(2), noise(1)])
    check_half(run(host, silhouettes, pack_frame_network(PAPER, weights(), "fp16")), silhouettes, {})


def test_half_with_biases_and_half_pixels(host: Host) -> None:
    shades = np.random.default_rng(4).uniform(0, 255, (2, 64, 44)).astype(np.float16)
    packed = pack_frame_network(PAPER, weights(), "fp16", biases=biases())
    check_half(run(host, shades, packed), shades, biases())


def test_nan_and_infinity_pass_through(host: Host) -> None:
    """Where they would without strips of another frame, zeros of padding, or taps that are none."""
    silhouettes = np.stack([*walkers(1), *noise(1)]).astype(np.float16)
    silhouettes[0, 17, 40] = np.nan
    silhouettes[1, 46, 3], silhouettes[1, 31, 20] = np.inf, -np.inf
    found = run(host, silhouettes, pack_frame_network(PAPER, weights(), "fp16"))
    expected = model(silhouettes, {})[-1]
    assert 0 < np.isnan(expected[0]).sum() < expected[0].size
    assert 0 < np.isfinite(expected[1]).sum() < expected[1].size
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite].astype(np.float16))
    np.testing.assert_allclose(found[finite], expected[finite], rtol=0.01, atol=0.01)


def test_infinity_stays_infinity(host: Host) -> None:
    """Where all weights are positive: a tap or a pixel that is none, times it, would be NaN."""
    positive = {name: np.abs(array) / 20 for name, array in weights().items()}
    silhouettes = walkers(1).astype(np.float16)
    silhouettes[0, 30, 20:23] = np.inf
    found = run(host, silhouettes, pack_frame_network(PAPER, positive, "fp16"))
    expected = model(silhouettes, {}, positive)[-1]
    assert 0 < np.isinf(expected).sum() < expected.size
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


# INT8 ---------------------------------------------------------------------------------------------


@functools.cache
def scales() -> dict[str, float]:
    """Of what the layers read in these tests; a little is beyond and saturates."""
    read = model(np.concatenate([walkers(1), noise(1)]), biases())[1:-1]
    return {f"fconv{layer + 2}": 0.8 * float(np.abs(x).max()) / 127 for layer, x in enumerate(read)}


def integers(silhouettes: Array, given: dict[str, float], added: dict[str, Array]) -> Array:
    """The network in whole numbers, uint8 [frames, 64, 44] → [frames, 16, 128]. float64 holds them all."""
    x, scale = silhouettes.astype(np.float64)[..., None], 1 / 255
    for layer, strips in enumerate(PAPER.strips):
        weight = weights()[f"frame.{layer}"]
        step = np.abs(weight).max(axis=(1, 2, 3)) / np.float32(127)
        kernel = np.rint(weight / step[:, None, None, None]).astype(np.float64)
        sums = np.concatenate([convolve(strip, kernel) for strip in np.split(x, strips, axis=1)], axis=1)
        worth = (scale * step.astype(np.float64)).astype(np.float32)
        bias = added.get(f"fconv{layer + 1}", np.float32(0))
        # One rounding of product and sum, as fmaf has it.
        y = (sums.astype(np.float32).astype(np.float64) * worth + bias).astype(np.float32)
        y = np.where(y > 0, y, np.float32(SLOPE) * y)
        if PAPER.pooled_after(layer):
            y = y.reshape(len(y), y.shape[1] // 2, 2, y.shape[2] // 2, 2, -1).max(axis=(2, 4))
        if layer < 5:
            scale = given[f"fconv{layer + 2}"]
            x = np.rint((y * np.float32(1 / scale)).clip(-127, 127)).astype(np.float64)
    return y.mean(axis=2, dtype=np.float64) + y.max(axis=2)


def convolve(x: Array, kernel: Array) -> Array:
    """[frames, rows, columns, in], [out, in, k, k] → [frames, rows, columns, out], zeros around."""
    k = kernel.shape[-1]
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))
    return np.tensordot(windows, kernel, axes=((3, 4, 5), (1, 2, 3)))


@pytest.mark.parametrize("with_biases", [False, True])
def test_int8(host: Host, with_biases: bool) -> None:
    """To the last bit of FP16, but where HP's sum rounds the other way."""
    silhouettes = noise(1) if with_biases else walkers(2)
    added = biases() if with_biases else {}
    packed = pack_frame_network(PAPER, weights(), "int8", scales(), added)
    found = run(host, silhouettes, packed, INT8)
    np.testing.assert_allclose(found, integers(silhouettes, scales(), added), rtol=2**-11 + 2**-20, atol=1e-6)
    near = model(silhouettes, added)[-1]  # whatever the integers are, they mean the network
    assert np.sqrt(((found - near) ** 2).mean()) < 0.1 * near.std()


def test_int8_takes_half_pixels(host: Host) -> None:
    """Rounded to the nearest, of two the even one, and held within 0 to 255; NaN becomes 0."""
    pixels = noise(1)
    given = pixels.astype(np.float16)
    given[0, :3, 5:13] = np.array([0.5, 1.5, 254.5, -3, 300, np.nan, np.inf, 7.25])
    pixels[0, :3, 5:13] = np.array([0, 2, 254, 0, 255, 0, 255, 7])
    packed = pack_frame_network(PAPER, weights(), "int8", scales())
    np.testing.assert_array_equal(run(host, given, packed, INT8), run(host, pixels, packed, INT8))


# Both ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arithmetic", [FLOAT16, INT8])
def test_the_order_of_threads_does_not_matter(host: Host, arithmetic: int) -> None:
    packed = pack_frame_network(PAPER, weights(), "int8" if arithmetic == INT8 else "fp16", scales())
    first, *others = (run(host, noise(1), packed, arithmetic, order) for order in ORDERS)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_no_frames(host: Host) -> None:
    packed = pack_frame_network(PAPER, weights(), "fp16")
    assert run(host, noise(0), packed).shape == (0, 16, 128)


@pytest.mark.parametrize(
    ("pixels", "arithmetic", "frames", "slope"),
    [(INT8, FLOAT16, 1, 0.01), (UINT8, FLOAT32, 1, 0.01), (UINT8, INT8, -1, 0.01), (UINT8, INT8, 1, -0.01)],
)
def test_impossible_arguments_are_refused(
    host: Host, pixels: int, arithmetic: int, frames: int, slope: float
) -> None:
    with pytest.raises(InputError, match=f"no kernel of gaitedge_frame_network takes pixels={pixels}, "):
        host.launch(FrameNetwork(None, None, None, pixels, arithmetic, frames, slope))
