"""How far an engine may be from the paper's letter, and how far it is.

Every engine is run on silhouettes beside the letter in FP32 before its bundle is written. A CPU's
engine is run as it is; a TensorRT plan by Polygraphy's runners and comparator, and by our own runtime
beside them, so that neither can hide a fault of the other.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, Bundle, make_bundle
from gaitedge.config import HEIGHT, WIDTH
from gaitedge.engines import Engine, load
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import InputError, MachineError, one_line, require
from gaitedge.export.graph import LETTER, build_graph
from gaitedge.manifest import Agreement, Target

if TYPE_CHECKING:
    from gaitedge.config import GaitPartConfig
    from gaitedge.weights import Weights

__all__ = [
    "SHAPES",
    "TOLERANCES",
    "Tolerance",
    "as_runner",
    "check_agreement",
    "compare",
    "compare_plan",
    "compare_runners",
    "cosines",
    "letter",
    "measure",
    "require_runner",
]

# Batch and frames of the silhouettes on which an engine must agree with the letter.
SHAPES = ((1, 1), (1, 30), (2, 17))


@dataclass(frozen=True)
class Tolerance:
    """How far an engine may be from the letter; see Agreement for what the numbers mean."""

    relative_error: float
    cosine: float


TOLERANCES = {
    # Sums in another order. Two dozen random networks were within 7e-7.
    "fp32": Tolerance(relative_error=1e-4, cosine=0.99999),
    # Eleven bits. The paper's network with the shipped weights and eight random ones were within 9.2e-4 and
    # 0.999999 on a CPU, 150 small random networks within 1.3e-3 and 0.999996.
    "fp16": Tolerance(relative_error=5e-3, cosine=0.9999),
    # Eight bits of mantissa in every layer. The same networks were within 9e-3 and 0.9997.
    "bf16": Tolerance(relative_error=3e-2, cosine=0.999),
    # Seven bits and a sign, in the layers that a calibration chooses.
    "int8": Tolerance(relative_error=2e-1, cosine=0.98),
    # Three bits and a sign, and an exponent, in the same layers.
    "fp8": Tolerance(relative_error=2e-1, cosine=0.98),
}


def letter(config: GaitPartConfig, weights: Weights) -> Engine:
    """The paper's letter in FP32, in ONNX Runtime where it is installed: two runtimes share no bug.

    Raises MissingPackage where nothing is installed that could run it.
    """
    graphs = {FOLD_GRAPH: build_graph(config, weights, LETTER).SerializeToString()}
    name = "onnxruntime" if importlib.util.find_spec("onnxruntime") is not None else "auto"
    return load(make_bundle(config, weights, graphs, {}), engine=name, precision="fp32")


def compare(engine: Engine, reference: Engine, shapes: Sequence[tuple[int, int]] = SHAPES) -> Agreement:
    """Run both engines on the same blobs and tell how far they are apart.

    shapes: batch and frames of the blobs.
    """
    batches = _draw(shapes)
    found, wanted = ([one.embed(batch) for batch in batches] for one in (engine, reference))
    return measure(found, wanted, _runtime(reference))


def compare_plan(
    bundle: Bundle, target: Target, reference: Engine, shapes: Sequence[tuple[int, int]]
) -> Agreement:
    """Run a TensorRT plan beside the reference: in Polygraphy's runner and, where pycuda is, in our own.

    bundle: with the plan that `target` names; it need not be saved. Raises what compare_runners does.
    """
    require("polygraphy", "checking a TensorRT engine")
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    if target.build is None:
        raise InputError(f"{bundle.path}: this target has no plan")
    runners = [TrtRunner(EngineFromBytes(bundle.read(target.build.member)), name="TensorRT's engine")]
    with contextlib.ExitStack() as stack:
        if importlib.util.find_spec("pycuda") is not None:
            from gaitedge.engines.tensorrt import TensorRTEngine

            # Closed at the end: its memory is the next build's.
            runners.append(as_runner(stack.enter_context(TensorRTEngine(bundle, target, "to be checked"))))
        return compare_runners(runners, reference, target.precision, shapes)


def require_runner() -> None:
    """Raise MachineError where Polygraphy is there and cannot run an engine: to be told before a build."""
    require("polygraphy", "checking a TensorRT engine")
    from polygraphy.cuda import wrapper
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    try:
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):
            wrapper()
    except (OSError, PolygraphyException):
        raise MachineError(
            "checking a TensorRT engine needs CUDA's runtime, and Polygraphy finds no libcudart.so; install "
            "CUDA's toolkit, or name its folder in LD_LIBRARY_PATH (of pip: site-packages/nvidia/cu13/lib)"
        ) from None


def compare_runners(
    runners: Sequence[Any], reference: Engine, precision: str, shapes: Sequence[tuple[int, int]]
) -> Agreement:
    """Run Polygraphy's runners beside the reference on the same blobs; the worst of them counts.

    runners: polygraphy.backend.base.BaseRunner, input `silhouettes`, output `embeddings`; each is
    activated and deactivated here. Raises MachineError where one does not run or, by its name, does
    not agree within the precision's tolerance.
    """
    require("polygraphy", "checking a TensorRT engine")
    from polygraphy.comparator import Comparator
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    agreements: dict[str, list[Agreement]] = {}

    def judge(wanted: Any, found: Any) -> OrderedDict[str, bool]:
        """Polygraphy calls it for every iteration of every pair."""
        one = measure([found["embeddings"]], [wanted["embeddings"]], _runtime(reference))
        agreements.setdefault(found.runner_name, []).append(one)
        return OrderedDict(embeddings=_is_within(one, precision))

    everyone = [as_runner(reference), *runners]
    pairs = [(0, index) for index in range(1, len(everyone))]
    feed = [{"silhouettes": batch} for batch in _draw(shapes)]
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):  # it would print, on stdout too
        try:
            results = Comparator.run(everyone, data_loader=feed)
            verdict = Comparator.compare_accuracy(results, comparisons=pairs, compare_func=judge)
        except PolygraphyException as error:
            reason = one_line(error)
            raise MachineError(f"the engine was built and does not run: {reason}") from None
    worst = {name: _worst(found) for name, found in agreements.items()}
    for name, found in worst.items():
        check_agreement(name, precision, found)
    if not verdict or not worst:
        raise MachineError("Polygraphy's comparator found no agreement with the letter; nothing was written")
    return _worst(list(worst.values()))


def as_runner(engine: Engine) -> Any:
    """One of our engines as a polygraphy.backend.base.BaseRunner, named by its description."""
    from polygraphy.backend.base import BaseRunner
    from polygraphy.common import TensorMetadata

    class Runner(BaseRunner):  # type: ignore[misc]  # Polygraphy is not typed
        def infer_impl(self, feed_dict: dict[str, NDArray[np.uint8]]) -> OrderedDict[str, Any]:
            begin = time.perf_counter()
            embeddings = engine.embed(feed_dict["silhouettes"])
            self.inference_time = time.perf_counter() - begin
            return OrderedDict(embeddings=embeddings)

        def get_input_metadata_impl(self) -> TensorMetadata:
            return TensorMetadata().add("silhouettes", np.uint8, (None, None, HEIGHT, WIDTH))

    return Runner(name=_runtime(engine))


def measure(
    found: Sequence[NDArray[np.float32]], wanted: Sequence[NDArray[np.float32]], reference: str
) -> Agreement:
    """How far embeddings are from those that are wanted; each [batch, parts, dim], in the same order."""
    got, expected = np.concatenate(found), np.concatenate(wanted)
    tiny = np.finfo(np.float64).tiny
    with np.errstate(invalid="ignore"):  # of infinite values: they become NaN, which agrees with nothing
        error = np.abs(got.astype(np.float64) - expected).max() / max(np.abs(expected).max(), tiny)
        return Agreement(reference, float(error), float(cosines(got, expected).min()))


def check_agreement(engine: str, precision: str, agreement: Agreement) -> None:
    """Raise MachineError unless an engine, by its name, agrees within its precision's tolerance."""
    if _is_within(agreement, precision):
        return
    allowed = TOLERANCES[precision]
    way_out = "" if precision == "fp32" else "; take a higher precision, as in --precision fp32"
    raise MachineError(
        f"{engine.partition(';')[0]} does not compute this network: its embeddings are up to "
        f"{agreement.relative_error:.1e} of the largest value (allowed {allowed.relative_error:.0e}) and a "
        f"cosine of {agreement.cosine:.6f} (allowed {allowed.cosine}) from the letter's; nothing was "
        f"written{way_out}"
    )


def _is_within(agreement: Agreement, precision: str) -> bool:
    allowed = TOLERANCES[precision]
    # Written so that NaN fails.
    return agreement.relative_error <= allowed.relative_error and agreement.cosine >= allowed.cosine


def _worst(agreements: Sequence[Agreement]) -> Agreement:
    return Agreement(
        agreements[0].reference,
        float(np.max([one.relative_error for one in agreements])),  # NaN stays
        float(np.min([one.cosine for one in agreements])),
    )


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each part's two embeddings, [n, parts, dim] twice to [n, parts]; of equal ones it is 1."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    same = (a == b).all(axis=-1)
    found = (a * b).sum(axis=-1) / np.where(lengths == 0, np.inf, lengths)
    either: NDArray[np.float64] = np.where(same, 1.0, found.clip(-1, 1))
    return either


def _draw(shapes: Sequence[tuple[int, int]]) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [draw_silhouettes(batch, frames, rng) for batch, frames in shapes]


def _runtime(engine: Engine) -> str:
    return engine.description.partition(";")[0]  # without why it was taken
