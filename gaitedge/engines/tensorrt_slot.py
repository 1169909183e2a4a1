"""One call in flight: what it needs on the GPU, and the order in which that works.

The silhouettes go through pinned memory to the GPU, TensorRT runs, the embeddings come back, all in the
order of the slot's stream.

A shape that comes again gets a context and a CUDA graph of its own: the copies and all of TensorRT's
kernels, launched in a single call. A timed call needs its copies apart, with events between: the second of a
shape gets a graph of the network alone, from the same context.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT, WIDTH
from gaitedge.engines.cuda_events import CallClock
from gaitedge.engines.cuda_graphs import Graph, record
from gaitedge.engines.cuda_memory import DeviceBuffer, Staging, drain, gpu, make_stream
from gaitedge.engines.tensorrt_inspector import inspect, read_layers
from gaitedge.engines.tensorrt_plan import INPUT, OUTPUT, Plan, demand
from gaitedge.engines.tensorrt_profiler import Profiler
from gaitedge.engines.timing import CallTimes, LayerTimes
from gaitedge.errors import MachineError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Slot"]

_REMEMBERED = 8  # shapes of a slot: of walks whose lengths differ few come again, windows always do
_Work = Literal["call", "network"]
"""What a graph holds: all of a plain call, or the network of a timed one."""


class _Shape:
    """A shape that came, and the graphs of it. They share a context, which must keep that shape for them."""

    def __init__(self) -> None:
        self.context: trt.IExecutionContext | None = None
        self.graphs: dict[_Work, Graph | None] = {}
        """For what the shape came, and what was recorded of that."""

    def forget(self) -> None:
        """Give the graphs up, then their context. For what the shape came is kept."""
        for work, graph in self.graphs.items():
            self.graphs[work] = None
            if graph is not None:
                graph.free()
        self.context = None


class Slot:
    """One call in flight. All of it needs the GPU's context."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stream = make_stream()
        self._input, self._output, self._activations = Staging(), Staging(), DeviceBuffer()
        self._context = plan.make_context(self._stream)
        """For every shape that has no graph."""
        self._shape: tuple[int, ...] | None = None
        """What that context is ready for."""
        self._recent: OrderedDict[tuple[int, ...], _Shape] = OrderedDict()
        """The shapes that came last, the newest last."""
        self._clock: CallClock | None = None
        """Made for the first timed call."""

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As an engine does, for silhouettes that fit the plan."""
        shape = silhouettes.shape[:2]
        try:
            self._fill(silhouettes)
            self._run(shape)
            self._stream.synchronize()
        except BaseException:
            self._give_up()
            raise
        return self._embeddings(shape)

    def embed_timed(self, silhouettes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], CallTimes]:
        """The same, and what its pieces took. Everything is ready before the clock starts."""
        shape = silhouettes.shape[:2]
        try:
            if self._clock is None:
                self._clock = CallClock(self._stream)
            self._fill(silhouettes)
            network = self._network(shape)
            self._clock.enqueue(lambda: self._upload(shape), network, lambda: self._download(shape))
            self._stream.synchronize()
            times = self._clock.read()
        except BaseException:
            self._give_up()
            raise
        return self._embeddings(shape), times

    def layer_times(self, calls: Sequence[NDArray[np.uint8]]) -> LayerTimes:
        """Run calls in a context of their own, to which a profiler is attached; no graph takes part.

        The first of a shape runs twice, for the first run after a change of shape does more.
        """
        profiler, seconds = Profiler(), 0.0
        ready: tuple[int, ...] | None = None
        try:
            context = self._plan.make_context(self._stream)
            try:
                profiler.attach(context)
                for silhouettes in calls:
                    shape = silhouettes.shape[:2]
                    if shape != ready:
                        self._fill(silhouettes)
                        self._prepare(context, shape)
                        self._enqueue(context, shape)
                        self._stream.synchronize()
                        ready = shape
                    start = time.perf_counter()
                    self._fill(silhouettes)
                    self._enqueue(context, shape)
                    self._stream.synchronize()
                    self._embeddings(shape)
                    seconds += time.perf_counter() - start
                    profiler.count(context)
                layers = read_layers(inspect(self._plan.engine, context))
                return LayerTimes(profiler.sums(layers), seconds * 1e3)
            finally:
                drain(self._stream)  # what an error left running still needs it
                del context  # before its profiler
        except BaseException:
            self._give_up()
            raise

    def free(self) -> None:
        """Give everything back: graphs before contexts, contexts before their memory, the stream last."""
        self._let_go()
        del self._context
        self._activations.free()
        self._input.free()
        self._output.free()
        if self._clock is not None:
            self._clock.free()
        del self._stream

    def _run(self, shape: tuple[int, ...]) -> None:
        """Put a call into the stream's queue, by a graph where the shape came before."""
        again, found = self._look_up(shape, "call")
        graph = found.graphs["call"]
        if graph is not None:
            graph.launch(int(self._stream.handle))
        elif not (again and self._record(found, shape, "call", self._enqueue)):
            self._make_ready(shape)
            self._enqueue(self._context, shape)

    def _network(self, shape: tuple[int, ...]) -> Callable[[], None]:
        """What puts the network alone into the stream's queue: its graph where the shape came before."""
        again, found = self._look_up(shape, "network")
        if again and found.graphs["network"] is None:
            self._record(found, shape, "network", self._execute)
        graph = found.graphs["network"]
        if graph is not None:
            return lambda: graph.launch(int(self._stream.handle))
        self._make_ready(shape)
        return lambda: self._execute(self._context, shape)

    def _look_up(self, shape: tuple[int, ...], work: _Work) -> tuple[bool, _Shape]:
        """Whether the shape came for this before, and what is known of it; the oldest one is forgotten."""
        found = self._recent.get(shape) or self._recent.setdefault(shape, _Shape())
        again = work in found.graphs
        found.graphs.setdefault(work, None)
        self._recent.move_to_end(shape)
        if len(self._recent) > _REMEMBERED:
            _, oldest = self._recent.popitem(last=False)
            oldest.forget()
        return again, found

    def _record(
        self,
        found: _Shape,
        shape: tuple[int, ...],
        work: _Work,
        run: Callable[[trt.IExecutionContext, tuple[int, ...]], None],
    ) -> bool:
        """Run a shape in the context of its graphs, and record that for the next times.

        Whether it has run: not where there is no room for a context, and where nothing can be recorded.
        """
        driver = self._plan.driver
        if driver is None:
            return False
        context = found.context
        if context is None:
            context = self._another_context()
            if context is None:
                return False
            self._prepare(context, shape)
        # The first run after a change of shape does what a graph must not hold.
        run(context, shape)
        self._stream.synchronize()
        try:
            with gpu(self._plan.way_out):  # for its errors: the context is here already
                graph = record(driver, int(self._stream.handle), lambda: run(context, shape))
        except MachineError as error:
            self._plan.give_up_graphs(str(error))
        else:
            found.context, found.graphs[work] = context, graph
        return True

    def _another_context(self) -> trt.IExecutionContext | None:
        """A context for a graph, or None where there is no room for one: the slot's own serves without."""
        try:
            return self._plan.make_context(self._stream)
        except MachineError as error:
            self._plan.give_up_graphs(str(error))
            return None

    def _fill(self, silhouettes: NDArray[np.uint8]) -> None:
        """Bring silhouettes to where their upload starts."""
        shape = silhouettes.shape[:2]
        wanted = ((self._input, _size_in(shape)), (self._output, self._size_out(shape)))
        if not all(staging.fits(size) for staging, size in wanted):
            self._let_go()
            for staging, size in wanted:
                staging.grow(size)
        self._input.host(_size_in(shape))[:] = silhouettes.reshape(-1)

    def _make_ready(self, shape: tuple[int, ...]) -> None:
        """Prepare the slot's own context."""
        if self._shape != shape:
            self._prepare(self._context, shape)
            self._shape = shape

    def _prepare(self, context: trt.IExecutionContext, shape: tuple[int, ...]) -> None:
        """Tell a context its shapes, and where its tensors and its activations lie."""
        import tensorrt as trt

        contexts = self._plan.contexts
        dims: trt.Dims = trt.Dims([*shape, HEIGHT, WIDTH])
        demand(context.set_input_shape(INPUT, dims), f"take {shape[0]} sequences of {shape[1]} frames")
        needed = contexts.needs(self._plan.engine, context)
        if needed > self._activations.size:
            self._let_go()
            self._activations.grow(needed)
        contexts.give(context, self._activations.address, self._activations.size)
        for name, staging in ((INPUT, self._input), (OUTPUT, self._output)):
            demand(context.set_tensor_address(name, staging.device.address), f"take an address for {name}")

    def _enqueue(self, context: trt.IExecutionContext, shape: tuple[int, ...]) -> None:
        self._upload(shape)
        self._execute(context, shape)
        self._download(shape)

    def _upload(self, shape: tuple[int, ...]) -> None:
        self._input.upload(_size_in(shape), self._stream)

    def _execute(self, context: trt.IExecutionContext, shape: tuple[int, ...]) -> None:  # noqa: ARG002
        demand(context.execute_async_v3(int(self._stream.handle)), "run")

    def _download(self, shape: tuple[int, ...]) -> None:
        self._output.download(self._size_out(shape), self._stream)

    def _embeddings(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """What came back, a copy."""
        embeddings = self._output.host(self._size_out(shape)).view(np.float32)
        return np.array(embeddings.reshape(shape[0], *self._plan.size))

    def _let_go(self) -> None:
        """Before memory moves: nothing may use it any more, nor remember where it lay."""
        self._stream.synchronize()
        self._forget()

    def _give_up(self) -> None:
        """After an error: nothing is built upon what may be half done."""
        drain(self._stream)
        self._forget()

    def _forget(self) -> None:
        """Give up all graphs, and what the slot's context is ready for. Which shapes came is kept."""
        self._shape = None
        for found in self._recent.values():
            found.forget()

    def _size_out(self, shape: tuple[int, ...]) -> int:
        parts, dim = self._plan.size
        return shape[0] * parts * dim * np.dtype(np.float32).itemsize


def _size_in(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1] * HEIGHT * WIDTH
