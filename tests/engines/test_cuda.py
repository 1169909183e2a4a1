"""The CUDA engine: real kernels, compiled for the CPU, through the engine's own code, against the letter."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from bundles import PAPER, UNEVEN, letter
from kernel_box import KernelBox, kernel_box, launches
from networks import random_silhouettes
from numpy.typing import NDArray
from pycuda_fake import CUresult, LogicError

from gaitedge.config import GaitPartConfig
from gaitedge.engines import cuda_forms, embed_all
from gaitedge.engines.cuda import CudaEngine
from gaitedge.errors import InputError, MachineError, SilhouetteError
from gaitedge.export.agreement import TOLERANCES, measure

TINY = GaitPartConfig(channels=(8, 16), strips=(1, 2, 4, 8), parts=4, embedding_dim=8)
PLAIN = GaitPartConfig(
    channels=(8,), strips=(2, 1), parts=3, attention=False, templates=(1,), embedding_dim=5
)


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, host_library: Path) -> Iterator[KernelBox]:
    with kernel_box(monkeypatch, host_library) as found:
        yield found


def agrees(engine: CudaEngine, found: NDArray[np.float32], *walks: NDArray[np.uint8]) -> bool:
    """Whether embeddings are those of these batches of walks, by the letter."""
    agreement = measure([found], [letter(engine.config, walk) for walk in walks], "letter")
    allowed = TOLERANCES[engine.precision]
    return agreement.relative_error <= allowed.relative_error and agreement.cosine >= allowed.cosine


@pytest.mark.parametrize("config", [TINY, UNEVEN, PLAIN])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_any_network_gives_the_letters_embeddings_layer_by_layer(
    box: KernelBox, config: GaitPartConfig, precision: str
) -> None:
    engine = box.engine(config, precision)
    for seed, shape in enumerate([(1, 1), (2, 3)]):
        silhouettes = random_silhouettes(*shape, seed)
        found = engine.embed(silhouettes)
        assert (found.dtype, found.flags.owndata, found.flags.c_contiguous) == (np.float32, True, True)
        assert agrees(engine, found, silhouettes)
    assert launches(box) == 2 * (len(config.strips) + 2)


def test_the_papers_network_takes_two_launches(box: KernelBox) -> None:
    engine = box.engine(PAPER, "fp16")
    silhouettes = random_silhouettes(1, 3, 0)
    assert agrees(engine, engine.embed(silhouettes), silhouettes)
    assert launches(box) == 2
    assert engine.description == ("CUDA kernels on NVIDIA H200, fp16, two launches, CUDA graphs; as asked")


def test_what_it_says_of_itself(box: KernelBox) -> None:
    engine = box.engine(TINY, "fp32")
    assert engine.description == "CUDA kernels on NVIDIA H200, fp32, layers, CUDA graphs; as asked"
    assert (engine.name, engine.precision, engine.largest_batch) == ("cuda", "fp32", None)
    assert engine.config == TINY


def test_walks_of_different_lengths_share_launches(box: KernelBox) -> None:
    engine = box.engine(TINY, "fp32")
    walks = [random_silhouettes(1, frames, frames)[0] for frames in (2, 1, 4)]
    assert agrees(engine, engine.embed_many(walks), *(walk[None] for walk in walks))
    assert launches(box) == len(TINY.strips) + 2
    # The same number of walks and of frames, cut elsewhere: what a graph holds must not tell them apart.
    for order in ([4, 2, 1], [1, 4, 2], [2, 4, 1]):
        walks = [random_silhouettes(1, frames, frames)[0] for frames in order]
        assert agrees(engine, engine.embed_many(walks), *(walk[None] for walk in walks))
    assert box.gpu.calls["cuGraphLaunch"] == 3
    assert box.gpu.calls["cuStreamEndCapture"] == 1


def test_all_sequences_of_a_gallery_go_in_few_calls(box: KernelBox) -> None:
    engine = box.engine(TINY, "fp32")
    walks = [random_silhouettes(1, frames, seed)[0] for seed, frames in enumerate((3, 1, 2, 3, 1))]
    told: list[tuple[int, int]] = []
    found = embed_all(engine, walks, batch=3, progress=lambda *done: told.append(done))
    assert agrees(engine, found, *(walk[None] for walk in walks))
    assert told == [(3, 5), (5, 5)]


def test_frames_that_do_not_fit_at_once_go_in_chunks(box: KernelBox, monkeypatch: pytest.MonkeyPatch) -> None:
    silhouettes = random_silhouettes(1, 17, 0)
    whole = box.engine(TINY, "fp32").embed(silhouettes)
    before = launches(box)
    monkeypatch.setattr(cuda_forms, "_ACTIVATIONS", 1 << 18)
    chunked = box.engine(TINY, "fp32").embed(silhouettes)
    np.testing.assert_allclose(chunked, whole, rtol=1e-4, atol=1e-5)
    assert launches(box) - before == 3 * (len(TINY.strips) + 1) + 1


def test_a_shape_that_comes_again_is_one_graph(box: KernelBox) -> None:
    engine = box.engine(TINY, "fp32")
    first, second = random_silhouettes(1, 2, 0), random_silhouettes(1, 2, 1)
    for silhouettes in (first, second, first, second):
        assert agrees(engine, engine.embed(silhouettes), silhouettes)
    # Piece by piece at the first time, into the graph at the second, and never again.
    assert launches(box) == 2 * (len(TINY.strips) + 2)
    assert box.gpu.calls["cuGraphLaunch"] == 3
    # Memory that moves takes the graphs with it.
    long = random_silhouettes(1, 9, 2)
    assert agrees(engine, engine.embed(long), long)
    assert box.gpu.graphs == set()
    assert agrees(engine, engine.embed(first), first)


def test_few_graphs_are_kept(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    engine.embed(random_silhouettes(1, 11, 0))  # the longest: memory moves no more
    for frames in range(1, 11):
        for _ in range(2):
            engine.embed(random_silhouettes(1, frames, 0))
    assert len(box.gpu.graphs) == 8


def test_without_cuda_python_it_launches_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch, host_library: Path
) -> None:
    with kernel_box(monkeypatch, host_library, cuda_python=None) as box:
        engine = box.engine(TINY, "fp32")
        silhouettes = random_silhouettes(1, 2, 0)
        for _ in range(3):
            assert agrees(engine, engine.embed(silhouettes), silhouettes)
        assert engine.description.endswith(
            ", fp32, layers, no CUDA graphs (cuda-python is not installed); as asked"
        )


def test_what_cannot_be_recorded_runs_all_the_same(box: KernelBox) -> None:
    box.gpu.failing["cuStreamEndCapture"] = CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    engine = box.engine(TINY, "fp32")
    silhouettes = random_silhouettes(1, 2, 0)
    for _ in range(3):
        assert agrees(engine, engine.embed(silhouettes), silhouettes)
    assert "no CUDA graphs (the GPU failed: cuStreamEndCapture gives" in engine.description


def test_threads_get_their_own_embeddings(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    walks = [random_silhouettes(1, frames, frames) for frames in (1, 2, 3, 4)]
    wanted = [letter(PLAIN, walk) for walk in walks]
    start = threading.Barrier(4)

    def work(index: int) -> list[NDArray[np.float32]]:
        start.wait()
        return [engine.embed(walks[index]) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        for index, found in enumerate(pool.map(work, range(4))):
            for one in found:
                np.testing.assert_allclose(one, wanted[index], atol=1e-4)
    assert box.gpu.busiest == 1


def test_closing_gives_everything_back(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    silhouettes = random_silhouettes(1, 2, 0)
    for _ in range(3):
        engine.embed(silhouettes)
    assert not box.gpu.empty
    engine.close()
    assert box.gpu.empty
    assert box.gpu.order[0] == "graph"
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.embed(silhouettes)


def test_an_engine_that_nobody_has_gives_everything_back(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    engine.embed(random_silhouettes(1, 2, 0))
    del engine
    assert box.gpu.empty


def test_a_gpu_that_is_too_small_says_so(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    box.gpu.capacity = 1 << 16
    with pytest.raises(MachineError, match=r"memory does not suffice .*embed fewer frames at a time"):
        engine.embed(random_silhouettes(1, 100, 0))
    box.gpu.capacity = 1 << 40
    silhouettes = random_silhouettes(1, 3, 0)
    assert agrees(engine, engine.embed(silhouettes), silhouettes)


@pytest.mark.parametrize("call", ["launch", "cuMemcpyHtoDAsync", "cuStreamSynchronize"])
def test_a_gpu_that_fails_is_one_line(box: KernelBox, call: str) -> None:
    engine = box.engine(PLAIN, "fp32")
    silhouettes = random_silhouettes(1, 2, 0)
    engine.embed(silhouettes)
    box.gpu.failing[call] = LogicError(f"{call} failed: an illegal memory access")
    with pytest.raises(MachineError, match="an illegal memory access") as caught:
        engine.embed(random_silhouettes(1, 3, 0))
    assert "\n" not in str(caught.value)
    engine.close()


def test_after_a_failure_nothing_is_built_upon_what_was_recorded(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    silhouettes = random_silhouettes(1, 2, 0)
    for _ in range(2):
        engine.embed(silhouettes)
    assert len(box.gpu.graphs) == 1
    box.gpu.failing["cuGraphLaunch"] = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(MachineError, match="cuGraphLaunch gives CUDA_ERROR_ILLEGAL_ADDRESS"):
        engine.embed(silhouettes)
    assert box.gpu.graphs == set()
    del box.gpu.failing["cuGraphLaunch"]
    assert agrees(engine, engine.embed(silhouettes), silhouettes)


def test_arrays_that_are_no_silhouettes(box: KernelBox) -> None:
    engine = box.engine(PLAIN, "fp32")
    with pytest.raises(SilhouetteError, match="must be uint8"):
        engine.embed(np.zeros((1, 2, 64, 44), np.float32))  # type: ignore[arg-type]
    with pytest.raises(SilhouetteError, match=r"sequence 1 must be \[frames, 64, 44\]"):
        engine.embed_many([np.zeros((1, 64, 44), np.uint8), np.zeros((0, 64, 44), np.uint8)])
    with pytest.raises(InputError, match="1 sequence or more"):
        engine.embed_many([])
