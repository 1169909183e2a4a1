"""The int8 chain for OpenVINO and ONNX Runtime: what is between the layers, and that both compute it."""

from __future__ import annotations

import importlib.util

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
from gaitedge.export.graph import Plan, build_frame_graph, build_graph
from gaitedge.export.plan import HP
from gaitedge.weights import load_weights, shipped_weights

PAPER = GaitPartConfig()
SMALL = GaitPartConfig(channels=(4, 8, 12))
FORMS = [(f, m) for f in ("fold", "fold_nhwc", "split") for m in ("grouped", "per_part")]
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")


def chain(form: tuple[str, str] = ("fold", "grouped"), *scales: tuple[str, float]) -> Plan:
    return Plan(*form, scales=scales, placement="chain")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_the_shipped_weights_in_both_runtimes(form: tuple[str, str]) -> None:
    """The FConvs in int8, as measured on walkers a mean cosine of 0.9997, and 0.9996 with HP's input too."""
    config, weights = load_weights(shipped_weights())
    rng = np.random.default_rng(0)
    scales = dict(measured_scales(config, weights, draw_silhouettes(2, 12, rng)))
    frames = {name: scale for name, scale in scales.items() if name.startswith("fconv")}
    silhouettes = draw_silhouettes(1, 12, rng)
    expected = reference(config, weights, silhouettes)
    for chosen in (frames, {**frames, HP: scales[HP]}):
        model = build_graph(config, weights, chain(form, *chosen.items()))
        (found,) = run(model, silhouettes)
        assert 0.998 <= smallest_cosine(found, expected) < 0.99999
        if importlib.util.find_spec("openvino") is not None:
            assert smallest_cosine(run_in_openvino(model, silhouettes), expected) >= 0.998


@needs_openvino
@settings(max_examples=12)
@given(
    configs(),
    st.sampled_from([(f, m) for f, m in FORMS if f != "fold_nhwc"]),
    st.integers(1, 2),
    st.integers(1, 12),
    st.integers(0, 2**16),
    st.data(),
)
def test_random_networks_in_openvino(
    config: GaitPartConfig,
    form: tuple[str, str],
    batch: int,
    frames: int,
    seed: int,
    data: st.DataObject,
) -> None:
    """Any of the layers in int8, strips and parts of any number; ONNX Runtime says how exact int8 is here.
    Of other placements OpenVINO computes wrong numbers, or fails."""
    weights, silhouettes = random_weights(config, seed), random_silhouettes(batch, frames, seed)
    measured = measured_scales(config, weights, silhouettes)
    scales = data.draw(st.lists(st.sampled_from(measured), unique=True, min_size=1))
    for build in (build_graph, build_frame_graph):
        (expected,) = run(build(config, weights), silhouettes)
        model = build(config, weights, chain(form, *scales))
        off = relative_error(run(model, silhouettes)[0], expected)
        assert relative_error(run_in_openvino(model, silhouettes), expected) <= max(0.15, 2 * off)


@settings(max_examples=15)
@given(configs(), st.sampled_from(FORMS), st.integers(1, 2), st.integers(1, 12), st.integers(0, 2**16))
def test_random_networks_in_onnx_runtime(
    config: GaitPartConfig, form: tuple[str, str], batch: int, frames: int, seed: int
) -> None:
    weights, silhouettes = random_weights(config, seed), random_silhouettes(batch, frames, seed)
    expected = reference(config, weights, silhouettes, features=True)
    plan = chain(form, *measured_scales(config, weights, silhouettes))
    assert check(build_graph(config, weights, plan)) == ["batch", config.parts, config.embedding_dim]
    (found,) = run(build_frame_graph(config, weights, plan), silhouettes)
    assert np.abs(found - expected).max() <= 0.15 * np.abs(expected).max()


