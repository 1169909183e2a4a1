"""Every node that multiplies is found in a layer of what the runtimes run, whatever they fused."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import PAPER, SMALL, bundle_of
from graphs import measured_scales
from networks import random_silhouettes, random_weights

from gaitedge.bundle import FOLD_GRAPH, Bundle, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import graph_for, load
from gaitedge.engines.executed import Executed, Share, shares
from gaitedge.engines.openvino import OpenVINOEngine, has_bf16
from gaitedge.engines.timing import LayerTimer, TimedEmbedder
from gaitedge.errors import BundleError, InputError, MachineError
from gaitedge.export.graph import LETTER, Plan, build_graph
from gaitedge.manifest import Target

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

ENGINES = ("openvino", "onnxruntime")
CPU = {"openvino": "cpu", "onnxruntime": "onnxruntime"}
PLANS = {"naive": LETTER, "fused": Plan(), "last": Plan("fold_nhwc")}
PRODUCTS = {"Conv", "MatMul", "Gemm"}
CALLS = [random_silhouettes(1, 5, seed) for seed in range(3)]


@cache
def scales_of(config: GaitPartConfig) -> tuple[tuple[str, float], ...]:
    return measured_scales(config, random_weights(config, 0), random_silhouettes(1, 4, 0))


@cache
def variant(config: GaitPartConfig, plan: str, precision: str, engine: str) -> Bundle:
    """A bundle whose graph for this engine is written by the plan."""
    weights, form = random_weights(config, 0), PLANS[plan]
    if precision != "int8":
        graph = build_graph(config, weights, form).SerializeToString()
        return make_bundle(
            config, weights, {FOLD_GRAPH: graph}, {f"cpu-{precision}": Target(engine, precision)}
        )
    scales = tuple(one for one in scales_of(config) if not one[0].startswith("mtb") and one[0] != "fc")
    form = Plan(form.fconv, form.micro_motion, scales=scales, placement="chain")
    member = "graphs/variant.onnx"
    parts = {
        FOLD_GRAPH: build_graph(config, weights).SerializeToString(),
        member: build_graph(config, weights, form).SerializeToString(),
    }
    name = CPU[engine]
    return make_bundle(config, weights, parts, {f"{name}-int8": Target(engine, "int8", graph=member)})


@pytest.mark.parametrize("config", [SMALL, PAPER], ids=["small", "paper"])
@pytest.mark.parametrize(
    ("engine", "precision", "plan"),
    [
        *[("openvino", one, plan) for one in ("fp32", "bf16", "int8") for plan in ("naive", "fused")],
        *[("onnxruntime", one, plan) for one in ("fp32", "int8") for plan in ("naive", "fused")],
        ("onnxruntime", "int8", "last"),
    ],
)
def test_each_product_is_in_a_layer_that_multiplies(
    engine: str, precision: str, plan: str, config: GaitPartConfig
) -> None:
    if precision == "bf16" and not has_bf16():
        pytest.skip("this processor has no BF16 instructions")
    bundle = variant(config, plan, precision, engine)
    timer = load(bundle, engine, 1, precision, layers=True)
    assert isinstance(timer, LayerTimer)
    timer.embed(CALLS[0])
    found = timer.layer_times(CALLS)
    graph = onnx.load_model_from_string(bundle.read(graph_for(bundle, engine, precision)[0])).graph
    kinds = {node.name: node.op_type for node in graph.node}
    claimed = [name for layer in found.layers for name in layer.nodes]
    assert len(claimed) == len(set(claimed))
    assert set(claimed) <= set(kinds)
    wanted = {name for name, kind in kinds.items() if kind in PRODUCTS}
    assert wanted <= set(claimed)
    multiplying = [layer for layer in found.layers if wanted & set(layer.nodes)]
    assert all(
        "Conv" in layer.kind or "Mat" in layer.kind or layer.kind == "FullyConnected" for layer in multiplying
    )
    types = {
        name.split(".strip")[0]: layer.precision
        for layer in multiplying
        for name in layer.nodes
        if name.startswith("fconv") and name in wanted
    }
    if precision == "int8" and config is PAPER:
        assert set(types.values()) == {"int8"}
    if precision != "int8":
        assert {layer.precision for layer in multiplying} == {precision}
    # What a runtime adds says for which nodes, as far as anything reads it.
    assert all(set(layer.feeds) <= set(kinds) for layer in found.layers)
    assert [layer for layer in found.layers if layer.feeds and layer.nodes] == []
    assert found.total_ms is not None
    assert 0 < sum(layer.ms for layer in found.layers) < 1.5 * found.total_ms


def test_what_openvinos_counters_round_evens_out(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(bundle_of(SMALL), "openvino", 1, layers=True)
    assert isinstance(engine, OpenVINOEngine)
    engine.embed(CALLS[0])
    (name, *_) = [name for name, (_, ms) in engine._counters().items() if ms]
    readings = iter([4.0, 3.0, 3.0, 6.0])  # before and after of two turns: the second one's mean was rounded
    monkeypatch.setattr(engine, "_counters", lambda: {name: ("Convolution", next(readings))})
    spent = [engine.layer_times(CALLS).layers[0].ms for _ in range(2)]
    assert sum(spent) == pytest.approx(6.0 - 4.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_counts_gives_the_same_embeddings(engine: str) -> None:
    bundle = bundle_of(SMALL)
    plain, counting = load(bundle, engine, 1), load(bundle, engine, 1, layers=True)
    np.testing.assert_array_equal(counting.embed(CALLS[0]), plain.embed(CALLS[0]))


@pytest.mark.parametrize("engine", ENGINES)
def test_layers_are_told_only_where_that_was_asked(engine: str) -> None:
    loaded = load(bundle_of(SMALL), engine, 1)
    assert isinstance(loaded, LayerTimer)
    with pytest.raises(MachineError, match="loaded with"):
        loaded.layer_times(CALLS)
    counting = load(bundle_of(SMALL), engine, 1, layers=True)
    assert isinstance(counting, LayerTimer)
    with pytest.raises(InputError, match="no calls to time"):
        counting.layer_times([])


@pytest.mark.parametrize("engine", ENGINES)
def test_times_are_of_these_calls_alone(engine: str) -> None:
    """OpenVINO's counters are means since the graph was compiled: long walks before would weigh in."""
    timer = load(bundle_of(PAPER), engine, 1, layers=True)
    assert isinstance(timer, LayerTimer)
    for _ in range(3):
        timer.embed(random_silhouettes(1, 120, 0))
    found = timer.layer_times(CALLS)
    assert found.total_ms is not None
    assert sum(layer.ms for layer in found.layers) < 1.5 * found.total_ms


