"""Calls of the CUDA engine: its memory on the GPU, its stream, and a CUDA graph for a shape that comes again.

One call runs at a time. The silhouettes go through pinned memory to the GPU, the kernels run, the
embeddings come back, all in the order of one stream; a graph is these copies and launches in a single call.
A timed call needs its copies apart, with events between: its graph holds the launches alone.
"""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.cuda import Library
from gaitedge.engines.cuda_events import CallClock, Marks
from gaitedge.engines.cuda_forms import FRAME, Batch, Places, make_network, round_up
from gaitedge.engines.cuda_graphs import Graph, find_driver, record
from gaitedge.engines.cuda_layers import name_launches
from gaitedge.engines.cuda_memory import DeviceBuffer, Staging, drain, gpu, make_stream
from gaitedge.engines.cuda_payload import Payload, scalar
from gaitedge.engines.timing import CallTimes, LayerTime
from gaitedge.errors import MachineError

__all__ = ["Calls"]

_T = TypeVar("_T")
_Recent = OrderedDict[Batch, Graph | None]

_REMEMBERED = 8  # shapes: of walks whose lengths differ few come again, windows always do
_MOST_AHEAD = 256  # times that a call's kernels run before those that are timed
_WAY_OUT = "end other programs that use it, or embed fewer frames at a time"


