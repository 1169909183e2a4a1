"""A machine with a GPU and the kernels, and no TensorRT: tests/pycuda_fake.py over the kernels' host build.

The engine's own code runs, and the kernels' own sources; what is pretended lies between them.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pycuda_fake
import pytest
from gpu_box import H200
from host_build import Host
from networks import random_weights
from pycuda_fake import FakeGpu

from gaitedge.bundle import FOLD_GRAPH, Bundle, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import cuda, cuda_memory
from gaitedge.engines.cuda import CudaEngine
from gaitedge.export.cuda import pack
from gaitedge.export.graph import build_graph
from gaitedge.machine import kernels
from gaitedge.machine import tensorrt as machine
from gaitedge.machine.cuda_driver import CudaDriver
from gaitedge.manifest import Packed, Target


class QueuedHost(Host):
    """Its launches wait in the fake's streams, as a GPU's do: recorded, or run when somebody waits."""

    def __init__(self, path: Path, gpu: FakeGpu) -> None:
        super().__init__(path)
        self._gpu = gpu

    def launch(self, arguments: ctypes.Structure, stream: int = 0) -> None:
        self._gpu.call("launch")
        kept = type(arguments).from_buffer_copy(arguments)
        self._gpu.streams[stream].put(lambda: self.run(kept))

    def run(self, arguments: ctypes.Structure) -> None:
        super().launch(arguments)


@dataclass
class KernelBox:
    """The GPU; engines made with engine() are closed with the box."""

    gpu: FakeGpu = field(default_factory=FakeGpu)
    engines: weakref.WeakSet[CudaEngine] = field(default_factory=weakref.WeakSet)

    def bundle(
        self, config: GaitPartConfig, precision: str, data: bytes | None = None
    ) -> tuple[Bundle, Target]:
        """A bundle with packed weights of seed 0, and that target. data: in place of what pack gives."""
        weights, member = random_weights(config, 0), f"engines/cuda-{precision}.safetensors"
        data = pack(config, weights, precision).to_bytes() if data is None else data
        packed = Packed(member, H200.name, H200.compute_capability, {"cuda": "13.0"})
        target = Target("cuda", precision, packed=packed)
        graph = build_graph(config, weights).SerializeToString()
        parts = {FOLD_GRAPH: graph, member: data}
        return make_bundle(config, weights, parts, {f"cuda-{precision}": target}), target

    def engine(self, config: GaitPartConfig, precision: str, data: bytes | None = None) -> CudaEngine:
        """The engine of such a bundle."""
        engine = CudaEngine(*self.bundle(config, precision, data), "as asked")
        self.engines.add(engine)
        return engine


@contextmanager
def kernel_box(
    monkeypatch: pytest.MonkeyPatch,
    library: Path | None,
    driver: CudaDriver = CudaDriver("ok", "", (13, 0), (H200,)),  # noqa: B008  # frozen
    cuda_python: str | None = "cuda.bindings.driver",
) -> Iterator[KernelBox]:
    """Make that machine what the code sees. library: the kernels' host build; None where it is not built."""
    box = KernelBox()
    monkeypatch.setattr(machine, "driver", lambda: driver)
    pycuda_fake.install(monkeypatch, box.gpu, cuda_python)
    if library is not None:
        monkeypatch.setattr(kernels, "find_library", lambda: library)
        monkeypatch.setattr(cuda, "Library", lambda path: QueuedHost(path, box.gpu))
    cuda_memory._primary_context.cache_clear()
    try:
        yield box
        for engine in box.engines:
            engine.close()
        assert box.gpu.stack == [], "a context was pushed and not popped"
        assert box.gpu.retained <= 1, "the primary context is retained once"
    finally:
        cuda_memory._primary_context.cache_clear()


def launches(box: KernelBox) -> int:
    """Kernels that were launched one by one so far, into a graph too."""
    return int(box.gpu.calls["launch"])
