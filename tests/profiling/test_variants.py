"""Forms of a bundle: what each one runs, and why another is not to be had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import SMALL, bundle_of
from networks import random_silhouettes

from gaitedge.bundle import FOLD_GRAPH, Bundle
from gaitedge.engines import load
from gaitedge.errors import InputError, MachineError
from gaitedge.export.graph import LETTER, Plan, build_graph
from gaitedge.profiling import variants as module
from gaitedge.profiling.variants import Variants, check_plan


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_of(SMALL).save(tmp_path / "walkers.gait")


@pytest.fixture
def variants(bundle: Bundle) -> Iterator[Variants]:
    with Variants(bundle) as found:
        yield found


def kinds(bundle: Bundle) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(bundle.read(FOLD_GRAPH)).graph.node]


def test_exported_is_the_bundle_itself(variants: Variants, bundle: Bundle) -> None:
    assert variants.find("exported", "auto", None) == (bundle.path, "auto", None)
    assert variants.find("exported", "cuda", "fp16") == (bundle.path, "cuda", "fp16")


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime"])
def test_forms_of_a_cpus_graph(engine: str, variants: Variants, bundle: Bundle) -> None:
    silhouettes = random_silhouettes(2, 5, 0)
    expected = load(bundle, "openvino", threads=1).embed(silhouettes)
    for name, plan in (("naive", LETTER), ("fused", Plan())):
        path, runtime, precision = variants.find(name, engine, None)
        assert (runtime, precision) == ("openvino" if engine == "auto" else engine, "fp32")
        made = Bundle.open(path)
        assert made.fingerprint == bundle.fingerprint
        graph = build_graph(bundle.config, bundle.weights(), plan).graph
        assert kinds(made) == [node.op_type for node in graph.node]
        embeddings = load(made, runtime, threads=1, precision=precision).embed(silhouettes)
        np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-4)
    assert len(kinds(Bundle.open(path))) < len(kinds(Bundle.open(variants.find("naive", engine, None)[0])))


def test_a_form_is_made_once_and_deleted_in_the_end(bundle: Bundle) -> None:
    with Variants(bundle) as variants:
        path = variants.find("naive", "openvino", None)[0]
        written = path.stat().st_mtime_ns
        assert variants.find("naive", "openvino", "fp32")[0] == path
        assert path.stat().st_mtime_ns == written
        assert variants.find("naive", "openvino", "bf16")[0] != path
    assert not path.parent.exists()


def test_the_precision_is_that_of_the_bundles_own_target(tmp_path: Path) -> None:
    with Variants(bundle_of(SMALL, "bf16").save(tmp_path / "walkers.gait")) as variants:
        path, _, precision = variants.find("naive", "openvino", None)
        assert precision == "bf16"
        assert list(Bundle.open(path).manifest.targets) == ["cpu-bf16"]


@pytest.mark.parametrize(
    ("plan", "engine", "precision", "said"),
    [
        ("naive", "cuda", None, "the CUDA kernels have one form"),
        ("plugin", "openvino", None, "plugins are TensorRT's, not openvino's"),
        ("naive", "openvino", "int8", "no naive form in int8 for openvino: the paper's letter has no int8"),
        ("fused", "onnxruntime", "int8", "has no calibration; run: gaitedge calibrate"),
        ("naive", "tensorrt", "fp8", "exported in fp32, fp16, bf16 or int8, not in fp8"),
    ],
)
def test_what_is_not_to_be_had(
    plan: str, engine: str, precision: str | None, said: str, variants: Variants
) -> None:
    for _ in range(2):
        with pytest.raises((InputError, MachineError), match=said):
            variants.find(plan, engine, precision)


def test_plugins_without_a_gpu(variants: Variants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "lacking", lambda: "there is no GPU")
    with pytest.raises(InputError, match="plugins are TensorRT's, not openvino's"):
        variants.find("plugin", "auto", None)


def test_plans_by_name() -> None:
    for name in ("exported", "naive", "fused", "plugin"):
        check_plan(name)
    with pytest.raises(InputError, match="unknown plan 'fast'; there are: exported, naive, fused, plugin"):
        check_plan("fast")
