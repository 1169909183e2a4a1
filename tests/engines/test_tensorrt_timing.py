"""A timed call of TensorRT: events between its pieces, embeddings as ever, and plain calls as they were."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bundles import SMALL
from gpu_box import GpuBox, runs
from networks import random_silhouettes
from pycuda_fake import CUresult, LogicError
from tensorrt_fake import VERSIONS
from tensorrt_fake_engine import digest

from gaitedge.engines.tensorrt import TensorRTEngine
from gaitedge.engines.timing import CallTimes, TimedEmbedder
from gaitedge.errors import InputError, MachineError, SilhouetteError

MakeBox = Callable[..., GpuBox]
CALL = ["event", "upload", "event", "kernel", "event", "download", "event"]


def timed(engine: TensorRTEngine, batch: int, frames: int, seed: int = 0) -> CallTimes:
    """The times of a call whose embeddings are those of its silhouettes."""
    silhouettes = random_silhouettes(batch, frames, seed)
    embeddings, times = engine.embed_timed(silhouettes)
    assert embeddings.flags.owndata
    np.testing.assert_array_equal(embeddings, digest(silhouettes, SMALL.parts, SMALL.embedding_dim))
    return times


def graphs(box: GpuBox) -> tuple[int, int]:
    """Recordings that began, and launches."""
    return box.gpu.calls["cuStreamBeginCapture"], box.gpu.calls["cuGraphLaunch"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cuda_python", ["cuda.bindings.driver", None])
def test_events_enclose_the_pieces_of_every_call(
    make_box: MakeBox, version: str, cuda_python: str | None
) -> None:
    box = make_box(version, cuda_python=cuda_python)
    engine = box.engine()
    assert isinstance(engine, TimedEmbedder)
    for seed in range(4):
        box.gpu.timeline.clear()
        times = timed(engine, 2, 30, seed)
        assert box.gpu.timeline[-7:] == CALL
        assert (times.host_to_device, times.compute, times.device_to_host) == (0.25, 2.0, 0.125)
        assert times.enqueue is not None
        assert times.enqueue > 0


def test_enqueue_is_the_hosts_time_until_the_network_is_in_the_queue(
    box: GpuBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that the driver's calls advance: of 4 events, 2 copies and a launch the launch alone."""
    engine = box.engine()
    for seed in range(2):
        timed(engine, 1, 4, seed)
    monkeypatch.setattr(
        "gaitedge.engines.cuda_events.time.perf_counter", lambda: sum(box.gpu.calls.values()) / 1e3
    )
    assert timed(engine, 1, 4).enqueue == pytest.approx(1.0)


def test_the_second_timed_call_records_the_network_alone(box: GpuBox) -> None:
    engine = box.engine()
    for seed, expected in enumerate([(0, 0), (1, 1), (1, 2), (1, 3)]):
        timed(engine, 1, 30, seed)
        assert graphs(box) == expected
    assert len(box.gpu.graphs) == 1
    assert box.gpu.calls["cuMemcpyHtoDAsync"] == 4  # none of them in a graph


def test_plain_calls_are_what_they_were(box: GpuBox) -> None:
    """What they ask of the driver is the same with timed calls among them, and has no events."""
    asked = []
    for among in (False, True):
        engine, calls = box.engine(), []
        assert runs(box, engine, (8, 300))  # which makes room
        for seed in range(4):
            if among:
                timed(engine, 1, 30, seed)
            before = box.gpu.calls.copy()
            assert runs(box, engine, (1, 30))
            calls.append(box.gpu.calls - before)
        asked.append(calls)
    # A timed call made the context in which the second plain call is recorded.
    assert asked[0][1].pop("a context") == 1
    assert asked[1] == asked[0]
    assert not any(name.startswith("cuEvent") for name in sum(asked[1], Counter()))


def test_both_graphs_of_a_shape_share_a_context(box: GpuBox) -> None:
    engine = box.engine()
    for seed in range(3):
        assert runs(box, engine, (2, 9))
        timed(engine, 2, 9, seed)
    assert graphs(box) == (2, 1 + 2)
    (loaded,) = box.recorded.engines
    assert len(loaded.contexts) == 2


def test_shapes_that_change_keep_their_graphs_apart(box: GpuBox) -> None:
    engine = box.engine()
    timed(engine, 4, 60)
    for seed in range(12):
        timed(engine, 1 + seed % 2, 5 + seed % 3, seed)
        assert runs(box, engine, (1 + seed % 3, 7))
    assert graphs(box)[1] > 0


