"""ONNX Runtime on the CPU, in FP32: the engine for machines without OpenVINO."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.config import HEIGHT, WIDTH
from gaitedge.engines import FRAMES_A_CALL, Choice, check_batch, check_sequence
from gaitedge.errors import BundleError, MachineError, one_line, require
from gaitedge.machine.cpu import cpu_model

__all__ = ["OnnxRuntimeEngine", "OnnxRuntimeFrames"]


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
        options = runtime.SessionOptions()
        options.intra_op_num_threads = choice.threads
        levels = runtime.GraphOptimizationLevel
        # Of fp8 its optimiser makes what it has no kernels for.
        options.graph_optimization_level = (
            levels.ORT_DISABLE_ALL if choice.precision == "fp8" else levels.ORT_ENABLE_ALL
        )
        options.log_severity_level = 3  # errors only; what matters comes as an exception
        # Every walk has another length: a plan of its allocations would be kept for each.
        options.enable_mem_pattern = False
        try:
            session = runtime.InferenceSession(
                bundle.read(choice.graph), options, providers=["CPUExecutionProvider"]
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
        (embeddings,) = self._session.run(["embeddings"], {"silhouettes": check_batch(silhouettes)})
        return np.asarray(embeddings, np.float32)


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
