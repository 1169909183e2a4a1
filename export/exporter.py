"""Export: weights to graph to a bundle whose engine was checked against the letter of the paper."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, Bundle, check_destination, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import Engine, load
from gaitedge.errors import InputError, MachineError
from gaitedge.export.graph import LETTER, Plan, build_graph
from gaitedge.manifest import Agreement, Target
from gaitedge.profiling import draw_silhouettes
from gaitedge.weights import load_weights

if TYPE_CHECKING:
    from onnx import ModelProto

    from gaitedge.weights import Weights

__all__ = ["TOLERANCES", "ExportReport", "Tolerance", "compare", "export", "open_model"]

TargetName = Literal["auto", "cpu", "portable"]
PrecisionName = Literal["fp32", "bf16"]

# Batch and frames of the silhouettes on which an engine must agree with the letter.
_SHAPES = ((1, 1), (1, 30), (2, 17))


@dataclass(frozen=True)
class Tolerance:
    """How far an engine may be from the letter; see Agreement for what the numbers mean."""

    relative_error: float
    cosine: float


TOLERANCES = {
    # Sums in another order. Two dozen random networks were within 7e-7.
    "fp32": Tolerance(relative_error=1e-4, cosine=0.99999),
    # Eight bits of mantissa in every layer. The same networks were within 9e-3 and 0.9997.
    "bf16": Tolerance(relative_error=3e-2, cosine=0.999),
}


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote."""

    path: Path
    target: str
    """"cpu" or "portable"."""
    engine: str
    """The description of the engine that was checked, or "none" where none is installed."""
    precision: str
    agreement: Agreement | None
    nodes: int
    """Of the graph."""
    seconds: float
    bytes: int


def export(
    source: Path,
    out: Path,
    target: TargetName = "auto",
    precision: PrecisionName = "fp32",
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Write a bundle and check its engine against the paper's letter before it takes its name.

    source: a weights file, or a bundle to export again. target: "cpu" needs an engine on this
    machine, "portable" does not (one that is there still checks the graph), "auto" is "cpu" where an
    engine is installed. progress: called with each step's name. Raises WeightsError or BundleError
    on an unusable source or destination, MachineError where the engine is missing, lacks the
    precision, or disagrees with the letter. On any error `out` stays as it was.
    """
    start = time.perf_counter()
    if target not in get_args(TargetName):
        raise InputError(f"unknown target {target!r}; there are: {', '.join(get_args(TargetName))}")
    if precision not in get_args(PrecisionName):
        raise InputError(f"unknown precision {precision!r}; there are: {', '.join(get_args(PrecisionName))}")
    say = progress or (lambda _: None)
    installed = any(importlib.util.find_spec(name) for name in ("openvino", "onnxruntime"))
    if target == "auto":
        target = "cpu" if installed else "portable"
    if target == "portable" and precision != "fp32":
        raise InputError(
            f"a portable bundle is fp32; {precision} needs the target cpu and an engine that has it"
        )
    check_destination(out)

    say("reading the weights")
    config, weights = _read_source(Path(source))
    say("writing the graph")
    graph = _checked(build_graph(config, weights, Plan("fold", "grouped")))
    graphs = {FOLD_GRAPH: graph.SerializeToString(deterministic=True)}
    engine, agreement = None, None
    if target == "cpu" or installed:
        say("building the engine")
        engine = load(make_bundle(config, weights, graphs, {}), precision=precision)
        say("comparing it with the letter of the paper")
        agreement = compare(engine, _letter(config, weights, engine))
        _check_agreement(engine, agreement)
    say("writing the bundle")
    name = engine.name if engine is not None and target == "cpu" else "any"
    bundle = make_bundle(config, weights, graphs, {target: Target(name, precision, agreement)}).save(out)
    return ExportReport(
        path=bundle.path,
        target=target,
        engine=engine.description if engine is not None else "none",
        precision=precision,
        agreement=agreement,
        nodes=len(graph.graph.node),
        seconds=time.perf_counter() - start,
        bytes=bundle.path.stat().st_size,
    )


def open_model(source: Path) -> Bundle:
    """A bundle, or a weights file as the bundle that exporting it to "portable" would write.

    Raises WeightsError or BundleError where the file is neither.
    """
    source = Path(source)
    if _is_bundle(source):
        return Bundle.open(source)
    config, weights = load_weights(source)
    graph = build_graph(config, weights, Plan("fold", "grouped")).SerializeToString(deterministic=True)
    return make_bundle(config, weights, {FOLD_GRAPH: graph}, {})


def compare(engine: Engine, reference: Engine) -> Agreement:
    """Run both engines on the same blobs in three shapes and tell how far they are apart."""
    rng = np.random.default_rng(0)
    found, wanted = [], []
    for batch, frames in _SHAPES:
        silhouettes = draw_silhouettes(batch, frames, rng)
        found.append(engine.embed(silhouettes).astype(np.float64))
        wanted.append(reference.embed(silhouettes).astype(np.float64))
    got, expected = np.concatenate(found), np.concatenate(wanted)
    tiny = np.finfo(np.float64).tiny
    error = np.abs(got - expected).max() / max(np.abs(expected).max(), tiny)
    runtime = reference.description.partition(";")[0]  # without why it was taken
    return Agreement(runtime, float(error), float(_cosines(got, expected).min()))


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each part's two embeddings; of two zero vectors it is 1."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    same = (a == b).all(axis=-1)
    cosines: NDArray[np.float64] = np.where(
        same, 1.0, (a * b).sum(axis=-1) / np.where(lengths == 0, np.inf, lengths)
    )
    return cosines


def _check_agreement(engine: Engine, agreement: Agreement) -> None:
    allowed = TOLERANCES[engine.precision]
    # Written so that NaN fails.
    if agreement.relative_error <= allowed.relative_error and agreement.cosine >= allowed.cosine:
        return
    raise MachineError(
        f"{engine.description} does not compute this network: its embeddings are up to "
        f"{agreement.relative_error:.1e} of the largest value (allowed {allowed.relative_error:.0e}) and a "
        f"cosine of {agreement.cosine:.6f} (allowed {allowed.cosine}) from the letter's; nothing was written"
    )


def _read_source(source: Path) -> tuple[GaitPartConfig, Weights]:
    if _is_bundle(source):
        bundle = Bundle.open(source)
        return bundle.config, bundle.weights()
    return load_weights(source)


def _is_bundle(path: Path) -> bool:
    if path.suffix == ".gait" or not path.is_file():
        return path.suffix == ".gait"
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _letter(config: GaitPartConfig, weights: Weights, engine: Engine) -> Engine:
    """The paper's letter in FP32, in ONNX Runtime where it is installed: two runtimes share no bug."""
    graphs = {FOLD_GRAPH: _checked(build_graph(config, weights, LETTER)).SerializeToString()}
    name = "onnxruntime" if importlib.util.find_spec("onnxruntime") is not None else engine.name
    return load(make_bundle(config, weights, graphs, {}), engine=name, precision="fp32")


def _checked(graph: ModelProto) -> ModelProto:
    """The graph, once ONNX' own checker and its shape inference have passed it."""
    import onnx

    onnx.checker.check_model(graph, full_check=True)
    return graph