def test_the_shapes_that_came_longest_ago_are_forgotten_with_both_graphs(box: GpuBox) -> None:
    engine = box.engine()
    assert runs(box, engine, (1, 300))
    for frames in range(1, 11):
        for seed in range(2):
            assert runs(box, engine, (1, frames))
            timed(engine, 1, frames, seed)
    assert len(box.gpu.graphs) == 16


@pytest.mark.parametrize("larger", [(1, 22), (8, 300)])
def test_memory_that_moves_takes_the_graphs_with_it(box: GpuBox, larger: tuple[int, int]) -> None:
    engine = box.engine()
    for seed in range(2):
        timed(engine, 1, 20, seed)
    timed(engine, *larger)
    assert box.gpu.graphs == set()
    for seed in range(2):
        timed(engine, 1, 20, seed)
    assert len(box.gpu.graphs) == 1


@pytest.mark.parametrize(
    "call",
    [
        "cuEventCreate",
        "cuEventRecord",
        "cuEventElapsedTime",
        "cuMemcpyDtoHAsync",
        "execute_async_v3",
        "cuStreamSynchronize",
    ],
)
def test_an_error_in_the_middle_leaves_the_engine_usable(box: GpuBox, call: str) -> None:
    engine = box.engine()
    box.gpu.failing[call] = LogicError(f"{call} failed: no")
    for _ in range(2):
        with pytest.raises(MachineError, match="the GPU failed"):
            engine.embed_timed(random_silhouettes(1, 4, 0))
    assert box.gpu.stack == []
    box.gpu.failing.clear()
    for seed in range(3):
        timed(engine, 1, 4, seed)
        assert runs(box, engine, (1, 4))
    gc.collect()  # the error's traceback
    engine.close()
    assert box.gpu.empty


def test_a_launch_that_fails_gives_its_graphs_up(box: GpuBox) -> None:
    engine = box.engine()
    for seed in range(2):
        timed(engine, 1, 4, seed)
        assert runs(box, engine, (1, 4))
    box.gpu.failing["cuGraphLaunch"] = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(MachineError, match="cuGraphLaunch gives CUDA_ERROR_ILLEGAL_ADDRESS"):
        engine.embed_timed(random_silhouettes(1, 4, 0))
    assert box.gpu.graphs == set()
    box.gpu.failing.clear()
    timed(engine, 1, 4)
    assert runs(box, engine, (1, 4))


def test_what_cannot_be_recorded_is_timed_all_the_same(box: GpuBox) -> None:
    engine = box.engine()
    box.recorded.no_recording = True
    for seed in range(4):
        assert timed(engine, 1, 4, seed).compute == 2.0
    assert graphs(box) == (1, 0)
    assert "no CUDA graphs (TensorRT cannot run: operation not permitted when" in engine.description
    box.recorded.no_recording = False
    assert runs(box, engine, (1, 4), (1, 4))


def test_no_room_for_the_context_of_a_graph(box: GpuBox) -> None:
    engine = box.engine()
    box.recorded.most_contexts = 1
    for seed in range(3):
        assert timed(engine, 1, 4, seed).compute == 2.0
    assert graphs(box) == (0, 0)


def test_threads_time_their_own_calls(box: GpuBox) -> None:
    box.gpu.seconds = 0.002
    engine = box.engine(in_flight=2)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda seed: timed(engine, 1 + seed % 2, 3 + seed % 3, seed), range(24)))
    assert box.gpu.busiest == 2
    assert len(box.gpu.events) == 8
    engine.close()
    assert box.gpu.empty


def test_events_are_given_back_before_their_stream(box: GpuBox) -> None:
    engine = box.engine()
    for seed in range(2):
        timed(engine, 1, 4, seed)
    box.gpu.order.clear()
    engine.close()
    assert box.gpu.order[0] == "graph"
    assert box.gpu.order[-5:] == ["event"] * 4 + ["stream"]
    assert box.gpu.empty
    assert len(box.recorded.engines) == 0
    with pytest.raises(ValueError, match="this TensorRT engine is closed"):
        engine.embed_timed(random_silhouettes(1, 4, 0))


def test_what_no_call_may_be(box: GpuBox) -> None:
    engine = box.engine()
    with pytest.raises(SilhouetteError):
        engine.embed_timed(np.zeros((1, 4, 64, 44), np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a batch of 9 and 4 frames"):
        engine.embed_timed(random_silhouettes(9, 4, 0))
    assert "pycuda.driver" in sys.modules
    assert box.gpu.events == set()
