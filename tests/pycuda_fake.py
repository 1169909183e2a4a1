"""A small fake of a GPU with its two Python packages: pycuda's driver module, and cuda-python's.

Its streams are lazy: what is put into a stream's queue happens when somebody waits for the stream, so
that a result that is read too early, or memory that is freed too early, shows. A stream that records
keeps what it is told in a graph instead. All of it wants a context, as the real one does.

Its memory is real: an address is where the bytes lie in this process, so that the kernels, compiled for the
CPU, run on it. It begins as NaN, and is guarded on both sides.
"""

from __future__ import annotations

import enum
import importlib.machinery
import itertools
import sys
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Work = Callable[[], None]

_GUARD = 256  # bytes


class CudaError(Exception):
    """pycuda's Error; the others derive from it."""


class LogicError(CudaError):
    pass


class LaunchError(CudaError):
    pass


class OutOfMemory(CudaError):
    """pycuda's MemoryError."""


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class CUstreamCaptureMode(enum.IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class FakeGpu:
    """The device: its memory, and what was done to it."""

    def __init__(self) -> None:
        self.memory: dict[int, memoryview] = {}
        self.pinned: set[int] = set()
        self.streams: dict[int, Stream] = {}
        self.graphs: set[int] = set()
        """Those that were recorded and not given back."""
        self.calls: Counter[str] = Counter()
        self.order: list[str] = []
        """What was given back, in order."""
        self.capacity = 1 << 40
        self.failing: dict[str, CUresult | CudaError] = {}
        """Call -> what it shall fail with."""
        self.seconds = 0.0
        """How long a stream's queue takes."""
        self.busy, self.busiest = 0, 0
        """Streams that work at this moment, and the most that ever did."""
        self.retained = 0
        self.pushes = 0
        self.events: set[int] = set()
        self.timeline: list[str] = []
        """What streams did, in order: "upload", "kernel", "download", "event"."""
        self.clock = 0.0
        """The GPU's own, in milliseconds; it stands still between the works of streams."""
        self.takes = {"upload": 0.25, "kernel": 2.0, "download": 0.125, "event": 0.0}
        """Milliseconds of each work."""
        self.early_events = 0
        """How often an event shall have been reached already when it is asked for."""
        self._guarded: dict[int, NDArray[np.uint8]] = {}
        """Memory with its guards, that which was given back too: who still uses that ends no process."""
        self._stacks = threading.local()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    @property
    def stack(self) -> list[object]:
        """This thread's contexts."""
        if not hasattr(self._stacks, "contexts"):
            self._stacks.contexts = []
        stack: list[object] = self._stacks.contexts
        return stack

    def call(self, name: str) -> None:
        """Note a call of pycuda, which wants a context, and fail if it shall."""
        if not self.stack:
            raise LogicError(f"{name} failed: context is destroyed or none is current")
        self.calls[name] += 1
        failure = self.failing.get(name)
        if isinstance(failure, CudaError):
            raise failure

    def number(self) -> int:
        return next(self._numbers)

    def allocate(self, size: int) -> int:
        if size <= 0:
            raise LogicError("cuMemAlloc failed: invalid argument")
        if sum(map(len, self.memory.values())) + size > self.capacity:
            raise OutOfMemory("cuMemAlloc failed: out of memory")
        whole = np.full(size + 3 * _GUARD, 0xA5, np.uint8)
        start = _GUARD + -whole.ctypes.data % _GUARD  # a multiple of 256, as CUDA's
        whole[start : start + size] = 0xFF  # NaN
        address = whole.ctypes.data + start
        self._guarded[address] = whole
        self.memory[address] = memoryview(whole)[start : start + size]
        return address

    def release(self, address: int) -> None:
        """Take memory back. Fails where somebody wrote beside it."""
        memory, whole = self.memory.pop(address), self._guarded[address]
        start = address - whole.ctypes.data
        assert (whole[:start] == 0xA5).all(), "memory before an allocation was written"
        assert (whole[start + len(memory) :] == 0xA5).all(), "memory after an allocation was written"
        whole[:] = 0xFF

    def memory_info(self) -> tuple[int, int]:
        """Free and all bytes."""
        self.call("cuMemGetInfo")
        return self.capacity - sum(map(len, self.memory.values())), self.capacity

    def read(self, address: int, size: int) -> bytes:
        assert len(self.memory[address]) >= size
        return bytes(self.memory[address][:size])

    def write(self, address: int, data: bytes) -> None:
        assert len(self.memory[address]) >= len(data)
        self.memory[address][: len(data)] = data

    @contextmanager
    def working(self) -> Iterator[None]:
        with self._lock:
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        try:
            time.sleep(self.seconds)
            yield
        finally:
            with self._lock:
                self.busy -= 1

    @property
    def empty(self) -> bool:
        """Whether everything was given back but the primary context."""
        return not (self.memory or self.pinned or self.streams or self.graphs or self.events)


class Stream:
    """Of pycuda."""

    def __init__(self, gpu: FakeGpu, flags: int) -> None:
        assert flags == 1, "a stream that waits for the default one"
        gpu.call("cuStreamCreate")
        self.handle = gpu.number()
        self.queue: list[Work] = []
        self.recording: list[Work] | None = None
        self.spoiled = False
        self._gpu = gpu
        gpu.streams[self.handle] = self

    def put(self, work: Work, kind: str = "kernel") -> None:
        def run() -> None:
            work()
            self._gpu.timeline.append(kind)
            self._gpu.clock += self._gpu.takes[kind]

        (self.queue if self.recording is None else self.recording).append(run)

    def synchronize(self) -> None:
        queue, self.queue = self.queue, []  # where this fails, it failed
        self._gpu.call("cuStreamSynchronize")
        if self.recording is not None:
            self.spoiled = True
            raise LogicError("cuStreamSynchronize failed: operation not permitted when stream is capturing")
        if queue:
            with self._gpu.working():
                for work in queue:
                    work()


class _StreamHandle:
    """What Python has of a stream; it ends with this."""

    def __init__(self, stream: Stream, gpu: FakeGpu) -> None:
        self.handle, self.synchronize, self.put = stream.handle, stream.synchronize, stream.put
        self._gpu = gpu

    def __del__(self) -> None:
        self._gpu.order.append("stream")
        del self._gpu.streams[self.handle]


class Event:
    """Of pycuda."""

    def __init__(self, gpu: FakeGpu) -> None:
        gpu.call("cuEventCreate")
        self._gpu, self._number = gpu, gpu.number()
        self._at: float | None = None
        gpu.events.add(self._number)

    def record(self, stream: _StreamHandle) -> Event:
        self._gpu.call("cuEventRecord")
        assert self._gpu.streams[stream.handle].recording is None, "an event in a graph"
        self._at = None

        def reach() -> None:
            self._at = self._gpu.clock

        stream.put(reach, "event")
        return self

    def query(self) -> bool:
        self._gpu.call("cuEventQuery")
        if self._gpu.early_events:
            self._gpu.early_events -= 1
            return True
        return self._at is not None

    def time_since(self, start: Event) -> float:
        self._gpu.call("cuEventElapsedTime")
        if self._at is None or start._at is None:
            raise LogicError("cuEventElapsedTime failed: device not ready")
        return self._at - start._at

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            self._gpu.order.append("event")
            self._gpu.events.remove(self._number)


class _DeviceAllocation:
    def __init__(self, gpu: FakeGpu, size: int) -> None:
        gpu.call("cuMemAlloc")
        self._address, self._gpu = gpu.allocate(size), gpu

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._gpu.call("cuMemFree")
        self._gpu.order.append("device memory")
        self._gpu.release(self._address)


class _HostAllocation:
    def __init__(self, gpu: FakeGpu, size: int) -> None:
        gpu.call("cuMemHostAlloc")
        self._data, self._gpu, self.number = np.zeros(size, np.uint8), gpu, gpu.number()
        gpu.pinned.add(self.number)
        self.__array_interface__ = self._data.__array_interface__

    def free(self) -> None:
        self._gpu.call("cuMemFreeHost")
        self._gpu.order.append("pinned memory")
        self._gpu.pinned.remove(self.number)


class _Context:
    def __init__(self, gpu: FakeGpu) -> None:
        self._gpu = gpu
        gpu.retained += 1

    def push(self) -> None:
        self._gpu.pushes += 1
        self._gpu.stack.append(self)

    def pop(self) -> None:
        assert self._gpu.stack.pop() is self

    def detach(self) -> None:
        assert not self._gpu.stack
        self._gpu.order.append("context")


def _pinned(gpu: FakeGpu, array: NDArray[np.uint8]) -> bool:
    """Whether an array lies in pinned memory that was not given back."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, _HostAllocation) and base.number in gpu.pinned


def pycuda_driver(gpu: FakeGpu) -> types.ModuleType:
    """The module pycuda.driver, as far as GaitEdge uses it."""
    cuda: Any = types.ModuleType("pycuda.driver")
    cuda.Error, cuda.LogicError, cuda.LaunchError, cuda.MemoryError = (
        CudaError,
        LogicError,
        LaunchError,
        OutOfMemory,
    )

    class Device:
        def __init__(self, number: int) -> None:
            assert number == 0
            assert gpu.calls["cuInit"], "pycuda.driver.init() was not called"

        def retain_primary_context(self) -> _Context:
            return _Context(gpu)

    def upload(dest: int, src: NDArray[np.uint8], stream: _StreamHandle) -> None:
        gpu.call("cuMemcpyHtoDAsync")

        def copy() -> None:
            assert _pinned(gpu, src)
            gpu.write(dest, src.tobytes())

        stream.put(copy, "upload")

    def download(dest: NDArray[np.uint8], src: int, stream: _StreamHandle) -> None:
        gpu.call("cuMemcpyDtoHAsync")

        def copy() -> None:
            assert _pinned(gpu, dest)
            dest[:] = np.frombuffer(gpu.read(src, len(dest)), np.uint8)

        stream.put(copy, "download")

    def empty(shape: int, dtype: Any) -> NDArray[np.uint8]:
        assert dtype == np.uint8
        return np.asarray(_HostAllocation(gpu, shape))

    cuda.Device, cuda.init = Device, lambda: gpu.calls.update(["cuInit"])
    cuda.Stream = lambda flags: _StreamHandle(Stream(gpu, flags), gpu)
    cuda.mem_alloc, cuda.pagelocked_empty = (lambda size: _DeviceAllocation(gpu, size)), empty
    cuda.Event = lambda: Event(gpu)
    cuda.mem_get_info = gpu.memory_info
    cuda.memcpy_htod_async, cuda.memcpy_dtoh_async = upload, download
    cuda.fake = gpu
    return cuda


def cuda_python_driver(gpu: FakeGpu, name: str = "cuda.bindings.driver") -> types.ModuleType:
    """cuda-python's module of the driver, as far as GaitEdge uses it; functions give tuples."""
    driver: Any = types.ModuleType(name)
    driver.CUresult, driver.CUstreamCaptureMode = CUresult, CUstreamCaptureMode

    def noted(function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
        def run(*arguments: Any) -> tuple[Any, ...]:
            assert gpu.stack, "no context"
            gpu.calls[function.__name__] += 1
            if (failure := gpu.failing.get(function.__name__)) is not None:
                if function is cuStreamEndCapture:  # a recording ends in any case
                    gpu.streams[arguments[0]].recording = None
                return (failure, None)
            return function(*arguments)

        setattr(driver, function.__name__, run)
        return run

    def cuStreamBeginCapture(stream: int, mode: CUstreamCaptureMode) -> tuple[Any, ...]:  # noqa: N802
        assert mode is CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        assert not gpu.streams[stream].queue
        gpu.streams[stream].recording = []
        return (CUresult.CUDA_SUCCESS,)

    def cuStreamEndCapture(stream: int) -> tuple[Any, ...]:  # noqa: N802
        found = gpu.streams[stream]
        works, found.recording = found.recording, None
        if found.spoiled:
            found.spoiled = False
            return (CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None)
        number = gpu.number()
        gpu.graphs.add(number)
        return (CUresult.CUDA_SUCCESS, (number, works))

    def cuGraphInstantiate(graph: Any, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert flags == 0
        number = gpu.number()
        gpu.graphs.add(number)
        return (CUresult.CUDA_SUCCESS, (number, graph[1]))

    def cuGraphDestroy(graph: Any) -> tuple[Any, ...]:  # noqa: N802
        gpu.graphs.remove(graph[0])
        return (CUresult.CUDA_SUCCESS,)

    def cuGraphExecDestroy(executable: Any) -> tuple[Any, ...]:  # noqa: N802
        gpu.order.append("graph")
        gpu.graphs.remove(executable[0])
        return (CUresult.CUDA_SUCCESS,)

    def cuGraphLaunch(executable: Any, stream: int) -> tuple[Any, ...]:  # noqa: N802
        assert executable[0] in gpu.graphs
        for work in executable[1]:
            gpu.streams[stream].queue.append(work)
        return (CUresult.CUDA_SUCCESS,)

    for function in (cuStreamBeginCapture, cuStreamEndCapture, cuGraphInstantiate, cuGraphDestroy):
        noted(function)
    for function in (cuGraphExecDestroy, cuGraphLaunch):
        noted(function)
    return driver


def install(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu, cuda_python: str | None) -> None:
    """Make the fakes what is imported. cuda_python: the name of its driver's module; None without it."""
    package: Any = types.ModuleType("pycuda")
    package.__spec__ = importlib.machinery.ModuleSpec("pycuda", None)  # it is installed
    package.driver = pycuda_driver(gpu)
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", package.driver)
    for name in ("cuda", "cuda.bindings", "cuda.bindings.driver", "cuda.cuda"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]  # not importable
    if cuda_python is not None:
        for end in (index for index, letter in enumerate(cuda_python + ".") if letter == "."):
            part = cuda_python[:end]
            module = cuda_python_driver(gpu, part) if part == cuda_python else types.ModuleType(part)
            module.__path__ = []  # type: ignore[attr-defined]  # a package
            monkeypatch.setitem(sys.modules, part, module)
