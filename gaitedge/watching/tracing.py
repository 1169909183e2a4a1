"""Where a watch's time goes: what each of its steps took, as spans on the line of its thread.

A watch is traced only where it is asked to be; two readings of a clock a step are then all that it costs.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from gaitedge.files import atomic_write
from gaitedge.video.segmentation import Segmenter

__all__ = ["STAGES", "Span", "StageName", "Trace", "TracedSegmenter", "write_chrome_trace"]

StageName = Literal["decode", "segment", "track", "align", "embed", "match", "annotate", "wait"]
STAGES: tuple[StageName, ...] = ("decode", "segment", "track", "align", "embed", "match", "annotate")
"""In the order in which a frame meets them. "track" is what the others leave of a turn: finding people in
the mask, following them, judging frames, reporting. Beside them a watch waits, for the next frame."""

_MOST = 500_000  # spans: half an hour at 25 frames a second, and about 100 MB

Result = TypeVar("Result")


@dataclass(frozen=True)
class Span:
    """One step."""

    stage: StageName
    thread: str
    """"reader", which decodes, or "watch", which does all else."""
    begin_ns: int
    end_ns: int
    frame: int | None
    """Number of the frame at hand, from 0."""


class Trace:
    """The spans of one watch. clock: nanoseconds that never go back; most: spans that are kept."""

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns, most: int = _MOST) -> None:
        self.spans: list[Span] = []
        self.left_out = 0
        """Spans that came when there were `most` already: of a watch that ran on."""
        self._clock, self._most = clock, most
        self._frame: int | None = None
        self._decoded = 0
        self._turn: int | None = None  # since when the frame at hand is worked on
        self._busy = 0  # until when spans cover the turn
        self._lock = threading.Lock()

    def decode(self, read: Callable[[], Result]) -> Result:
        """Read the next frame of the source. For the thread that reads."""
        begin = self._clock()
        frame = read()
        if frame is not None:
            self._keep(Span("decode", "reader", begin, self._clock(), self._decoded))
            self._decoded += 1
        return frame

    def call(self, stage: StageName, function: Callable[[], Result]) -> Result:
        """Do a step of the turn, whether it succeeds or not. For the thread of the watch."""
        begin = self._clock()
        self._fill(begin)
        try:
            return function()
        finally:
            self._busy = self._clock()
            self._keep(Span(stage, "watch", begin, self._busy, self._frame))

    def wait(self, function: Callable[[], Result], frame: Callable[[Result], int | None]) -> Result:
        """Wait for what a turn is about: the turn before ends, and the next one begins.

        frame: gives the number of the frame that came, or None.
        """
        begin = self._clock()
        self._fill(begin)
        result = function()
        self._turn = self._busy = self._clock()
        self._keep(Span("wait", "watch", begin, self._turn, None))
        self._frame = frame(result)
        return result

    def _fill(self, now: int) -> None:
        """What no step covers of a turn is "track"."""
        if self._turn is not None and now > self._busy:
            self._keep(Span("track", "watch", self._busy, now, self._frame))

    def _keep(self, span: Span) -> None:
        with self._lock:
            if len(self.spans) < self._most:
                self.spans.append(span)
            else:
                self.left_out += 1


class TracedSegmenter:
    """A segmenter whose work is a step of a trace."""

    def __init__(self, segmenter: Segmenter, trace: Trace) -> None:
        self._segmenter, self._trace = segmenter, trace

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As in Segmenter."""
        return self._trace.call("segment", lambda: self._segmenter.segment(image))


def write_chrome_trace(trace: Trace, path: Path) -> None:
    """Write the spans in the format of chrome://tracing and Perfetto, whole or not at all.

    One event of phase "X" a span, times in microseconds since the first one, a line for each thread.
    """
    start = min((span.begin_ns for span in trace.spans), default=0)
    threads = {name: number for number, name in enumerate(("watch", "reader"), 1)}
    events: list[dict[str, object]] = [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": name}}
        for name, number in threads.items()
    ]
    events += [
        {
            "name": span.stage,
            "cat": "watch",
            "ph": "X",
            "ts": (span.begin_ns - start) / 1e3,
            "dur": (span.end_ns - span.begin_ns) / 1e3,
            "pid": 1,
            "tid": threads[span.thread],
            "args": {} if span.frame is None else {"frame": span.frame},
        }
        for span in sorted(trace.spans, key=lambda span: span.begin_ns)
    ]
    document = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"left_out": trace.left_out}}
    with atomic_write(path) as file:
        file.write(json.dumps(document).encode() + b"\n")
