"""Biases, which GaitPart does without and a correction of int8 may add: every form adds the same."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from graphs import check, constants, measured_scales, relative_error, run, run_in_openvino
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_silhouettes, random_weights
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.graph import LETTER, Plan, build_frame_graph, build_graph
from gaitedge.export.plan import bias_shapes, layer_names

PAPER = GaitPartConfig()
SMALL = GaitPartConfig(channels=(4, 8, 12))
FORMS = [(f, m) for f in ("fold", "fold_nhwc", "split") for m in ("grouped", "per_part")]
Biases = dict[str, NDArray[np.float32]]


def random_biases(config: GaitPartConfig, seed: int) -> Biases:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in bias_shapes(config).items()}


def test_every_layer_has_a_bias_for_each_of_its_channels() -> None:
    shapes = bias_shapes(PAPER)
    assert tuple(shapes) == layer_names(PAPER)
    assert shapes["fconv1"] == (32,)
    assert shapes["fconv6"] == (128,)
    assert shapes["mtb1.squeeze"] == (16, 32)
    assert shapes["mtb2.excite"] == (16, 128)
    assert shapes["fc"] == (16, 256)


@settings(max_examples=25)
@given(configs(), st.sampled_from(FORMS), st.integers(1, 2), st.integers(1, 12), st.integers(0, 2**16))
def test_every_form_adds_what_the_letter_adds(
    config: GaitPartConfig, form: tuple[str, str], batch: int, frames: int, seed: int
) -> None:
    weights, biases = random_weights(config, seed), random_biases(config, seed)
    silhouettes = random_silhouettes(batch, frames, seed)
    for build in (build_graph, build_frame_graph):
        (expected,) = run(build(config, weights, LETTER, biases), silhouettes)
        (found,) = run(build(config, weights, Plan(*form), biases), silhouettes)  # type: ignore[arg-type]
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_they_are_added_where_pytorch_adds_them(form: tuple[str, str]) -> None:
    """To the convolution before LeakyReLU, channel by channel, and to the product at the end."""
    config = GaitPartConfig(channels=(4,), strips=(1, 2), parts=2, templates=(1,), embedding_dim=3)
    weights, biases = random_weights(config, 1), random_biases(config, 1)
    silhouettes = random_silhouettes(1, 5, 1)
    w = {name: torch.from_numpy(array) for name, array in weights.items()}
    b = {name: torch.from_numpy(array) for name, array in biases.items()}
    relu = torch.nn.LeakyReLU(0.01)
    x = torch.from_numpy(silhouettes[0, :, None] / np.float32(255))
    x = relu(torch.nn.functional.conv2d(x, w["frame.0"], b["fconv1"], padding=2))
    halves = x.split(32, dim=2)
    x = torch.cat([torch.nn.functional.conv2d(h, w["frame.1"], b["fconv2"], padding=1) for h in halves], 2)
    strips = relu(x).split(32, dim=2)
    expected = []
    for part, strip in enumerate(strips):
        row = (strip.mean((2, 3)) + strip.amax((2, 3))).T[None]  # [1, C, frames]
        hidden = torch.nn.functional.conv1d(row, w["mtb1.squeeze"][part], b["mtb1.squeeze"][part], padding=1)
        logits = torch.nn.functional.conv1d(relu(hidden), w["mtb1.excite"][part], b["mtb1.excite"][part])
        template = torch.nn.functional.avg_pool1d(row, 3, 1, 1) + torch.nn.functional.max_pool1d(row, 3, 1, 1)
        pooled = (template * logits.sigmoid()).amax(2)
        expected.append(pooled @ w["fc"][part] + b["fc"][part])
    (found,) = run(build_graph(config, weights, Plan(*form), biases), silhouettes)  # type: ignore[arg-type]
    assert relative_error(found, torch.stack(expected, 1).numpy()) <= 1e-5


@pytest.mark.parametrize("placement", ["inputs", "chain"])
@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_they_stay_floats_beside_int8(form: tuple[str, str], placement: str) -> None:
    weights, biases = random_weights(SMALL, 2), random_biases(SMALL, 2)
    silhouettes = random_silhouettes(1, 6, 2)
    scales = measured_scales(SMALL, weights, silhouettes)
    model = build_graph(SMALL, weights, Plan(*form, scales=scales, placement=placement), biases)  # type: ignore[arg-type]
    held = {name: value for name, value in constants(model).items() if name.endswith(".bias")}
    assert {value.dtype for value in held.values()} == {np.dtype(np.float32)}
    assert sum(value.size for value in held.values()) == sum(bias.size for bias in biases.values())
    assert check(model) == ["batch", SMALL.parts, SMALL.embedding_dim]
    (expected,) = run(build_graph(SMALL, weights, LETTER, biases), silhouettes)
    assert relative_error(run(model, silhouettes)[0], expected) <= 0.15
    if importlib.util.find_spec("openvino") is not None and placement == "chain":
        assert relative_error(run_in_openvino(model, silhouettes), expected) <= 0.15


def test_flat_biases_are_taken_too() -> None:
    weights, biases = random_weights(SMALL, 0), random_biases(SMALL, 0)
    flat = {name: bias.ravel() for name, bias in biases.items()}
    first, second = (build_graph(SMALL, weights, None, those) for those in (biases, flat))
    assert first == second


@pytest.mark.parametrize(
    ("biases", "said"),
    [
        ({"fconv9": np.zeros(4)}, r"no layer 'fconv9' to add a bias to; there are: fconv1, .*, fc$"),
        ({"fconv1": np.zeros(5)}, r"the bias of fconv1 is \[5\], must be \[4\]"),
        ({"fc": np.zeros((256, 16))}, r"the bias of fc is \[256, 16\], must be \[16, 256\]"),
        ({"fconv2": np.array([0, np.nan, 0, 0])}, "the bias of fconv2 holds NaN or infinite values"),
        ({"mtb1.squeeze": np.full(48, np.inf)}, "the bias of mtb1.squeeze holds NaN or infinite values"),
    ],
)
def test_bad_biases_are_refused(biases: Biases, said: str) -> None:
    for build in (build_graph, build_frame_graph):
        with pytest.raises(InputError, match=said):
            build(SMALL, random_weights(SMALL, 0), None, biases)


@settings(max_examples=15)
@given(configs(), st.sampled_from(["grouped", "plugin"]), st.sampled_from(["fp32", "fp16"]), st.data())
def test_the_plugin_of_an_fconv_adds_its_bias(
    config: GaitPartConfig, head: str, precision: str, data: st.DataObject
) -> None:
    """As float32 in either precision; layers without one have two inputs. FC's stands beside its plugin."""
    config = dataclasses.replace(config, embedding_dim=16)  # a single number may be a small difference
    weights, every = random_weights(config, 1), random_biases(config, 1)
    layers = [name for name in every if name.startswith("fconv") or name == "fc"]
    biases = {name: every[name] for name in data.draw(st.lists(st.sampled_from(layers), unique=True))}
    silhouettes = random_silhouettes(1, 6, 1)
    (expected,) = run(build_graph(config, weights, LETTER, biases), silhouettes)
    model = build_graph(config, weights, Plan("plugin", head, precision), biases)  # type: ignore[arg-type]
    assert check(model) == ["batch", config.parts, config.embedding_dim]
    assert relative_error(run(model, silhouettes)[0], expected) <= (1e-5 if precision == "fp32" else 5e-3)
    held = constants(model)
    for node in (node for node in model.graph.node if node.op_type == "GaitEdgeFocalConv"):
        assert len(node.input) == (3 if node.name in biases else 2)
        for name in node.input[2:]:
            assert held[name].dtype == np.float32
            np.testing.assert_array_equal(held[name], biases[node.name])


@pytest.mark.parametrize(
    ("plan", "layer"),
    [
        (Plan("network", precision="fp16"), "fconv2"),
        (Plan("fold", "plugin"), "mtb1.excite"),
        (Plan("plugin", "plugin"), "mtb2.squeeze"),
    ],
)
def test_other_plugins_take_no_bias(plan: Plan, layer: str) -> None:
    weights, biases = random_weights(PAPER, 0), random_biases(PAPER, 0)
    with pytest.raises(InputError, match=f"{layer} is inside a plugin, which takes no bias"):
        build_graph(PAPER, weights, plan, {layer: biases[layer]})
    model = build_graph(PAPER, weights, plan, {"fc": biases["fc"]})
    assert "fc.bias" in constants(model)
