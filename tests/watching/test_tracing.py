"""Every moment of a watch is a step of somebody's: nothing is counted twice, nothing is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.watching.tracing import Span, Trace, TracedSegmenter, write_chrome_trace


class Ticks:
    """Nanoseconds that only `pass_by` lets go on."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def pass_by(self, nanoseconds: int) -> int:
        self.now += nanoseconds
        return nanoseconds


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


def spans(trace: Trace) -> list[tuple[str, int, int, int | None]]:
    return [(span.stage, span.begin_ns, span.end_ns, span.frame) for span in trace.spans]


def test_what_no_step_covers_of_a_turn_is_track(ticks: Ticks) -> None:
    trace = Trace(ticks)
    trace.wait(lambda: ticks.pass_by(5), lambda _: 7)
    ticks.pass_by(2)
    trace.call("segment", lambda: ticks.pass_by(10))
    trace.call("align", lambda: ticks.pass_by(1))  # at once: nothing lies between
    ticks.pass_by(3)
    trace.wait(lambda: ticks.pass_by(1), lambda _: None)
    assert spans(trace) == [
        ("wait", 0, 5, None),
        ("track", 5, 7, 7),
        ("segment", 7, 17, 7),
        ("align", 17, 18, 7),
        ("track", 18, 21, 7),
        ("wait", 21, 22, None),
    ]


def test_before_the_first_frame_nobody_is_followed(ticks: Ticks) -> None:
    trace = Trace(ticks)
    ticks.pass_by(100)
    trace.call("embed", lambda: ticks.pass_by(4))
    assert spans(trace) == [("embed", 100, 104, None)]


def test_a_step_that_fails_took_its_time(ticks: Ticks) -> None:
    def fail() -> None:
        ticks.pass_by(6)
        raise RuntimeError("no memory")

    trace = Trace(ticks)
    with pytest.raises(RuntimeError, match="no memory"):
        trace.call("embed", fail)
    assert spans(trace) == [("embed", 0, 6, None)]


def test_frames_are_decoded_on_a_line_of_their_own_and_the_end_is_none(ticks: Ticks) -> None:
    trace = Trace(ticks)
    frames = iter(["first", "second", None])

    def read() -> str | None:
        ticks.pass_by(8)
        return next(frames)

    assert [trace.decode(read) for _ in range(3)] == ["first", "second", None]
    assert trace.spans == [Span("decode", "reader", 0, 8, 0), Span("decode", "reader", 8, 16, 1)]


def test_a_watch_that_runs_on_fills_no_memory(ticks: Ticks) -> None:
    trace = Trace(ticks, most=3)
    for _ in range(5):
        trace.call("match", lambda: ticks.pass_by(1))
    assert (len(trace.spans), trace.left_out) == (3, 2)


def test_a_traced_segmenter_is_the_segmenter(ticks: Ticks) -> None:
    class Inverse:
        def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            ticks.pass_by(9)
            return 255 - image

    trace = Trace(ticks)
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(TracedSegmenter(Inverse(), trace).segment(image), 255 - image)
    assert spans(trace) == [("segment", 0, 9, None)]


def test_the_trace_is_what_chrome_and_perfetto_read(ticks: Ticks, tmp_path: Path) -> None:
    ticks.now = 1_000_000_000
    trace = Trace(ticks)
    trace.decode(lambda: ticks.pass_by(2_500))
    trace.wait(lambda: ticks.pass_by(500), lambda _: 0)
    trace.call("segment", lambda: ticks.pass_by(4_000))
    write_chrome_trace(trace, tmp_path / "trace.json")
    document = json.loads((tmp_path / "trace.json").read_text())
    names = {event["tid"]: event["args"]["name"] for event in document["traceEvents"] if event["ph"] == "M"}
    found = [
        (event["name"], names[event["tid"]], event["ts"], event["dur"], event["args"].get("frame"))
        for event in document["traceEvents"]
        if event["ph"] == "X"
    ]
    assert found == [
        ("decode", "reader", 0.0, 2.5, 0),
        ("wait", "watch", 2.5, 0.5, None),
        ("segment", "watch", 3.0, 4.0, 0),
    ]
