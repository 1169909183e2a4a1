"""A shape that comes again is recorded once and launched in a single call, for as long as that is valid."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from gpu_box import GpuBox, right, runs
from networks import random_silhouettes
from pycuda_fake import CUresult, FakeGpu, LogicError, cuda_python_driver
from tensorrt_fake import VERSIONS

from gaitedge.engines.cuda_graphs import find_driver, record
from gaitedge.errors import MachineError

MakeBox = Callable[..., GpuBox]


def counts(box: GpuBox) -> tuple[int, int]:
    """Recordings that began, and launches."""
    return box.gpu.calls["cuStreamBeginCapture"], box.gpu.calls["cuGraphLaunch"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_second_call_records_and_the_third_launches(make_box: MakeBox, version: str) -> None:
    box = make_box(version)
    engine = box.engine()
    for call, expected in enumerate([(0, 0), (1, 0), (1, 1), (1, 2)]):
        assert right(engine, random_silhouettes(2, 30, call))
        assert counts(box) == expected
    assert box.gpu.calls["execute_async_v3"] == 3  # of the four: one alone, one before and one into the graph
    assert len(box.gpu.graphs) == 1


def test_graphs_keep_their_shapes_while_others_run(box: GpuBox) -> None:
    """The fake fails where a graph is launched after its context was told other shapes."""
    engine = box.engine()
    shapes = [(1, 30), (2, 30), (1, 7)]
    assert runs(box, engine, (3, 30), *shapes, *shapes, (1, 9), *shapes, (1, 11), *shapes)
    assert counts(box) == (3, 6)


def test_the_shapes_that_came_longest_ago_are_forgotten(box: GpuBox) -> None:
    engine = box.engine()
    assert runs(box, engine, (1, 300), *[(1, frames) for frames in range(1, 11) for _ in range(2)])
    assert counts(box) == (10, 0)
    assert len(box.gpu.graphs) == 8
    assert runs(box, engine, *[(1, frames) for frames in range(3, 11)])
    assert counts(box) == (10, 8)
    (loaded,) = box.recorded.engines
    assert len(loaded.contexts) == 9
    assert runs(box, engine, (1, 1), (1, 1))
    assert counts(box) == (11, 8)


def test_walks_of_every_length_record_nothing(box: GpuBox) -> None:
    assert runs(box, box.engine(), *[(1, frames) for frames in range(1, 30)] * 2)
    assert counts(box) == (0, 0)


@pytest.mark.parametrize(
    ("version", "larger"),
    [
        ("8.6.1", (1, 24)),  # where activations have their full size from the start: the silhouettes' buffer
        ("10.3.0", (1, 22)),  # where that one is large enough: the activations'
        ("11.4.0.106", (8, 300)),  # both
    ],
)
def test_buffers_that_grow_take_their_graphs_with_them(
    make_box: MakeBox, version: str, larger: tuple[int, int]
) -> None:
    box = make_box(version)
    engine = box.engine()
    assert runs(box, engine, (1, 20), (1, 20), (1, 20))
    assert counts(box) == (1, 1)
    assert runs(box, engine, larger)
    assert box.gpu.graphs == set()
    assert runs(box, engine, (1, 20), (1, 20))
    assert counts(box) == (2, 2)


@pytest.mark.parametrize("name", ["cuda.bindings.driver", "cuda.cuda"])
def test_both_names_of_cuda_python(make_box: MakeBox, name: str) -> None:
    box = make_box(cuda_python=name)
    engine = box.engine()
    assert ", CUDA graphs; " in engine.description
    assert runs(box, engine, (1, 4), (1, 4), (1, 4))
    assert counts(box) == (1, 1)


def test_cuda_11_names_a_function_otherwise(box: GpuBox) -> None:
    driver: Any = sys.modules["cuda.bindings.driver"]
    driver.cuGraphInstantiateWithFlags = driver.cuGraphInstantiate
    del driver.cuGraphInstantiate
    assert runs(box, box.engine(), (1, 4), (1, 4), (1, 4))
    assert counts(box) == (1, 1)


def test_without_cuda_python(make_box: MakeBox) -> None:
    box = make_box(cuda_python=None)
    engine = box.engine()
    assert "no CUDA graphs (cuda-python is not installed)" in engine.description
    assert runs(box, engine, (1, 4), (1, 4), (1, 4))
    assert counts(box) == (0, 0)


def test_a_cuda_python_that_is_broken(make_box: MakeBox, monkeypatch: pytest.MonkeyPatch) -> None:
    make_box(cuda_python=None)

    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'cuda.pathfinder'", name="cuda.pathfinder")

    monkeypatch.setattr("gaitedge.engines.cuda_graphs.importlib.import_module", fail)
    assert find_driver() == (None, "cuda-python cannot be imported: No module named 'cuda.pathfinder'")


def test_what_cannot_be_recorded_runs_all_the_same(box: GpuBox) -> None:
    engine = box.engine()
    box.recorded.no_recording = True
    assert runs(box, engine, *[(1, 4)] * 4)
    assert counts(box) == (1, 0)  # it is not tried again
    assert "no CUDA graphs (TensorRT cannot run: operation not permitted when" in engine.description
    assert box.gpu.graphs == set()


@pytest.mark.parametrize("call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
def test_a_driver_that_cannot_record(box: GpuBox, call: str) -> None:
    engine = box.engine()
    box.gpu.failing[call] = CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    assert runs(box, engine, (1, 4), (1, 4))
    words = f"no CUDA graphs (the GPU failed: {call} gives CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)"
    assert words in engine.description


def test_a_copy_that_cannot_be_recorded(box: GpuBox, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = box.engine()
    upload = sys.modules["pycuda.driver"].memcpy_htod_async

    def pageable(dest: int, src: Any, stream: Any) -> None:
        if box.gpu.streams[stream.handle].recording is not None:
            raise LogicError("cuMemcpyHtoDAsync failed: operation not permitted when stream is capturing")
        upload(dest, src, stream)

    monkeypatch.setattr(sys.modules["pycuda.driver"], "memcpy_htod_async", pageable)
    assert runs(box, engine, *[(1, 4)] * 4)
    assert "no CUDA graphs (the GPU failed: cuMemcpyHtoDAsync failed" in engine.description


def test_no_room_for_the_context_of_a_graph(box: GpuBox) -> None:
    engine = box.engine()
    box.recorded.most_contexts = 1
    assert runs(box, engine, *[(1, 4)] * 4)
    assert counts(box) == (0, 0)
    assert "no CUDA graphs (TensorRT cannot make an execution context: " in engine.description


def test_a_launch_that_fails_is_named(box: GpuBox) -> None:
    engine = box.engine()
    assert runs(box, engine, (1, 4), (1, 4))
    box.gpu.failing["cuGraphLaunch"] = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(MachineError, match="the GPU failed: cuGraphLaunch gives CUDA_ERROR_ILLEGAL_ADDRESS"):
        engine.embed(random_silhouettes(1, 4, 0))
    box.gpu.failing.clear()
    assert runs(box, engine, (1, 4), (1, 4))


def test_a_cuda_python_that_is_newer_than_the_driver(box: GpuBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises an error of its own where the driver has no such function: then there are no graphs."""

    def absent(*_: object) -> None:
        raise RuntimeError('Function "cuStreamBeginCapture" not found')

    engine = box.engine()
    driver = engine._plan.driver
    assert driver is not None
    monkeypatch.setattr(driver, "cuStreamBeginCapture", absent, raising=False)
    assert runs(box, engine, *[(1, 4)] * 3)
    assert "no CUDA graphs (the GPU's driver lacks cuStreamBeginCapture: " in engine.description


@pytest.mark.parametrize("error", [MachineError("no"), KeyboardInterrupt()])
def test_a_recording_ends_whatever_happens_in_it(error: BaseException) -> None:
    """A stream that is left recording would be of no use any more."""
    gpu = FakeGpu()
    gpu.stack.append(object())
    driver: Any = cuda_python_driver(gpu)
    gpu.streams[7] = type("Stream", (), {"queue": [], "recording": None, "spoiled": False})()  # type: ignore[assignment]

    def work() -> None:
        raise error

    with pytest.raises(type(error)):
        record(driver, 7, work)
    assert gpu.streams[7].recording is None
    assert gpu.graphs == set()
