"""Engines run a bundle's network on this machine: one file a runtime, and load() picks one.

An engine takes aligned silhouettes and gives embeddings; every engine of one bundle gives the same
ones within its precision. None of them needs PyTorch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig
from gaitedge.errors import BundleError, InputError, MachineError, MissingPackage, SilhouetteError
from gaitedge.machine.cpu import usable_cores

__all__ = ["Embedder", "Engine", "EngineName", "Precision", "check_batch", "embed_all", "load"]

EngineName = Literal["auto", "openvino", "onnxruntime"]
Precision = Literal["fp32", "bf16"]

# Activations take about 0.9 MB a frame. Past a few hundred frames a larger batch gains nothing.
_FRAMES_A_CALL = 480


class Embedder(Protocol):
    """Whatever makes embeddings: an engine, or a model that is being trained."""

    @property
    def config(self) -> GaitPartConfig:
        """The network's configuration."""

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [batch, frames, 64, 44] to embeddings [batch, parts, dim], a fresh array.

        Raises SilhouetteError on another type or shape.
        """


class Engine(Embedder, Protocol):
    """A network, ready to run. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """The runtime: "openvino" or "onnxruntime"."""

    @property
    def description(self) -> str:
        """Runtime and version, processor, precision, threads, and why this engine was taken."""

    @property
    def precision(self) -> str:
        """The arithmetic inside: "fp32" or "bf16"."""

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
    bundle: Bundle, engine: str = "auto", threads: int | None = None, precision: str | None = None
) -> Engine:
    """Get a bundle ready to run on this machine.

    engine: "auto" takes OpenVINO, the faster one, where it is installed, else ONNX Runtime.
    threads: None uses every core that this process may use. precision: None takes the one that the
    bundle was exported for, or fp32 where this machine or engine lacks that one; the engine's
    description then says so. Raises MissingPackage where no engine is installed, MachineError where
    a precision that was asked for is not to be had, BundleError where the bundle's graph is no
    network, InputError on an unknown name.
    """
    if engine not in get_args(EngineName):
        raise InputError(f"unknown engine {engine!r}; there are: {', '.join(get_args(EngineName))}")
    if precision is not None and precision not in get_args(Precision):
        raise InputError(f"unknown precision {precision!r}; there are: {', '.join(get_args(Precision))}")
    if threads is not None and threads < 1:
        raise InputError(f"an engine needs 1 thread or more, not {threads}")
    name, why = (engine, "as asked") if engine != "auto" else _fastest()
    threads = threads or usable_cores()
    target = bundle.manifest.targets.get("cpu")
    exported = target.precision if target else "fp32"
    if exported not in get_args(Precision):
        raise BundleError(
            f"{bundle.path} was exported for the unknown precision {exported!r}; export it again"
        )
    choice = Choice(threads, precision or exported, asked=precision is not None, why=why)
    if name == "openvino":
        from gaitedge.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(bundle, choice)
    from gaitedge.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, choice)


def embed_all(
    engine: Embedder,
    sequences: Sequence[NDArray[np.uint8]],
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed sequences of any lengths, each [frames, 64, 44], to [n, parts, dim] in their order.

    Sequences of one length run together, up to `batch` at once. progress: called with the number of
    sequences done and of all. Raises SilhouetteError as Embedder.embed does, naming the sequence.
    """
    if batch < 1:
        raise InputError(f"a batch holds 1 sequence or more, not {batch}")
    by_length: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        _check(sequence, f"sequence {index}", "frames")
        by_length.setdefault(len(sequence), []).append(index)
    config, done = engine.config, 0
    embeddings = np.empty((len(sequences), config.parts, config.embedding_dim), np.float32)
    for length, indices in sorted(by_length.items()):
        size = max(1, min(batch, _FRAMES_A_CALL // length))
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            embeddings[chosen] = engine.embed(np.stack([sequences[index] for index in chosen]))
            done += len(chosen)
            if progress is not None:
                progress(done, len(sequences))
    return embeddings


def check_batch(silhouettes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give back a C-contiguous uint8 [batch, frames, 64, 44] or raise SilhouetteError."""
    _check(silhouettes, "silhouettes", "batch", "frames")
    return np.ascontiguousarray(silhouettes)


def _check(silhouettes: NDArray[np.uint8], name: str, *leading: str) -> None:
    dtype, shape = getattr(silhouettes, "dtype", None), getattr(silhouettes, "shape", None)
    if dtype is None or shape is None:
        raise SilhouetteError(f"{name} must be a NumPy array, not {type(silhouettes).__name__}")
    if dtype != np.uint8:
        raise SilhouetteError(f"{name} must be uint8, 0 to 255, not {dtype}")
    if len(shape) != len(leading) + 2 or shape[-2:] != (HEIGHT, WIDTH) or 0 in shape:
        wanted = ", ".join([*leading, str(HEIGHT), str(WIDTH)])
        raise SilhouetteError(f"{name} must be [{wanted}], none of them 0, not {list(shape)}")


def _fastest() -> tuple[str, str]:
    if importlib.util.find_spec("openvino") is not None:
        return "openvino", "the faster of the engines"
    if importlib.util.find_spec("onnxruntime") is not None:
        return "onnxruntime", "OpenVINO is not installed"
    raise MissingPackage(
        "running a bundle needs OpenVINO or ONNX Runtime, and neither is installed; "
        "run: pip install 'gaitedge[cpu]' or: pip install 'gaitedge[onnxruntime]'"
    )
