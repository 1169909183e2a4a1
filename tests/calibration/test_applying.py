"""From a calibration to an int8 graph that a CPU runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import random_silhouettes, random_weights
from small_walks import SMALL, WEIGHTS

from gaitedge.bundle import Bundle
from gaitedge.calibration.applying import find_quantization, quantization
from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.collecting import calibrate
from gaitedge.calibration.execution import executed
from gaitedge.engines import load, load_target
from gaitedge.errors import InputError
from gaitedge.export.agreement import cosines
from gaitedge.export.exporter import export
from gaitedge.export.plan import layer_names
from gaitedge.machine.cpu import cpu_features
from gaitedge.weights import save_weights, shipped_weights

HAS_INT8 = not cpu_features().isdisjoint({"avx512_vnni", "avx_vnni", "amx_int8"})


@pytest.fixture(scope="module")
def calibration(store: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibration") / "int8.json"
    calibrate(weights, store, out, threads=1)
    return out


def test_what_the_exporter_gets(calibration: Path) -> None:
    found = Calibration.load(calibration)
    ones = {layer: (1.0,) * len(found.factors["fconv1"]) for layer in ("fconv1",)}
    found = dataclasses.replace(found, biases={**ones, "fc": (0.5,)}, floating=(*found.floating, "fconv2"))
    found = dataclasses.replace(found, biases=ones)
    made = quantization(found, SMALL, WEIGHTS)
    assert made.scales == found.scales()
    assert "fconv2" not in dict(made.scales)
    assert [*made.biases] == ["fconv1"]
    assert made.pooled == found.ranges["mtb1.squeeze"] / 127
    assert Calibration.from_json(made.record) == found
    assert not np.array_equal(made.weights["frame.0"], WEIGHTS["frame.0"])  # equalised
    left = dataclasses.replace(found, floating=(*found.floating, "fconv1"))
    assert quantization(left, SMALL, WEIGHTS).biases == {}  # of a layer that is not quantised there is none


def test_a_bundle_runs_in_int8_and_keeps_its_calibration(
    weights: Path, calibration: Path, tmp_path: Path
) -> None:
    out = tmp_path / "box.gait"
    export(weights, out, "cpu")
    before = load(Bundle.open(out))
    report = export(out, out, "cpu", quantization=find_quantization(out, calibration))
    assert (report.precision, report.target) == ("int8", "cpu")
    export(out, out, "onnxruntime", "int8", quantization=find_quantization(out))  # the bundle's own
    bundle = Bundle.open(out)
    assert bundle.manifest.targets.keys() == {"cpu-fp32", "cpu-int8", "onnxruntime-int8"}
    assert bundle.read("calibration.json") == calibration.read_bytes()
    silhouettes = random_silhouettes(2, 9, 0)
    exact = before.embed(silhouettes)
    for name in ("cpu-int8", "onnxruntime-int8"):
        engine = load_target(bundle, name)
        assert (engine.precision, engine.fingerprint) == ("int8", before.fingerprint)
        found = engine.embed(silhouettes)
        assert cosines(found, exact).min() > 0.98
        assert np.abs(found - exact).max() > 1e-6 * np.abs(exact).max()  # it is not FP32
    assert load(bundle).precision == "int8"  # the fastest
    assert load(bundle, precision="fp32").precision == "fp32"


def test_a_bundle_keeps_one_calibration(
    store: Path, weights: Path, calibration: Path, tmp_path: Path
) -> None:
    """INT8 by another one would not be what the bundle says."""
    out, other = tmp_path / "box.gait", tmp_path / "other.json"
    calibrate(weights, store, other, "minmax", threads=1)
    export(weights, out, "cpu")
    export(out, out, "cpu", "int8", quantization=find_quantization(out, calibration))
    export(out, out, "onnxruntime", "int8", quantization=find_quantization(out, other))
    bundle = Bundle.open(out)
    assert bundle.manifest.targets.keys() == {"cpu-fp32", "onnxruntime-int8"}
    assert bundle.read("calibration.json") == other.read_bytes()


def test_onnx_runtime_is_spared_what_it_has_no_kernels_for(
    store: Path, weights: Path, tmp_path: Path
) -> None:
    made, out = tmp_path / "int8.json", tmp_path / "box.gait"
    calibrate(weights, store, made, temporal_head=True, threads=1)
    for target, quantised in (("cpu", True), ("onnxruntime", False)):
        export(weights, out, target, "int8", quantization=find_quantization(weights, made))  # type: ignore[arg-type]
        graph = onnx.load_from_string(Bundle.open(out).read(f"graphs/{target}-int8.onnx")).graph
        assert any(node.name == "mtb1.squeeze.input.quantize" for node in graph.node) == quantised


@pytest.mark.skipif(not HAS_INT8, reason="this processor has no INT8 instructions")
@pytest.mark.parametrize("target", ["cpu", "onnxruntime"])
def test_the_shipped_weights_run_in_int8_kernels(target: str, tmp_path: Path) -> None:
    """By the calibration that comes with them; read off the runtime's own execution graph."""
    source, out = shipped_weights(), tmp_path / "walkers.gait"
    export(source, out, target, "int8", quantization=find_quantization(source))  # type: ignore[arg-type]
    graph = Bundle.open(out).read(f"graphs/{target}-int8.onnx")
    ran = executed(graph, "openvino" if target == "cpu" else target)  # type: ignore[arg-type]
    assert {layer for layer, kind in ran.items() if kind == "int8"} == {f"fconv{n}" for n in range(1, 7)}


def test_int8_needs_a_calibration_of_these_weights(weights: Path, calibration: Path, tmp_path: Path) -> None:
    out = tmp_path / "box.gait"
    with pytest.raises(InputError, match="has no calibration; run: gaitedge calibrate"):
        find_quantization(weights)
    with pytest.raises(InputError, match="int8 needs a calibration of these weights"):
        export(weights, out, "cpu", "int8")
    with pytest.raises(InputError, match="fp32 has no use for a calibration"):
        export(weights, out, "cpu", "fp32", quantization=find_quantization(weights, calibration))
    other = tmp_path / "other.safetensors"
    save_weights(other, SMALL, random_weights(SMALL, 9))
    with pytest.raises(InputError, match=r"int8\.json: .*it is of other weights"):
        find_quantization(other, calibration)
    nothing = dataclasses.replace(Calibration.load(calibration), floating=tuple(layer_names(SMALL)))
    with pytest.raises(InputError, match="there is no int8 in it"):
        quantization(nothing, SMALL, WEIGHTS)
    assert not out.exists()