def test_nothing_stays_of_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for engine in ENGINES:
        timer = load(bundle_of(SMALL), engine, 1, layers=True)
        assert isinstance(timer, LayerTimer)
        timer.layer_times(CALLS)
        del timer
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_openvino_tells_its_own_time_of_a_call() -> None:
    engine = load(bundle_of(SMALL), "openvino", 1)
    assert isinstance(engine, TimedEmbedder)
    embeddings, times = engine.embed_timed(CALLS[0])
    np.testing.assert_array_equal(embeddings, engine.embed(CALLS[0]))
    assert times.compute is not None
    assert times.compute > 0
    assert (times.host_to_device, times.device_to_host, times.enqueue) == (None, None, None)


def test_onnx_runtime_has_no_clock_of_its_own() -> None:
    assert not isinstance(load(bundle_of(SMALL), "onnxruntime", 1), TimedEmbedder)


def test_the_graph_that_an_engine_compiles() -> None:
    bundle = variant(SMALL, "fused", "int8", "openvino")
    assert graph_for(bundle, "openvino") == ("graphs/variant.onnx", "int8")
    assert graph_for(bundle, "openvino", "fp32") == (FOLD_GRAPH, "fp32")
    with pytest.raises(BundleError, match="holds no int8 graph"):
        graph_for(bundle_of(SMALL), "onnxruntime", "int8")


def fold_graph() -> onnx.ModelProto:
    return build_graph(SMALL, random_weights(SMALL, 0))


def layer(name: str, kind: str, *reads: str, names: tuple[str, ...] = (), weights: str = "") -> Executed:
    product = kind == "Convolution"
    return Executed(name, kind, (name, *names), (weights,) if weights else (), reads, None, product)


def test_names_weights_and_neighbours_tell_what_a_layer_is_of() -> None:
    """As OpenVINO 2026.4 and ONNX Runtime 1.31 name theirs."""
    found = shares(
        fold_graph(),
        [
            layer("pixels", "Convert"),
            layer("frames_abcd_acdb_fconv1", "Reorder", "pixels"),
            layer("fconv1.relu_nchwc", "Convolution", "frames_abcd_acdb_fconv1"),
            layer("Multiply_88", "Convolution", "fconv1.relu_nchwc", weights="fconv2.weight.quantize"),
            layer("nobody_reads_it", "Reorder", "fconv1.relu_nchwc"),
        ],
    )
    assert found["pixels"].nodes[0] == "pixels"
    assert found["frames_abcd_acdb_fconv1"] == Share((), ("frames", "fconv1", "fconv1.relu"))
    assert found["fconv1.relu_nchwc"] == Share(("frames", "fconv1", "fconv1.relu"), ())
    assert found["Multiply_88"].nodes[:2] == ("fconv2", "fconv2.relu")
    assert found["nobody_reads_it"] == Share((), ())


def test_what_multiplies_is_never_given_to_what_does_not() -> None:
    found = shares(fold_graph(), [layer("fconv1.relu", "LeakyRelu"), layer("fconv2", "Reorder")])
    assert "fconv1" not in found["fconv1.relu"].nodes
    assert "fconv2" not in found["fconv2"].nodes
