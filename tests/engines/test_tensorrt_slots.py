"""Calls in flight: buffers that are used again, threads that do not mix, everything given back."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from gpu_box import GpuBox, right, runs
from networks import random_silhouettes
from pycuda_fake import CUresult, LaunchError, LogicError
from tensorrt_fake import VERSIONS
from tensorrt_fake_engine import ACTIVATIONS

from gaitedge.engines.tensorrt_contexts import contexts
from gaitedge.errors import MachineError

MakeBox = Callable[..., GpuBox]


@pytest.mark.parametrize("version", VERSIONS)
def test_shapes_and_addresses_are_set_before_a_run_and_not_again(make_box: MakeBox, version: str) -> None:
    box = make_box(version, cuda_python=None)
    assert runs(box, box.engine(), (1, 5), (1, 5), (2, 5))
    told = ["device_memory", "address of silhouettes", "address of embeddings", "run"]
    assert box.recorded.runs == ["shape 1x5", *told, "run", "shape 2x5", *told]


def test_buffers_are_used_again_and_grow_for_a_larger_shape_only(make_box: MakeBox) -> None:
    box = make_box(cuda_python=None)
    engine = box.engine()
    assert runs(box, engine, (2, 60))
    before = box.gpu.calls.copy()
    assert runs(box, engine, (2, 60), (1, 30), (1, 7), (2, 59))
    assert box.gpu.calls["cuMemAlloc"] == before["cuMemAlloc"]
    assert box.gpu.calls["cuMemHostAlloc"] == before["cuMemHostAlloc"]
    assert runs(box, engine, (2, 300), (1, 7), (2, 60))
    assert box.gpu.calls["cuMemAlloc"] == before["cuMemAlloc"] + 2  # silhouettes and activations
    assert len(box.gpu.memory) == 3
    assert len(box.gpu.pinned) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_activations_take_what_the_shapes_need(make_box: MakeBox, version: str) -> None:
    """From 10 on; 8.6 tells only what the largest shape of the profile needs."""
    box = make_box(version)
    engine = box.engine()
    for shape in ((1, 20), (1, 90), (1, 30)):
        assert runs(box, engine, shape)
    largest = ACTIVATIONS * (8 * 300 if version.startswith("8.") else 90)
    assert largest in {len(memory) for memory in box.gpu.memory.values()}


def test_a_plan_of_8_6_is_asked_what_8_6_knows() -> None:
    """In 10 too: such a plan brings its own runtime. One of 10 is not asked that in 11, where it is gone."""
    names = {
        (here, built): type(contexts(SimpleNamespace(__version__=here), built)).__name__  # type: ignore[arg-type]
        for here, built in [
            ("8.6.1", "8.6.1"),
            ("10.3.0", "8.6.1"),
            ("10.3.0", "10.3.0"),
            ("11.4.0", "10.3.0"),
        ]
    }
    assert list(names.values()) == ["_EightTen", "_EightTen", "_TenEleven", "_TenEleven"]


def test_the_second_context_of_8_6_is_given_the_profile(make_box: MakeBox) -> None:
    box = make_box("8.6.1")
    assert runs(box, box.engine(), (1, 5), (1, 5), (1, 5))
    assert box.recorded.runs.count("profile") == 1


@pytest.mark.parametrize("in_flight", [1, 2, 3])
@pytest.mark.parametrize("cuda_python", ["cuda.bindings.driver", None])
def test_threads_share_the_gpu_and_nothing_else(
    make_box: MakeBox, in_flight: int, cuda_python: str | None
) -> None:
    box = make_box(cuda_python=cuda_python)
    box.gpu.seconds = 0.002
    engine = box.engine(in_flight=in_flight)
    walks = [random_silhouettes(1 + seed % 2, 3 + seed % 4, seed) for seed in range(60)]
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda walk: right(engine, walk), walks))
    assert box.gpu.busiest == in_flight
    assert len(box.gpu.streams) == in_flight
    engine.close()
    assert box.gpu.empty


def test_one_thread_takes_the_memory_of_one_slot(box: GpuBox) -> None:
    engine = box.engine(in_flight=4)
    assert box.gpu.empty  # and none before the first call
    assert runs(box, engine, *[(1, 4)] * 10)
    assert len(box.gpu.streams) == 1


def test_an_engine_of_another_thread(box: GpuBox) -> None:
    """Loaded in one thread, used in a second, closed in a third."""
    with ThreadPoolExecutor(1) as loading, ThreadPoolExecutor(1) as using, ThreadPoolExecutor(1) as closing:
        engine = loading.submit(box.engine).result()
        assert using.submit(runs, box, engine, (1, 4), (1, 4), (1, 4)).result()
        closing.submit(engine.close).result()
        for thread in (loading, using, closing):
            assert thread.submit(lambda: list(box.gpu.stack)).result() == []
    assert box.gpu.empty


def test_several_engines_share_the_context(box: GpuBox) -> None:
    first, second = box.engine(), box.engine()
    for engine in (first, second, first, second, first, second):
        assert runs(box, engine, (1, 6))
    first.close()
    assert runs(box, second, (1, 6), (2, 9))
    assert box.gpu.retained == 1


def test_everything_is_given_back_in_order(box: GpuBox) -> None:
    engine = box.engine()
    assert runs(box, engine, (1, 4), (1, 4), (2, 4), (2, 4), (1, 4))
    assert len(box.gpu.graphs) == 2
    (loaded,) = box.recorded.engines
    contexts = loaded.contexts
    del loaded
    box.gpu.order.clear()
    engine.close()
    freed = ["device memory", "pinned memory", "device memory", "pinned memory", "device memory"]
    assert box.gpu.order == ["graph", "graph", *freed, "stream"]
    assert box.gpu.empty
    assert len(contexts) == 0
    assert len(box.recorded.engines) == 0
    engine.close()  # once more is no error
    with pytest.raises(ValueError, match="this TensorRT engine is closed"):
        engine.embed(random_silhouettes(1, 4, 0))


def test_a_block_closes_it(box: GpuBox) -> None:
    with box.engine() as engine:
        assert runs(box, engine, (1, 4))
    assert box.gpu.empty


def test_an_engine_that_nobody_has_any_more(box: GpuBox) -> None:
    engine = box.engine()
    assert runs(box, engine, (1, 4), (1, 4))
    del engine
    gc.collect()
    assert box.gpu.empty
    assert len(box.recorded.engines) == 0


def test_closing_waits_for_the_calls_in_flight(box: GpuBox) -> None:
    box.gpu.seconds = 0.2
    engine = box.engine(in_flight=1)
    results: list[bool | str] = []

    def call(seed: int) -> None:
        try:
            results.append(right(engine, random_silhouettes(1, 4, seed)))
        except ValueError as error:
            results.append(str(error))

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    while not box.gpu.busy:
        pass
    engine.close()
    assert box.gpu.empty
    for thread in threads:
        thread.join()
    # One was in flight; those that waited for it are turned away.
    assert sorted(map(str, results)) == ["True", *["this TensorRT engine is closed"] * 2]


def test_at_the_exit_it_is_closed_first(tmp_path: Path) -> None:
    code = """
    import atexit, sys
    import pytest
    from gpu_box import GpuBox, H200
    import pycuda_fake
    from networks import random_silhouettes
    from tensorrt_fake import fake_tensorrt
    from gaitedge.machine import tensorrt as machine
    from gaitedge.machine.cuda_driver import CudaDriver

    def report():
        print("at the exit", box.gpu.empty, len(box.recorded.engines), *box.gpu.order[-2:])

    atexit.register(report)  # runs after what is registered later
    patch = pytest.MonkeyPatch()
    module, recorded = fake_tensorrt("11.4.0.106")
    box = GpuBox(recorded)
    patch.setitem(sys.modules, "tensorrt", module)
    patch.setattr(machine, "driver", lambda: CudaDriver("ok", "", (13, 0), (H200,)))
    pycuda_fake.install(patch, box.gpu, "cuda.bindings.driver")
    engine = box.engine()
    for seed in range(3):
        engine.embed(random_silhouettes(1, 4, seed))
    print("before", box.gpu.empty)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).resolve().parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["before False", "at the exit True 0 stream context"]


