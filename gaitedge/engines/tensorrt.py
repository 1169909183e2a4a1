"""TensorRT on an NVIDIA GPU: runs the engine that was built for this device and version.

Before TensorRT or pycuda are touched the driver is asked, in a process of its own; a plan of another
device or version is refused by name, with the command that builds it anew from the bundle.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig
from gaitedge.engines import check_batch
from gaitedge.engines.cuda_memory import gpu
from gaitedge.engines.tensorrt_contexts import contexts
from gaitedge.engines.tensorrt_plan import INPUT, OUTPUT, Plan, complaint
from gaitedge.engines.tensorrt_slots import Slots
from gaitedge.engines.timing import CallTimes, LayerTimes
from gaitedge.errors import BundleError, InputError, MachineError
from gaitedge.machine.tensorrt import (
    load_plugins,
    log,
    require_gpu,
    require_library,
    require_tensorrt,
    why_unfit,
)
from gaitedge.manifest import Build, Target

if TYPE_CHECKING:
    from types import TracebackType

    import tensorrt as trt

    _Tensors = dict[str, tuple[trt.TensorIOMode, trt.DataType, int, tuple[int, ...]]]

__all__ = ["TensorRTEngine"]

_WHY = "the TensorRT engine"


class TensorRTEngine:
    """A bundle's TensorRT plan, loaded, with memory on the GPU that is used again and again.

    What it holds is given back when it is closed, when nobody has it any more, or when Python exits.
    """

    name = "tensorrt"

    def __init__(self, bundle: Bundle, target: Target, why: str, in_flight: int = 2) -> None:
        """Load the plan of a target.

        why: why this engine was taken. in_flight: the most calls, from as many threads, that share the
        GPU at a time; each has memory of its own there, and further calls wait.

        Raises MachineError without a usable GPU, enough memory on it, or the library of the plugins that the
        plan was built with, MissingPackage without TensorRT or pycuda, BundleError where the plan is for
        another GPU or version, damaged, or of another network.
        """
        if in_flight < 1:
            raise InputError(f"an engine needs 1 call in flight or more, not {in_flight}")
        path, build = bundle.path, target.build
        if build is None:
            raise BundleError(
                f"{path} holds no TensorRT engine; run: gaitedge export {path} --target tensorrt"
            )
        device, module = require_gpu(_WHY), require_tensorrt(_WHY)
        require_library("pycuda.driver", _WHY)
        unfit = why_unfit(build, device, module.__version__)
        if unfit is not None:
            raise BundleError(
                f"{path} holds an engine that cannot run here: {unfit}; run: gaitedge export {path} --rebuild"
            )
        self.config, self.fingerprint, self.precision = bundle.config, bundle.fingerprint, target.precision
        self._path, self._why = path, why
        self._about = f"TensorRT {module.__version__} on {device.name}, {target.precision}"
        way_out = (
            "end other programs that use it, or build an engine for less: "
            f"gaitedge export {path} --target tensorrt --batch 1:1:1 --frames 1:30:100"
        )
        with gpu(way_out):
            runtime, engine = _load(bundle, build, way_out)
            _check_tensors(engine, self.config, f"{path}: {build.member}")
            lowest, usual, highest = (_tuple(dims) for dims in engine.get_tensor_profile_shape(INPUT, 0))
        self._batch, self._frames = zip(lowest[:2], usual[:2], highest[:2], strict=True)
        size = (self.config.parts, self.config.embedding_dim)
        self._plan = Plan(runtime, engine, contexts(module, build.versions["tensorrt"]), size, way_out)
        self._slots = Slots(self._plan, in_flight)
        # At the exit too: before TensorRT and pycuda are torn down, in whatever order.
        self._end = weakref.finalize(self, self._slots.close)

    @property
    def description(self) -> str:
        """TensorRT's version, the GPU, precision, whether CUDA graphs are used, and why it was taken."""
        lacking = self._plan.why_no_graphs
        graphs = f"no CUDA graphs ({lacking})" if lacking else "CUDA graphs"
        return f"{self._about}, {graphs}; {self._why}"

    @property
    def largest_batch(self) -> int:
        """The most sequences that one call takes, by the plan's profile."""
        return self._batch[2]

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [batch, frames, 64, 44] to embeddings [batch, parts, dim], a fresh array.

        Raises SilhouetteError on another type or shape, InputError where batch or frames are outside of
        the plan's profile, MachineError where the GPU fails or its memory does not suffice. Calls from
        several threads run at the same time, up to `in_flight`.
        """
        return self._slots.embed(self._check(silhouettes))

    def embed_timed(self, silhouettes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], CallTimes]:
        """As embed, and what the call's pieces took: the copies by themselves, the network by a CUDA graph of
        its own where the shape came before. Raises as embed does."""
        return self._slots.embed_timed(self._check(silhouettes))

    def layer_times(self, calls: Sequence[NDArray[np.uint8]]) -> LayerTimes:
        """Run calls with TensorRT's profiler and sum each layer's time up over them, in the engine's order.

        Without CUDA graphs, in an execution context that is made for this; the first call of a shape runs
        once more before. Raises as embed does, InputError where there are no calls.
        """
        if not calls:
            raise InputError("the time of layers needs 1 call or more, not 0")
        return self._slots.layer_times([self._check(silhouettes) for silhouettes in calls])

    def close(self) -> None:
        """Wait for calls in flight and give everything back; ValueError where it is used again."""
        self._end()

    def __enter__(self) -> TensorRTEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What fits the plan; raises as embed does."""
        whole = check_batch(silhouettes)
        self._check_limits(*whole.shape[:2])
        return whole

    def _check_limits(self, batch: int, frames: int) -> None:
        pairs = ((self._batch, batch), (self._frames, frames))
        if all(low <= came <= high for (low, _, high), came in pairs):
            return
        taken = [f"{low} to {high}" if low < high else f"{low}" for (low, _, high), _ in pairs]
        wider = [f"{min(low, came)}:{usual}:{max(high, came)}" for (low, usual, high), came in pairs]
        raise InputError(
            f"{self._path} has an engine for a batch of {taken[0]} and {taken[1]} frames, "
            f"and this is a batch of {batch} and {frames} frames; run: "
            f"gaitedge export {self._path} --target tensorrt --batch {wider[0]} --frames {wider[1]}"
        )


