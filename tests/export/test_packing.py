"""The kernels' weights: what is packed lies where the header says, and is what was given."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_build import KERNELS
from networks import random_weights
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.packing import fits, pack_frame_network, pack_micro_motion

Array = NDArray[Any]
PAPER = GaitPartConfig()
WEIGHTS = random_weights(PAPER, 5)
SCALES = {f"fconv{layer}": 0.01 * layer for layer in range(1, 7)}
BIASES = {
    f"fconv{layer + 1}": np.random.default_rng(layer).normal(size=channels).astype(np.float32)
    for layer, channels in enumerate([32, 32, 64, 64, 128, 128])
}
OFFSETS = """
#include <cstdio>
#include "gaitedge/frame_network_weights.h"
using namespace gaitedge::frame_network;
int main() {
  for (int size = 1; size <= 2; ++size) {
    for (int layer = 1; layer <= kLayers; ++layer) {
      std::printf("weights%d.%d %d\\nbias%d.%d %d\\n", layer, size, weights_at(layer, size), layer, size,
                  bias_at(layer, size));
      std::printf("depth%d.%d %d\\n", layer, size, depth(layer));
    }
    std::printf("bytes.%d %d\\n", size, packed_bytes(size));
  }
  for (int layer = 1; layer <= kLayers; ++layer) {
    std::printf("scale%d %d\\ninverse%d %d\\n", layer, scale_at(layer), layer, inverse_at(layer));
  }
}
"""


@pytest.fixture(scope="module")
def offsets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the kernel's own header says."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to compile the kernel's header")
    folder: Path = tmp_path_factory.mktemp("offsets")
    source, program = folder / "offsets.cpp", folder / "offsets"
    source.write_text(OFFSETS)
    include = [f"-I{KERNELS / 'include'}", f"-I{KERNELS / 'host'}"]
    subprocess.run(["g++", "-std=c++17", *include, str(source), "-o", str(program)], check=True)
    lines = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.splitlines()
    return {name: int(number) for name, number in (line.split() for line in lines)}


def numbers(packed: Array, start: int, count: int, kind: type[np.generic]) -> Array:
    return packed[start : start + count * np.dtype(kind).itemsize].view(kind)


def matrix(packed: Array, offsets: dict[str, int], layer: int, kind: type[np.generic]) -> Array:
    """A layer's weights [out, depth] read as a warp's lanes do, one register after the other."""
    size = np.dtype(kind).itemsize
    out, depth = len(WEIGHTS[f"frame.{layer - 1}"]), offsets[f"depth{layer}.{size}"]
    words = packed[offsets[f"weights{layer}.{size}"] :][: out * depth * size].reshape(-1, 32, 4, 4)
    found = np.zeros((out, depth * size), np.uint8)
    steps = depth * size // 32
    for number, step in enumerate(
        words
    ):  # 16 bytes a lane: b[0], b[1] of one tile of 8 columns, then another
        for lane in range(32):
            for register in range(4):
                column = number // steps * 16 + register // 2 * 8 + lane // 4
                byte = number % steps * 32 + register % 2 * 16 + lane % 4 * 4
                found[column, byte : byte + 4] = step[lane, register]
    return found.view(kind)


def taps(layer: int) -> Array:
    """[out, depth]: the taps row by row, and the input channels of each; five taps of FConv1 and a zero."""
    weight = WEIGHTS[f"frame.{layer - 1}"]
    rows = [
        weight[:, :, y, x] if x < weight.shape[3] else np.zeros_like(weight[:, :, 0, 0])
        for y in range(weight.shape[2])
        for x in range(6 if layer == 1 else 3)
    ]
    return np.concatenate([*rows, *[rows[5]] * (2 if layer == 1 else 0)], axis=1)


def test_half(offsets: dict[str, int]) -> None:
    packed = pack_frame_network(PAPER, WEIGHTS, "fp16", biases=BIASES)
    assert packed.dtype == np.uint8
    assert len(packed) == offsets["bytes.2"]
    for layer in range(1, 7):
        expected = taps(layer).astype(np.float16)
        np.testing.assert_array_equal(matrix(packed, offsets, layer, np.float16), expected)
        bias = BIASES[f"fconv{layer}"]
        found = numbers(packed, offsets[f"bias{layer}.2"], len(bias), np.float32)
        np.testing.assert_array_equal(found, bias)


def test_int8(offsets: dict[str, int]) -> None:
    packed = pack_frame_network(PAPER, WEIGHTS, "int8", SCALES, BIASES)
    assert len(packed) == offsets["bytes.1"]
    for layer in range(1, 7):
        expected, name = taps(layer), f"fconv{layer}"
        step = np.abs(expected).max(axis=1) / np.float32(127)
        np.testing.assert_array_equal(
            matrix(packed, offsets, layer, np.int8), np.rint(expected / step[:, None])
        )
        bias = numbers(packed, offsets[f"bias{layer}.1"], len(step), np.float32)
        np.testing.assert_array_equal(bias, BIASES[name])
        scale = numbers(packed, offsets[f"scale{layer}"], len(step), np.float32)
        np.testing.assert_allclose(scale, step * (1 / 255 if layer == 1 else SCALES[name]), rtol=1e-6)
        if layer > 1:
            inverse = numbers(packed, offsets[f"inverse{layer}"], 1, np.float32)
            assert inverse == np.float32(1 / SCALES[name])


def test_every_section_begins_at_a_multiple_of_16(offsets: dict[str, int]) -> None:
    starts = {name: start for name, start in offsets.items() if not name.startswith(("depth", "inverse"))}
    assert not {name: start for name, start in starts.items() if start % 16}
    assert offsets["inverse2"] % 16 == 0


def test_no_biases_are_zeros(offsets: dict[str, int]) -> None:
    packed = pack_frame_network(PAPER, WEIGHTS, "fp16", biases={"fconv2": BIASES["fconv2"]})
    found = numbers(packed, offsets["bias1.2"], 448, np.float32)
    np.testing.assert_array_equal(found[32:64], BIASES["fconv2"])
    assert np.count_nonzero(found) == 32


def test_a_channel_of_zeros_has_a_scale(offsets: dict[str, int]) -> None:
    weights = {**WEIGHTS, "frame.1": WEIGHTS["frame.1"].copy()}
    weights["frame.1"][3] = 0
    packed = pack_frame_network(PAPER, weights, "int8", SCALES)
    assert not matrix(packed, offsets, 2, np.int8)[3].any()
    assert numbers(packed, offsets["scale2"], 32, np.float32)[3] == np.float32(SCALES["fconv2"])


@pytest.mark.parametrize(
    ("change", "served"),
    [
        ({}, True),
        ({"templates": (1,), "embedding_dim": 128, "squeeze": 2, "attention": False}, True),
        ({"strips": (1, 1, 2, 2, 8, 8)}, False),
        ({"parts": 8}, False),
        ({"channels": (32, 64, 256)}, False),
        ({"channels": (32, 64, 128, 256), "strips": (1, 1, 4, 4, 8, 8, 1, 1)}, False),
    ],
)
def test_which_networks_fit(change: dict[str, Any], served: bool) -> None:
    config = GaitPartConfig(**change)
    assert fits(config) is served
    if not served:
        with pytest.raises(InputError, match=r"has channels \(32, 64, 128\).* one kernel a layer"):
            pack_frame_network(config, random_weights(config, 0), "fp16")


def test_a_scale_that_is_missing_is_named() -> None:
    without = {name: scale for name, scale in SCALES.items() if name not in ("fconv1", "fconv4")}
    with pytest.raises(
        InputError, match="in int8 needs a scale of fconv4; there are: fconv2, fconv3, fconv5"
    ):
        pack_frame_network(PAPER, WEIGHTS, "int8", without)
    with pytest.raises(InputError, match="needs a scale of fconv2; there are none"):
        pack_frame_network(PAPER, WEIGHTS, "int8")


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_an_impossible_scale_is_named(scale: float) -> None:
    with pytest.raises(InputError, match=f"the scale of fconv5 must be a positive number, not {scale}"):
        pack_frame_network(PAPER, WEIGHTS, "int8", {**SCALES, "fconv5": scale})


def test_a_bias_of_another_length_is_named() -> None:
    with pytest.raises(InputError, match=r"the bias of fconv4 must be 64 numbers, not \[32\]"):
        pack_frame_network(PAPER, WEIGHTS, "fp16", biases={"fconv4": BIASES["fconv1"]})


def test_a_weight_beyond_half_is_named() -> None:
    weights = {
        **WEIGHTS,
        "frame.2": WEIGHTS["frame.2"] * np.float32(1e6),
        "fc": WEIGHTS["fc"] * np.float32(1e7),
    }
    with pytest.raises(InputError, match=r"a weight of fconv3 is beyond FP16: the largest is [0-9]{6}"):
        pack_frame_network(PAPER, weights, "fp16")
    with pytest.raises(InputError, match="a weight of fc is beyond FP16"):
        pack_micro_motion(PAPER, weights, "fp16")


@pytest.mark.parametrize(("precision", "kind"), [("fp32", np.float32), ("fp16", np.float16)])
@pytest.mark.parametrize("templates", [(1, 2), (2,)])
def test_micro_motion(precision: Any, kind: type, templates: tuple[int, ...]) -> None:
    config = GaitPartConfig(templates=templates)
    weights = random_weights(config, 6)
    packed = pack_micro_motion(config, weights, precision)
    assert list(packed) == [f"mtb{i}.{layer}" for i in templates for layer in ("squeeze", "excite")] + ["fc"]
    for name, array in packed.items():
        assert array.dtype == kind
        assert array.flags.c_contiguous
        expected = weights[name].astype(kind)
        if name != "fc":
            expected = np.moveaxis(expected, 3, 2)  # the taps before what they are summed over
        np.testing.assert_array_equal(array, expected)
    assert packed["mtb2.squeeze"].shape == (16, 32, 3, 128)
    assert packed["mtb2.excite"].shape == (16, 128, 3, 32)
    assert packed["fc"].shape == (16, 128, 256)