class Calls:
    """A network's weights on the GPU, and what its calls need there. Safe to use from several threads."""

    def __init__(
        self, config: GaitPartConfig, payload: Payload, library: Library, *, only_frames: bool = False
    ) -> None:
        """only_frames: stop before the temporal head; part_features() then takes embed()'s place.

        Raises MachineError where the GPU fails or its memory does not suffice.
        """
        self._library = library
        self._only_frames = only_frames
        self._size = (config.parts, config.features if only_frames else config.embedding_dim)
        self._type = np.dtype(scalar(payload.precision) if only_frames else np.float32)
        self._lock = threading.Lock()
        self._closed = False
        self._recent: _Recent = OrderedDict()
        """The shapes that came last, the newest last, and the graphs of those that came again."""
        self._networks: _Recent = OrderedDict()
        """The same of timed calls."""
        self._clock: CallClock | None = None
        """Made for the first timed call."""
        self._driver, self.why_no_graphs = find_driver()
        with gpu(_WAY_OUT):
            self._stream = make_stream()
            self._weights, self._scratch = Staging(), DeviceBuffer()
            self._input, self._output = Staging(), Staging()
            self._network = make_network(config, payload, self._upload(payload.tensors))

    def embed(self, batch: Batch, silhouettes: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embeddings [sequences, parts, dim], a fresh array.

        silhouettes: blocks of [frames, 64, 44], the batch's frames in their order; where its lengths differ,
        one block a sequence.
        """
        return self._alone(self._call, batch, silhouettes)

    def part_features(self, sequence: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Part features [frames, parts, C] of [frames, 64, 44], a fresh array."""
        return self._alone(self._call, Batch(1, len(sequence), len(sequence)), [sequence])

    def embed_timed(
        self, batch: Batch, silhouettes: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], CallTimes]:
        """As embed, and what its pieces took."""
        return self._alone(self._timed_call, batch, silhouettes)

    def layer_times(self, batch: Batch, silhouettes: Sequence[NDArray[np.uint8]]) -> list[LayerTime]:
        """The time of each launch of a call. Raises MachineError where they cannot be told apart."""
        return self._alone(self._time_launches, batch, silhouettes)

    def _alone(
        self, work: Callable[[Batch], _T], batch: Batch, silhouettes: Sequence[NDArray[np.uint8]]
    ) -> _T:
        """Do something with the GPU, with room there for a batch and its silhouettes ready for the upload."""
        with self._lock:
            if self._closed:
                raise ValueError("this CUDA engine is closed")
            with gpu(_WAY_OUT):
                try:
                    self._make_room(batch)
                    self._fill(batch, silhouettes)
                    return work(batch)
                except BaseException:
                    self._give_up()
                    raise

    def _call(self, batch: Batch) -> NDArray[np.float32]:
        """What comes back from the GPU, in float32."""
        self._run(batch)
        self._stream.synchronize()
        return self._back(batch)

    def _timed_call(self, batch: Batch) -> tuple[NDArray[np.float32], CallTimes]:
        """The same; everything is ready before the clock starts."""
        if self._clock is None:
            self._clock = CallClock(self._stream)
        kernels = self._kernels(batch)
        self._clock.enqueue(lambda: self._upload_frames(batch), kernels, lambda: self._download(batch))
        self._stream.synchronize()
        return self._back(batch), self._clock.read()

    def _time_launches(self, batch: Batch) -> list[LayerTime]:
        """With events around each. A time counts only where the GPU never waited for the host to bring the
        next launch: it is kept busy with the same kernels until all that are timed lie in its queue."""
        launches, kernels, ahead = self._arguments(batch), self._kernels(batch), 1
        self._upload_frames(batch)
        marks = Marks(self._stream, len(launches) + 1)
        try:
            while ahead <= _MOST_AHEAD:
                for _ in range(ahead):
                    kernels()
                marks.restart()
                marks.mark()
                for arguments in launches:
                    self._library.launch(arguments, int(self._stream.handle))
                    marks.mark()
                waited = marks.begun
                self._stream.synchronize()
                if not waited:
                    return list(name_launches(launches, marks.times()))
                ahead *= 2
        finally:
            marks.free()
        raise MachineError(
            f"the GPU is through with the kernels for {batch.total} frames before this machine brings the "
            "next one, so that none has a time of its own; take more frames at a time"
        )

    def _back(self, batch: Batch) -> NDArray[np.float32]:
        """What came back, a copy."""
        back = self._output.host(self._size_out(batch)).view(self._type)
        return np.array(back.reshape(-1, *self._size), np.float32)

    def close(self) -> None:
        """Wait for the call under way, and give everything back."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                with gpu(_WAY_OUT):
                    self._let_go()
                    for memory in (self._input, self._output, self._scratch, self._weights):
                        memory.free()
                    if self._clock is not None:
                        self._clock.free()
                    del self._stream
            except MachineError:
                # The call that met the failure has told of it. Nothing can be given back to a GPU that
                # failed: the driver takes it when the process ends.
                return

    def _upload(self, tensors: dict[str, NDArray[Any]]) -> dict[str, int]:
        """Bring the weights to the GPU, once; name -> address."""
        starts, size = dict[str, int](), 0
        for name, array in tensors.items():
            starts[name] = size
            size += round_up(array.nbytes)
        self._weights.grow(size)
        host = self._weights.host(size)
        for name, array in tensors.items():
            host[starts[name] :][: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._weights.upload(size, self._stream)
        self._stream.synchronize()
        return {name: self._weights.device.address + start for name, start in starts.items()}

    def _make_room(self, batch: Batch) -> None:
        scratch = self._network.scratch(batch)
        out = self._size_out(batch)
        if self._only_frames:  # the part features lie first in the scratch, and come back from there
            out, scratch = scratch, 0
        wanted = ((self._input, _size_in(batch)), (self._output, out))
        if all(memory.fits(size) for memory, size in wanted) and scratch <= self._scratch.size:
            return
        self._let_go()
        for memory, size in wanted:
            memory.grow(size)
        if scratch:
            self._scratch.grow(1 << (scratch - 1).bit_length())  # as Staging: walks of ever more frames come

    def _fill(self, batch: Batch, silhouettes: Sequence[NDArray[np.uint8]]) -> None:
        host, at = self._input.host(_size_in(batch)), 0
        offsets = [0]
        for block in silhouettes:
            host[at : at + block.size] = block.reshape(-1)
            at += block.size
            offsets.append(at // FRAME)
        if not batch.frames:
            data = np.array(offsets, np.int32).view(np.uint8)
            host[round_up(at) :][: data.size] = data

    def _run(self, batch: Batch) -> None:
        """Put a call into the stream's queue, by a graph where the shape came before."""
        graph = self._graph(self._recent, batch, lambda: self._enqueue(batch))
        if graph is not None:
            graph.launch(int(self._stream.handle))
        else:
            self._enqueue(batch)

    def _kernels(self, batch: Batch) -> Callable[[], None]:
        """What puts the kernels alone into the stream's queue, by a graph where a timed shape came before."""
        launches, stream = self._arguments(batch), int(self._stream.handle)
        graph = self._graph(self._networks, batch, lambda: self._launch(launches))
        if graph is not None:
            return lambda: graph.launch(stream)
        return lambda: self._launch(launches)

    def _graph(self, recent: _Recent, batch: Batch, work: Callable[[], None]) -> Graph | None:
        """The graph of a shape that came before, recorded where it has none; None where there is none."""
        again, graph = batch in recent, recent.setdefault(batch, None)
        recent.move_to_end(batch)
        if len(recent) > _REMEMBERED:
            _, oldest = recent.popitem(last=False)
            if oldest is not None:
                oldest.free()
        # The first time everything runs piece by piece: CUDA loads a kernel then, which no graph may hold.
        if graph is None and again and self._driver is not None:
            try:
                graph = record(self._driver, int(self._stream.handle), work)
            except MachineError as error:
                self._driver, self.why_no_graphs = None, str(error)
            recent[batch] = graph
        return graph

    def _enqueue(self, batch: Batch) -> None:
        self._upload_frames(batch)
        self._launch(self._arguments(batch))
        self._download(batch)

    def _upload_frames(self, batch: Batch) -> None:
        self._input.upload(_size_in(batch), self._stream)

    def _arguments(self, batch: Batch) -> list[ctypes.Structure]:
        """The launches of a batch."""
        silhouettes = self._input.device.address
        places = Places(
            silhouettes,
            silhouettes + round_up(batch.total * FRAME),
            self._output.device.address if self._only_frames else self._scratch.address,
            self._output.device.address,
        )
        launches = self._network.launches(batch, places)
        return launches[:-1] if self._only_frames else launches

    def _launch(self, launches: Sequence[ctypes.Structure]) -> None:
        for arguments in launches:
            self._library.launch(arguments, int(self._stream.handle))

    def _download(self, batch: Batch) -> None:
        self._output.download(self._size_out(batch), self._stream)

    def _let_go(self) -> None:
        """Before memory moves: nothing may use it any more, nor remember where it lay."""
        self._stream.synchronize()
        self._forget()

    def _give_up(self) -> None:
        """After an error: nothing is built upon what may be half done."""
        drain(self._stream)
        self._forget()

    def _forget(self) -> None:
        """Give up all graphs. Which shapes came is kept."""
        for recent in (self._recent, self._networks):
            for batch, graph in recent.items():
                recent[batch] = None
                if graph is not None:
                    graph.free()

    def _size_out(self, batch: Batch) -> int:
        rows = batch.total if self._only_frames else batch.sequences
        return rows * self._size[0] * self._size[1] * self._type.itemsize


def _size_in(batch: Batch) -> int:
    """Bytes of the silhouettes and, where their lengths differ, of the offsets behind them."""
    offsets = 0 if batch.frames else (batch.sequences + 1) * np.dtype(np.int32).itemsize
    return round_up(batch.total * FRAME) + offsets