def _load(bundle: Bundle, build: Build, way_out: str) -> tuple[trt.Runtime, trt.ICudaEngine]:
    """Deserialise a plan. Raises BundleError, or MachineError where the GPU's memory does not suffice or its
    plugins are missing."""
    import tensorrt as trt

    log().clear()
    runtime: trt.Runtime = trt.Runtime(log().logger)
    library = load_plugins(trt, bundle.read(build.graph))
    if build.options.get("version_compatible", False):
        runtime.engine_host_code_allowed = True  # such a plan brings the runtime that it was built with
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(bundle.read(build.member))
    if engine is not None:
        return runtime, engine
    said = complaint()
    plugins = f" with the plugins of {library}" if library else ""
    what = f"{bundle.path}: TensorRT cannot load {build.member}{plugins}: {said}"
    if "out of memory" in said.lower() or "outofmemory" in said.lower():
        raise MachineError(f"{what}; {way_out}")
    raise BundleError(f"{what}; run: gaitedge export {bundle.path} --rebuild")


def _check_tensors(engine: trt.ICudaEngine, config: GaitPartConfig, what: str) -> None:
    """Raise BundleError unless the engine maps silhouettes to this network's embeddings."""
    import tensorrt as trt

    wanted: _Tensors = {
        INPUT: (trt.TensorIOMode.INPUT, trt.DataType.UINT8, 4, (HEIGHT, WIDTH)),
        OUTPUT: (trt.TensorIOMode.OUTPUT, trt.DataType.FLOAT, 3, (config.parts, config.embedding_dim)),
    }
    found: _Tensors = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = _tuple(engine.get_tensor_shape(name))
        found[name] = (engine.get_tensor_mode(name), engine.get_tensor_dtype(name), len(shape), shape[-2:])
    if found != wanted:
        raise BundleError(f"{what} maps {_tell(found)}, its manifest's network {_tell(wanted)}")


def _tell(tensors: _Tensors) -> str:
    told = [
        f"{mode.name.lower()} {name} {kind.name} {['?'] * (rank - 2) + list(shape)}"
        for name, (mode, kind, rank, shape) in tensors.items()
    ]
    return ", ".join(told).replace("'", "") or "nothing"


def _tuple(dims: trt.Dims) -> tuple[int, ...]:
    return tuple(int(dims[axis]) for axis in range(len(dims)))
