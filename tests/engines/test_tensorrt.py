"""A plan runs where it fits, and elsewhere is refused by name with the command that builds it anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import SMALL
from gpu_box import PLAN, GpuBox
from networks import random_silhouettes
from tensorrt_fake import VERSIONS
from tensorrt_fake_engine import digest

from gaitedge.engines import Engine, embed_all, load
from gaitedge.engines.tensorrt import TensorRTEngine
from gaitedge.errors import (
    BundleError,
    GaitEdgeError,
    InputError,
    MachineError,
    MissingPackage,
    SilhouetteError,
)
from gaitedge.machine.cuda_driver import CudaDriver

MakeBox = Callable[..., GpuBox]
ORIN = {"device": "Orin", "compute_capability": (8, 7)}


def refusal(box: GpuBox, plan: Any = None, **changes: Any) -> GaitEdgeError:
    with pytest.raises(GaitEdgeError) as caught:
        box.engine(plan, **changes)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cuda_python", ["cuda.bindings.driver", None])
def test_every_version_gives_the_embeddings(make_box: MakeBox, version: str, cuda_python: str | None) -> None:
    engine: Engine = make_box(version, cuda_python=cuda_python).engine()
    for seed, shape in enumerate([(1, 1), (1, 30), (3, 7), (8, 300), (1, 30), (1, 30), (3, 7), (1, 1)]):
        silhouettes = random_silhouettes(*shape, seed)
        found = engine.embed(silhouettes)
        assert found.dtype == np.float32
        assert found.flags.owndata
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, digest(silhouettes, SMALL.parts, SMALL.embedding_dim))


def test_what_it_says_of_itself(make_box: MakeBox) -> None:
    bundle, target = make_box("8.6.1").bundle()
    engine = TensorRTEngine(bundle, target, "as asked")
    assert engine.description == "TensorRT 8.6.1 on NVIDIA H200, fp16, CUDA graphs; as asked"
    assert (engine.name, engine.precision, engine.largest_batch) == ("tensorrt", "fp16", 8)
    assert (engine.config, engine.fingerprint) == (SMALL, bundle.fingerprint)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"multiprocessors": 132}, ""),
        ({"device": "NVIDIA H100"}, " (built on NVIDIA H100)"),
        ({"device": "NVIDIA H100", "multiprocessors": 114}, " (built on NVIDIA H100, 114 multiprocessors)"),
        ({"multiprocessors": 66}, " (built on NVIDIA H200, 66 multiprocessors)"),
    ],
)
def test_another_model_of_the_same_compute_capability_is_told(
    box: GpuBox, changes: dict[str, Any], told: str
) -> None:
    assert box.engine(**changes).description.startswith(f"TensorRT 10.3.0 on NVIDIA H200, fp16{told}, CUDA")


def test_a_bundle_with_an_engine_runs_it(box: GpuBox) -> None:
    assert load(box.bundle()[0], "tensorrt").name == "tensorrt"


def test_sequences_of_one_length_go_in_batches_that_it_takes(box: GpuBox) -> None:
    ranges = [[1, 1, 64, 44], [1, 30, 64, 44], [3, 300, 64, 44]]
    engine = box.engine({"shapes": {"silhouettes": ranges}})
    sequences = [random_silhouettes(1, 5, seed)[0] for seed in range(8)]
    found = embed_all(engine, sequences)
    np.testing.assert_array_equal(found, digest(np.stack(sequences), SMALL.parts, SMALL.embedding_dim))


def test_an_array_is_the_callers_to_keep_and_to_change(box: GpuBox) -> None:
    engine = box.engine()
    first, second = random_silhouettes(1, 9, 0), random_silhouettes(1, 9, 1)
    kept = engine.embed(first)
    engine.embed(second)[:] = 0
    np.testing.assert_array_equal(kept, digest(first, SMALL.parts, SMALL.embedding_dim))
    np.testing.assert_array_equal(engine.embed(second), digest(second, SMALL.parts, SMALL.embedding_dim))


def test_without_a_gpu_tensorrt_is_not_touched(make_box: MakeBox) -> None:
    box = make_box(driver=CudaDriver("absent", "no libcuda.so.1"))
    error = refusal(box)
    assert isinstance(error, MachineError)
    assert "needs an NVIDIA GPU" in str(error)
    assert "no libcuda.so.1" in str(error)
    assert box.recorded.calls == []
    assert not box.gpu.calls


def test_a_pycuda_without_its_libraries(box: GpuBox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "pycuda.driver")
    monkeypatch.delitem(sys.modules, "pycuda")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda/__init__.py").touch()
    (tmp_path / "pycuda/driver.py").write_text("raise ImportError('libcurand.so.10: cannot open')")
    error = refusal(box)
    assert isinstance(error, MachineError)
    assert "needs pycuda, which is installed and cannot be imported: libcurand.so.10" in str(error)
    assert box.recorded.calls == []


def test_a_gpu_without_pycuda(box: GpuBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pycuda.driver")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    error = refusal(box)
    assert isinstance(error, MissingPackage)
    assert "pip install 'gaitedge[cuda]'" in str(error)
    assert box.recorded.calls == []


@pytest.mark.parametrize(
    ("version", "changes", "words"),
    [
        (
            "10.3.0",
            ORIN,
            "for Orin (compute capability 8.7), and this is NVIDIA H200 (compute capability 9.0); ",
        ),
        ("11.4.0.106", {"versions": {"tensorrt": "10.3.0"}}, "TensorRT 10.3.0, and this is 11.4.0.106; "),
        ("8.6.1", {"versions": {"tensorrt": "8.6.2"}}, "TensorRT 8.6.2, and this is 8.6.1; "),
        (
            "11.4.0.106",
            {"versions": {"tensorrt": "8.6.1"}, "options": {"version_compatible": True}},
            "TensorRT 8.6.1, which even a compatible plan cannot bring to 11.4.0.106; ",
        ),
    ],
)
def test_a_plan_of_another_machine_is_refused_by_name(
    make_box: MakeBox, version: str, changes: dict[str, Any], words: str
) -> None:
    box = make_box(version)
    error = refusal(box, **changes)
    assert isinstance(error, BundleError)
    assert str(error).startswith("unsaved bundle holds an engine that cannot run here: ")
    assert words in str(error)
    assert str(error).endswith("run: gaitedge export unsaved bundle --rebuild")
    assert box.recorded.calls == []  # TensorRT was not even asked


@pytest.mark.parametrize(
    "changes",
    [
        {**ORIN, "options": {"hardware_compatibility": "ampere+"}},
        {"versions": {"tensorrt": "10.3.0"}, "options": {"version_compatible": True}},
    ],
)
def test_a_plan_that_was_built_for_others_too_runs(make_box: MakeBox, changes: dict[str, Any]) -> None:
    flags = ["VERSION_COMPATIBLE"] if "versions" in changes else []
    engine = make_box("10.16.1.11").engine({"flags": flags}, **changes)
    assert engine.embed(random_silhouettes(1, 2, 0)).shape == (1, 4, 8)


def test_host_code_is_allowed_for_such_plans_only(box: GpuBox) -> None:
    error = refusal(box, {"flags": ["VERSION_COMPATIBLE"]}, options={"version_compatible": False})
    assert "the plan holds host code, which is not allowed" in str(error)


def test_a_plan_that_tensorrt_cannot_load(box: GpuBox) -> None:
    error = refusal(box, b"no plan")
    assert isinstance(error, BundleError)
    assert str(error) == (
        f"unsaved bundle: TensorRT cannot load {PLAN}: magicTag == kPLAN_MAGIC_TAG failed; "
        "run: gaitedge export unsaved bundle --rebuild"
    )


def test_a_gpu_without_room_for_the_plan(box: GpuBox, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(self: Any, serialized_engine: bytes) -> None:
        said = "Error Code 2: OutOfMemory (Requested size was 99 bytes.)"
        self.logger.log(sys.modules["tensorrt"].ILogger.Severity.ERROR, said)

    monkeypatch.setattr(sys.modules["tensorrt"].Runtime, "deserialize_cuda_engine", run_out)
    error = refusal(box)
    assert isinstance(error, MachineError)
    assert "OutOfMemory" in str(error)
    assert "--batch 1:1:1" in str(error)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"embeddings": ["OUTPUT", "FLOAT", [-1, 5, 8]]}, "output embeddings FLOAT [?, 5, 8]"),
        ({"embeddings": ["OUTPUT", "HALF", [-1, 4, 8]]}, "output embeddings HALF [?, 4, 8]"),
        ({"silhouettes": ["INPUT", "FLOAT", [-1, -1, 64, 44]]}, "input silhouettes FLOAT [?, ?, 64, 44]"),
        ({"silhouettes": ["INPUT", "UINT8", [-1, 64, 44]]}, "input silhouettes UINT8 [?, 64, 44]"),
        ({"more": ["INPUT", "FLOAT", [-1, 2]]}, "input more FLOAT [-1, 2]"),
    ],
)
def test_a_plan_of_another_network(box: GpuBox, tensors: dict[str, Any], words: str) -> None:
    error = refusal(box, {"tensors": tensors})
    assert isinstance(error, BundleError)
    assert f"{PLAN} maps" in str(error)
    assert words in str(error)
    assert "input silhouettes UINT8 [?, ?, 64, 44], output embeddings FLOAT [?, 4, 8]" in str(error)


@pytest.mark.parametrize(
    ("batch", "frames", "command"),
    [
        (9, 30, "--batch 1:1:9 --frames 2:30:300"),
        (1, 301, "--batch 1:1:8 --frames 2:30:301"),
        (1, 1, "--batch 1:1:8 --frames 1:30:300"),
    ],
)
def test_beyond_the_profile(box: GpuBox, batch: int, frames: int, command: str) -> None:
    ranges = [[1, 2, 64, 44], [1, 30, 64, 44], [8, 300, 64, 44]]
    engine = box.engine({"shapes": {"silhouettes": ranges}})
    with pytest.raises(InputError) as caught:
        engine.embed(np.zeros((batch, frames, 64, 44), np.uint8))
    assert str(caught.value) == (
        "unsaved bundle has an engine for a batch of 1 to 8 and 2 to 300 frames, and this is "
        f"a batch of {batch} and {frames} frames; run: "
        f"gaitedge export unsaved bundle --target tensorrt {command}"
    )
    assert "run" not in box.recorded.runs


def test_arrays_that_are_no_silhouettes(box: GpuBox) -> None:
    engine = box.engine()
    for bad in (np.zeros((1, 2, 64, 44), np.float32), np.zeros((2, 64, 44), np.uint8)):
        with pytest.raises(SilhouetteError):
            engine.embed(bad)  # type: ignore[arg-type]


def test_arguments_that_cannot_be(box: GpuBox) -> None:
    with pytest.raises(InputError, match="1 call in flight or more, not 0"):
        box.engine(in_flight=0)
