"""When the CUDA engine is taken, and what it says where it cannot be: one line, and what to do."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import PAPER
from kernel_box import KernelBox, kernel_box
from networks import random_silhouettes, random_weights

from gaitedge.bundle import make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import cuda, load, load_target
from gaitedge.engines.cuda_payload import Payload
from gaitedge.errors import BundleError, GaitEdgeError, MachineError, MissingPackage
from gaitedge.export.cuda import pack
from gaitedge.machine import kernels
from gaitedge.machine.cuda_driver import CudaDriver
from gaitedge.manifest import Manifest

PLAIN = GaitPartConfig(channels=(8,), strips=(2, 1), parts=3, templates=(1,), embedding_dim=5)


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, host_library: Path) -> Iterator[KernelBox]:
    with kernel_box(monkeypatch, host_library) as found:
        yield found


def refusal(make: Callable[[], object]) -> GaitEdgeError:
    with pytest.raises(GaitEdgeError) as caught:
        make()
    assert "\n" not in str(caught.value)
    return caught.value


def test_auto_takes_it_where_the_bundle_has_it(box: KernelBox) -> None:
    bundle, _ = box.bundle(PLAIN, "fp16")
    with load(bundle) as engine:  # type: ignore[attr-defined]
        assert engine.name == "cuda"
        assert engine.description.endswith("; the bundle has weights for the kernels")
        by_name = load_target(bundle, "cuda-fp16")
        silhouettes = random_silhouettes(1, 2, 0)
        np.testing.assert_array_equal(by_name.embed(silhouettes), engine.embed(silhouettes))


def test_tensorrt_comes_first_where_it_can_run(box: KernelBox, monkeypatch: pytest.MonkeyPatch) -> None:
    from gaitedge import engines

    bundle, target = box.bundle(PLAIN, "fp16")
    other = dataclasses.replace(target, engine="tensorrt", packed=None)
    both = make_bundle(
        PLAIN,
        bundle.weights(),
        {name: bundle.read(name) for name in bundle.manifest.members if "/" in name},
        {"cuda-fp16": target, "tensorrt-fp16": other},
    )
    monkeypatch.setattr(engines, "lacking", lambda: None)
    monkeypatch.setattr(engines, "_tensorrt", lambda bundle, precision, why, in_flight: f"tensorrt, {why}")
    assert load(both) == "tensorrt, the bundle has an engine for this GPU"
    monkeypatch.setattr(engines, "lacking", lambda: "TensorRT is not installed")
    with load(both) as engine:  # type: ignore[attr-defined]
        assert engine.description.endswith(
            "; the bundle has weights for the kernels; not TensorRT: TensorRT is not installed"
        )


def test_without_a_gpu_a_cpu_runs_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    with kernel_box(monkeypatch, None, CudaDriver("absent", "no libcuda.so.1")) as box:
        bundle, _ = box.bundle(PLAIN, "fp16")
        engine = load(bundle)
        assert engine.name in ("openvino", "onnxruntime")
        assert engine.description.endswith("; not the CUDA kernels: no NVIDIA GPU can be used")


def test_nothing_is_touched_before_the_driver_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with kernel_box(monkeypatch, None, CudaDriver("absent", "no libcuda.so.1")) as box:
        monkeypatch.setattr(kernels, "find_library", lambda: pytest.fail("looked for the library"))
        bundle, _ = box.bundle(PLAIN, "fp16")
        error = refusal(lambda: load(bundle, "cuda"))
        assert isinstance(error, MachineError)
        assert str(error).startswith("the CUDA engine needs an NVIDIA GPU")
        assert not box.gpu.calls


def test_without_the_library_it_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(kernels.VARIABLE, str(tmp_path))
    with kernel_box(monkeypatch, None) as box:
        bundle, _ = box.bundle(PLAIN, "fp16")
        error = refusal(lambda: load(bundle, "cuda"))
        assert isinstance(error, MachineError)
        assert "gaitedge plugins build" in str(error)
        missing = cuda.lacking()
        assert missing is not None
        assert "gaitedge plugins build" in missing


def test_without_pycuda(box: KernelBox, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, _ = box.bundle(PLAIN, "fp16")
    monkeypatch.delitem(sys.modules, "pycuda.driver")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    error = refusal(lambda: load(bundle, "cuda"))
    assert isinstance(error, MissingPackage)
    assert "pip install 'gaitedge[cuda]'" in str(error)


def test_a_bundle_without_its_weights_names_the_export(box: KernelBox) -> None:
    bundle, _ = box.bundle(PLAIN, "fp16")
    error = refusal(lambda: load(bundle, "cuda", precision="fp32"))
    assert str(error) == (
        "unsaved bundle holds no weights for the CUDA kernels in fp32; "
        "run: gaitedge export unsaved bundle --target cuda --precision fp32"
    )
    target = bundle.manifest.targets["cuda-fp16"]
    with pytest.raises(BundleError, match="holds no weights for the CUDA kernels; run: gaitedge export"):
        cuda.CudaEngine(bundle, dataclasses.replace(target, packed=None), "as asked")


def _packed(**changes: Any) -> bytes:
    payload = pack(PLAIN, random_weights(PLAIN, 0), "fp16")
    tensors = {**payload.tensors, **changes.pop("tensors", {})}
    payload = dataclasses.replace(
        payload, **changes, tensors={name: array for name, array in tensors.items() if array is not None}
    )
    return payload.to_bytes()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is not readable"),
        (b"\xff" * 100, "it is not readable"),
        (_packed()[:-1], "it is not readable"),
        (_packed(fingerprint="0" * 64), "it was packed for another model or precision"),
        (_packed(precision="fp32"), "it was packed for another model or precision"),
        (_packed(form="two launches"), "its tensors are not those of this network: frame.0, frame.1"),
        (_packed(form="three launches"), "it has the form 'three launches' in fp16"),
        (_packed(tensors={"fc": None}), "its tensors are not those of this network: fc"),
        (_packed(tensors={"fc": np.zeros((3, 8, 4), np.float16)}), "its fc is float16[3, 8, 4]"),
        (_packed(tensors={"fc": np.zeros((3, 8, 5), np.float32)}), "its fc is float32[3, 8, 5]"),
    ],
)
def test_weights_that_cannot_be_run_are_packed_anew(box: KernelBox, data: bytes, words: str) -> None:
    error = refusal(lambda: box.engine(PLAIN, "fp16", data))
    assert isinstance(error, BundleError)
    assert str(error).startswith(f"unsaved bundle: engines/cuda-fp16.safetensors cannot be run: {words}")
    assert str(error).endswith("; run: gaitedge export unsaved bundle --target cuda --precision fp16")
    assert box.gpu.memory == {}


def test_another_format_is_refused(box: KernelBox) -> None:
    data = _packed()
    length = int.from_bytes(data[:8], "little")
    newer = data[8 : 8 + length].replace(b'\\"format\\": 1', b'\\"format\\": 7')
    assert newer != data[8 : 8 + length]
    error = refusal(lambda: box.engine(PLAIN, "fp16", data[:8] + newer + data[8 + length :]))
    assert "its format is 7, and this GaitEdge runs 1; run: gaitedge export" in str(error)


def test_a_payload_comes_back_as_it_was() -> None:
    for config, precision in ((PLAIN, "fp32"), (PLAIN, "fp16"), (PAPER, "fp16")):
        payload = pack(config, random_weights(config, 0), precision)
        again = Payload.read(payload.to_bytes(), config, payload.fingerprint, precision)
        assert (again.form, again.precision) == (payload.form, precision)
        assert again.tensors.keys() == payload.tensors.keys()
        for name, array in payload.tensors.items():
            assert again.tensors[name].dtype == array.dtype
            np.testing.assert_array_equal(again.tensors[name], array)


def test_the_manifest_says_what_it_was_checked_on(box: KernelBox) -> None:
    manifest = box.bundle(PLAIN, "fp16")[0].manifest
    again = Manifest.from_json(manifest.to_json().encode())
    assert again == manifest
    values = json.loads(manifest.to_json())
    for name, bad in (("device", "a\nb"), ("member", 3), ("versions", {"cuda": None})):
        broken = json.loads(json.dumps(values))
        broken["targets"]["cuda-fp16"]["packed"][name] = bad
        with pytest.raises(BundleError):
            Manifest.from_json(json.dumps(broken).encode())
