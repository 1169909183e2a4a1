"""The plugin nodes: what a plugin is told, and the functions that say what it must compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import pytest
from graphs import check, constants, in_every_precision, reference, relative_error, run
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_silhouettes, random_weights

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.exporter import export
from gaitedge.export.graph import LETTER, Plan, build_frame_graph, build_graph, without_functions
from gaitedge.weights import save_weights

PAPER = GaitPartConfig()
PLUGINS = Plan("plugin", "plugin")
TWO = Plan("network", "plugin", "fp16")
OURS = {"GaitEdgeFocalConv", "GaitEdgePartPool", "GaitEdgeMicroMotion", "GaitEdgeFrameNetwork"}


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def test_the_paper_s_network_is_eight_plugins_and_little_else() -> None:
    model = build_graph(PAPER, random_weights(PAPER, 0), PLUGINS)
    ours = [node for node in model.graph.node if node.op_type in OURS]
    assert [node.name for node in ours] == [*(f"fconv{i}" for i in range(1, 7)), "hp", "motion"]
    assert len(model.graph.node) <= 15
    every = {"plugin_version": "1", "plugin_namespace": "gaitedge"}
    slope = pytest.approx(0.01)
    strips, pools = (1, 1, 4, 4, 8, 8), (0, 1, 0, 1, 0, 0)
    for node, p, pool in zip(ours[:6], strips, pools, strict=True):
        assert attributes(node) == {**every, "strips": p, "pool": pool, "slope": slope}
    assert attributes(ours[6]) == {**every, "parts": 16}
    head = {"templates": [1, 2], "attention": 1, "pooling": "max", "slope": slope, "fc": 1}
    assert attributes(ours[7]) == {**every, **head}


def test_the_paper_s_network_is_two_plugins_and_a_cast() -> None:
    model = build_graph(PAPER, random_weights(PAPER, 0), TWO)
    found = [(node.op_type, list(node.input)[:1], list(node.output)) for node in model.graph.node]
    assert found == [
        ("Cast", ["silhouettes"], ["pixels"]),
        ("GaitEdgeFrameNetwork", ["pixels"], ["network"]),
        ("GaitEdgeMicroMotion", ["network"], ["embeddings"]),
    ]
    every = {"plugin_version": "1", "plugin_namespace": "gaitedge", "slope": pytest.approx(0.01)}
    assert attributes(model.graph.node[1]) == every
    head = {"templates": [1, 2], "attention": 1, "pooling": "max", "fc": 1}
    assert attributes(model.graph.node[2]) == {**every, **head}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    (features,) = (value for value in inferred.graph.value_info if value.name == "network")
    kind = features.type.tensor_type
    sizes = [size.dim_value or size.dim_param for size in kind.shape.dim]
    assert (kind.elem_type, sizes) == (onnx.TensorProto.FLOAT16, ["batch", "frames", 16, 128])


def test_weights_are_inputs_of_the_plugins_as_the_kernels_read_them() -> None:
    """[out, k, k, in] of an FConv, [parts, out, k, in] of a Conv1d: what is summed over lies together."""
    weights = random_weights(PAPER, 0)
    model = build_graph(PAPER, weights, PLUGINS)
    held = constants(model)
    inputs = {node.name: list(node.input)[1:] for node in model.graph.node if node.op_type in OURS}
    for layer in range(6):
        (name,) = inputs[f"fconv{layer + 1}"]
        expected = weights[f"frame.{layer}"].transpose(0, 2, 3, 1) / np.float32(1 if layer else 255)
        np.testing.assert_array_equal(held[name], expected)
    assert inputs["hp"] == []
    layers = ["mtb1.squeeze", "mtb1.excite", "mtb2.squeeze", "mtb2.excite"]
    assert inputs["motion"] == [*(f"{layer}.weight" for layer in layers), "fc.weight"]
    for layer in layers:
        np.testing.assert_array_equal(held[f"{layer}.weight"], weights[layer].transpose(0, 1, 3, 2))
    assert held["mtb2.squeeze.weight"].shape == (16, 32, 3, 128)
    assert held["mtb2.excite.weight"].shape == (16, 128, 3, 32)
    np.testing.assert_array_equal(held["fc.weight"], weights["fc"])


@pytest.mark.parametrize(
    ("config", "inputs"),
    [
        (GaitPartConfig(templates=(2,)), ["mtb2.squeeze.weight", "mtb2.excite.weight", "fc.weight"]),
        (GaitPartConfig(attention=False, temporal_pooling="mean"), ["fc.weight"]),
    ],
)
def test_the_temporal_head_s_plugin_has_what_the_network_has(
    config: GaitPartConfig, inputs: list[str]
) -> None:
    (node,) = build_graph(config, random_weights(config, 0), Plan("fold", "plugin")).graph.node[-1:]
    assert list(node.input)[1:] == inputs
    told = attributes(node)
    assert told["templates"] == list(config.templates)
    assert (told["attention"], told["pooling"]) == (int(config.attention), config.temporal_pooling)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_fc_with_a_scale_or_a_bias_stands_beside_the_plugin(precision: str) -> None:
    weights, silhouettes = random_weights(PAPER, 4), random_silhouettes(2, 9, 4)
    expected = reference(PAPER, weights, silhouettes)
    bias = np.full((16, 256), 0.5, np.float32)
    scale = float(np.abs(reference(PAPER, weights, silhouettes, features=True)).max()) * 2 / 127
    plain, scaled = (Plan("fold", "plugin", precision, scales) for scales in ((), (("fc", scale),)))  # type: ignore[arg-type]
    for plan, biases, added, limit in (
        (plain, {}, 0, 2e-3),
        (plain, {"fc": bias}, 0.5, 2e-3),
        (scaled, {}, 0, 0.1),
    ):
        model = build_graph(PAPER, weights, plan, biases)
        (node,) = (node for node in model.graph.node if node.op_type in OURS)
        alone = plan is plain and not biases
        assert attributes(node)["fc"] == int(alone)
        assert ("fc.weight" in node.input) == alone
        assert check(model) == ["batch", 16, 256]
        (found,) = run(model, silhouettes)
        assert found.dtype == np.float32
        assert relative_error(found, expected + added) <= limit


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


@pytest.mark.parametrize(
    "plan",
    [
        *in_every_precision([Plan("plugin"), Plan("fold", "plugin"), PLUGINS]),
        *(Plan("network", head, "fp16") for head in ("grouped", "plugin")),  # type: ignore[arg-type]
    ],
    ids=str,
)
@pytest.mark.parametrize("build", [build_graph, build_frame_graph])
def test_tensorrt_is_given_plugin_nodes_alone(build: object, plan: Plan) -> None:
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


# All FConvs and HP as one node --------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["grouped", "per_part", "plugin"]),
    st.sampled_from([(1, 2), (1,), (2,)]),
    st.booleans(),
    st.sampled_from(["max", "mean"]),
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(0, 2**16),
)
def test_the_frame_network_computes_the_letter(
    head: str, templates: tuple[int, ...], attention: bool, pooling: str, batch: int, frames: int, seed: int
) -> None:
    config = GaitPartConfig(templates=templates, attention=attention, temporal_pooling=pooling)  # type: ignore[arg-type]
    weights, silhouettes = random_weights(config, seed), random_silhouettes(batch, frames, seed)
    model = build_graph(config, weights, Plan("network", head, "fp16"))  # type: ignore[arg-type]
    assert check(model) == ["batch", 16, 256]
    (found,) = run(model, silhouettes)
    assert found.dtype == np.float32
    assert relative_error(found, reference(config, weights, silhouettes)) <= 2e-3


def test_the_frame_network_undoes_the_packing_of_its_weights() -> None:
    """Each weight is back in its place, bit by bit, and none of the packing's zeros is left."""
    weights = random_weights(PAPER, 5)
    model = build_frame_graph(PAPER, weights, Plan("network", precision="fp16"))
    assert check(model) == ["batch", "frames", 16, 128]
    plain = onnx.inliner.inline_local_functions(model)
    convolved = [node.input[1] for node in plain.graph.node if node.op_type == "Conv"]
    plain.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, convolved))
    found = run(plain, random_silhouettes(1, 1, 0), *convolved)
    for layer, kernel in enumerate(found):
        np.testing.assert_array_equal(kernel, weights[f"frame.{layer}"].astype(np.float16))
    assert len(found) == 6


