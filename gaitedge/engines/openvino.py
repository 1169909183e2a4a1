"""OpenVINO on the CPU: the fastest engine for x86 processors, in FP32 or BF16."""

from __future__ import annotations

import functools
import io
import json
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.config import HEIGHT, WIDTH
from gaitedge.engines import FRAMES_A_CALL, Choice, blobs, check_batch, check_sequence
from gaitedge.engines.executed import in_openvino, parsed, shares
from gaitedge.engines.timing import CallTimes, LayerTime, LayerTimes
from gaitedge.errors import BundleError, InputError, MachineError, one_line, require
from gaitedge.files import sha256
from gaitedge.machine.cpu import cpu_features

__all__ = [
    "OpenVINOEngine",
    "OpenVINOFrames",
    "has_bf16",
    "import_openvino",
    "settings_for",
    "shared_core",
]

# OpenVINO's own choice is BF16 wherever the processor has it, so the precision is always set.
_BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})


class _Compiled:
    """A bundle's graph, compiled once for all batch sizes and lengths.

    A compiled form for each shape would gain 2 % at a repeated length and cost 70 ms at a new one,
    where the dynamic form takes 10 to 15 ms more, once.

    What was compiled of a bundle that was exported for the target "cpu" is kept for the next start
    (blobs.py): the paper's network is then loaded in 96 ms instead of 117, on two cores of an AMD EPYC. It
    is kept when the engine is given up or the process ends, so that no start waits for it.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, choice: Choice, output: str) -> None:
        """output: the shape that the graph must give, as OpenVINO writes it."""
        openvino, core = import_openvino(), shared_core()
        able = has_bf16()
        self.precision, self.description = choice.settle(
            f"OpenVINO {openvino.__version__.partition('-')[0]}",
            core.get_property("CPU", "FULL_DEVICE_NAME"),
            possible=choice.precision != "bf16" or able,
            lacking="this processor has no BF16 instructions",
        )
        settings = settings_for(self.precision, choice.threads)
        if choice.layers:
            settings["PERF_COUNT"] = True
        # What was compiled with counters serves no later start, and what was compiled without has none.
        key = None if choice.layers else _key(core, openvino.__version__, bundle, choice.graph, settings)
        try:
            compiled = _recalled(core, key, settings)
            kept = compiled is not None
            if compiled is None:
                compiled = core.compile_model(core.read_model(bundle.read(choice.graph)), "CPU", settings)
            found = [str(port.partial_shape) for port in (*compiled.inputs, *compiled.outputs)]
        except RuntimeError as error:
            reason = one_line(error)
            raise BundleError(f"{bundle.path}: OpenVINO cannot use {choice.graph}: {reason}") from None
        self.config, self.fingerprint = bundle.config, bundle.fingerprint
        wanted = [f"[?,?,{HEIGHT},{WIDTH}]", output]
        if found != wanted:
            raise BundleError(f"{bundle.path}: {choice.graph} maps {found}, its manifest's network {wanted}")
        # One request behind a lock: two walks at once would only share the same cores.
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()
        self._inferences = 0
        self._counted = (bundle, choice.graph, compiled) if choice.layers else None
        if key is not None and not kept:
            weakref.finalize(self, _keep, key, compiled)

    def _infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._lock:
            return self._locked(batch)

    def _locked(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            # Not infer(): with one thread OpenVINO 2026.4 lets it pass where memory for the activations
            # cannot be had, and leaves the embeddings of the call before in place.
            self._request.start_async([batch], share_inputs=True)
            self._request.wait()
        except RuntimeError as error:
            raise MachineError(f"OpenVINO failed: {one_line(error)}; give it less at once") from error
        self._inferences += 1
        return np.array(self._request.get_output_tensor(0).data, np.float32)


class OpenVINOEngine(_Compiled):
    """The whole network."""

    largest_batch = None

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        super().__init__(bundle, choice, f"[?,{bundle.config.parts},{bundle.config.embedding_dim}]")

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [batch, frames, 64, 44] to embeddings [batch, parts, dim], a fresh array.

        Raises SilhouetteError on another type or shape. Calls from several threads take turns.
        """
        return self._infer(check_batch(silhouettes))

    def embed_timed(self, silhouettes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], CallTimes]:
        """As embed, and OpenVINO's own time of the inference."""
        batch = check_batch(silhouettes)
        with self._lock:
            embeddings = self._locked(batch)
            return embeddings, CallTimes(compute=self._request.latency)

    def layer_times(self, calls: Sequence[NDArray[np.uint8]]) -> LayerTimes:
        """Run these calls and sum up OpenVINO's performance counters, a layer a node that ran.

        Raises MachineError where the engine was not loaded with layers=True.
        """
        if self._counted is None:
            raise MachineError("OpenVINO counts no layers of an engine that was loaded without layers=True")
        if not calls:
            raise InputError("there are no calls to time")
        bundle, member, compiled = self._counted
        total = 0.0
        with self._lock:
            before = self._counters()
            for silhouettes in calls:
                start = time.perf_counter()
                self._locked(check_batch(silhouettes))
                total += time.perf_counter() - start
            after = self._counters()
        executed = in_openvino(compiled)
        share = shares(parsed(bundle, member), executed)
        precision = {one.name: one.precision for one in executed}
        products = {one.name for one in executed if one.product}
        layers = []
        for name, (kind, ms) in after.items():
            was = before[name][1] if name in before else 0.0
            if not ms and not was and name not in products:  # not even a microsecond, or nothing to do at all
                continue
            # May be below 0, by the rounding: over several times that they are read it evens out.
            spent = ms - was
            layers.append(LayerTime(name, kind, share[name].nodes, precision[name], spent, share[name].feeds))
        return LayerTimes(layers, total * 1e3)

    def _counters(self) -> dict[str, tuple[str, float]]:
        """Node -> what it does, and its milliseconds in all inferences so far.

        OpenVINO gives the mean of all of them, in whole microseconds, rounded down.
        """
        if not self._inferences:
            return {}
        return {
            counter.node_name: (counter.node_type, counter.real_time.total_seconds() * 1e3 * self._inferences)
            for counter in self._request.profiling_info
        }


