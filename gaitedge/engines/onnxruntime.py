"""ONNX Runtime on the CPU, in FP32: the engine for machines without OpenVINO."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.config import HEIGHT, WIDTH
from gaitedge.engines import FRAMES_A_CALL, Choice, check_batch, check_sequence
from gaitedge.engines.executed import INT8_OPS, in_onnxruntime, parsed, shares
from gaitedge.engines.timing import LayerTime, LayerTimes
from gaitedge.errors import BundleError, InputError, MachineError, one_line, require
from gaitedge.machine.cpu import cpu_model

__all__ = ["OnnxRuntimeEngine", "OnnxRuntimeFrames", "options_for"]

# Of its profile: the type of a result -> ours.
_TYPES = {"float": "fp32", "float16": "fp16", "uint8": "int8", "int8": "int8", "int32": "int32"}
_MOST_EVENTS = 1_000_000  # that ONNX Runtime keeps; what comes later it leaves out


class _Session:
    """A bundle's graph in an ONNX Runtime session.

    The graph that ONNX Runtime itself has optimised, as ONNX or in its own format, starts no sooner:
    of 60 ms to the first embedding, the session is 10.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, choice: Choice, output: tuple[int, int]) -> None:
        """output: the last two lengths that the graph must give."""
        runtime = require("onnxruntime", "the ONNX Runtime engine")
        failures = require("onnxruntime.capi.onnxruntime_pybind11_state", "the ONNX Runtime engine")
        self.precision, self.description = choice.settle(
            f"ONNX Runtime {runtime.__version__}",
            cpu_model(),
            possible=choice.precision != "bf16",
            lacking="ONNX Runtime has no BF16 on the CPU",
        )
        runtime.disable_telemetry_events()
        try:
            session = runtime.InferenceSession(
                bundle.read(choice.graph),
                options_for(choice.threads, choice.precision),
                providers=["CPUExecutionProvider"],
            )
        except (
            failures.Fail,
            failures.InvalidArgument,
            failures.InvalidGraph,
            failures.InvalidProtobuf,
            failures.NotImplemented,
            failures.RuntimeException,
        ) as error:
            reason = one_line(error)
            raise BundleError(f"{bundle.path}: ONNX Runtime cannot use {choice.graph}: {reason}") from None
        self.config, self.fingerprint = bundle.config, bundle.fingerprint
        found = [list(port.shape[-2:]) for port in (*session.get_inputs(), *session.get_outputs())]
        wanted = [[HEIGHT, WIDTH], list(output)]
        if found != wanted:
            raise BundleError(f"{bundle.path}: {choice.graph} maps {found}, its manifest's network {wanted}")
        self._session = session
        self._profiled = (bundle, choice) if choice.layers else None
        self._failures = (failures.Fail, failures.RuntimeException)


class OnnxRuntimeEngine(_Session):
    """The whole network."""

    largest_batch = None

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        super().__init__(bundle, choice, (bundle.config.parts, bundle.config.embedding_dim))

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [batch, frames, 64, 44] to embeddings [batch, parts, dim], a fresh array.

        Raises SilhouetteError on another type or shape. A session may be called from several
        threads at once.
        """
        return _embed(self._session, silhouettes)

    def layer_times(self, calls: Sequence[NDArray[np.uint8]]) -> LayerTimes:
        """Run these calls in a session that writes a profile, which only one that ends does.

        Such a session is made for them, and is warm by a call that is not counted. Raises MachineError where
        the engine was not loaded with layers=True, or the calls are more than a profile holds.
        """
        if self._profiled is None:
            raise MachineError("ONNX Runtime tells of layers where the engine was loaded with layers=True")
        if not calls:
            raise InputError("there are no calls to time")
        bundle, choice = self._profiled
        runtime = require("onnxruntime", "the ONNX Runtime engine")
        onnx = require("onnx", "reading what ONNX Runtime runs")
        options = options_for(choice.threads, choice.precision)
        options.enable_profiling = True
        with tempfile.TemporaryDirectory() as folder:  # which nobody else may read
            options.profile_file_prefix = str(Path(folder) / "profile")
            options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
            session = runtime.InferenceSession(
                bundle.read(choice.graph), options, providers=["CPUExecutionProvider"]
            )
            _embed(session, calls[0])
            start = time.perf_counter()
            for silhouettes in calls:
                _embed(session, silhouettes)
            total = (time.perf_counter() - start) * 1e3
            events = json.loads(Path(session.end_profiling()).read_bytes())
            executed = in_onnxruntime(onnx.load(Path(folder) / "optimised.onnx"))
        if len(events) >= _MOST_EVENTS:
            raise MachineError(
                f"{len(calls)} calls are more than a profile of ONNX Runtime holds; give fewer"
            )
        share = shares(parsed(bundle, choice.graph), executed)
        return LayerTimes(
            [
                LayerTime(name, kind, share[name].nodes, precision, ms, share[name].feeds)
                for name, (kind, precision, ms) in _summed(events).items()
            ],
            total,
        )


def options_for(threads: int, precision: str) -> Any:
    """The options of a session with so many threads, for a graph in this precision."""
    runtime = require("onnxruntime", "the ONNX Runtime engine")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    levels = runtime.GraphOptimizationLevel
    # Of fp8 its optimiser makes what it has no kernels for.
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if precision == "fp8" else levels.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors only; what matters comes as an exception
    # Every walk has another length: a plan of its allocations would be kept for each.
    options.enable_mem_pattern = False
    return options


def _embed(session: Any, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
    (embeddings,) = session.run(["embeddings"], {"silhouettes": check_batch(silhouettes)})
    return np.asarray(embeddings, np.float32)


def _summed(events: list[dict[str, Any]]) -> dict[str, tuple[str, str | None, float]]:
    """Node -> what it does, the type of its result and its milliseconds, of all calls but the first."""
    runs = [event["ts"] + event["dur"] for event in events if event["name"] == "model_run"]
    found: dict[str, tuple[str, str | None, float]] = {}
    for event in events:
        if event["cat"] != "Node" or event["ts"] < min(runs):
            continue
        name, about = event["name"].removesuffix("_kernel_time"), event["args"]
        kind = next(iter(about["output_type_shape"][0]), "") if about["output_type_shape"] else ""
        precision = "int8" if about["op_name"] in INT8_OPS else _TYPES.get(kind)
        before = found[name][2] if name in found else 0.0
        found[name] = about["op_name"], precision, before + event["dur"] / 1e3
    return found


class OnnxRuntimeFrames(_Session):
    """The frame network, of the bundle's graph that ends with HP."""

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        super().__init__(bundle, choice, (bundle.config.parts, bundle.config.features))

    def part_features(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [n, 64, 44] to part features [n, parts, C], a fresh array.

        Raises SilhouetteError on another type or shape. Safe to call from several threads at once.
        """
        sequence = check_sequence(silhouettes, "silhouettes")
        features = []
        for start in range(0, len(sequence), FRAMES_A_CALL):
            block = sequence[None, start : start + FRAMES_A_CALL]
            try:
                features.append(self._session.run(["part_features"], {"silhouettes": block})[0][0])
            except self._failures as error:  # as of memory; to be told from a bug by who goes on
                raise MachineError(f"ONNX Runtime failed: {one_line(error)}") from error
        return np.concatenate(features)
