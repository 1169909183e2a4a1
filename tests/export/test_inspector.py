"""Which layers are found to have fallen back."""

from __future__ import annotations

import onnx
import pytest
from networks import random_weights
from onnx import TensorProto, helper

from gaitedge.config import GaitPartConfig
from gaitedge.engines.tensorrt_inspector import Layer
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.inspector import fell_back

SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)


def graph_of(plan: Plan) -> tuple[bytes, list[str]]:
    """A graph, and the names of its convolutions."""
    model = build_graph(SMALL, random_weights(SMALL, 0), plan)
    return model.SerializeToString(), [node.name for node in model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("plan", [Plan(precision="fp16"), Plan("split", "per_part", "fp16")])
def test_an_fp16_graph_of_which_a_layer_runs_in_fp32(plan: Plan) -> None:
    data, convolutions = graph_of(plan)
    first, second, *rest = convolutions
    layers = [
        Layer("fine", "fp16", (first,)),
        Layer("fell", "fp32", (second, rest[0])),
        Layer("faster than asked", "int8", (rest[1],)),
        Layer("not known", None, (rest[2],)),
        Layer("TensorRT's own reformat", "fp32", ("Reformatting CopyNode",)),
    ]
    assert fell_back(layers, data) == ("fell",)


def test_an_fp32_graph_cannot_fall() -> None:
    data, convolutions = graph_of(Plan())
    assert fell_back([Layer(name, "fp32", (name,)) for name in convolutions], data) == ()


def test_casts_belong_to_neither_precision() -> None:
    data, _ = graph_of(Plan(precision="fp16"))
    casts = [node.name for node in onnx.load_from_string(data).graph.node if node.op_type == "Cast"]
    assert casts
    assert fell_back([Layer(name, "fp32", (name,)) for name in casts], data) == ()


def quantised() -> bytes:
    """x → Q → DQ → conv1 → relu → conv2: the first convolution in INT8, the second in FP32."""
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])
    zero = helper.make_tensor("zero", TensorProto.INT8, [], [0])
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="dq"),
        helper.make_node("Conv", ["dq", "weight"], ["c1"], name="conv1"),
        helper.make_node("Relu", ["c1"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "weight"], ["y"], name="conv2"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "quantised", ends[:1], ends[1:], [scale, zero, weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.mark.parametrize(
    ("layers", "fallen"),
    [
        ([Layer("a", "int8", ("conv1", "relu")), Layer("b", "fp32", ("conv2",))], ()),
        ([Layer("a", "fp32", ("conv1", "relu")), Layer("b", "fp32", ("conv2",))], ("a",)),
        ([Layer("a", "fp16", ("conv1",)), Layer("b", "fp16", ("relu", "conv2"))], ("a",)),
        ([Layer("a", "fp32", ("q",)), Layer("b", "fp32", ("relu",))], ()),
    ],
)
def test_int8_is_asked_where_a_dequantised_tensor_is_read(
    layers: list[Layer], fallen: tuple[str, ...]
) -> None:
    assert fell_back(layers, quantised()) == fallen