class OpenVINOFrames(_Compiled):
    """The frame network, of the bundle's graph that ends with HP."""

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        super().__init__(bundle, choice, f"[?,?,{bundle.config.parts},{bundle.config.features}]")

    def part_features(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [n, 64, 44] to part features [n, parts, C], a fresh array.

        Raises SilhouetteError on another type or shape. Calls from several threads take turns.
        """
        sequence = check_sequence(silhouettes, "silhouettes")
        blocks = (sequence[start : start + FRAMES_A_CALL] for start in range(0, len(sequence), FRAMES_A_CALL))
        return np.concatenate([self._infer(block[None])[0] for block in blocks])


def settings_for(precision: str, threads: int) -> dict[str, Any]:
    """What OpenVINO is to compile a graph with, whose layers in floating point run in `precision`."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        # Of an int8 graph too: for the layers that it leaves in floating point.
        "INFERENCE_PRECISION_HINT": "bf16" if precision != "fp32" and has_bf16() else "f32",
        "INFERENCE_NUM_THREADS": threads,
        # Two processes would pin their threads to the same cores; alone it gains nothing.
        "ENABLE_CPU_PINNING": False,
    }


def _key(core: Any, version: str, bundle: Bundle, member: str, settings: dict[str, Any]) -> str | None:
    """What a blob depends on, as one number; None where the bundle's are not kept."""
    graph = bundle.manifest.members.get(member)
    if graph is None or bundle.manifest.target("cpu") is None:
        return None
    processor = [core.get_property("CPU", "FULL_DEVICE_NAME"), *sorted(cpu_features())]
    return sha256(json.dumps([version, processor, settings, graph.sha256], sort_keys=True).encode())


def _recalled(core: Any, key: str | None, settings: dict[str, Any]) -> Any:
    """The compiled graph that was kept under this key, or None."""
    blob = blobs.recall(key) if key is not None else None
    if blob is None:
        return None
    try:
        return core.import_model(blob, "CPU", settings)
    except RuntimeError:  # this OpenVINO has its own reasons against it: compile, and keep that
        return None


def _keep(key: str, compiled: Any) -> None:
    stream = io.BytesIO()
    try:
        compiled.export_model(stream)
    except RuntimeError:  # as from OpenVINO on a processor for which it has no such form
        return
    blobs.keep(key, stream.getvalue())


def has_bf16() -> bool:
    """Whether this processor computes in BF16: without the instructions OpenVINO converts back and forth,
    which is slower than FP32."""
    capable = "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return capable and not _BF16_FEATURES.isdisjoint(cpu_features())


@functools.cache
def shared_core() -> Any:
    """OpenVINO's one core in this process, never given up.

    Each core gives the thread that makes it another stack for signals, and takes that away at its
    end. Of two cores the one made first must not end first: the next signal, such as Ctrl-C, would
    then find a stack that is gone, and crash the process.
    """
    return import_openvino().Core()


def import_openvino() -> ModuleType:
    """Import OpenVINO, and keep it from reporting that to Google Analytics, as it does by default: in a
    process that it forks off this one, with a number for this user that it writes to ~/intel."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # not importable
    try:
        return require("openvino", "the OpenVINO engine")
    finally:
        if sys.modules["openvino_telemetry"] is None:
            del sys.modules["openvino_telemetry"]