@needs_openvino
@pytest.mark.parametrize(
    ("strips", "parts"), [((1, 16), 1), ((4, 4, 1, 1), 3), ((8, 8, 2, 2, 1, 1), 5), ((6, 4, 3, 2), 7)]
)
def test_openvino_joins_strips_of_int8(strips: tuple[int, ...], parts: int) -> None:
    """Where strips are joined and what follows is in float: OpenVINO would take int8's scales along."""
    config = GaitPartConfig(channels=(12, 8, 12)[: len(strips) // 2], strips=strips, parts=parts)
    weights, silhouettes = random_weights(config, 1), random_silhouettes(1, 3, 1)
    expected = reference(config, weights, silhouettes)
    scales = [one for one in measured_scales(config, weights, silhouettes) if one[0].startswith("fconv")]
    for chosen in (scales, scales[::2], scales[1::2]):
        model = build_graph(config, weights, chain(("fold", "grouped"), *chosen))
        assert relative_error(run_in_openvino(model, silhouettes), expected) <= 0.15


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_the_first_convolution_reads_the_silhouettes_as_they_are(form: tuple[str, str]) -> None:
    """Exactly: the only rounding is the weights', and there is no Quantize on the way."""
    model = build_graph(SMALL, random_weights(SMALL, 0), chain(form, ("fconv1", 0.123)))
    nodes = {node.name: node for node in model.graph.node}
    first = nodes["fconv1.input.dequantize"]
    assert first.input[0] == "frames"
    assert nodes["frames"].input[0] == "silhouettes"
    values = constants(model)
    assert float(values[first.input[1]]) == 1
    assert values[first.input[2]].dtype == np.uint8
    assert [name for name in nodes if name.endswith(".quantize")] == ["fconv1.weight.quantize"]
    without = build_graph(SMALL, random_weights(SMALL, 0), chain(form, ("fconv2", 0.5)))
    assert [node.op_type for node in without.graph.node if "silhouettes" in node.input] == ["Cast"]


def test_grey_levels_are_lost_at_the_inputs_and_kept_by_the_chain() -> None:
    """Weights that int8 holds exactly: all that is left is what becomes of 256 levels."""
    weights, rng = random_weights(SMALL, 0), np.random.default_rng(0)
    whole = rng.integers(-126, 127, weights["frame.0"].shape)
    whole[:, 0, 0, 0] = 127
    weights["frame.0"] = (whole / 64).astype(np.float32)
    silhouettes = rng.integers(0, 256, (1, 2, 64, 44)).astype(np.uint8)
    (expected,) = run(build_frame_graph(SMALL, weights), silhouettes)
    scale = ("fconv1", 255 / 127)
    (kept,) = run(build_frame_graph(SMALL, weights, chain(("fold", "grouped"), scale)), silhouettes)
    (lost,) = run(build_frame_graph(SMALL, weights, Plan(scales=(scale,))), silhouettes)
    assert relative_error(kept, expected) <= 1e-5
    assert relative_error(lost, expected) >= 1e-4


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_a_convolution_hands_on_what_the_next_one_reads(form: tuple[str, str]) -> None:
    """Where both have a scale, and in the scale of the second; the last FConv in that of HP."""
    scales = (("fconv1", 2.0), ("fconv2", 0.25), ("fconv4", 0.5), ("fconv5", 0.75), ("fconv6", 1.0))
    for more, ends in (
        ((), ["fconv1", "fconv4", "fconv5"]),
        (((HP, 1.5),), ["fconv1", "fconv4", "fconv5", "fconv6"]),
    ):
        model = build_graph(PAPER, random_weights(PAPER, 0), chain(form, *scales, *more))
        values, nodes = constants(model), {node.name: node for node in model.graph.node}
        pairs = [name for name in nodes if name.endswith("output.quantize")]
        assert list(dict.fromkeys(name.partition(".")[0] for name in pairs)) == ends
        for name in pairs:
            layer = name.partition(".")[0]
            wanted = {**dict(scales), HP: 1.5}[HP if layer == "fconv6" else f"fconv{int(layer[5:]) + 1}"]
            assert float(values[nodes[name].input[1]]) == wanted
            assert nodes[nodes[name].input[0]].op_type == "Conv"


def test_nothing_is_clipped_but_where_strips_are_joined() -> None:
    plan = chain(("fold", "grouped"), *unit_scales(PAPER))
    model = build_graph(PAPER, random_weights(PAPER, 0), plan)
    assert not any(node.op_type == "Clip" for node in model.graph.node)
    config = GaitPartConfig(strips=(1, 1, 4, 4, 2, 2))
    model = build_graph(config, random_weights(config, 0), plan)
    (clip,) = (node for node in model.graph.node if node.op_type == "Clip")
    ends = [float(constants(model)[name]) for name in clip.input[1:]]
    assert ends == [-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max)]
    assert not any(
        node.op_type == "Clip" for node in build_graph(config, random_weights(config, 0)).graph.node
    )


def test_channels_last_the_fold_moves_nothing() -> None:
    """A view, which two transpositions frame that channels-last runtimes do without."""
    graph = build_graph(PAPER, random_weights(PAPER, 0), Plan("fold_nhwc")).graph
    nodes = {node.name: node for node in graph.node}
    for name in ("fconv3.fold", "fconv5.fold"):
        perms = [nodes[step].attribute[0].ints for step in (f"{name}.last", name)]
        assert perms == [[0, 2, 3, 1], [0, 3, 1, 2]]
        assert nodes[f"{name}.cut"].op_type == "Reshape"
    assert sum(node.op_type == "Transpose" for node in graph.node) == 2 * 2 + 3