@pytest.mark.parametrize("cuda_python", ["cuda.bindings.driver", None])
def test_out_of_memory_on_the_gpu(make_box: MakeBox, cuda_python: str | None) -> None:
    box = make_box(cuda_python=cuda_python)
    engine = box.engine()
    assert runs(box, engine, (1, 4))
    box.gpu.capacity = 2 << 20
    with pytest.raises(MachineError) as caught:
        engine.embed(random_silhouettes(8, 300, 0))
    assert str(caught.value) == (
        "the GPU's memory does not suffice (cuMemAlloc failed: out of memory): end other programs that "
        "use it, or build an engine for less: gaitedge export unsaved bundle --target tensorrt "
        "--batch 1:1:1 --frames 1:30:100"
    )
    assert runs(box, engine, (1, 4), (1, 4), (1, 30))  # what fits still runs
    engine.close()
    assert box.gpu.empty


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("cuStreamSynchronize", LaunchError("cuStreamSynchronize failed: unspecified launch failure")),
        ("cuMemcpyHtoDAsync", LogicError("cuMemcpyHtoDAsync failed: an illegal memory access")),
        ("cuMemcpyDtoHAsync", LogicError("cuMemcpyDtoHAsync failed: an illegal memory access")),
        ("cuStreamCreate", LogicError("cuStreamCreate failed: an illegal memory access")),
    ],
)
def test_an_error_of_cuda_is_named(box: GpuBox, call: str, error: Exception) -> None:
    engine = box.engine()
    box.gpu.failing[call] = error  # type: ignore[assignment]
    for _ in range(3):
        with pytest.raises(MachineError) as caught:
            engine.embed(random_silhouettes(1, 4, 0))
        assert str(caught.value) == f"the GPU failed: {error}; if that persists, start the program again"
        assert box.gpu.stack == []
    engine.close()  # of a GPU that fails: no error of its own


