"""Engines that were built on this GPU: the letter's embeddings, in any shape, from any thread, every time."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.bundle import Bundle, make_bundle
from gaitedge.calibration.applying import find_quantization
from gaitedge.engines import embed_all, load_target
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.engines.tensorrt import TensorRTEngine
from gaitedge.errors import BundleError, InputError
from gaitedge.export.agreement import check_agreement, measure
from gaitedge.export.exporter import export, open_model, rebuild
from gaitedge.export.graph import LETTER, Plan
from gaitedge.export.tensorrt import BuildOptions, Range
from gaitedge.machine.tensorrt import free_memory, lacking, require_gpu
from gaitedge.manifest import Build, Target
from gaitedge.weights import shipped_weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.tensorrt,
    pytest.mark.timeout(1200),  # builds take minutes
    pytest.mark.skipif(lacking() is not None, reason=f"no TensorRT engine runs here: {lacking()}"),
]

LARGEST_BATCH, LONGEST = 8, 120
SHAPES = [(1, 1), (1, 30), (8, 30), (1, 120), (3, 17)]

Silhouettes = NDArray[np.uint8]
Embeddings = NDArray[np.float32]
Export = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The bundle of a plan, "naive" or "fused", in a precision; each is built once."""
    folder = tmp_path_factory.mktemp("engines")

    @functools.cache
    def build(plan: str, precision: str) -> Path:
        options = BuildOptions(
            batch=Range(1, 1, LARGEST_BATCH), frames=Range(1, 30, LONGEST), timing_cache=folder / "timings"
        )
        report = export(
            shipped_weights(),
            folder / f"{plan}-{precision}.gait",
            target="tensorrt",
            precision=precision,  # type: ignore[arg-type]
            plan={"naive": LETTER, "fused": Plan()}[plan],
            options=options,
            quantization=find_quantization(shipped_weights()) if precision == "int8" else None,
        )
        return report.path

    return build


@pytest.fixture
def path(exported: Export) -> Path:
    """The bundle of the fused FP16 engine."""
    return exported("fused", "fp16")


@pytest.fixture
def engine(path: Path) -> Any:
    with TensorRTEngine(*fp16(path), "to be tested") as engine:
        yield engine


def fp16(path: Path) -> tuple[Bundle, Target]:
    bundle = Bundle.open(path)
    return bundle, bundle.manifest.targets["tensorrt-fp16"]


def build_of(bundle: Bundle) -> Build:
    build = bundle.manifest.targets["tensorrt-fp16"].build
    assert build is not None
    return build


def walk(batch: int, frames: int, seed: int = 0) -> Silhouettes:
    return draw_silhouettes(batch, frames, np.random.default_rng(seed))


