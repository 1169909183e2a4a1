from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tensorrt_fake import Recorded, fake_tensorrt

from gaitedge.export import tensorrt
from gaitedge.machine import tensorrt as machine
from gaitedge.machine.cuda_driver import CudaDevice, CudaDriver

CACHED = (machine.log, machine.driver, machine._load_library)
L4 = CudaDevice("NVIDIA L4", (8, 9), 24 << 30, 58)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Recorded]]:
    """Installs the fake of a version beside a GPU with 10 GiB free."""

    def put(version: str, driver: CudaDriver = CudaDriver("ok", "", (12, 6), (L4,))) -> Recorded:  # noqa: B008
        module, recorded = fake_tensorrt(version)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr(machine, "probe_driver", lambda: driver)
        monkeypatch.setattr(tensorrt, "free_memory", lambda _: 10 << 30)
        monkeypatch.setattr(machine, "_ROOT", tmp_path / "root")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
        for cached in CACHED:
            cached.cache_clear()
        return recorded

    yield put
    for cached in CACHED:
        cached.cache_clear()
