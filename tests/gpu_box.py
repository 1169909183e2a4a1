"""A machine with a GPU as the fakes of tests/ make it, and bundles that hold engines for it."""

from __future__ import annotations

import json
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bundles import SMALL
from networks import random_silhouettes, random_weights
from numpy.typing import NDArray
from pycuda_fake import FakeGpu
from tensorrt_fake import Recorded
from tensorrt_fake_engine import digest

from gaitedge.bundle import Bundle, make_bundle
from gaitedge.engines.tensorrt import TensorRTEngine
from gaitedge.machine.cuda_driver import CudaDevice
from gaitedge.manifest import Build, Target

PLAN = "engines/tensorrt-fp16.plan"
H200 = CudaDevice("NVIDIA H200", (9, 0), 139 << 30, 132)


@dataclass
class GpuBox:
    """The GPU, and what its TensorRT was told."""

    recorded: Recorded
    gpu: FakeGpu = field(default_factory=FakeGpu)
    engines: weakref.WeakSet[TensorRTEngine] = field(default_factory=weakref.WeakSet)

    def bundle(self, plan: dict[str, Any] | bytes | None = None, **changes: Any) -> tuple[Bundle, Target]:
        """A bundle with an engine for this machine, and that target; changes: of its Build."""
        ranges = [[1, 1, 64, 44], [1, 30, 64, 44], [8, 300, 64, 44]]
        whole = {
            "version": self.recorded.version,
            "shapes": {"silhouettes": ranges},
            "flags": [],
            "embedding": [SMALL.parts, SMALL.embedding_dim],
        }
        data = plan if isinstance(plan, bytes) else json.dumps({**whole, **(plan or {})}).encode()
        values: dict[str, Any] = {
            "member": PLAN,
            "graph": "graphs/tensorrt-fp16.onnx",
            "device": H200.name,
            "compute_capability": H200.compute_capability,
            "versions": {"tensorrt": self.recorded.version, "cuda": "13.0"},
            "options": {},
            "seconds": 60.0,
        }
        target = Target("tensorrt", "fp16", build=Build(**{**values, **changes}))
        graphs = {PLAN: data, "graphs/tensorrt-fp16.onnx": b"graph"}
        return make_bundle(SMALL, random_weights(SMALL, 0), graphs, {"tensorrt-fp16": target}), target

    def engine(
        self, plan: dict[str, Any] | bytes | None = None, in_flight: int = 2, **changes: Any
    ) -> TensorRTEngine:
        """The engine of such a bundle, loaded."""
        engine = TensorRTEngine(*self.bundle(plan, **changes), "as asked", in_flight)
        self.engines.add(engine)
        return engine


def right(engine: TensorRTEngine, silhouettes: NDArray[np.uint8]) -> bool:
    """Whether an engine gives the silhouettes' embeddings."""
    expected = digest(silhouettes, SMALL.parts, SMALL.embedding_dim)
    return bool(np.array_equal(engine.embed(silhouettes), expected))


def runs(box: GpuBox, engine: TensorRTEngine, *shapes: tuple[int, int]) -> bool:
    """Whether an engine gives the embeddings of random silhouettes of these shapes, one after the other."""
    return all(right(engine, random_silhouettes(*shape, seed)) for seed, shape in enumerate(shapes))
