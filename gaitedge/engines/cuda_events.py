"""CUDA events: moments on a stream by the GPU's own clock, and what a call's pieces take between them.

An event is reached when everything that lies before it in the stream's queue is done. None is used by a
plain call.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from gaitedge.engines.timing import CallTimes
from gaitedge.errors import require

__all__ = ["CallClock", "Marks"]

_WHY = "timing by CUDA events"


class Marks:
    """So many moments on a stream. Its methods need the GPU's context."""

    def __init__(self, stream: Any, count: int) -> None:
        """Make the events, which takes longer than to use them."""
        event = require("pycuda.driver", _WHY).Event
        self._stream = stream
        self._events = [event() for _ in range(count)]
        self._used = 0

    def restart(self) -> None:
        """The next mark is the first one again."""
        self._used = 0

    def mark(self) -> None:
        """Put a moment into the stream's queue."""
        self._events[self._used].record(self._stream)
        self._used += 1

    @property
    def begun(self) -> bool:
        """Whether the GPU has come to the first moment already."""
        return bool(self._events[0].query())

    def times(self) -> list[float]:
        """Milliseconds from each moment to the next, once the stream has been waited for."""
        used = self._events[: self._used]
        return [float(end.time_since(start)) for start, end in itertools.pairwise(used)]

    def free(self) -> None:
        """Give the events back, and let the stream go."""
        self._events.clear()
        del self._stream


class CallClock:
    """Times the three pieces of a call on a stream. Its methods need the GPU's context."""

    def __init__(self, stream: Any) -> None:
        self._marks = Marks(stream, 4)
        self._enqueue = 0.0

    def enqueue(
        self, upload: Callable[[], None], network: Callable[[], None], download: Callable[[], None]
    ) -> None:
        """Put the pieces into the stream's queue, with events before, between and after them.

        The time that this takes the host is noted of the network alone, as trtexec does.
        """
        self._marks.restart()
        self._marks.mark()
        upload()
        self._marks.mark()
        start = time.perf_counter()
        network()
        self._enqueue = (time.perf_counter() - start) * 1e3
        self._marks.mark()
        download()
        self._marks.mark()

    def read(self) -> CallTimes:
        """The times of the last call, once the stream has been waited for."""
        upload, network, download = self._marks.times()
        return CallTimes(upload, network, download, self._enqueue)

    def free(self) -> None:
        """Give the events back; it is not used again."""
        self._marks.free()
