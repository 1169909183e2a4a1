"""FP8 goes out alone, as an .onnx file: no engine of a CPU's computes it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from calibrations import calibrated
from networks import random_weights

from gaitedge.calibration.applying import quantization
from gaitedge.config import GaitPartConfig
from gaitedge.errors import GaitEdgeError, InputError
from gaitedge.export.agreement import TOLERANCES
from gaitedge.export.exporter import export
from gaitedge.weights import save_weights

SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)

pytest.importorskip("onnxruntime")


def test_what_tensorrt_will_compute_is_held_against_the_letter(tmp_path: Path) -> None:
    weights, source, out = random_weights(SMALL, 0), tmp_path / "mine.safetensors", tmp_path / "box.gait"
    save_weights(source, SMALL, weights)
    given = quantization(calibrated(SMALL, weights), SMALL, weights)
    report = export(source, tmp_path / "net.onnx", precision="fp8", quantization=given)
    assert (report.precision, report.engine.split()[:2]) == ("fp8", ["ONNX", "Runtime"])
    assert report.agreement is not None
    assert 1e-3 < report.agreement.relative_error <= TOLERANCES["fp8"].relative_error  # and it is fp8
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert onnx.TensorProto.FLOAT8E4M3FN in {constant.data_type for constant in graph.initializer}
    for target in ("cpu", "onnxruntime", "portable", "cuda"):
        with pytest.raises(GaitEdgeError, match=r"has fp32,.* not fp8"):
            export(source, out, target, "fp8", quantization=given)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"fp8 needs a calibration .* --precision fp8 --calibration int8\.json"
    ):
        export(source, out, precision="fp8")
    assert not out.exists()
