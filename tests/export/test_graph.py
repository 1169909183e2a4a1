"""Every form of the network computes the paper's letter; what the graphs hold and do not hold."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
from graphs import check, in_every_precision, reference, relative_error, run
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_silhouettes, random_weights

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError, WeightsError
from gaitedge.export.graph import LETTER, Plan, build_frame_graph, build_graph
from gaitedge.export.plan import layer_names

FCONVS = ("fold", "fold_nhwc", "split", "plugin")
PLANS = [Plan(f, m) for f in FCONVS for m in ("grouped", "per_part", "plugin")]
PAPER = GaitPartConfig()
BLOCKS = ("pixels", "frames", "fconv", "hp", "part", "mtb", "motion", "tp", "fc")


@settings(max_examples=60)
@given(configs(), st.sampled_from(PLANS), st.integers(1, 3), st.integers(1, 120), st.integers(0, 2**16))
def test_every_plan_computes_the_paper_s_letter(
    config: GaitPartConfig, plan: Plan, batch: int, frames: int, seed: int
) -> None:
    weights, silhouettes = random_weights(config, seed), random_silhouettes(batch, frames, seed)
    expected = reference(config, weights, silhouettes)
    (found,) = run(build_graph(config, weights, plan), silhouettes)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@settings(max_examples=30)
@given(configs(), st.sampled_from(PLANS), st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**16))
def test_every_plan_s_frame_graph_computes_the_part_features(
    config: GaitPartConfig, plan: Plan, batch: int, frames: int, seed: int
) -> None:
    weights, silhouettes = random_weights(config, seed), random_silhouettes(batch, frames, seed)
    expected = reference(config, weights, silhouettes, features=True)
    (found,) = run(build_frame_graph(config, weights, plan), silhouettes)
    assert found.shape == expected.shape == (batch, frames, config.parts, config.features)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("templates", [(1,), (2,), (1, 2)], ids=str)
@pytest.mark.parametrize("attention", [True, False], ids=["attention", "no attention"])
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_every_ablation_of_table_6(templates: tuple[int, ...], attention: bool, pooling: str) -> None:
    config = GaitPartConfig(templates=templates, attention=attention, temporal_pooling=pooling)  # type: ignore[arg-type]
    weights, silhouettes = random_weights(config, 1), random_silhouettes(1, 7, 1)
    expected = reference(config, weights, silhouettes)
    for form in ("grouped", "per_part", "plugin"):
        (found,) = run(build_graph(config, weights, Plan("fold", form)), silhouettes)  # type: ignore[arg-type]
        assert relative_error(found, expected) <= 1e-5, form


@pytest.mark.parametrize(
    "strips", [(1,) * 6, (1, 1, 1, 1, 4, 4), (1, 1, 2, 2, 4, 4), (2, 2, 4, 4, 8, 8), (3,) * 6]
)
def test_every_ablation_of_table_5_and_uneven_strips(strips: tuple[int, ...]) -> None:
    config = GaitPartConfig(strips=strips)
    weights, silhouettes = random_weights(config, 2), random_silhouettes(1, 4, 2)
    expected = reference(config, weights, silhouettes)
    for form in FCONVS:
        (found,) = run(build_graph(config, weights, Plan(form)), silhouettes)  # type: ignore[arg-type]
        assert relative_error(found, expected) <= 1e-5, form


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 30, 120])
def test_the_paper_s_network_at_every_length(frames: int) -> None:
    weights, silhouettes = random_weights(PAPER, frames), random_silhouettes(1, frames, frames)
    expected = reference(PAPER, weights, silhouettes)
    for plan in (Plan(), LETTER, Plan("plugin", "plugin")):
        (found,) = run(build_graph(PAPER, weights, plan), silhouettes)
        assert relative_error(found, expected) <= 1e-5, plan


@settings(max_examples=60)
@given(configs(), st.sampled_from(in_every_precision(PLANS)), st.data())
def test_checker_and_shape_inference_pass(config: GaitPartConfig, plan: Plan, data: st.DataObject) -> None:
    inside = {"fconv" if plan.fconv == "plugin" else "-", "mtb" if plan.micro_motion == "plugin" else "-"}
    names = [name for name in layer_names(config) if not name.startswith(tuple(inside))]
    scaled = data.draw(st.lists(st.sampled_from(names), unique=True))
    scales = tuple((name, 0.05) for name in scaled)
    plan = dataclasses.replace(plan, scales=scales)
    weights = random_weights(config, 0)
    model = build_graph(config, weights, plan)
    assert check(model) == ["batch", config.parts, config.embedding_dim]
    assert check(build_frame_graph(config, weights, plan)) == [
        "batch",
        "frames",
        config.parts,
        config.features,
    ]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    opset = {entry.domain: entry.version for entry in model.opset_import}[""]
    wanted = {"fp32": (17, 8), "fp16": (19, 9) if scales else (17, 8), "bf16": (22, 10)}
    assert (opset, model.ir_version) == wanted[plan.precision]


def test_the_folded_graph_is_small_and_the_letter_is_not() -> None:
    weights = random_weights(PAPER, 0)
    folded = [node.op_type for node in build_graph(PAPER, weights).graph.node]
    letter = [node.op_type for node in build_graph(PAPER, weights, LETTER).graph.node]
    assert len(folded) <= 60
    assert folded.count("Conv") == 6 + 4
    assert 360 <= len(letter) <= 380
    assert letter.count("Conv") == 1 + 1 + 4 + 4 + 8 + 8 + 64  # strips, and four Conv1d a part
    for precision in ("fp16", "bf16"):
        assert len(build_graph(PAPER, weights, Plan(precision=precision)).graph.node) <= 60  # type: ignore[arg-type]


def test_strips_stay_folded_while_their_number_does() -> None:
    """One transposition into 4 strips, one from 4 to 8, none inside a block; two more in HP."""
    graph = build_graph(PAPER, random_weights(PAPER, 0)).graph
    moves = [node.name for node in graph.node if node.op_type == "Transpose"]
    assert moves == ["fconv3.fold.move", "fconv5.fold.move", "hp.rows", "tp.by_part", "fc"]


@settings(max_examples=40)
@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.sampled_from(["grouped", "plugin"]))
def test_a_fold_is_one_move_where_p_changes_and_none_where_it_does_not(
    a: int, b: int, c: int, head: str
) -> None:
    """Between FConvs of equal p nothing is moved; from p to q, either dividing the other, once."""
    p, q, r = 2**a, 2**b, 2**c
    config = GaitPartConfig(channels=(4, 4, 4), strips=(p, p, q, q, r, r))
    graph = build_graph(config, random_weights(config, 0), Plan("fold", head)).graph  # type: ignore[arg-type]
    moves = [
        node.name for node in graph.node if node.op_type == "Transpose" and node.name.startswith("fconv")
    ]
    changes = [("fconv1", 1, p), ("fconv3", p, q), ("fconv5", q, r)]
    steps = [(name, "fold" if have < want else "unfold") for name, have, want in changes if have != want]
    assert moves == [f"{name}.{step}.move" for name, step in steps]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_every_node_is_named_after_its_block(plan: Plan) -> None:
    for config in (PAPER, GaitPartConfig(strips=(1, 1, 3, 3, 5, 5), parts=7)):
        model = build_graph(config, random_weights(config, 0), plan)
        names = [node.name for node in model.graph.node]
        assert [name for name in names if not name.startswith(BLOCKS)] == []
        tensors = [tensor for node in model.graph.node for tensor in node.output]
        tensors += [constant.name for constant in model.graph.initializer]
        assert len(set(tensors)) == len(tensors)
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("plan", in_every_precision(PLANS), ids=str)
def test_tensorrt_8_6_s_parser_is_given_nothing_that_it_misreads(plan: Plan) -> None:
    """Read off the source of onnx-tensorrt, release/8.6-GA: a uint8 input may only be cast, to float32 or
    float16; Shape's start and end are passed over in silence; a convolution whose weight went through int8
    needs its kernel's size; pools have two dimensions at least."""
    config = GaitPartConfig(channels=(4, 8, 12))
    plan = dataclasses.replace(plan, scales=(("fc", 0.1),))
    model = build_graph(config, random_weights(config, 0), plan)
    readers = [node for node in model.graph.node if "silhouettes" in node.input]
    types = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    assert [node.op_type for node in readers] == ["Cast"]
    assert readers[0].attribute[0].i in types
    for node in (*model.graph.node, *(inner for function in model.functions for inner in function.node)):
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Shape":
            assert not attributes
        if node.op_type in ("Conv", "MaxPool", "AveragePool"):
            assert len(attributes["kernel_shape"].ints) == 2


