"""Engines run a bundle's network on this machine: one file a runtime, and load() picks one.

An engine takes aligned silhouettes and gives embeddings; every engine of one bundle gives the same
ones within its precision. None of them needs PyTorch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, Bundle
from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig
from gaitedge.errors import BundleError, InputError, MachineError, MissingPackage, SilhouetteError
from gaitedge.machine.cpu import usable_cores
from gaitedge.machine.tensorrt import lacking
from gaitedge.manifest import PRECISIONS

__all__ = [
    "FRAMES_A_CALL",
    "Choice",
    "Embedder",
    "Engine",
    "EngineName",
    "RaggedEmbedder",
    "check_batch",
    "check_options",
    "check_sequence",
    "embed_all",
    "graph_for",
    "load",
    "load_target",
    "of_the_cpu",
]

EngineName = Literal["auto", "tensorrt", "openvino", "onnxruntime", "cuda"]
_CPU_ENGINES = {"openvino": ("fp32", "bf16", "int8"), "onnxruntime": ("fp32", "int8")}

# Activations take about 0.9 MB a frame. Past a few hundred frames a larger batch gains nothing.
FRAMES_A_CALL = 480


class Embedder(Protocol):
    """Whatever makes embeddings: an engine, or a model that is being trained."""

    @property
    def config(self) -> GaitPartConfig:
        """The network's configuration."""

    @property
    def largest_batch(self) -> int | None:
        """The most sequences that one call takes; None where that has no limit."""

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [batch, frames, 64, 44] to embeddings [batch, parts, dim], a fresh array.

        Raises SilhouetteError on another type or shape.
        """


@runtime_checkable
class RaggedEmbedder(Embedder, Protocol):
    """One that takes sequences of different lengths in one call."""

    def embed_many(self, sequences: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Sequences, each [frames, 64, 44], to embeddings [n, parts, dim] in their order, a fresh array."""


class Engine(Embedder, Protocol):
    """A network, ready to run. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """The runtime: "tensorrt", "cuda", "openvino" or "onnxruntime"."""

    @property
    def description(self) -> str:
        """Runtime and version, device, precision, threads, and why this engine was taken."""

    @property
    def precision(self) -> str:
        """The arithmetic inside, one of gaitedge.manifest.PRECISIONS."""

    @property
    def fingerprint(self) -> str:
        """The model's identity, the bundle's."""


@dataclass(frozen=True)
class Choice:
    """What load() decided; an engine settles the precision by what it and the processor can do."""

    threads: int
    precision: str
    asked: bool
    """Whether the caller insists on the precision, or the bundle merely proposes it."""
    why: str
    """Why this engine was taken."""
    graph: str = FOLD_GRAPH
    """The bundle's member that it compiles."""
    layers: bool = False
    """Whether it shall tell what each layer takes."""

    def settle(self, runtime: str, cpu: str | None, possible: bool, lacking: str) -> tuple[str, str]:
        """The precision to run in, and the engine's description.

        possible: whether the precision can be had; lacking: what is missing where it cannot.
        Raises MachineError where the caller insisted on it.
        """
        precision, note = self.precision, ""
        if not possible:
            if self.asked:
                raise MachineError(f"{lacking}: it cannot run in {precision}; use fp32")
            precision, note = "fp32", f" (not {precision} as exported: {lacking})"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return precision, f"{runtime} on {cpu or 'this processor'}, {precision}{note}, {threads}; {self.why}"


def load(
    bundle: Bundle,
    engine: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
    in_flight: int = 2,
    layers: bool = False,
) -> Engine:
    """Get a bundle ready to run on this machine.

    engine: "auto" takes TensorRT where the bundle has an engine of it and there is a GPU to run it, else
    the CUDA kernels where the bundle has weights for them and they can run, else OpenVINO, the faster one of
    a CPU's, where it is installed, else ONNX Runtime; a bundle that was exported for ONNX Runtime alone runs
    there. threads: of a CPU's engine; None uses every core that this process may use. precision: None takes
    the fastest one that the bundle was exported for, or fp32 where a CPU lacks that; the engine's
    description then says so. in_flight: the most calls at a time, from as many threads, that TensorRT
    makes room for. layers: of a CPU's engine, so that as a gaitedge.engines.timing.LayerTimer it can tell
    what each layer takes; it may be slower then. Raises MissingPackage where no engine is installed,
    MachineError where a precision that was asked for, or the GPU, is not to be had, BundleError where the
    bundle's graph is no network, its engine is for another GPU or version, or it holds none for the runtime
    that was asked for, InputError on an unknown name.
    """
    check_options(engine, get_args(EngineName), threads, precision)
    why = "as asked"
    if engine == "auto":
        engine, why = _fastest(bundle, precision)
    if engine == "tensorrt":
        return _tensorrt(bundle, precision, why, in_flight)
    if engine == "cuda":
        return _cuda(bundle, precision, why)
    return _on_cpu(bundle, engine, threads, precision, why, layers)


