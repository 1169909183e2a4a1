"""Where a frame's time goes in `watch`: decode, segment, track, align, embed, match."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gaitedge.bundle import Bundle
from gaitedge.errors import InputError
from gaitedge.files import printable
from gaitedge.people.gallery import Enrolment, Gallery
from gaitedge.profiling.document import Span, Stage, Stages
from gaitedge.profiling.figures import summarize
from gaitedge.video.capture import open_video
from gaitedge.video.sources import locate
from gaitedge.watching.enrolled import Enrolled
from gaitedge.watching.reports import Report, Status
from gaitedge.watching.tracing import STAGES, Trace
from gaitedge.watching.watch import watch

__all__ = ["MADE_UP", "check_stages", "measure_stages", "summarize_stages"]

MADE_UP = 100  # people of the gallery that stands in where there is none
_SHOWN = 120  # frames whose spans a profile keeps: a page that draws more of them shows less


def measure_stages(
    bundle: Bundle,
    source: Path | str,
    gallery: Path | str | None = None,
    *,
    segmenter: str | Path = "background",
    engine: str = "auto",
    threads: int | None = None,
    key: bytes | None = None,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[Report], None] = lambda _: None,
    progress: Callable[[Status], None] | None = None,
) -> tuple[Stages, Trace]:
    """Run `watch` over a video or a camera, and sum up where its time went.

    gallery: whom to compare with; without one, with MADE_UP embeddings of nobody. The other arguments are
    those of gaitedge.watching.watch.watch, and so is what is raised; InputError where no frame came.
    """
    trace = Trace()
    with contextlib.ExitStack() as stack:
        if gallery is None:
            gallery = _stand_in(bundle, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        status = watch(
            bundle,
            gallery,
            source,
            report,
            segmenter=segmenter,
            engine=engine,
            threads=threads,
            key=key,
            seconds=seconds,
            stop=stop,
            progress=progress,
            trace=trace,
        )
    return summarize_stages(trace, printable(str(source)), status.frames), trace


def check_stages(bundle: Bundle, source: Path | str, gallery: Path | None, key: bytes | None) -> None:
    """Raise, before anything else is measured, what measure_stages would raise after it of its gallery and
    of a video's file. A camera is not opened twice."""
    if gallery is not None:
        with Enrolled(gallery, bundle.fingerprint, key):
            pass
    if locate(source).kind == "file":
        with open_video(source):
            pass


def summarize_stages(trace: Trace, source: str, frames: int) -> Stages:
    """Sum up a watch's trace. frames: that it looked at. Raises InputError where there were none."""
    times: dict[str, list[float]] = {}
    for span in trace.spans:
        times.setdefault(span.stage, []).append((span.end_ns - span.begin_ns) / 1e6)
    if not frames:
        raise InputError(f"{source} gave no frame to measure stages by")
    whole = sum(sum(times.get(stage, ())) for stage in STAGES)
    begin = min(span.begin_ns for span in trace.spans)
    end = max(span.end_ns for span in trace.spans)
    return Stages(
        source=source,
        frames=frames,
        seconds=(end - begin) / 1e9,
        stages=[
            Stage(name, sum(times[name]) / frames, sum(times[name]) / whole, summarize(times[name]))
            for name in STAGES
            if name in times
        ],
        spans=_shown(trace, frames, begin),
    )


def _shown(trace: Trace, frames: int, begin: int) -> list[Span]:
    """The spans of the busiest frames in a row: where somebody walks, not the empty scene before."""
    load = np.zeros(frames)
    for span in trace.spans:
        if span.frame is not None and span.frame < frames and span.stage in ("align", "embed", "match"):
            load[span.frame] += span.end_ns - span.begin_ns
    window = min(_SHOWN, frames)
    sums = np.convolve(load, np.ones(window), "valid")
    first = int(sums.argmax())
    return [
        Span(
            span.stage,
            span.thread,
            (span.begin_ns - begin) / 1e6,
            (span.end_ns - span.begin_ns) / 1e6,
            span.frame,
        )
        for span in trace.spans
        if span.frame is not None and first <= span.frame < first + window
    ]


def _stand_in(bundle: Bundle, folder: Path) -> Path:
    """A gallery of people who do not exist, each far from the others."""
    rng, config = np.random.default_rng(0), bundle.config
    size = (config.parts, config.embedding_dim)
    path = folder / "nobody.db"
    with Gallery.create(path, bundle.fingerprint, *size) as made:
        made.enroll_many(
            Enrolment(f"nobody-{number:03d}", rng.standard_normal(size, np.float32))
            for number in range(MADE_UP)
        )
        made.threshold = 0.0  # nobody is anybody
    return path
