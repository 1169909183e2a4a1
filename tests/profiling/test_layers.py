"""The layers' times add up, and every block of the paper has its own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from bundles import PAPER, SMALL, bundle_of
from networks import random_silhouettes, random_weights
from numpy.typing import NDArray

from gaitedge.engines.openvino import has_bf16
from gaitedge.engines.timing import LayerTime, LayerTimes
from gaitedge.errors import InputError, MachineError
from gaitedge.export.blocks import examine
from gaitedge.export.graph import LETTER, Plan, build_graph
from gaitedge.export.network import Network
from gaitedge.profiling import layers as module
from gaitedge.profiling.document import Block, Configuration, Layers, Roofline
from gaitedge.profiling.layer_blocks import graph_of, in_bf16, to_blocks, to_layers
from gaitedge.profiling.layers import measure_layers

BLOCKS = {*(f"FConv{layer}" for layer in range(1, 7)), "HP", "MTB1", "MTB2", "TP", "FC"}
MACS = 3_202_039_808  # of one sequence of 30 frames through the paper's network


def configuration(engine: str, precision: str = "fp32", frames: int = 30) -> Configuration:
    return Configuration(engine, precision, "fused", 1, frames, 1, 1)


def names(found: Layers) -> set[str]:
    return {part for block in found.blocks for part in block.name.split(" + ")}


def checked(found: Layers) -> None:
    """What holds of any measurement."""
    assert found.sum_ms == pytest.approx(sum(layer.ms for layer in found.layers))
    assert sum(block.ms for block in found.blocks) == pytest.approx(found.sum_ms)
    assert sum(block.share for block in found.blocks) == pytest.approx(1)
    assert sum(block.macs or 0 for block in found.blocks) == MACS
    assert all(layer.ms >= 0 for layer in found.layers)
    assert names(found) >= BLOCKS


@pytest.mark.parametrize(
    ("engine", "precision"), [("openvino", "fp32"), ("openvino", "bf16"), ("onnxruntime", "fp32")]
)
def test_a_call_is_told_layer_by_layer(engine: str, precision: str, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    if precision == "bf16" and not has_bf16():
        pytest.skip("this processor has no BF16 instructions")
    path = tmp_path / "walkers.gait"
    bundle_of(PAPER).save(path)
    roofline = Roofline(precision, 1e11, 1e10, "by hand")
    found = measure_layers(path, configuration(engine, precision), 3, seconds=0.01, roofline=roofline)
    checked(found)
    assert found.row == 3
    assert found.plain_ms is not None
    assert min(found.plain_ms, found.total_ms) > 0
    assert [block.name for block in found.blocks if block.macs][:6] == [f"FConv{n}" for n in range(1, 7)]
    for block in found.blocks:
        if block.macs:
            assert block.bytes
            floor = max(block.macs / 1e11, block.bytes / 1e10) * 1e3
            assert block.roofline_share == pytest.approx(floor / block.ms)
            assert block.bound == ("compute" if block.macs / 1e11 >= block.bytes / 1e10 else "memory")
    graph = examine(build_graph(PAPER, random_weights(PAPER, 0)))
    if precision == "fp32":
        everything = graph.total.traffic + sum(graph.total.parameter_bytes.values())
        assert sum(block.bytes or 0 for block in found.blocks) == everything


def test_given_inputs_are_what_runs() -> None:
    pytest.importorskip("openvino")
    inputs = [random_silhouettes(1, 4, seed) for seed in range(2)]
    found = measure_layers(
        bundle_of(SMALL), configuration("openvino", frames=4), 0, seconds=0.01, inputs=inputs
    )
    assert names(found) >= BLOCKS
    with pytest.raises(InputError, match="1 sequences of 4 frames, the configuration is 1 of 5"):
        measure_layers(bundle_of(SMALL), configuration("openvino", frames=5), 0, inputs=inputs)
    with pytest.raises(InputError, match="no inputs"):
        measure_layers(bundle_of(SMALL), configuration("openvino"), 0, inputs=[])


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_a_measurement_takes_time(seconds: float) -> None:
    with pytest.raises(InputError, match="more than 0 seconds"):
        measure_layers(bundle_of(SMALL), configuration("openvino"), 0, seconds=seconds)


@pytest.mark.parametrize(("batch", "frames"), [(0, 30), (1, 0)])
def test_a_call_has_frames(batch: int, frames: int) -> None:
    wrong = dataclasses.replace(configuration("openvino"), batch=batch, frames=frames)
    with pytest.raises(InputError, match="1 sequence and 1 frame or more"):
        measure_layers(bundle_of(SMALL), wrong, 0)


class FakeEngine:
    """A GPU's engine that tells the same of every call."""

    description, fingerprint, largest_batch = "a GPU", "0" * 64, None
    config = PAPER

    def __init__(self, name: str, precision: str, told: Sequence[LayerTime]) -> None:
        self.name, self.precision, self.told, self.ran = name, precision, told, 0

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.zeros((len(silhouettes), 16, 256), np.float32)

    def layer_times(self, calls: Sequence[NDArray[np.uint8]]) -> LayerTimes:
        self.ran += len(calls)
        return LayerTimes([dataclasses.replace(one, ms=one.ms * len(calls)) for one in self.told], None)


def told(name: str, nodes: str, precision: str = "fp16", ms: float = 0.5) -> LayerTime:
    return LayerTime(name, "FrameNetwork", tuple(nodes.split()), precision, ms)


