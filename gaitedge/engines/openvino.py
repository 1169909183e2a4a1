"""OpenVINO on the CPU: the fastest engine for x86 processors, in FP32 or BF16."""

from __future__ import annotations

import functools
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, Bundle
from gaitedge.config import HEIGHT, WIDTH
from gaitedge.engines import Choice, check_batch
from gaitedge.errors import BundleError, require
from gaitedge.machine.cpu import cpu_features

__all__ = ["OpenVINOEngine"]

# OpenVINO's own choice is BF16 wherever the processor has it, so the precision is always set.
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})


class OpenVINOEngine:
    """A bundle's graph, compiled once for all batch sizes and lengths.

    A compiled form for each shape would gain 2 % at a repeated length and cost 70 ms at a new one,
    where the dynamic form takes 10 to 15 ms more, once.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        openvino, core = _import(), _core()
        # Without the instructions OpenVINO converts back and forth, which is slower than FP32.
        able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision, self.description = choice.settle(
            f"OpenVINO {openvino.__version__.partition('-')[0]}",
            core.get_property("CPU", "FULL_DEVICE_NAME"),
            possible=choice.precision == "fp32" or (able and not _BF16_FEATURES.isdisjoint(cpu_features())),
            lacking="this processor has no BF16 instructions",
        )
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "INFERENCE_NUM_THREADS": choice.threads,
            # Two processes would pin their threads to the same cores; alone it gains nothing.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = core.compile_model(core.read_model(bundle.read(FOLD_GRAPH)), "CPU", settings)
            found = [str(port.partial_shape) for port in (*compiled.inputs, *compiled.outputs)]
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise BundleError(f"{bundle.path}: OpenVINO cannot use {FOLD_GRAPH}: {reason}") from None
        self.config, self.fingerprint = bundle.config, bundle.fingerprint
        wanted = [f"[?,?,{HEIGHT},{WIDTH}]", f"[?,{self.config.parts},{self.config.embedding_dim}]"]
        if found != wanted:
            raise BundleError(f"{bundle.path}: {FOLD_GRAPH} maps {found}, its manifest's network {wanted}")
        # One request behind a lock: two walks at once would only share the same cores.
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [batch, frames, 64, 44] to embeddings [batch, parts, dim], a fresh array.

        Raises SilhouetteError on another type or shape. Calls from several threads take turns.
        """
        batch = check_batch(silhouettes)
        with self._lock:
            self._request.infer([batch], share_inputs=True)
            return np.array(self._request.get_output_tensor(0).data, np.float32)


@functools.cache
def _core() -> Any:
    """OpenVINO's one core in this process, never given up.

    Each core gives the thread that makes it another stack for signals, and takes that away at its
    end. Of two cores the one made first must not end first: the next signal, such as Ctrl-C, would
    then find a stack that is gone, and crash the process.
    """
    return _import().Core()


def _import() -> ModuleType:
    """Import OpenVINO, and keep it from reporting that to Google Analytics, as it does by default: in a
    process that it forks off this one, with a number for this user that it writes to ~/intel."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # not importable
    try:
        return require("openvino", "the OpenVINO engine")
    finally:
        if sys.modules["openvino_telemetry"] is None:
            del sys.modules["openvino_telemetry"]
