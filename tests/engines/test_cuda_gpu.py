"""The CUDA engine on this machine's GPU: the letter's embeddings, in any shape and from any thread."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from bundles import UNEVEN
from networks import random_weights

from gaitedge.bundle import Bundle
from gaitedge.calibration.applying import find_quantization
from gaitedge.engines import embed_all, load, load_target
from gaitedge.engines.cuda import CudaEngine, lacking
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.export.agreement import check_agreement, measure
from gaitedge.export.exporter import export, open_model
from gaitedge.machine.tensorrt import free_memory, require_gpu
from gaitedge.weights import save_weights, shipped_weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(lacking() is not None, reason=f"no CUDA kernel runs here: {lacking()}"),
]

PRECISIONS = ["fp32", "fp16", "int8"]
SHAPES = [(1, 1), (1, 30), (8, 30), (1, 120), (3, 17), (1, 30), (1, 30), (64, 30)]

Export = Callable[[str], Bundle]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The shipped weights in a precision, exported once: which holds the engine against the letter."""
    folder = tmp_path_factory.mktemp("bundles")

    @functools.cache
    def make(precision: str) -> Bundle:
        quantization = find_quantization(shipped_weights()) if precision == "int8" else None
        out = folder / f"{precision}.gait"
        export(shipped_weights(), out, "cuda", precision, quantization=quantization)  # type: ignore[arg-type]
        return Bundle.open(out)

    return make


def open_engine(bundle: Bundle, precision: str) -> CudaEngine:
    engine = load_target(bundle, f"cuda-{precision}")
    assert isinstance(engine, CudaEngine)
    return engine


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_shape_gives_the_letters_embeddings(exported: Export, precision: str) -> None:
    rng = np.random.default_rng(0)
    batches = [draw_silhouettes(*shape, rng) for shape in SHAPES]
    reference = load(open_model(shipped_weights()), precision="fp32")
    with open_engine(exported(precision), precision) as engine:
        for batch in batches:
            found = measure([engine.embed(batch)], [reference.embed(batch)], "")
            check_agreement(f"{engine.description} {batch.shape}", precision, found)
        walks = [draw_silhouettes(1, frames, rng)[0] for frames in (1, 30, 2, 17, 200, 30)]
        wanted = [reference.embed(walk[None]) for walk in walks]
        found = measure([embed_all(engine, walks, batch=4)], wanted, "")
        check_agreement(f"{engine.description} ragged", precision, found)


def test_auto_takes_it(exported: Export) -> None:
    bundle = exported("fp16")
    engine = load(bundle)
    assert engine.name == "cuda"
    assert "two launches" in engine.description


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_another_network_layer_by_layer(tmp_path: Path, precision: str) -> None:
    save_weights(tmp_path / "uneven.safetensors", UNEVEN, random_weights(UNEVEN, 0))
    report = export(
        tmp_path / "uneven.safetensors",
        tmp_path / "uneven.gait",
        "cuda",
        precision,  # type: ignore[arg-type]
    )
    assert "layers" in report.engine


def test_a_graph_gives_the_same_as_its_launches_one_by_one(exported: Export) -> None:
    walk = draw_silhouettes(2, 30, np.random.default_rng(1))
    with open_engine(exported("fp16"), "fp16") as engine:
        found = [engine.embed(walk) for _ in range(4)]
        for one in found[1:]:
            np.testing.assert_array_equal(one, found[0])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_timed_calls_and_the_layers_of_a_call(exported: Export, precision: str) -> None:
    walk = draw_silhouettes(8, 30, np.random.default_rng(4))
    with open_engine(exported(precision), precision) as engine:
        wanted = engine.embed(walk)
        for _ in range(3):
            embeddings, times = engine.embed_timed(walk)
            np.testing.assert_array_equal(embeddings, wanted)
            pieces = (times.host_to_device, times.compute, times.device_to_host, times.enqueue)
            assert all(piece is not None and piece > 0 for piece in pieces)
        layers = engine.layer_times([walk, walk]).layers
        assert all(layer.ms > 0 for layer in layers)
        assert [layer.name for layer in layers][-1] == "micro_motion"
        np.testing.assert_array_equal(engine.embed(walk), wanted)


def test_threads_get_their_own_embeddings(exported: Export) -> None:
    rng = np.random.default_rng(2)
    walks = [draw_silhouettes(1, frames, rng) for frames in (1, 7, 30, 64)]
    with open_engine(exported("fp16"), "fp16") as engine:
        wanted = [engine.embed(walk) for walk in walks]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(20):
                for found, want in zip(pool.map(engine.embed, walks), wanted, strict=True):
                    np.testing.assert_array_equal(found, want)


def test_it_gives_its_memory_back(exported: Export) -> None:
    device, walk = require_gpu("this test"), draw_silhouettes(64, 30, np.random.default_rng(3))
    free = []
    for _ in range(4):
        with open_engine(exported("fp32"), "fp32") as engine:
            engine.embed(walk)
        free.append(free_memory(device))
    assert free[-1] >= free[0] - (1 << 20)
