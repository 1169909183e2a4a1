"""The frame network alone gives the letter's part features, on every engine that has it."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from bundles import PAPER, SMALL, UNEVEN
from kernel_box import KernelBox, kernel_box, launches
from networks import random_silhouettes, random_weights
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, FRAMES_GRAPH, Bundle, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import FRAMES_A_CALL, blobs
from gaitedge.engines.cuda import CudaFrames
from gaitedge.engines.frames import load_frames
from gaitedge.errors import BundleError, InputError, MachineError, MissingPackage, SilhouetteError
from gaitedge.export.graph import build_frame_graph, build_graph
from gaitedge.machine.cpu import cpu_features
from gaitedge.manifest import Target

TINY = GaitPartConfig(channels=(8, 16), strips=(1, 2, 4, 8), parts=4, embedding_dim=8)
HAS_BF16 = not cpu_features().isdisjoint({"avx512_bf16", "amx_bf16"})


def bundle_of(
    config: GaitPartConfig, target: str = "cpu-fp32", engine: str = "openvino", seed: int = 0
) -> Bundle:
    """A bundle, in memory, with the graph of the frame network."""
    weights = random_weights(config, seed)
    parts = {FRAMES_GRAPH: build_frame_graph(config, weights).SerializeToString()}
    return make_bundle(config, weights, parts, {target: Target(engine, target.rpartition("-")[2])})


def letter(config: GaitPartConfig, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
    torch = pytest.importorskip("torch")
    from gaitedge.model import GaitPart

    torch.set_num_threads(1)
    with torch.inference_mode():
        model = GaitPart(config).load(random_weights(config, 0))
        return np.asarray(model.part_features(torch.from_numpy(silhouettes)[None], letter=True)[0].numpy())


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(params=["openvino", "onnxruntime"])
def name(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.mark.parametrize("config", [PAPER, SMALL, UNEVEN], ids=["paper", "small", "uneven"])
def test_part_features_are_those_of_the_papers_letter(name: str, config: GaitPartConfig) -> None:
    engine = load_frames(bundle_of(config), name, threads=1)
    for seed, frames in enumerate((1, 7, 2)):
        silhouettes = random_silhouettes(1, frames, seed)[0]
        found = engine.part_features(silhouettes)
        assert (found.shape, found.dtype) == ((frames, config.parts, config.features), np.float32)
        assert relative_error(found, letter(config, silhouettes)) < 1e-5
    assert (engine.name, engine.config, engine.precision) == (name, config, "fp32")
    assert engine.fingerprint == bundle_of(config).fingerprint
    assert engine.description.endswith(", fp32, 1 thread; as asked")


def test_any_number_of_frames_each_for_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_frames(bundle_of(SMALL), name, threads=1)
    silhouettes = random_silhouettes(1, 11, 0)[0]
    whole = engine.part_features(silhouettes)
    alone = np.concatenate([engine.part_features(frame[None]) for frame in silhouettes])
    np.testing.assert_allclose(whole, alone, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(f"gaitedge.engines.{name}.FRAMES_A_CALL", 4)
    np.testing.assert_allclose(
        engine.part_features(silhouettes[::2][:5]), whole[::2][:5], rtol=1e-5, atol=1e-5
    )
    assert FRAMES_A_CALL > 11
    strided = np.asfortranarray(silhouettes[::-1])
    np.testing.assert_allclose(engine.part_features(strided), whole[::-1], rtol=1e-5, atol=1e-5)


def test_several_threads_do_not_mix(name: str) -> None:
    engine = load_frames(bundle_of(SMALL), name, threads=1)
    walks = [random_silhouettes(1, 1 + seed % 3, seed)[0] for seed in range(12)]
    expected = [engine.part_features(walk) for walk in walks]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(engine.part_features, walks), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_what_is_no_silhouette_is_refused(name: str) -> None:
    engine = load_frames(bundle_of(SMALL), name, threads=1)
    for wrong in (
        np.zeros((64, 44), np.uint8),
        np.zeros((0, 64, 44), np.uint8),
        np.zeros((1, 64, 64), np.uint8),
    ):
        with pytest.raises(SilhouetteError, match=r"must be \[frames, 64, 44\], none of them 0"):
            engine.part_features(wrong)
    with pytest.raises(SilhouetteError, match="must be uint8, 0 to 255, not float32"):
        engine.part_features(np.zeros((1, 64, 44), np.float32))  # type: ignore[arg-type]


def test_a_compiled_frame_network_is_kept_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    silhouettes, kept = random_silhouettes(1, 3, 0)[0], tmp_path / "gaitedge" / "openvino"

    def start(seed: int) -> NDArray[np.float32]:
        features = load_frames(bundle_of(SMALL, seed=seed), "openvino", 1).part_features(silhouettes)
        gc.collect()
        return features

    expected, other = start(0), start(1)
    assert len(list(kept.iterdir())) == 2
    np.testing.assert_array_equal(start(0), expected)
    assert len(list(kept.iterdir())) == 2
    # Under the key of one the other's blob: whoever takes it gives itself away.
    blob = max(kept.iterdir(), key=lambda path: path.stat().st_mtime)
    foreign = next(blobs.recall(path.stem) for path in kept.iterdir() if path != blob)
    assert foreign is not None
    blobs.keep(blob.stem, foreign)
    np.testing.assert_array_equal(start(0), other)


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    int8 = load_frames(bundle_of(SMALL, "cpu-int8"), "openvino", 1)
    assert int8.precision == "fp32"
    assert int8.description.endswith("; as asked; not int8 as exported: that graph is of the whole network")
    with pytest.raises(MachineError, match="openvino runs the frame network in fp32, bf16, not in int8"):
        load_frames(bundle_of(SMALL, "cpu-int8"), "openvino", precision="int8")
    monkeypatch.setattr("gaitedge.engines.openvino.cpu_features", lambda: frozenset({"avx2"}))
    lacking = load_frames(bundle_of(SMALL, "cpu-bf16"), "openvino", 1)
    assert (lacking.precision, "no BF16 instructions" in lacking.description) == ("fp32", True)
    with pytest.raises(MachineError, match="it cannot run in bf16; use fp32"):
        load_frames(bundle_of(SMALL), "openvino", precision="bf16")


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no BF16 instructions")
def test_bf16_is_near_and_is_not_fp32() -> None:
    pytest.importorskip("openvino")
    silhouettes = random_silhouettes(1, 5, 0)[0]
    engine = load_frames(bundle_of(PAPER, "cpu-bf16"), "openvino", 1)
    assert engine.precision == "bf16"
    exact = load_frames(bundle_of(PAPER), "openvino", 1, "fp32").part_features(silhouettes)
    assert 1e-4 < relative_error(engine.part_features(silhouettes), exact) < 3e-2


def test_auto_takes_the_engine_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    assert load_frames(bundle_of(SMALL)).name == "openvino"
    assert load_frames(bundle_of(SMALL, "onnxruntime-fp32", "onnxruntime")).name == "onnxruntime"
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    engine = load_frames(bundle_of(SMALL))
    assert (engine.name, "OpenVINO is not installed" in engine.description) == ("onnxruntime", True)
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingPackage, match="needs OpenVINO or ONNX Runtime"):
        load_frames(bundle_of(SMALL))


def test_impossible_wishes_are_one_line(name: str) -> None:
    bundle = bundle_of(SMALL)
    with pytest.raises(
        InputError, match="unknown engine 'tensorrt'; there are: auto, openvino, onnxruntime, cuda"
    ):
        load_frames(bundle, "tensorrt")
    with pytest.raises(InputError, match="unknown precision 'fp12'"):
        load_frames(bundle, name, precision="fp12")
    with pytest.raises(InputError, match="1 thread or more, not 0"):
        load_frames(bundle, name, threads=0)
    with pytest.raises(BundleError, match="holds no weights for the CUDA kernels; run: gaitedge export"):
        load_frames(bundle, "cuda")
    weights = random_weights(SMALL, 0)
    graph = build_graph(SMALL, weights).SerializeToString()
    old = make_bundle(SMALL, weights, {FOLD_GRAPH: graph}, {})
    with pytest.raises(BundleError, match=r"holds no graphs/frames\.onnx; export it again"):
        load_frames(old, name)
    wrong = make_bundle(SMALL, weights, {FRAMES_GRAPH: graph}, {})
    with pytest.raises(BundleError, match=r"graphs/frames\.onnx maps .*, its manifest's network"):
        load_frames(wrong, name)


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, host_library: Path) -> Iterator[KernelBox]:
    with kernel_box(monkeypatch, host_library) as found:
        yield found


def frames_on(box: KernelBox, config: GaitPartConfig, precision: str) -> CudaFrames:
    engine = load_frames(box.bundle(config, precision)[0])
    assert isinstance(engine, CudaFrames)
    box.engines.add(engine)  # type: ignore[arg-type]  # closed with the box
    return engine


@pytest.mark.parametrize(("config", "precision"), [(TINY, "fp32"), (TINY, "fp16"), (UNEVEN, "fp32")])
def test_the_kernels_give_the_letters_part_features(
    box: KernelBox, config: GaitPartConfig, precision: str
) -> None:
    engine = frames_on(box, config, precision)
    for frames in (1, 3, 2, 3, 3, 1):
        silhouettes = random_silhouettes(1, frames, frames)[0]
        found = engine.part_features(silhouettes)
        assert (found.dtype, found.flags.owndata) == (np.float32, True)
        assert relative_error(found, letter(config, silhouettes)) < (1e-5 if precision == "fp32" else 5e-3)
    assert engine.description.startswith(f"CUDA kernels on NVIDIA H200, {precision}, layers")


def test_of_the_papers_network_it_is_the_first_launch_of_two(box: KernelBox) -> None:
    engine = frames_on(box, PAPER, "fp16")
    silhouettes = random_silhouettes(1, 2, 0)[0]
    assert relative_error(engine.part_features(silhouettes), letter(PAPER, silhouettes)) < 5e-3
    assert launches(box) == 1
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.part_features(silhouettes)
