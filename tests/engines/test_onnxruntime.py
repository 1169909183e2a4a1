"""ONNX Runtime: FP32 only, and the engine of bundles that were exported for it."""

from __future__ import annotations

import pytest
from bundles import SMALL, bundle_of

from gaitedge.engines import load, load_target
from gaitedge.errors import MachineError

pytest.importorskip("onnxruntime")


def test_it_has_no_bf16() -> None:
    with pytest.raises(MachineError, match="onnxruntime runs in fp32, int8, not in bf16"):
        load(bundle_of(SMALL), "onnxruntime", precision="bf16")
    engine = load(bundle_of(SMALL, "bf16"), "onnxruntime")
    assert engine.precision == "fp32"
    assert "fp32 (not bf16 as exported: ONNX Runtime has no BF16 on the CPU)" in engine.description


def test_a_bundle_that_was_exported_for_it_alone_runs_on_it() -> None:
    bundle = bundle_of(SMALL, target="onnxruntime", engine="onnxruntime")
    engine = load(bundle)
    assert engine.name == "onnxruntime"
    assert engine.description.endswith("; as exported")
    assert load_target(bundle, "onnxruntime-fp32").name == "onnxruntime"
