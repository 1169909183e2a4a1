from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pycuda_fake
import pytest
from gpu_box import H200, GpuBox
from tensorrt_fake import fake_tensorrt

from gaitedge.engines import cuda_memory
from gaitedge.machine import tensorrt as machine
from gaitedge.machine.cuda_driver import CudaDriver


@pytest.fixture
def make_box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., GpuBox]]:
    """Makes the machine that code sees: its TensorRT's version, its driver, cuda-python's module or None."""
    boxes: list[GpuBox] = []

    def make(
        version: str = "10.3.0",
        driver: CudaDriver = CudaDriver("ok", "", (13, 0), (H200,)),  # noqa: B008  # frozen
        cuda_python: str | None = "cuda.bindings.driver",
    ) -> GpuBox:
        module, recorded = fake_tensorrt(version)
        box = GpuBox(recorded)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr(machine, "driver", lambda: driver)
        pycuda_fake.install(monkeypatch, box.gpu, cuda_python)
        for cached in (machine.log, cuda_memory._primary_context):
            cached.cache_clear()
        boxes.append(box)
        return box

    yield make
    for box in boxes:
        for engine in box.engines:
            engine.close()
        assert box.gpu.stack == [], "a context was pushed and not popped"
        assert box.gpu.retained <= 1, "the primary context is retained once"
    for cached in (machine.log, cuda_memory._primary_context):
        cached.cache_clear()


@pytest.fixture
def box(make_box: Callable[..., GpuBox]) -> GpuBox:
    """A machine with TensorRT 10.3, pycuda and cuda-python."""
    return make_box()