@pytest.mark.parametrize("plan", [PLUGINS, Plan("network"), TWO], ids=str)
def test_a_graph_alone_is_checked_by_what_its_functions_say(plan: Plan, tmp_path: Path) -> None:
    """The exporter takes the precision that it is told; the plan's default is fp32."""
    save_weights(tmp_path / "paper.safetensors", PAPER, random_weights(PAPER, 0))
    report = export(tmp_path / "paper.safetensors", tmp_path / "g.onnx", precision="fp16", plan=plan)
    model = onnx.load(tmp_path / "g.onnx")
    assert report.nodes == len(model.graph.node)
    assert report.agreement is not None
    assert report.agreement.relative_error <= 2e-3
    assert {node.op_type for node in model.graph.node} & OURS
    assert model.functions


def test_any_length_of_embeddings_has_the_frame_network() -> None:
    config = GaitPartConfig(squeeze=2, embedding_dim=7)
    weights, silhouettes = random_weights(config, 6), random_silhouettes(1, 4, 6)
    (found,) = run(build_graph(config, weights, TWO), silhouettes)
    assert relative_error(found, reference(config, weights, silhouettes)) <= 2e-3


@pytest.mark.parametrize(
    ("config", "plan", "said"),
    [
        (PAPER, Plan("network"), "whole frame network computes in fp16, not in fp32; take fp16"),
        (PAPER, Plan("network", precision="bf16"), "whole frame network computes in fp16, not in bf16"),
        (GaitPartConfig(channels=(32, 64, 64)), TWO, r"paper's network for CASIA-B alone \(Tab\. 1\); take"),
        (
            GaitPartConfig(strips=(1, 1, 2, 2, 4, 4)),
            TWO,
            "is for the channels, strips and parts of the paper",
        ),
        (GaitPartConfig(parts=8), TWO, "take fconv plugin for this one"),
        (PAPER, Plan("plugin", precision="bf16"), "plugins compute in fp32 and fp16, not in bf16; take fp16"),
        (PAPER, Plan("fold", "plugin", "bf16"), "plugins compute in fp32 and fp16, not in bf16; take fp16"),
    ],
)
def test_what_no_plugin_computes_is_refused(config: GaitPartConfig, plan: Plan, said: str) -> None:
    for build in (build_graph, build_frame_graph):
        with pytest.raises(InputError, match=said) as caught:
            build(config, random_weights(config, 0), plan)
        assert "\n" not in str(caught.value)