def test_weights_of_another_network_are_refused() -> None:
    for build in (build_graph, build_frame_graph):
        with pytest.raises(WeightsError, match=r"mtb1\.squeeze"):
            build(GaitPartConfig(squeeze=2), random_weights(PAPER, 0))


@pytest.mark.parametrize("options", [{"fconv": "naive"}, {"micro_motion": "fused"}, {"precision": "int8"}])
def test_unknown_plans_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="must be one of"):
        Plan(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", in_every_precision(PLANS), ids=str)
def test_the_same_weights_give_the_same_bytes(plan: Plan) -> None:
    config = GaitPartConfig(channels=(4, 8, 12))
    plan = dataclasses.replace(plan, scales=(("fc", 0.1),))
    for build in (build_graph, build_frame_graph):
        models = [build(config, random_weights(config, 0), plan) for _ in range(2)]
        first, second = (model.SerializeToString(deterministic=True) for model in models)
        assert first == second


def test_the_writer_needs_no_pytorch(tmp_path: object) -> None:
    """Runs with every runtime blocked: a Jetson or a laptop without them can export."""
    code = """
        import sys
        for name in ("torch", "openvino", "onnxruntime", "tensorrt"):
            sys.modules[name] = None  # importing it now fails
        import numpy as np
        from gaitedge.config import GaitPartConfig
        from gaitedge.export.graph import build_graph
        config = GaitPartConfig()
        weights = {n: np.zeros(s, dtype=np.float32) for n, s in config.shapes().items()}
        print(len(build_graph(config, weights).graph.node))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= 60
