"""The part of tests/tensorrt_fake.py that runs on the fake GPU of tests/pycuda_fake.py: engine and contexts.

An embedding is a digest of its silhouettes, so that a mix-up of sequences, threads or buffers shows.
What the real one forbids fails here too: a replay after the context has changed, a recording before the
first run with a shape, memory that is too small or was given back.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

ACTIVATIONS = 1000  # bytes a frame


def digest(silhouettes: NDArray[np.uint8], parts: int, dim: int) -> NDArray[np.float32]:
    """What the fake gives for silhouettes [batch, frames, 64, 44]: of every pixel, and where it is."""
    frames = silhouettes.astype(np.int64).sum((2, 3)) * np.arange(1, silhouettes.shape[1] + 1)
    rows = frames.sum(1) + 7 * silhouettes[:, :, 32].astype(np.int64).sum((1, 2))
    ramp = np.arange(parts * dim).reshape(parts, dim)
    return np.asarray((rows % 65521)[:, None, None] + ramp, np.float32)


def add_engine(trt: Any, recorded: Any, major: int) -> None:
    if major >= 10:

        class ExecutionContextAllocationStrategy:
            STATIC, ON_PROFILE_CHANGE, USER_MANAGED = "static", "on profile change", "user managed"

        trt.ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy

    class IExecutionContext:
        def __init__(self, engine: Any, managed: bool) -> None:
            self.engine, self.managed = engine, managed
            # 8.6 gives the profile to the first context only; another may be told to share it.
            self.active_optimization_profile = 0 if major >= 10 or next(engine.numbers) == 0 else -1
            self.shapes, self.addresses = dict[str, tuple[int, ...]](), dict[str, int]()
            self.memory: tuple[int, int] | None = None
            self.generation = 0
            self.ran = False
            self.profiler: Any = None
            self.enqueue_emits_profile = True
            self.measured = False
            engine.contexts.add(self)

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "device_memory":
                assert major < 10, "by its size from 10 on"
                self._change("device_memory")
                self.memory = (value, self.engine.device_memory_size)
            else:
                super().__setattr__(name, value)

        def _change(self, what: str) -> None:
            self.generation += 1
            self.ran = False
            recorded.runs.append(what)

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            assert profile_index == 0
            assert _gpu().streams[stream_handle] is not None
            self._change("profile")
            self.active_optimization_profile = 0
            return True

        def set_input_shape(self, name: str, shape: Any) -> bool:
            low, _, high = self.engine.plan["shapes"][name]
            fits = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
            if fits:
                self._change(f"shape {shape[0]}x{shape[1]}")
                self.shapes[name] = tuple(shape)
            return fits

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._change(f"address of {name}")
            self.addresses[name] = memory
            return memory % 256 == 0

        def execute_async_v3(self, stream_handle: int) -> bool:
            gpu = _gpu()
            gpu.call("execute_async_v3")
            recorded.runs.append("run")
            stream = gpu.streams[stream_handle]
            if recorded.runs_fail:
                self.engine._say("ERROR", recorded.runs_fail)
                return False
            if stream.recording is not None and (recorded.no_recording or not self.ran):
                stream.spoiled = True
                self.engine._say("ERROR", "operation not permitted when stream is capturing")
                return False
            assert self.active_optimization_profile == 0
            shape = self.shapes["silhouettes"]
            assert self.managed
            assert self.memory is not None
            if self.profiler is not None:
                assert self.profiler.initialised
                assert not self.enqueue_emits_profile, "a run that waits for the GPU by itself"
                assert stream.recording is None
            assert self.memory[1] >= self._needed()
            self.ran = True
            generation, context = self.generation, weakref.ref(self)

            def compute() -> None:
                found = context()
                assert found is not None, "a graph outlived its context"
                assert found.generation == generation, "a graph was launched after its context had changed"
                address, size = found.memory
                gpu.read(address, size)
                data = gpu.read(found.addresses["silhouettes"], int(np.prod(shape)))
                silhouettes = np.frombuffer(data, np.uint8).reshape(shape)
                embeddings = digest(silhouettes, *found.engine.embedding)
                gpu.write(found.addresses["embeddings"], embeddings.tobytes())
                found.measured = found.profiler is not None

            stream.put(compute)
            return True

        def report_to_profiler(self) -> bool:
            """Of the last run; the n-th layer takes n times the silhouettes' batch, in milliseconds."""
            recorded.runs.append("report")
            if not self.measured or recorded.reports_fail:
                self.engine._say("ERROR", recorded.reports_fail or "nothing ran")
                return False
            self.measured = False
            for number, layer in enumerate(recorded.layers, 1):
                ms = float(number * self.shapes["silhouettes"][0])
                self.profiler.report_layer_time(layer["Name"], ms)
            return True

        def _needed(self) -> int:
            batch, frames = self.shapes["silhouettes"][:2]
            return ACTIVATIONS * batch * frames if major >= 10 else int(self.engine.device_memory_size)

    if major >= 10:

        def set_device_memory(self: Any, memory: int, size: int) -> None:
            self._change("device_memory")
            self.memory = (memory, size)

        IExecutionContext.update_device_memory_size_for_shapes = lambda self: self._needed()  # type: ignore[attr-defined]
        IExecutionContext.set_device_memory = set_device_memory  # type: ignore[attr-defined]

    class ICudaEngine:
        def __init__(self, plan: dict[str, Any], logger: Any) -> None:
            self.plan, self._logger = plan, logger
            self.embedding: tuple[int, int] = tuple(plan.get("embedding", (16, 256)))
            self.numbers = itertools.count()
            self.contexts: weakref.WeakSet[Any] = weakref.WeakSet()
            recorded.engines.add(self)

        def _say(self, severity: str, text: str) -> None:
            self._logger.log(trt.ILogger.Severity[severity], text)

        def _tensors(self) -> dict[str, tuple[str, str, list[int]]]:
            found = {
                "silhouettes": ("INPUT", "UINT8", [-1, -1, 64, 44]),
                "embeddings": ("OUTPUT", "FLOAT", [-1, *self.embedding]),
            }
            return {**found, **self.plan.get("tensors", {})}

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors())

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors())[index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode[self._tensors()[name][0]]

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType[self._tensors()[name][1]]

        def get_tensor_shape(self, name: str) -> Any:
            return trt.Dims(self._tensors()[name][2])

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
            assert profile_index == 0
            return [trt.Dims(shape) for shape in self.plan["shapes"][name]]

        def create_execution_context(self, strategy: Any = None) -> Any:
            return self._context(managed=major >= 10 and strategy == "user managed")

        def _context(self, managed: bool) -> Any:
            if managed and "pycuda.driver" in sys.modules:  # the builder's inspector has no need of it
                _gpu().call("a context")
            if len(self.contexts) >= recorded.most_contexts:
                self._say("ERROR", "Error Code 2: OutOfMemory (Requested size was 4096 bytes.)")
                return None
            return IExecutionContext(self, managed)

        def create_engine_inspector(self) -> Any:
            return trt.EngineInspector()

    if major < 10:
        largest = property(
            lambda self: ACTIVATIONS * int(np.prod(self.plan["shapes"]["silhouettes"][2][:2])), None
        )
        ICudaEngine.device_memory_size = largest  # type: ignore[attr-defined]
        ICudaEngine.create_execution_context_without_device_memory = (  # type: ignore[attr-defined]
            lambda self: self._context(managed=True)
        )
    trt.ICudaEngine, trt.IExecutionContext = ICudaEngine, IExecutionContext


def _gpu() -> Any:
    return sys.modules["pycuda.driver"].fake  # type: ignore[attr-defined]
