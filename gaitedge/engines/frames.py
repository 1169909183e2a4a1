"""The frame network alone, for frames that come one by one: silhouettes to part features (Eq. 1 and 2).

It needs no neighbours: a frame costs the same whatever came before. What follows over time is
gaitedge.streaming's.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import FRAMES_GRAPH, Bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import Choice, check_options, of_the_cpu
from gaitedge.errors import BundleError, MachineError
from gaitedge.machine.cpu import usable_cores

__all__ = ["FrameEngine", "FrameEngineName", "load_frames"]

FrameEngineName = Literal["auto", "openvino", "onnxruntime", "cuda"]
_CPU_ENGINES = {"openvino": ("fp32", "bf16"), "onnxruntime": ("fp32",)}


class FrameEngine(Protocol):
    """A frame network, ready to run. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """The runtime: "openvino", "onnxruntime" or "cuda"."""

    @property
    def description(self) -> str:
        """Runtime and version, device, precision, threads, and why this engine was taken."""

    @property
    def precision(self) -> str:
        """The arithmetic inside, one of gaitedge.manifest.PRECISIONS."""

    @property
    def config(self) -> GaitPartConfig:
        """The network's configuration."""

    @property
    def fingerprint(self) -> str:
        """The model's identity, the bundle's."""

    def part_features(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [n, 64, 44], of one walk or of many, to part features [n, parts, C], a fresh array.

        Raises SilhouetteError on another type or shape, or without a frame.
        """


def load_frames(
    bundle: Bundle, engine: str = "auto", threads: int | None = None, precision: str | None = None
) -> FrameEngine:
    """Get a bundle's frame network ready to run on this machine.

    engine: "auto" takes the CUDA kernels where the bundle has weights for them and they can run, else the
    engine of the CPU that gaitedge.engines.load takes; there is no TensorRT engine of the frame network
    alone. threads: of a CPU's engine; None uses every core that this process may use. precision: None takes
    on the GPU the fastest one that the bundle was exported for, on a CPU BF16 where the bundle was exported
    for it and the processor has it, else FP32: of INT8 a bundle has the graph of the whole network alone,
    and the description then says so. Raises as gaitedge.engines.load does.
    """
    check_options(engine, get_args(FrameEngineName), threads, precision)
    why = "as asked"
    if engine == "auto":
        engine, why = _fastest(bundle, precision)
    if engine == "cuda":
        return _cuda(bundle, precision, why)
    return _on_cpu(bundle, engine, threads, precision, why)


def _fastest(bundle: Bundle, precision: str | None) -> tuple[str, str]:
    missed = ""
    if bundle.manifest.target("cuda", precision) is not None:
        from gaitedge.engines import cuda

        missing = cuda.lacking()
        if missing is None:
            return "cuda", "the bundle has weights for the kernels"
        missed = f"; not the CUDA kernels: {missing}"
    engine, why = of_the_cpu(bundle)
    return engine, f"{why}{missed}"


def _on_cpu(bundle: Bundle, engine: str, threads: int | None, precision: str | None, why: str) -> FrameEngine:
    possible = _CPU_ENGINES[engine]
    if precision is not None and precision not in possible:
        raise MachineError(f"{engine} runs the frame network in {', '.join(possible)}, not in {precision}")
    exported = bundle.manifest.target("cpu") or bundle.manifest.target("onnxruntime")
    proposed = exported.precision if exported else "fp32"
    if precision is None and proposed == "int8":
        proposed, why = "fp32", f"{why}; not int8 as exported: that graph is of the whole network"
    choice = Choice(
        threads or usable_cores(),
        precision or proposed,
        asked=precision is not None,
        why=why,
        graph=FRAMES_GRAPH,
    )
    if engine == "openvino":
        from gaitedge.engines.openvino import OpenVINOFrames

        return OpenVINOFrames(bundle, choice)
    from gaitedge.engines.onnxruntime import OnnxRuntimeFrames

    return OnnxRuntimeFrames(bundle, choice)


def _cuda(bundle: Bundle, precision: str | None, why: str) -> FrameEngine:
    target = bundle.manifest.target("cuda", precision)
    if target is None:
        raise BundleError(
            f"{bundle.path} holds no weights for the CUDA kernels{f' in {precision}' if precision else ''}; "
            f"run: gaitedge export {bundle.path} --target cuda"
        )
    from gaitedge.engines.cuda import CudaFrames

    return CudaFrames(bundle, target, why)
