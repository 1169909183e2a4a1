"""What the CUDA engine tells of its time: a call's pieces, and each launch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import PAPER
from kernel_box import KernelBox, kernel_box, launches
from networks import random_silhouettes
from numpy.typing import NDArray
from pycuda_fake import LogicError

from gaitedge import cuda
from gaitedge.config import GaitPartConfig
from gaitedge.engines import cuda_calls, cuda_forms
from gaitedge.engines.cuda import CudaEngine
from gaitedge.engines.cuda_layers import name_launches
from gaitedge.engines.cuda_memory import device_memory_used
from gaitedge.engines.timing import LayerTime, LayerTimer, TimedEmbedder
from gaitedge.errors import InputError, MachineError, SilhouetteError
from gaitedge.export.network import Network
from gaitedge.profiling.layer_blocks import graph_of, to_layers

TINY = GaitPartConfig(channels=(8, 16), strips=(1, 2, 4, 8), parts=4, embedding_dim=8)
PLAIN = GaitPartConfig(
    channels=(8,), strips=(2, 1), parts=3, attention=False, templates=(1,), embedding_dim=5
)
PLAIN_LAUNCHES = 4


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, host_library: Path) -> Iterator[KernelBox]:
    with kernel_box(monkeypatch, host_library) as found:
        yield found


def same(engine: CudaEngine, silhouettes: NDArray[np.uint8]) -> bool:
    """Whether a timed call gives what a plain one gives."""
    return bool(np.array_equal(engine.embed_timed(silhouettes)[0], engine.embed(silhouettes)))


def test_events_enclose_the_pieces_of_every_call(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    assert isinstance(engine, TimedEmbedder)
    kernels = ["kernel"] * PLAIN_LAUNCHES
    for seed in range(4):
        box.gpu.timeline.clear()
        silhouettes = random_silhouettes(2, 2, seed)
        embeddings, times = engine.embed_timed(silhouettes)
        assert box.gpu.timeline == ["event", "upload", "event", *kernels, "event", "download", "event"]
        assert (times.host_to_device, times.device_to_host) == (0.25, 0.125)
        assert times.compute == 2.0 * PLAIN_LAUNCHES
        assert times.enqueue is not None
        assert times.enqueue > 0
        np.testing.assert_array_equal(embeddings, engine.embed(silhouettes))
    # Piece by piece at the first time, into the graph at the second: of timed calls and of plain ones.
    assert launches(box) == 2 * 2 * PLAIN_LAUNCHES
    assert box.gpu.calls["cuStreamEndCapture"] == 2
    assert len(box.gpu.graphs) == 2


def test_plain_calls_are_what_they_were(box: KernelBox) -> None:
    first, second = box.engine(PLAIN, "fp32"), box.engine(PLAIN, "fp32")
    silhouettes, asked = random_silhouettes(1, 2, 0), []
    for engine in (first, second):
        calls = []
        for _ in range(3):
            if engine is second:
                engine.embed_timed(silhouettes)
            before = box.gpu.calls.copy()
            engine.embed(silhouettes)
            calls.append(box.gpu.calls - before)
        asked.append(calls)
    # The first call of all makes room, which a timed call does as well.
    made = ("cuMemAlloc", "cuMemHostAlloc", "cuStreamSynchronize")
    assert {name: count for name, count in asked[0][0].items() if name not in made} == {
        name: count for name, count in asked[1][0].items() if name not in made
    }
    assert asked[0][1:] == asked[1][1:]
    assert not any(name.startswith("cuEvent") for calls in asked for call in calls for name in call)


def test_memory_that_moves_takes_the_graphs_with_it(box: KernelBox) -> None:
    engine = box.engine(TINY, "fp32")
    short, long = random_silhouettes(1, 2, 0), random_silhouettes(1, 9, 1)
    assert same(engine, short)
    assert same(engine, short)
    assert len(box.gpu.graphs) == 2
    engine.embed_timed(long)
    assert box.gpu.graphs == set()
    assert same(engine, short)


def test_few_graphs_are_kept(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    engine.embed(random_silhouettes(1, 11, 0))
    for frames in range(1, 11):
        for _ in range(2):
            engine.embed_timed(random_silhouettes(1, frames, 0))
    assert len(box.gpu.graphs) == 8


@pytest.mark.parametrize("call", ["cuEventCreate", "cuEventRecord", "cuMemcpyDtoHAsync", "launch"])
def test_an_error_in_the_middle_leaves_the_engine_usable(box: KernelBox, call: str) -> None:
    engine = box.engine(PLAIN, "fp32")
    silhouettes = random_silhouettes(1, 2, 0)
    box.gpu.failing[call] = LogicError(f"{call} failed: no")
    with pytest.raises(MachineError, match="the GPU failed"):
        engine.embed_timed(silhouettes)
    box.gpu.failing.clear()
    assert same(engine, silhouettes)
    assert same(engine, silhouettes)
    box.gpu.failing["cuEventElapsedTime"] = LogicError("cuEventElapsedTime failed: no")
    with pytest.raises(MachineError, match="the GPU failed"):
        engine.embed_timed(silhouettes)
    assert box.gpu.graphs == set()
    box.gpu.failing.clear()
    assert same(engine, silhouettes)


def test_everything_is_given_back(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    silhouettes = random_silhouettes(1, 2, 0)
    for _ in range(2):
        engine.embed_timed(silhouettes)
    engine.layer_times([silhouettes])
    assert len(box.gpu.events) == 4  # of the call's clock; those around launches are gone
    engine.close()
    assert box.gpu.empty
    for use in (engine.embed_timed, lambda each: engine.layer_times([each])):
        with pytest.raises(ValueError, match="this CUDA engine is closed"):
            use(silhouettes)


def test_threads_time_their_own_calls(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    walks = [random_silhouettes(1, frames, frames) for frames in (1, 2, 3, 4)]
    wanted = [engine.embed(walk) for walk in walks]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda i: engine.embed_timed(walks[i % 4])[0], range(16)))
    for index, embeddings in enumerate(found):
        np.testing.assert_array_equal(embeddings, wanted[index % 4])


def test_every_launch_of_the_layers_has_its_time(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    assert isinstance(engine, LayerTimer)
    calls = [random_silhouettes(1, 2, 0), random_silhouettes(1, 2, 1), random_silhouettes(2, 3, 2)]
    assert engine.layer_times(calls).layers == [
        LayerTime("fconv1", "FocalConv", ("fconv1",), "fp32", 6.0),
        LayerTime("fconv2", "FocalConv", ("fconv2",), "fp32", 6.0),
        LayerTime("hp", "PartPool", ("hp",), "fp32", 6.0),
        LayerTime("micro_motion", "MicroMotion", ("motion", "fc"), "fp32", 6.0),
    ]
    assert box.gpu.events == set()
    assert same(engine, calls[0])


def test_the_papers_network_has_two_launches(box: KernelBox) -> None:
    engine = box.engine(PAPER, "fp16")
    assert engine.layer_times([random_silhouettes(1, 2, 0)]).layers == [
        LayerTime("frame_network", "FrameNetwork", ("network",), "fp16", 2.0),
        LayerTime("micro_motion", "MicroMotion", ("motion", "fc"), "fp16", 2.0),
    ]


def test_int8_ends_before_the_temporal_head() -> None:
    head = cuda.MicroMotion(weights=cuda.MicroMotionWeights(type=cuda.FLOAT16))
    found = list(name_launches([cuda.FrameNetwork(type=cuda.INT8), head], [1.0, 2.0]))
    assert [(layer.precision, layer.ms) for layer in found] == [("int8", 1.0), ("fp16", 2.0)]


@pytest.mark.parametrize(
    ("config", "blocks"),
    [
        (PAPER, ["FConv1 + FConv2 + FConv3 + FConv4 + FConv5 + FConv6 + HP", "MTB1 + MTB2 + TP + FC"]),
        (TINY, ["FConv1", "FConv2", "FConv3", "FConv4", "HP", "MTB1 + MTB2 + TP + FC"]),
        (PLAIN, ["FConv1", "FConv2", "HP", "MTB1 + TP + FC"]),
    ],
)
def test_every_launch_belongs_to_blocks_of_the_paper(
    box: KernelBox, config: GaitPartConfig, blocks: list[str]
) -> None:
    bundle, target = box.bundle(config, "fp16")
    with CudaEngine(bundle, target, "as asked") as engine:
        found = engine.layer_times([random_silhouettes(1, 1, 0)])
    assert found.total_ms is None  # its kernels run more often than a call's
    nodes = {node for layer in found.layers for node in layer.nodes}
    network = Network(graph_of(bundle, "cuda", "fp16", nodes), 1, 1)
    assert [layer.block for layer in to_layers(network, config, found.layers, 1)] == blocks


def test_chunks_of_frames_are_one_layer(box: KernelBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_forms, "_ACTIVATIONS", 1 << 18)
    found = box.engine(TINY, "fp32").layer_times([random_silhouettes(1, 17, 0)]).layers
    assert [(layer.name, layer.ms) for layer in found] == [
        *((f"fconv{number}", 6.0) for number in range(1, 5)),
        ("hp", 6.0),
        ("micro_motion", 2.0),
    ]


def test_a_launch_is_timed_while_the_gpu_has_work(box: KernelBox) -> None:
    """Where it has come to the first event before the last launch is there, all is done again, with more work
    before it."""
    engine = box.engine(PLAIN, "fp32")
    silhouettes = random_silhouettes(1, 2, 0)
    box.gpu.early_events = 3
    found = engine.layer_times([silhouettes])
    assert [layer.ms for layer in found.layers] == [2.0] * PLAIN_LAUNCHES
    kernels = " ".join(box.gpu.timeline).split(" event")
    before = [part.split().count("kernel") // PLAIN_LAUNCHES for part in kernels]
    assert [count for count in before if count] == [1, 2, 4, 8]


def test_a_gpu_that_always_waits_for_the_next_launch(box: KernelBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_calls, "_MOST_AHEAD", 4)
    engine = box.engine(PLAIN, "fp32")
    silhouettes = random_silhouettes(1, 2, 0)
    box.gpu.early_events = 100
    with pytest.raises(
        MachineError, match="the GPU is through with the kernels for 2 frames before"
    ) as caught:
        engine.layer_times([silhouettes])
    assert "\n" not in str(caught.value)
    assert box.gpu.early_events == 100 - 3
    box.gpu.early_events = 0
    assert same(engine, silhouettes)


def test_what_no_calls_may_be(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    with pytest.raises(InputError, match="the time of layers needs 1 call or more, not 0"):
        engine.layer_times([])
    for use in (engine.embed_timed, lambda each: engine.layer_times([each])):
        with pytest.raises(SilhouetteError):
            use(np.zeros((1, 4, 64, 44), np.float32))


def test_the_memory_that_is_taken(box: KernelBox) -> None:
    """Of the whole device; a process that has nothing there does not ask, for that would take some."""
    assert device_memory_used() is None
    assert box.gpu.retained == 0
    engine = box.engine(PLAIN, "fp32")
    engine.embed(random_silhouettes(1, 2, 0))
    assert device_memory_used() == sum(map(len, box.gpu.memory.values()))
    box.gpu.failing["cuMemGetInfo"] = LogicError("cuMemGetInfo failed: no")
    with pytest.raises(MachineError, match="the GPU failed: cuMemGetInfo failed"):
        device_memory_used()


def test_a_launch_of_another_kind_keeps_its_time() -> None:
    odd = SimpleNamespace()
    assert list(name_launches([odd], [3.0])) == [  # type: ignore[list-item]
        LayerTime("SimpleNamespace", "SimpleNamespace", (), None, 3.0)
    ]
