"""The plugin nodes: what a plugin is told, and the functions that say what it must compute."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import reference, relative_error, run
from networks import random_silhouettes, random_weights

from gaitedge.config import GaitPartConfig
from gaitedge.export.graph import LETTER, Plan, build_frame_graph, build_graph, without_functions

PAPER = GaitPartConfig()
PLUGINS = Plan("plugin", "plugin")
OURS = {"GaitEdgeFocalConv", "GaitEdgePartPool", "GaitEdgeMicroMotion"}


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def test_the_paper_s_network_is_eight_plugins_and_little_else() -> None:
    model = build_graph(PAPER, random_weights(PAPER, 0), PLUGINS)
    ours = [node for node in model.graph.node if node.op_type in OURS]
    assert [node.name for node in ours] == [*(f"fconv{i}" for i in range(1, 7)), "hp", "motion"]
    assert len(model.graph.node) <= 20
    every = {"plugin_version": "1", "plugin_namespace": "gaitedge"}
    slope = pytest.approx(0.01)
    strips, pools = (1, 1, 4, 4, 8, 8), (0, 1, 0, 1, 0, 0)
    for node, p, pool in zip(ours[:6], strips, pools, strict=True):
        assert attributes(node) == {**every, "strips": p, "pool": pool, "slope": slope}
    assert attributes(ours[6]) == {**every, "parts": 16}
    head = {"templates": [1, 2], "attention": 1, "pooling": "max", "slope": slope}
    assert attributes(ours[7]) == {**every, **head}


def test_weights_are_inputs_of_the_plugins() -> None:
    model = build_graph(PAPER, random_weights(PAPER, 0), Plan("plugin", "plugin", "fp16"))
    shapes = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
    inputs = {node.name: list(node.input)[1:] for node in model.graph.node if node.op_type in OURS}
    assert [shapes[name] for name in inputs["fconv3"]] == [(64, 32, 3, 3)]
    assert inputs["hp"] == []
    assert [(name, shapes[name]) for name in inputs["motion"]] == [
        ("mtb1.squeeze.weight", (16 * 32, 128, 1, 3)),
        ("mtb1.excite.weight", (16 * 128, 32, 1, 1)),
        ("mtb2.squeeze.weight", (16 * 32, 128, 1, 3)),
        ("mtb2.excite.weight", (16 * 128, 32, 1, 3)),
    ]


def test_a_function_is_the_fused_form_s_own_operators() -> None:
    """The bodies hold what the fused graph holds, in its order, beside what makes maps whole."""
    config = GaitPartConfig()
    fused = build_graph(config, random_weights(config, 0))
    kinds = ("Conv", "LeakyRelu", "MaxPool", "AveragePool", "Add", "Mul", "Sigmoid", "ReduceMax")
    wanted = [node.op_type for node in fused.graph.node if node.op_type in kinds]
    plugins = build_graph(config, random_weights(config, 0), PLUGINS)
    bodies = {function.domain: function.node for function in plugins.functions}
    found = [
        inner.op_type
        for node in plugins.graph.node
        for inner in bodies.get(node.domain, [node])
        if inner.op_type in kinds
    ]
    assert found == wanted


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize(
    "form", [("plugin", "grouped"), ("fold", "plugin"), ("plugin", "plugin")], ids="-".join
)
@pytest.mark.parametrize("build", [build_graph, build_frame_graph])
def test_tensorrt_is_given_plugin_nodes_alone(build: object, form: tuple[str, str], precision: str) -> None:
    plan = Plan(*form, precision=precision)  # type: ignore[arg-type]
    model = build(PAPER, random_weights(PAPER, 0), plan)  # type: ignore[operator]
    before = model.SerializeToString(deterministic=True)
    bare = without_functions(model)
    assert model.SerializeToString(deterministic=True) == before
    assert len(bare.functions) == 0
    domains = {entry.domain for entry in bare.opset_import}
    ours = [node for node in bare.graph.node if node.op_type in OURS]
    assert domains == ({"", "gaitedge"} if ours else {""})
    assert {node.domain for node in ours} == ({"gaitedge"} if ours else set())
    for node in ours:
        assert attributes(node)["plugin_version"] == "1"
        assert attributes(node)["plugin_namespace"] == "gaitedge"
    assert {node.domain for node in bare.graph.node if node.op_type not in OURS} == {""}
    assert [node.name for node in bare.graph.node] == [node.name for node in model.graph.node]
    onnx.checker.check_model(bare, full_check=True)


def test_a_graph_without_plugins_stays_as_it_is() -> None:
    for plan in (Plan(), LETTER):
        model = build_graph(PAPER, random_weights(PAPER, 0), plan)
        assert without_functions(model).SerializeToString() == model.SerializeToString()


def test_plugins_compute_the_letter_for_strips_and_parts_of_unequal_height() -> None:
    config = GaitPartConfig(strips=(3, 5, 3, 3, 7, 7), parts=5)
    weights, silhouettes = random_weights(config, 3), random_silhouettes(2, 5, 3)
    (found,) = run(build_graph(config, weights, PLUGINS), silhouettes)
    assert relative_error(found, reference(config, weights, silhouettes)) <= 1e-5


def test_every_function_has_a_domain_of_its_own() -> None:
    """ONNX finds a function by domain and name, and two FConvs are two functions."""
    model = build_graph(PAPER, random_weights(PAPER, 0), PLUGINS)
    keys = [(function.domain, function.name) for function in model.functions]
    assert len(set(keys)) == len(keys) == 8
    assert {(node.domain, node.op_type) for node in model.graph.node if node.domain} == set(keys)
    assert np.unique([function.domain for function in model.functions]).size == 8
