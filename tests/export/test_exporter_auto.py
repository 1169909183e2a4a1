"""What `--target auto` takes, and that it says why it leaves a GPU aside."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from commands import succeed
from networks import random_weights

from gaitedge.config import GaitPartConfig
from gaitedge.export import exporter
from gaitedge.export.exporter import export
from gaitedge.machine import tensorrt as machine
from gaitedge.machine.cuda_driver import CudaDevice, CudaDriver
from gaitedge.weights import save_weights

SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)
L4 = CudaDevice("NVIDIA L4", (8, 9), 24 << 30, 58)
FINE = CudaDriver("ok", "", (13, 0), (L4,))

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")


@pytest.mark.parametrize(
    ("driver", "hidden", "missed"),
    [
        (FINE, "tensorrt", "NVIDIA L4 is not used, for TensorRT is not installed"),
        (FINE, "pycuda", "NVIDIA L4 is not used, for pycuda is not installed"),
        (CudaDriver("broken", "cuInit: error 803"), "", "the driver is broken: cuInit: error 803"),
        (CudaDriver("broken", "cuInit: error 803"), "tensorrt", "the driver is broken: cuInit: error 803"),
        (CudaDriver("ok", "the driver has no device"), "", None),
        (CudaDriver("absent", "no libcuda.so.1"), "tensorrt", None),
    ],
)
def test_a_gpu_that_is_left_aside_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: CudaDriver, hidden: str, missed: str | None
) -> None:
    find = importlib.util.find_spec

    def pretend(name: str, package: str | None = None) -> ModuleSpec | None:
        if name in ("tensorrt", "pycuda"):
            return None if name == hidden else ModuleSpec(name, None)
        return find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", pretend)
    for module in (machine, exporter):
        monkeypatch.setattr(module, "driver", lambda: driver)
    source, out = tmp_path / "weights.safetensors", tmp_path / "box.gait"
    save_weights(source, SMALL, random_weights(SMALL, 0))
    report = export(source, out)
    assert (report.target, report.missed) == ("cpu", missed)
    assert export(source, out, target="cpu").missed is None  # as asked
    told = succeed("export", source, out).stdout
    assert [line for line in told.splitlines() if "for the GPU" in line] == (
        [f"no engine for the GPU: {missed}; run: gaitedge doctor"] if missed else []
    )
