"""The stages of a watch add up to its time, and a frame's spans are those of that frame."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import pytest
from bundles import SMALL
from networks import random_weights
from scenes import HEIGHT, RATE, WIDTH, Person, Scene

from gaitedge.bundle import FRAMES_GRAPH, Bundle, make_bundle
from gaitedge.errors import InputError, VideoError
from gaitedge.export.graph import build_frame_graph
from gaitedge.profiling.stages import measure_stages, summarize_stages
from gaitedge.watching.tracing import STAGES, Span, Trace

FRAMES = 60


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "walk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))
    for image in Scene((Person(80, 560, last=FRAMES - 3),), frames=FRAMES).images():
        writer.write(image)
    writer.release()
    return path


def small_bundle() -> Bundle:
    """Of the graph that a watch needs."""
    weights = random_weights(SMALL, 0)
    graph = build_frame_graph(SMALL, weights).SerializeToString()
    return make_bundle(SMALL, weights, {FRAMES_GRAPH: graph}, {})


def test_a_watch_of_somebody_has_every_stage(film: Path) -> None:
    stages, trace = measure_stages(small_bundle(), film, threads=1)
    assert (stages.source, stages.frames) == (str(film), FRAMES)
    assert [stage.name for stage in stages.stages] == [name for name in STAGES if name != "annotate"]
    assert sum(stage.share for stage in stages.stages) == pytest.approx(1)
    counts = {stage.name: stage.times.runs for stage in stages.stages}
    assert counts["decode"] == counts["segment"] == FRAMES
    assert 0 < counts["align"] < FRAMES
    assert trace.left_out == 0


def test_the_watchs_own_thread_is_accounted_for_without_a_hole(film: Path) -> None:
    _, trace = measure_stages(small_bundle(), film, threads=1, seconds=1.0)
    own = [span for span in trace.spans if span.thread == "watch"]
    for before, after in itertools.pairwise(own):
        assert before.end_ns <= after.begin_ns  # nothing is counted twice
    first = next(number for number, span in enumerate(own) if span.frame is not None)
    last = max(number for number, span in enumerate(own) if span.stage == "wait")
    turns = own[first : last + 1]
    assert sum(span.end_ns - span.begin_ns for span in turns) == turns[-1].end_ns - turns[0].begin_ns


def span(stage: str, begin: int, end: int, frame: int | None, thread: str = "watch") -> Span:
    return Span(stage, thread, begin * 1_000_000, end * 1_000_000, frame)  # type: ignore[arg-type]


def test_the_figures_are_those_of_the_spans() -> None:
    trace = Trace()
    trace.spans += [
        span("decode", 1000, 1004, 0, "reader"),
        span("decode", 1004, 1010, 1, "reader"),
        span("wait", 1000, 1004, None),
        span("segment", 1004, 1014, 0),
        span("wait", 1014, 1015, None),
        span("segment", 1015, 1035, 1),
    ]
    stages = summarize_stages(trace, "camera 0", 2)
    assert stages.seconds == pytest.approx(0.035)
    found = {stage.name: (stage.ms_a_frame, stage.share, stage.times.max_ms) for stage in stages.stages}
    assert found == {"decode": (5, 0.25, 6), "segment": (15, 0.75, 20)}  # to wait is no work
    assert [(shown.stage, shown.begin_ms, shown.ms, shown.frame) for shown in stages.spans] == [
        ("decode", 0, 4, 0),
        ("decode", 4, 6, 1),
        ("segment", 4, 10, 0),
        ("segment", 15, 20, 1),
    ]


def test_of_a_long_watch_the_frames_are_shown_in_which_somebody_walks() -> None:
    trace = Trace()
    trace.spans += [span("segment", frame, frame + 1, frame) for frame in range(1000)]
    trace.spans += [span("embed", 1000 + frame, 1001 + frame, frame) for frame in range(700, 760)]
    shown = {each.frame for each in summarize_stages(trace, "camera 0", 1000).spans}
    assert len(shown) == 120
    assert set(range(700, 760)) <= shown


def test_what_gives_no_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="camera 0 gave no frame to measure stages by"):
        summarize_stages(Trace(), "camera 0", 0)
    with pytest.raises(VideoError, match=r"nowhere\.mp4"):
        measure_stages(small_bundle(), tmp_path / "nowhere.mp4")
