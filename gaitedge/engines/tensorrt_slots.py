"""Calls in flight: what each needs on the GPU, and the pool that hands it out.

A slot runs one call at a time: the silhouettes go through pinned memory to the GPU, TensorRT runs, the
embeddings come back, all in the order of the slot's stream. While one slot's bytes travel another computes.

A shape that comes again gets a context and a CUDA graph of its own: the copies and all of TensorRT's
kernels, launched in a single call.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT, WIDTH
from gaitedge.engines.cuda_graphs import Graph, find_driver, record
from gaitedge.engines.cuda_memory import DeviceBuffer, Staging, gpu, make_stream
from gaitedge.engines.tensorrt_contexts import Contexts
from gaitedge.errors import MachineError
from gaitedge.machine.tensorrt import log

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["INPUT", "OUTPUT", "Plan", "Slots", "complaint"]

INPUT, OUTPUT = "silhouettes", "embeddings"
_REMEMBERED = 8  # shapes of a slot: of walks whose lengths differ few come again, windows always do


def complaint() -> str:
    """What TensorRT said of what went wrong, on one line; it is forgotten then."""
    said = "; ".join(dict.fromkeys(log().errors))
    log().clear()
    return said or "it did not say why"


class Plan:
    """A loaded plan: what all slots have in common.

    way_out: what to do where the GPU's memory does not suffice. size: parts and dim of an embedding.
    """

    def __init__(
        self,
        runtime: trt.Runtime,
        engine: trt.ICudaEngine,
        contexts: Contexts,
        size: tuple[int, int],
        way_out: str,
    ) -> None:
        self.runtime, self.engine, self.contexts = runtime, engine, contexts
        self.size, self.way_out = size, way_out
        self.driver, self.why_no_graphs = find_driver()

    def free(self) -> None:
        """Give the engine back, then the runtime that it came from; no slot may be left."""
        del self.engine
        del self.runtime

    def give_up_graphs(self, reason: str) -> None:
        """Launch everything piece by piece from now on."""
        self.driver, self.why_no_graphs = None, reason

    def make_context(self, stream: Any) -> trt.IExecutionContext:
        """A new context, in the only profile. Raises MachineError."""
        context = self.contexts.make(self.engine)
        if context is None:
            raise MachineError(f"TensorRT cannot make an execution context: {complaint()}; {self.way_out}")
        # 8.6 gives the profile to the first context alone, though the others may share it.
        if context.active_optimization_profile != 0:
            _demand(context.set_optimization_profile_async(0, int(stream.handle)), "set its profile")
            stream.synchronize()
        return context


class _Replay:
    """The graph of a shape, and the context that must keep that shape for it."""

    def __init__(self, context: trt.IExecutionContext, graph: Graph) -> None:
        self.context, self.graph = context, graph

    def free(self) -> None:
        self.graph.free()
        del self.context


class _Slot:
    """One call in flight. All of it needs the GPU's context."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stream = make_stream()
        self._input, self._output, self._activations = Staging(), Staging(), DeviceBuffer()
        self._context = plan.make_context(self._stream)
        """For every shape that has no graph."""
        self._shape: tuple[int, ...] | None = None
        """What that context is ready for."""
        self._recent: OrderedDict[tuple[int, ...], _Replay | None] = OrderedDict()
        """The shapes that came last, the newest last, and the graphs of those that came again."""

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As an engine does, for silhouettes that fit the plan."""
        shape = silhouettes.shape[:2]
        try:
            self._make_room(shape)
            self._input.host(_size_in(shape))[:] = silhouettes.reshape(-1)
            self._run(shape)
            self._stream.synchronize()
        except BaseException:
            self._forget()  # nothing is built upon what may be half done
            raise
        embeddings = self._output.host(self._size_out(shape)).view(np.float32)
        return np.array(embeddings.reshape(shape[0], *self._plan.size))  # a copy

    def free(self) -> None:
        """Give everything back: graphs before contexts, contexts before their memory, the stream last."""
        self._let_go()
        del self._context
        self._activations.free()
        self._input.free()
        self._output.free()
        del self._stream

    def _run(self, shape: tuple[int, ...]) -> None:
        """Put a call into the stream's queue, by a graph where the shape came before."""
        again, replay = shape in self._recent, self._recent.setdefault(shape, None)
        self._recent.move_to_end(shape)
        if len(self._recent) > _REMEMBERED:
            _, oldest = self._recent.popitem(last=False)
            if oldest is not None:
                oldest.free()
        driver = self._plan.driver
        if replay is not None:
            replay.graph.launch(int(self._stream.handle))
        elif again and driver is not None and (context := self._another_context()) is not None:
            self._recent[shape] = self._record(driver, context, shape)
        else:
            if self._shape != shape:
                self._prepare(self._context, shape)
                self._shape = shape
            self._enqueue(self._context, shape)

    def _another_context(self) -> trt.IExecutionContext | None:
        """A context for a graph, or None where there is no room for one: the slot's own serves without."""
        try:
            return self._plan.make_context(self._stream)
        except MachineError as error:
            self._plan.give_up_graphs(str(error))
            return None

    def _record(self, driver: Any, context: trt.IExecutionContext, shape: tuple[int, ...]) -> _Replay | None:
        """Run a shape in a context of its own, and record that for the next times.

        None where it cannot be recorded; it has run all the same.
        """
        self._prepare(context, shape)
        # The first run after a change of shape does what a graph must not hold.
        self._enqueue(context, shape)
        self._stream.synchronize()
        try:
            with gpu(self._plan.way_out):  # for its errors: the context is here already
                graph = record(driver, int(self._stream.handle), lambda: self._enqueue(context, shape))
        except MachineError as error:
            self._plan.give_up_graphs(str(error))
            return None
        return _Replay(context, graph)

    def _make_room(self, shape: tuple[int, ...]) -> None:
        wanted = ((self._input, _size_in(shape)), (self._output, self._size_out(shape)))
        if not all(staging.fits(size) for staging, size in wanted):
            self._let_go()
            for staging, size in wanted:
                staging.grow(size)

    def _prepare(self, context: trt.IExecutionContext, shape: tuple[int, ...]) -> None:
        """Tell a context its shapes, and where its tensors and its activations lie."""
        import tensorrt as trt

        contexts = self._plan.contexts
        dims: trt.Dims = trt.Dims([*shape, HEIGHT, WIDTH])
        _demand(context.set_input_shape(INPUT, dims), f"take {shape[0]} sequences of {shape[1]} frames")
        needed = contexts.needs(self._plan.engine, context)
        if needed > self._activations.size:
            self._let_go()
            self._activations.grow(needed)
        contexts.give(context, self._activations.address, self._activations.size)
        for name, staging in ((INPUT, self._input), (OUTPUT, self._output)):
            _demand(context.set_tensor_address(name, staging.device.address), f"take an address for {name}")

    def _enqueue(self, context: trt.IExecutionContext, shape: tuple[int, ...]) -> None:
        self._input.upload(_size_in(shape), self._stream)
        _demand(context.execute_async_v3(int(self._stream.handle)), "run")
        self._output.download(self._size_out(shape), self._stream)

    def _let_go(self) -> None:
        """Before memory moves: nothing may use it any more, nor remember where it lay."""
        self._stream.synchronize()
        self._forget()

    def _forget(self) -> None:
        """Give up all graphs, and what the slot's context is ready for. Which shapes came is kept."""
        self._shape = None
        for shape, replay in self._recent.items():
            self._recent[shape] = None
            if replay is not None:
                replay.free()

    def _size_out(self, shape: tuple[int, ...]) -> int:
        parts, dim = self._plan.size
        return shape[0] * parts * dim * np.dtype(np.float32).itemsize