def test_a_run_that_tensorrt_refuses(box: GpuBox) -> None:
    engine = box.engine()
    assert runs(box, engine, (1, 4), (1, 4))
    box.recorded.runs_fail = "Error Code 1: Cuda Runtime (invalid resource handle)"
    with pytest.raises(MachineError, match="TensorRT cannot run: Error Code 1: Cuda Runtime"):
        engine.embed(random_silhouettes(1, 5, 0))
    box.recorded.runs_fail = ""
    assert runs(box, engine, (1, 5), (1, 4), (1, 4))


def test_a_shape_that_was_half_set_is_set_anew(make_box: MakeBox, monkeypatch: pytest.MonkeyPatch) -> None:
    box = make_box(cuda_python=None)
    engine = box.engine()
    assert runs(box, engine, (1, 9))
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["tensorrt"].IExecutionContext, "set_tensor_address", lambda *_: False)
        with pytest.raises(MachineError, match="TensorRT cannot take an address for silhouettes"):
            engine.embed(random_silhouettes(1, 5, 0))
    assert runs(box, engine, (1, 9))


def test_no_room_for_a_context(box: GpuBox) -> None:
    box.recorded.most_contexts = 0
    with pytest.raises(MachineError, match="cannot make an execution context: Error Code 2: OutOfMemory"):
        box.engine().embed(random_silhouettes(1, 5, 0))


def test_a_slot_that_could_not_be_made_is_made_later(box: GpuBox) -> None:
    engine = box.engine(in_flight=1)
    box.gpu.failing["cuStreamCreate"] = CUresult.CUDA_ERROR_OUT_OF_MEMORY
    box.gpu.failing["a context"] = LogicError("cuMemAlloc failed: out of memory")
    with pytest.raises(MachineError):
        engine.embed(random_silhouettes(1, 5, 0))
    box.gpu.failing.clear()
    assert runs(box, engine, (1, 5))
