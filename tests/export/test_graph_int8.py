"""Q/DQ in the graph: where the pairs are, what they hold, and what they cost the embeddings."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from graphs import (
    check,
    constants,
    measured_scales,
    reference,
    relative_error,
    run,
    run_in_openvino,
    smallest_cosine,
    unit_scales,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_silhouettes, random_weights

from gaitedge.config import GaitPartConfig
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import InputError
from gaitedge.export.graph import LETTER, Plan, build_frame_graph, build_graph
from gaitedge.weights import load_weights, shipped_weights

PAPER = GaitPartConfig()
SMALL = GaitPartConfig(channels=(4, 8, 12))
FORMS = [(f, m) for f in ("fold", "split") for m in ("grouped", "per_part")]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_the_shipped_weights_in_int8(form: tuple[str, str], precision: str) -> None:
    """Every layer through int8, scales from the largest values: as measured a cosine of 0.9994."""
    config, weights = load_weights(shipped_weights())
    rng = np.random.default_rng(0)
    scales = measured_scales(config, weights, draw_silhouettes(2, 12, rng))
    silhouettes = draw_silhouettes(2, 12, rng)  # others than those that the scales are of
    expected = reference(config, weights, silhouettes)
    model = build_graph(config, weights, Plan(*form, precision=precision, scales=scales))  # type: ignore[arg-type]
    (found,) = run(model, silhouettes)
    assert smallest_cosine(found, expected) >= 0.998
    assert 1e-3 < relative_error(found, expected) <= 0.1  # it is int8, and not more than that


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
def test_openvino_computes_the_same_from_the_portable_form() -> None:
    config, weights = load_weights(shipped_weights())
    rng = np.random.default_rng(0)
    scales = measured_scales(config, weights, draw_silhouettes(2, 12, rng))
    silhouettes = draw_silhouettes(2, 12, rng)
    model = build_graph(config, weights, Plan(scales=scales))
    assert (
        smallest_cosine(run_in_openvino(model, silhouettes), reference(config, weights, silhouettes)) >= 0.998
    )


@settings(max_examples=40)
@given(configs(), st.sampled_from(FORMS), st.integers(1, 2), st.integers(1, 12), st.integers(0, 2**16))
def test_random_networks_in_int8(
    config: GaitPartConfig, form: tuple[str, str], batch: int, frames: int, seed: int
) -> None:
    """Of a network of few channels little averages out, so this bound is a wide one."""
    weights, silhouettes = random_weights(config, seed), random_silhouettes(batch, frames, seed)
    features = reference(config, weights, silhouettes, features=True)
    scales = measured_scales(config, weights, silhouettes)
    (found,) = run(build_frame_graph(config, weights, Plan(*form, scales=scales)), silhouettes)  # type: ignore[arg-type]
    assert np.abs(found - features).max() <= 0.15 * np.abs(features).max()
    (found,) = run(build_graph(config, weights, Plan(*form, scales=scales)), silhouettes)  # type: ignore[arg-type]
    assert found.shape == (batch, config.parts, config.embedding_dim)


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_pairs_are_at_the_inputs_of_convolutions_and_products_and_nowhere_else(form: tuple[str, str]) -> None:
    plan = Plan(*form, scales=unit_scales(PAPER))  # type: ignore[arg-type]
    nodes = build_graph(PAPER, random_weights(PAPER, 0), plan).graph.node
    makers = {tensor: node for node in nodes for tensor in node.output}
    readers = {tensor: node for node in nodes for tensor in node.input}
    products = [node for node in nodes if node.op_type in ("Conv", "MatMul")]
    for node in products:
        for tensor in node.input:
            maker = makers[tensor]
            while maker.op_type in ("Transpose", "Reshape"):  # of fc in the grouped form
                maker = makers[maker.input[0]]
            assert maker.op_type == "DequantizeLinear", (node.name, tensor)
            assert makers[maker.input[0]].op_type == "QuantizeLinear"
    ends = [node for node in nodes if node.op_type == "DequantizeLinear"]
    assert {readers[node.output[0]].op_type for node in ends} <= {"Conv", "MatMul", "Transpose"}
    assert len(ends) >= len(products)


@pytest.mark.parametrize(("precision", "opset", "ir"), [("fp32", 17, 8), ("fp16", 19, 9)])
@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_the_graphs_for_tensorrt_8_6_and_from_10_on(
    form: tuple[str, str], precision: str, opset: int, ir: int
) -> None:
    """Both are the same nodes: pairs at both operands, none behind a product, the silhouettes cast."""
    scales = tuple((name, 0.5) for name, _ in unit_scales(PAPER) if name.startswith("fconv"))
    plan = Plan(*form, precision=precision, scales=scales)  # type: ignore[arg-type]
    model = build_graph(PAPER, random_weights(PAPER, 0), plan)
    assert check(model) == ["batch", PAPER.parts, PAPER.embedding_dim]
    assert (model.opset_import[0].version, model.ir_version) == (opset, ir)
    makers = {tensor: node for node in model.graph.node for tensor in node.output}
    products = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul")]
    for node in products:
        operands = {makers[name].op_type for name in node.input if name in makers}
        quantised = node.name.startswith("fconv")
        assert (operands == {"DequantizeLinear"}) is quantised, node.name
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    behind = {makers[node.input[0]].op_type for node in pairs if node.input[0] in makers}
    assert behind.isdisjoint({"Conv", "MatMul"})
    readers = [node.op_type for node in model.graph.node if "silhouettes" in node.input]
    assert readers == ["Cast"]


def test_only_the_layers_with_a_scale_are_quantised() -> None:
    plan = Plan(scales=(("fconv3", 0.5), ("mtb2.excite", 0.25)))
    nodes = build_graph(PAPER, random_weights(PAPER, 0), plan).graph.node
    assert [node.name for node in nodes if node.op_type == "QuantizeLinear"] == [
        "fconv3.weight.quantize",
        "fconv3.input.quantize",
        "mtb2.excite.weight.quantize",
        "mtb2.excite.input.quantize",
    ]


def test_strips_of_one_fconv_share_a_scale() -> None:
    plan = Plan("split", scales=(("fconv5", 0.5),))
    model = build_graph(PAPER, random_weights(PAPER, 0), plan)
    pairs = [node for node in model.graph.node if node.name.endswith("input.quantize")]
    assert len(pairs) == 8
    assert {float(constants(model)[node.input[1]]) for node in pairs} == {0.5}


@pytest.mark.parametrize(("precision", "kind"), [("fp32", np.float32), ("fp16", np.float16)])
def test_scales_and_zero_points_are_as_tensorrt_reads_them(precision: str, kind: type) -> None:
    """Activations have one scale, convolutions' weights one an output channel, the product's weight one;
    every pair has a zero-point of zeros of its scale's shape."""
    weights = random_weights(SMALL, 0)
    weights["frame.2"][3] = 0  # a channel that is all zeros
    plan = Plan(precision=precision, scales=unit_scales(SMALL))  # type: ignore[arg-type]
    model = build_graph(SMALL, weights, plan)
    values = constants(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = values[node.input[1]], values[node.input[2]]
            assert scale.dtype == kind
            assert (scale > 0).all()
            assert zero.dtype == np.int8
            assert zero.shape == scale.shape
            assert not zero.any()
            axis = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
            per_channel = ".weight." in node.name and not node.name.startswith("fc.")
            assert (scale.ndim, axis) == ((1, [0]) if per_channel else (0, [])), node.name
    scale = values["fconv4.weight.scale"]
    largest = np.abs(weights["frame.3"]).max(axis=(1, 2, 3))
    np.testing.assert_allclose(scale, largest / 127, rtol=1e-3)


@settings(max_examples=25)
@given(configs(), st.sampled_from(["fp32", "fp16", "bf16"]), st.sampled_from(FORMS))
def test_checker_and_shape_inference_pass(
    config: GaitPartConfig, precision: str, form: tuple[str, str]
) -> None:
    plan = Plan(*form, precision=precision, scales=unit_scales(config))  # type: ignore[arg-type]
    weights = random_weights(config, 0)
    assert check(build_graph(config, weights, plan)) == ["batch", config.parts, config.embedding_dim]
    assert check(build_frame_graph(config, weights, plan)) == [
        "batch",
        "frames",
        config.parts,
        config.features,
    ]


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_impossible_scales_are_refused(scale: float) -> None:
    with pytest.raises(InputError, match="the scale of fconv1 must be a positive number"):
        Plan(scales=(("fconv1", scale),))


def test_two_scales_of_one_layer_are_refused() -> None:
    with pytest.raises(InputError, match="fc has two scales"):
        Plan(scales=(("fc", 1.0), ("fc", 2.0)))


@pytest.mark.parametrize("name", ["fconv7", "fconv0", "mtb3.squeeze", "tp", ""])
def test_scales_of_layers_that_are_not_there_are_refused(name: str) -> None:
    for build in (build_graph, build_frame_graph):
        with pytest.raises(InputError, match=rf"no layer '{name}' to scale; there are: fconv1, .*, fc, hp$"):
            build(PAPER, random_weights(PAPER, 0), Plan(scales=((name, 1.0),)))


@pytest.mark.parametrize(
    ("options", "name"), [({"fconv": "plugin"}, "fconv2"), ({"micro_motion": "plugin"}, "mtb1.squeeze")]
)
def test_a_plugin_takes_no_scale(options: dict[str, str], name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is inside a plugin"):
        Plan(scales=((name, 1.0),), **options)  # type: ignore[arg-type]


def test_a_scale_beyond_fp16_is_refused() -> None:
    plan = Plan(precision="fp16", scales=(("fconv3", 1e6),))
    with pytest.raises(InputError, match=r"fconv3\.input\.scale holds 1e\+06, beyond fp16"):
        build_graph(SMALL, random_weights(SMALL, 0), plan)


def test_the_letter_takes_scales_too() -> None:
    plan = Plan(LETTER.fconv, LETTER.micro_motion, scales=unit_scales(PAPER))
    nodes = build_graph(PAPER, random_weights(PAPER, 0), plan).graph.node
    assert sum(node.op_type == "Conv" for node in nodes) == 26 + 64
