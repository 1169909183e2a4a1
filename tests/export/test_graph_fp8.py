"""FP8, E4M3 with its Q/DQ: what the graph holds, and what it costs the embeddings."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from graphs import check, constants, measured_scales, reference, run, smallest_cosine, unit_scales
from networks import random_weights

from gaitedge.config import GaitPartConfig
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import InputError
from gaitedge.export.graph import Plan, build_graph
from gaitedge.weights import load_weights, shipped_weights

SMALL = GaitPartConfig(channels=(4, 8, 12))
FORMS = [(f, m) for f in ("fold", "split") for m in ("grouped", "per_part")]


@pytest.mark.parametrize(("which", "least"), [("fconv", 0.998), ("", 0.994)], ids=["frames", "all"])
def test_the_shipped_weights_in_fp8(which: str, least: float) -> None:
    """As measured on walkers a mean cosine of 0.9994 with the FConvs in FP8, 0.9978 with every layer."""
    config, weights = load_weights(shipped_weights())
    rng = np.random.default_rng(0)
    scales = measured_scales(config, weights, draw_silhouettes(1, 12, rng))
    scales = tuple(one for one in scales if one[0].startswith(which))
    silhouettes = draw_silhouettes(1, 12, rng)
    expected = reference(config, weights, silhouettes)
    model = build_graph(config, weights, Plan(precision="fp16", scales=scales, eight_bits="fp8"))
    (found,) = run(model, silhouettes, optimise=False)
    assert least <= smallest_cosine(found, expected) < 0.99999  # and it is fp8


@pytest.mark.parametrize(("precision", "opset"), [("fp16", 19), ("bf16", 22)])
@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_the_graph_is_that_of_int8_in_another_type(form: tuple[str, str], precision: str, opset: int) -> None:
    weights, scales = random_weights(SMALL, 0), tuple((name, 0.5) for name, _ in unit_scales(SMALL))
    model, int8 = (
        build_graph(SMALL, weights, Plan(*form, precision=precision, scales=scales, eight_bits=kind))  # type: ignore[arg-type]
        for kind in ("fp8", "int8")
    )
    assert check(model) == ["batch", SMALL.parts, SMALL.embedding_dim]
    assert model.opset_import[0].version == opset
    assert [node.name for node in model.graph.node] == [node.name for node in int8.graph.node]
    kinds = {constant.name: constant.data_type for constant in model.graph.initializer}
    values = constants(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert kinds[node.input[2]] == onnx.TensorProto.FLOAT8E4M3FN
            assert not values[node.input[2]].astype(np.float32).any()
    scale = next(value for name, value in values.items() if re.match(r"fconv3\.(.*\.)?input\.scale", name))
    assert float(scale) == pytest.approx(0.5 * 127 / 448, rel=1e-2)
    weight = np.abs(weights["frame.2"]).max(axis=(1, 2, 3)) / 448
    np.testing.assert_allclose(values["fconv3.weight.scale"].astype(np.float32), weight, rtol=1e-2)


def test_the_largest_value_becomes_the_largest_of_e4m3() -> None:
    onnx_weights = random_weights(SMALL, 0)
    plan = Plan(precision="fp16", scales=(("fconv3", 1.0),), eight_bits="fp8")
    model = build_graph(SMALL, onnx_weights, plan)
    del model.graph.output[:]
    tensor = onnx.helper.make_tensor_value_info("fconv3.weight.dequantize", onnx.TensorProto.FLOAT16, None)
    model.graph.output.append(tensor)
    silhouettes = np.zeros((1, 1, 64, 44), np.uint8)
    (found,) = run(model, silhouettes, "fconv3.weight.dequantize", optimise=False)
    wanted = onnx_weights["frame.2"]
    largest = np.abs(wanted).max(axis=(1, 2, 3), keepdims=True)
    at = np.abs(wanted) == largest
    np.testing.assert_allclose(found[at], wanted[at], rtol=2e-3)
    # Three bits of mantissa, and steps of 2**-9 below the smallest normal number.
    bound = np.maximum(np.abs(wanted) / 16, largest / 448 * 2**-10) * 1.01 + 1e-3 * np.abs(wanted)
    assert (np.abs(found - wanted) <= bound).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "fp8 is for TensorRT, which computes it beside fp16 or bf16, not beside fp32"),
        ({"precision": "fp16", "placement": "chain"}, "fp8 is placed at the inputs"),
    ],
)
def test_fp8_where_nothing_computes_it_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Plan(scales=(("fconv3", 1.0),), eight_bits="fp8", **options)  # type: ignore[arg-type]