def load_target(bundle: Bundle, name: str, threads: int | None = None) -> Engine:
    """Get one target of a bundle ready to run, as in "cpu-bf16"; "portable-fp32" takes a CPU's engine.

    Raises InputError where the bundle has no such target, and what load() raises.
    """
    target = bundle.manifest.targets.get(name)
    if target is None:
        have = ", ".join(sorted(bundle.manifest.targets)) or "none"
        raise InputError(f"{bundle.path} was not exported for {name!r}; its targets: {have}")
    engine = of_the_cpu(bundle)[0] if target.engine == "any" else target.engine
    return load(bundle, engine, threads, target.precision)


def embed_all(
    engine: Embedder,
    sequences: Sequence[NDArray[np.uint8]],
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed sequences of any lengths, each [frames, 64, 44], to [n, parts, dim] in their order.

    Sequences of one length run together, up to `batch` at once; of any lengths, where the engine takes
    these. progress: called with the number of
    sequences done and of all. Raises SilhouetteError as Embedder.embed does, naming the sequence.
    """
    if batch < 1:
        raise InputError(f"a batch holds 1 sequence or more, not {batch}")
    for index, sequence in enumerate(sequences):
        _check(sequence, f"sequence {index}", "frames")
    ragged = engine if isinstance(engine, RaggedEmbedder) else None
    config, done = engine.config, 0
    batch = min(batch, engine.largest_batch or batch)
    embeddings = np.empty((len(sequences), config.parts, config.embedding_dim), np.float32)
    for chosen in _calls([len(sequence) for sequence in sequences], batch, mixed=ragged is not None):
        walks = [sequences[index] for index in chosen]
        embeddings[chosen] = ragged.embed_many(walks) if ragged else engine.embed(np.stack(walks))
        done += len(chosen)
        if progress is not None:
            progress(done, len(sequences))
    return embeddings


def check_options(engine: str, names: Sequence[str], threads: int | None, precision: str | None) -> None:
    """Raise InputError unless these are an engine of these names, a number of threads and a precision."""
    if engine not in names:
        raise InputError(f"unknown engine {engine!r}; there are: {', '.join(names)}")
    if precision is not None and precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}; there are: {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise InputError(f"an engine needs 1 thread or more, not {threads}")


def _calls(lengths: Sequence[int], batch: int, *, mixed: bool) -> Iterator[list[int]]:
    """Indices of the sequences of each call, short ones first; mixed: whether lengths may differ in one."""
    chosen: list[int] = []
    frames = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        full = len(chosen) == batch or frames + length > FRAMES_A_CALL
        if chosen and (full or not (mixed or length == lengths[chosen[0]])):
            yield chosen
            chosen, frames = [], 0
        chosen.append(index)
        frames += length
    if chosen:
        yield chosen


def check_batch(silhouettes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give back a C-contiguous uint8 [batch, frames, 64, 44] or raise SilhouetteError."""
    _check(silhouettes, "silhouettes", "batch", "frames")
    return np.ascontiguousarray(silhouettes)


def check_sequence(sequence: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Give back a C-contiguous uint8 [frames, 64, 44] or raise SilhouetteError with this name."""
    _check(sequence, name, "frames")
    return np.ascontiguousarray(sequence)


def _check(silhouettes: NDArray[np.uint8], name: str, *leading: str) -> None:
    dtype, shape = getattr(silhouettes, "dtype", None), getattr(silhouettes, "shape", None)
    if dtype is None or shape is None:
        raise SilhouetteError(f"{name} must be a NumPy array, not {type(silhouettes).__name__}")
    if dtype != np.uint8:
        raise SilhouetteError(f"{name} must be uint8, 0 to 255, not {dtype}")
    if len(shape) != len(leading) + 2 or shape[-2:] != (HEIGHT, WIDTH) or 0 in shape:
        wanted = ", ".join([*leading, str(HEIGHT), str(WIDTH)])
        raise SilhouetteError(f"{name} must be [{wanted}], none of them 0, not {list(shape)}")


def _fastest(bundle: Bundle, precision: str | None) -> tuple[str, str]:
    """The engine that "auto" takes, and why."""
    missed = ""
    if bundle.manifest.target("tensorrt", precision) is not None:
        missing = lacking()
        if missing is None:
            return "tensorrt", "the bundle has an engine for this GPU"
        missed = f"; not TensorRT: {missing}"
    if bundle.manifest.target("cuda", precision) is not None:
        from gaitedge.engines import cuda

        missing = cuda.lacking()
        if missing is None:
            return "cuda", f"the bundle has weights for the kernels{missed}"
        missed += f"; not the CUDA kernels: {missing}"
    engine, why = of_the_cpu(bundle)
    return engine, f"{why}{missed}"


def of_the_cpu(bundle: Bundle) -> tuple[str, str]:
    """The engine that "auto" takes on the processor, and why. Raises MissingPackage where there is none."""
    openvino, runtime = (importlib.util.find_spec(name) is not None for name in _CPU_ENGINES)
    if runtime and bundle.manifest.target("onnxruntime") and not bundle.manifest.target("cpu"):
        return "onnxruntime", "as exported"
    if openvino:
        return "openvino", "the faster of the engines"
    if runtime:
        return "onnxruntime", "OpenVINO is not installed"
    raise MissingPackage(
        "running a bundle needs OpenVINO or ONNX Runtime, and neither is installed; "
        "run: pip install 'gaitedge[cpu]' or: pip install 'gaitedge[onnxruntime]'"
    )


def graph_for(bundle: Bundle, engine: str, precision: str | None = None) -> tuple[str, str]:
    """The bundle's graph that a CPU's engine compiles, "openvino" or "onnxruntime", and the precision in
    which. Raises BundleError where the bundle has no graph in int8, and that is wanted."""
    # What was exported for one of them is a graph that both can run.
    names = ("cpu", "onnxruntime") if engine == "openvino" else ("onnxruntime", "cpu")
    targets = [found for name in names if (found := bundle.manifest.target(name, precision)) is not None]
    exported = targets[0] if targets else None
    chosen = precision or (exported.precision if exported else "fp32")
    if chosen == "int8" and (exported is None or exported.graph is None):
        raise BundleError(
            f"{bundle.path} holds no int8 graph; run: gaitedge export {bundle.path} --precision int8 "
            "--calibration calibration.json"
        )
    return (exported.graph if exported and exported.graph else FOLD_GRAPH), chosen


def _on_cpu(
    bundle: Bundle, engine: str, threads: int | None, precision: str | None, why: str, layers: bool
) -> Engine:
    possible = _CPU_ENGINES[engine]
    if precision is not None and precision not in possible:
        raise MachineError(f"{engine} runs in {', '.join(possible)}, not in {precision}")
    graph, chosen = graph_for(bundle, engine, precision)
    choice = Choice(
        threads or usable_cores(),
        chosen,
        asked=precision is not None,
        why=why,
        graph=graph,
        layers=layers,
    )
    if engine == "openvino":
        from gaitedge.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(bundle, choice)
    from gaitedge.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, choice)


def _tensorrt(bundle: Bundle, precision: str | None, why: str, in_flight: int) -> Engine:
    target = bundle.manifest.target("tensorrt", precision)
    if target is None or target.build is None:
        wanted = f" --precision {precision}" if precision else ""
        raise BundleError(
            f"{bundle.path} holds no TensorRT engine{f' in {precision}' if precision else ''}; "
            f"run: gaitedge export {bundle.path} --target tensorrt{wanted}"
        )
    from gaitedge.engines.tensorrt import TensorRTEngine

    return TensorRTEngine(bundle, target, why, in_flight)


def _cuda(bundle: Bundle, precision: str | None, why: str) -> Engine:
    target = bundle.manifest.target("cuda", precision)
    if target is None:
        wanted = f" --precision {precision}" if precision else ""
        raise BundleError(
            f"{bundle.path} holds no weights for the CUDA kernels{f' in {precision}' if precision else ''}; "
            f"run: gaitedge export {bundle.path} --target cuda{wanted}"
        )
    from gaitedge.engines.cuda import CudaEngine

    return CudaEngine(bundle, target, why)