@functools.cache
def reference() -> Callable[[Silhouettes], Embeddings]:
    """The paper's letter: PyTorch's on this GPU where it can, else a CPU's engine."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            from gaitedge.model import GaitPart
            from gaitedge.weights import load_weights

            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            config, weights = load_weights(shipped_weights())
            model = GaitPart(config).load(weights).eval().cuda()

            def embed(silhouettes: Silhouettes) -> Embeddings:
                with torch.inference_mode():
                    return np.asarray(model(torch.from_numpy(silhouettes).cuda(), letter=True).cpu().numpy())

            return embed
    from gaitedge.export.agreement import letter

    bundle = open_model(shipped_weights())
    return letter(bundle.config, bundle.weights()).embed


def check_near(found: Embeddings, wanted: Embeddings, precision: str) -> None:
    check_agreement("the engine", precision, measure([found], [wanted], "another run"))


def stale(path: Path, out: Path, **changes: Any) -> Path:
    """A copy of a bundle whose manifest says something else of its engine."""
    bundle, target = fp16(path)
    changed = dataclasses.replace(target, build=dataclasses.replace(build_of(bundle), **changes))
    targets = {**bundle.manifest.targets, "tensorrt-fp16": changed}
    manifest = dataclasses.replace(bundle.manifest, targets=targets)
    return dataclasses.replace(bundle, manifest=manifest).save(out).path


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("plan", ["naive", "fused"])
def test_embeddings_are_those_of_the_papers_letter(exported: Export, plan: str, precision: str) -> None:
    bundle = Bundle.open(exported(plan, precision))
    engine = load_target(bundle, f"tensorrt-{precision}")
    assert (engine.name, engine.precision, engine.largest_batch) == ("tensorrt", precision, LARGEST_BATCH)
    for batch, frames in SHAPES:
        silhouettes = walk(batch, frames)
        found = engine.embed(silhouettes)
        assert found.shape == (batch, 16, 256)
        check_near(found, reference()(silhouettes), precision)


def test_fp16_is_not_fp32(exported: Export) -> None:
    """From TensorRT 10 on a graph that is FP32 gives an FP32 engine without a word."""
    silhouettes, engines = walk(2, 17), {}
    for precision in ("fp32", "fp16"):
        bundle = Bundle.open(exported("fused", precision))
        engines[precision] = load_target(bundle, f"tensorrt-{precision}").embed(silhouettes)
        target = bundle.manifest.targets[f"tensorrt-{precision}"]
        assert target.agreement is not None
        assert target.build is not None
        assert (set(target.build.layers.values()) == {"fp32"}) is (precision == "fp32")
    difference = np.abs(engines["fp16"] - engines["fp32"]).max() / np.abs(engines["fp32"]).max()
    assert 1e-5 < difference < 1e-2


def test_int8_runs_in_int8(exported: Export) -> None:
    """In the layers that the calibration quantises; the inspector says so."""
    build = Bundle.open(exported("fused", "int8")).manifest.targets["tensorrt-int8"].build
    assert build is not None
    assert list(build.layers.values()).count("int8") >= 6
    assert build.fell_back == ()


def test_a_repeated_shape_gives_what_it_first_gave(engine: TensorRTEngine) -> None:
    """The first run is enqueued, the second one recorded, and the others replay that CUDA graph."""
    walks = [walk(1, 30), walk(2, 9)]
    first = [engine.embed(one) for one in walks]
    for _ in range(4):
        for one, wanted in zip(walks, first, strict=True):
            check_near(engine.embed(one), wanted, "fp32")


def test_replayed_graphs_are_enqueued_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = [walk(1, 30, seed) for seed in range(5)]
    with TensorRTEngine(*fp16(path), "with graphs") as engine:
        if "no CUDA graphs" in engine.description:
            pytest.skip(engine.description)
        replayed = [engine.embed(one) for one in walks]
        assert "no CUDA graphs" not in engine.description  # nor given up on the way
    monkeypatch.setattr("gaitedge.engines.tensorrt_plan.find_driver", lambda: (None, "hidden by a test"))
    with TensorRTEngine(*fp16(path), "without") as engine:
        assert "no CUDA graphs (hidden by a test)" in engine.description
        enqueued = [engine.embed(one) for one in walks]
    np.testing.assert_array_equal(replayed, enqueued)


def test_timed_calls_give_what_plain_ones_give(engine: TensorRTEngine) -> None:
    for _ in range(3):
        for seed, shape in enumerate([(1, 30), (2, 9)]):
            silhouettes = walk(*shape, seed)
            embeddings, times = engine.embed_timed(silhouettes)
            check_near(embeddings, engine.embed(silhouettes), "fp32")
            pieces = (times.host_to_device, times.compute, times.device_to_host, times.enqueue)
            assert all(piece is not None and piece > 0 for piece in pieces)


def test_every_layer_of_the_engine_has_its_time(path: Path, engine: TensorRTEngine) -> None:
    silhouettes = walk(1, 30)
    before = engine.embed(silhouettes)
    found = engine.layer_times([silhouettes, silhouettes]).layers
    assert {layer.name for layer in found} & set(build_of(Bundle.open(path)).layers)
    assert sum(layer.ms for layer in found) > 0
    assert any(layer.nodes for layer in found)
    check_near(engine.embed(silhouettes), before, "fp32")


def test_shapes_may_change_with_every_call(engine: TensorRTEngine) -> None:
    """Buffers grow, graphs are given up, and a smaller shape sees nothing of a larger one before it."""
    shapes = [(1, 1), (8, 120), (1, 1), (2, 30), (8, 30), (2, 30), (2, 30), (1, 120), (3, 5), (1, 1)] * 2
    for seed, (batch, frames) in enumerate(shapes):
        silhouettes = walk(batch, frames, seed)
        check_near(engine.embed(silhouettes), reference()(silhouettes), "fp16")


def test_results_are_the_callers_own(engine: TensorRTEngine) -> None:
    first = engine.embed(walk(1, 30))
    kept = first.copy()
    for seed in range(1, 5):
        engine.embed(walk(1, 30, seed))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    check_near(engine.embed(walk(1, 30)), kept, "fp32")


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_threads_do_not_mix_up_each_others_walks(path: Path, in_flight: int) -> None:
    walks = [walk(1 + seed % 3, 3 + 10 * (seed % 5), seed) for seed in range(60)]
    with TensorRTEngine(*fp16(path), "to be shared", in_flight) as engine:
        alone = [engine.embed(one) for one in walks]
        with ThreadPoolExecutor(8) as pool:
            for found, wanted in zip(pool.map(engine.embed, walks * 3), alone * 3, strict=True):
                check_near(found, wanted, "fp32")


def test_sequences_of_any_length_run_in_batches_that_fit(engine: TensorRTEngine) -> None:
    walks = [walk(1, 20 + 10 * (seed % 2), seed)[0] for seed in range(21)]
    found = embed_all(engine, walks, batch=16)
    for one, embedding in zip(walks, found, strict=True):
        check_near(embedding, reference()(one[None])[0], "fp16")


@pytest.mark.parametrize(
    ("shape", "wider"),
    [((9, 30), "--batch 1:1:9 --frames 1:30:120"), ((1, 121), "--batch 1:1:8 --frames 1:30:121")],
)
def test_a_shape_outside_of_the_profile_is_refused(
    engine: TensorRTEngine, shape: tuple[int, int], wider: str
) -> None:
    with pytest.raises(InputError, match=f"this is a batch of {shape[0]} and {shape[1]} frames; .*{wider}"):
        engine.embed(walk(*shape))
    check_near(engine.embed(walk(1, 30)), reference()(walk(1, 30)), "fp16")  # and it goes on


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"device": "another GPU", "compute_capability": (5, 3)}, r"built for another GPU \(.*5\.3\)"),
        ({"versions": {"tensorrt": "8.5.2", "cuda": "11.4"}}, r"built with TensorRT 8\.5\.2, and this is"),
    ],
    ids=["device", "version"],
)
def test_an_engine_of_another_place_is_refused_and_rebuilt(
    path: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    old = stale(path, tmp_path / "old.gait", **changes)
    with pytest.raises(BundleError, match=f"{why}.*; run: gaitedge export {old} --rebuild"):
        load_target(Bundle.open(old), "tensorrt-fp16")
    (report,) = rebuild(old)
    assert report.path == old
    bundle = Bundle.open(old)
    assert build_of(bundle).options == build_of(Bundle.open(path)).options
    silhouettes = walk(2, 30)
    check_near(load_target(bundle, "tensorrt-fp16").embed(silhouettes), reference()(silhouettes), "fp16")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_plan_that_is_none_is_refused_in_one_line(path: Path, damage: str) -> None:
    bundle, target = fp16(path)
    build = build_of(bundle)
    plan = bundle.read(build.member)
    damaged = {"cut": plan[: len(plan) // 2], "flipped": b"\xff" + plan[1:], "empty": b""}[damage]
    broken = make_bundle(bundle.config, bundle.weights(), {build.member: damaged}, {})
    with pytest.raises(BundleError, match=r"TensorRT cannot load .* --rebuild") as caught:
        TensorRTEngine(broken, target, "to be refused")
    assert "\n" not in str(caught.value)


def test_an_engine_leaves_no_memory_behind(path: Path) -> None:
    device = require_gpu("this test")
    silhouettes = walk(LARGEST_BATCH, LONGEST)
    free = []
    for _ in range(12):
        with TensorRTEngine(*fp16(path), "for a moment") as engine:
            engine.embed(silhouettes)
        with pytest.raises(ValueError, match="closed"):
            engine.embed(silhouettes)
        free.append(free_memory(device))
    # One call's silhouettes and activations alone are more; what others take meanwhile is not ours.
    assert free[-1] > free[2] - (64 << 20)


def test_the_command_line_runs_it(path: Path) -> None:
    command = ["bench", str(path), "--engine", "tensorrt", "--batch", "1,8", "--seconds", "0.1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "gaitedge", *command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "TensorRT" in json.dumps(json.loads(done.stdout))
