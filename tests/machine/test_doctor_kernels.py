"""What doctor says of the built kernels."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gaitedge.machine import doctor
from gaitedge.machine.doctor import Finding, Machine, examine
from gaitedge.machine.kernels import cache, fingerprint

NO_DRIVER = {"state": "absent", "detail": "no libcuda.so.1", "cuda": None, "devices": []}
ORIN = {"name": "Orin", "compute_capability": [8, 7], "memory": 16 << 30, "multiprocessors": 8}
GPU = {"state": "ok", "detail": "", "cuda": [12, 6], "devices": [ORIN]}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GAITEDGE_KERNELS", raising=False)


def look(root: Path, driver: dict[str, Any], topic: str = "cuda kernels") -> Finding:
    probe = (sys.executable, "-c", f"print({json.dumps(driver)!r})")
    machine = Machine(root=root, driver_probe=probe, interpreter=(sys.executable,), path=str(root))
    return next(finding for finding in examine(machine) if finding.topic == topic)


def build(made_of: str) -> Path:
    path = cache() / "libgaitedge_kernels.so"
    path.parent.mkdir(parents=True)
    path.write_bytes(f"gaitedge-build sources={made_of} targets=sm_87,compute_87".encode() + b"\0")
    return path


def test_none_where_there_is_no_gpu(tmp_path: Path) -> None:
    found = look(tmp_path, NO_DRIVER)
    assert (found.state, found.remedy) == ("absent", None)
    assert "without an NVIDIA GPU" in found.detail


def test_none_beside_a_gpu(tmp_path: Path) -> None:
    found = look(tmp_path, GPU)
    assert (found.state, found.remedy) == ("absent", "gaitedge plugins build")


def test_built_from_these_sources(tmp_path: Path) -> None:
    build(fingerprint())
    assert look(tmp_path, GPU) == Finding(
        "cuda kernels", "ok", "libgaitedge_kernels.so for sm_87, compute_87"
    )


def test_built_from_others(tmp_path: Path) -> None:
    path = build("0" * 64)
    found = look(tmp_path, GPU)
    assert (found.state, found.remedy) == ("broken", "gaitedge plugins build")
    assert found.detail == f"{path} was built from other sources"


@pytest.mark.parametrize("made_of", [None, "0" * 64])
def test_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_of: str | None) -> None:
    build(made_of or fingerprint())
    driver = ModuleType("pycuda.driver")
    for name, module in {"pycuda": ModuleType("pycuda"), "pycuda.driver": driver}.items():
        module.__spec__ = ModuleSpec(name, None, origin=f"{name}.py")
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(doctor._TRIALS, "pycuda", "print('ready')")
    found = look(tmp_path, GPU, "engine")
    if importlib.util.find_spec("openvino") is not None:
        gpu = "cuda runs bundles that hold an engine for this GPU, openvino the others"
        assert found.detail == ("openvino runs bundles here" if made_of else gpu)