def test_two_launches_are_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the CUDA kernels: the whole frame network is one launch, and what comes after it another."""
    launches = [told("frame_network", "network", ms=0.03), told("micro_motion", "motion tp fc", ms=0.01)]
    engine = FakeEngine("cuda", "fp16", launches)
    monkeypatch.setattr(module, "load", lambda *arguments, **options: engine)
    monkeypatch.setattr(module, "_TURN_S", 0.0)
    found = measure_layers(bundle_of(PAPER), configuration("cuda", "fp16"), 0, seconds=0.001)
    checked(found)
    timed = {block.name: block.ms for block in found.blocks if block.ms}
    assert timed == {
        "FConv1 + FConv2 + FConv3 + FConv4 + FConv5 + FConv6 + HP": pytest.approx(0.03),
        "MTB1 + MTB2 + TP + FC": pytest.approx(0.01),
    }
    assert found.plain_ms is None
    assert engine.ran >= 3


@pytest.mark.parametrize(("precision", "is_told"), [("fp16", True), ("int8", False)])
def test_bytes_of_kernels_are_told_where_their_graph_has_their_types(
    precision: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = [
        told("frame_network", "network", precision, ms=0.03),
        told("micro_motion", "motion fc", precision, ms=0.01),
    ]
    engine = FakeEngine("cuda", precision, launches)
    monkeypatch.setattr(module, "load", lambda *arguments, **options: engine)
    monkeypatch.setattr(module, "_TURN_S", 0.0)
    roofline = Roofline(precision, 1e12, 1e11, "by hand")
    found = measure_layers(
        bundle_of(PAPER), configuration("cuda", precision), 0, seconds=0.001, roofline=roofline
    )
    checked(found)
    assert {block.bytes is not None for block in found.blocks if block.macs} == {is_told}
    assert {block.roofline_share is not None for block in found.blocks if block.ms} == {is_told}


def test_an_engine_that_cannot_tell_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakeEngine):
        layer_times = None  # type: ignore[assignment]

    del Silent.layer_times
    monkeypatch.delattr(FakeEngine, "layer_times")
    monkeypatch.setattr(module, "load", lambda *arguments, **options: Silent("cuda", "fp16", []))
    with pytest.raises(MachineError, match="cuda does not tell what its layers take"):
        measure_layers(bundle_of(PAPER), configuration("cuda", "fp16"), 0)


def blocks_of(times: list[LayerTime]) -> list[Block]:
    """Of two calls of the paper's network."""
    graph = build_graph(PAPER, random_weights(PAPER, 0))
    network = Network(graph)
    found = to_layers(network, PAPER, times, 2)
    return to_blocks(graph, network, PAPER, found, times, Roofline("fp16", 1e12, 1e11, "by hand"))


def test_layers_that_multiply_for_two_blocks_join_them() -> None:
    times = [
        told("a", "fconv1 fconv1.relu fconv2"),
        told("b", "fconv2.relu fconv2.pool", ms=1),
        told("c", "fconv3 fconv3.relu fconv3.fold"),
    ]
    found = {block.name: block for block in blocks_of(times)}
    assert found["FConv1 + FConv2"].ms == pytest.approx(0.75)
    assert found["FConv1 + FConv2"].macs == 67_584_000 + 778_567_680
    assert found["FConv3"].ms == pytest.approx(0.25)
    assert {"FConv1", "FConv2"}.isdisjoint(found)
    assert found["FC"].ms == 0  # of which nothing was told
    assert found["FC"].roofline_share is None


def test_what_a_runtime_adds_is_of_the_block_that_it_feeds() -> None:
    reorder = LayerTime("reorder", "Reorder", (), "fp32", 1.0, feeds=("fconv2.input", "fconv2"))
    unknown = LayerTime("unknown", "Reorder", (), "fp32", 1.0)
    graph = Network(build_graph(SMALL, random_weights(SMALL, 0)))
    assert [layer.block for layer in to_layers(graph, SMALL, [reorder, unknown], 1)] == ["FConv2", "other"]
    (other,) = [block for block in blocks_of([reorder, unknown]) if block.name == "other"]
    assert (other.macs, other.bytes, other.roofline_share) == (None, None, None)


def test_a_block_in_another_type_than_the_roofline_has_no_share() -> None:
    times = [told("a", "fconv1"), told("b", "fconv2", "fp32"), told("c", "hp", "fp32")]
    found = {block.name: block for block in blocks_of(times)}
    assert found["FConv1"].roofline_share is not None
    assert (found["FConv2"].roofline_share, found["FConv2"].bound) == (None, None)
    assert found["HP"].bound == "memory"  # where nothing is multiplied, the type tells nothing


@pytest.mark.parametrize("plan", [Plan(), LETTER, Plan("fold_nhwc")])
def test_a_graph_in_bf16_moves_half_of_its_floats(plan: Plan) -> None:
    graph = build_graph(SMALL, random_weights(SMALL, 0), plan)
    exact, short = examine(graph), examine(in_bf16(graph))
    assert short.total.macs == exact.total.macs
    assert [block.name for block in short.blocks] == [block.name for block in exact.blocks]
    fc, half = exact.blocks[-1], short.blocks[-1]
    assert half.traffic * 2 == fc.traffic
    assert sum(half.parameter_bytes.values()) * 2 == sum(fc.parameter_bytes.values())


def test_an_unknown_engine_has_no_graph() -> None:
    with pytest.raises(InputError, match="no layers are known of the engine 'pytorch'"):
        graph_of(bundle_of(SMALL), "pytorch", "fp32", ())
    with pytest.raises(InputError, match="holds no TensorRT engine in fp16"):
        graph_of(bundle_of(SMALL), "tensorrt", "fp16", ())