class Slots:
    """A pool of slots. They are made when first needed: one thread alone uses one, and always the same."""

    def __init__(self, plan: Plan, most: int) -> None:
        """most: slots that there may be."""
        self._plan, self._most = plan, most
        self._idle: list[_Slot] = []
        self._made = 0
        self._closed = False
        self._changed = threading.Condition()

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run a call in the next slot that is idle. Raises MachineError."""
        with gpu(self._plan.way_out), self._slot() as slot:
            return slot.embed(silhouettes)

    def close(self) -> None:
        """Wait for the calls in flight, and give everything back."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._idle) == self._made)
            idle, self._idle, self._made = self._idle, [], 0
        try:
            with gpu(self._plan.way_out):
                for slot in idle:
                    slot.free()
                self._plan.free()
        except MachineError:
            # The call that met the failure has told of it. Nothing can be given back to a GPU that
            # failed: the driver takes it when the process ends.
            return

    @contextmanager
    def _slot(self) -> Iterator[_Slot]:
        slot = self._take()
        try:
            if slot is None:
                slot = _Slot(self._plan)
            yield slot
        finally:
            with self._changed:
                if slot is None:
                    self._made -= 1
                else:
                    self._idle.append(slot)
                self._changed.notify_all()

    def _take(self) -> _Slot | None:
        """An idle slot, or None where the caller is to make one."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._idle or self._made < self._most)
            if self._closed:
                raise ValueError("this TensorRT engine is closed")
            if self._idle:
                return self._idle.pop()  # the one used last, whose graphs are the likeliest
            self._made += 1
            return None


def _size_in(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1] * HEIGHT * WIDTH


def _demand(success: bool, what: str) -> None:
    if not success:
        raise MachineError(f"TensorRT cannot {what}: {complaint()}")
