"""The live loop: frames → people → silhouettes → streams → who it is, said when it is settled.

One thread does it all but for reading the camera and the gallery. What it keeps of a person goes when he
or she goes; what it cannot do in time are whole frames, dropped and counted by LiveVideo.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

from gaitedge.bundle import Bundle
from gaitedge.errors import InputError
from gaitedge.streaming.stream import Network
from gaitedge.video.capture import open_video
from gaitedge.video.live import LiveVideo
from gaitedge.video.segmentation import BackgroundSegmenter, Segmenter, open_segmenter
from gaitedge.video.sources import locate
from gaitedge.watching.annotation import AnnotatedVideo
from gaitedge.watching.enrolled import Enrolled
from gaitedge.watching.loop import Watcher, WatchSettings
from gaitedge.watching.reports import Report, Status
from gaitedge.watching.tracing import Trace

__all__ = ["watch"]

_PRIMED = 120.0  # seconds of a file from which its background is learnt first


def watch(
    bundle: Path | str | Bundle,
    gallery: Path | str,
    source: str | Path,
    report: Callable[[Report], None],
    *,
    segmenter: str | Path | Segmenter = "background",
    annotated: Path | str | None = None,
    threshold: float | None = None,
    engine: str = "auto",
    threads: int | None = None,
    key: bytes | None = None,
    seconds: float | None = None,
    loop: bool = False,
    paced: bool = False,
    settings: WatchSettings | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Status], None] | None = None,
    trace: Trace | None = None,
) -> Status:
    """Say who walks before a camera, until the source ends, `seconds` are over or `stop` says so.

    source: as open_video takes it; loop, paced: of a file, as LiveVideo takes them. report: called with
    every PersonReport and Notice as it comes. segmenter: "background", of which a file's first two minutes
    are learnt before, or MODEL.onnx. annotated: a video to write what was seen into. threshold: instead of
    the gallery's; engine, threads: as Network.load takes them; key: of an encrypted gallery. stop: asked
    at every frame and ten times a second. progress: called about once a second. trace: where the times of all
    steps are noted.

    At the end every track ends, with its last decision. Returns the counts. Raises GalleryError where the
    gallery is missing, empty or another model's, VideoError where the source gives no video or a file
    breaks, and what loading the bundle, the engine and the segmenter raises.
    """
    if seconds is not None and not seconds > 0:
        raise InputError(f"the seconds to watch must be more than 0, not {seconds}")
    if threshold is not None and not 0 <= threshold < float("inf"):
        raise InputError(f"a threshold is a distance of 0 or more, not {threshold}")
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
    chosen = open_segmenter(segmenter) if isinstance(segmenter, (str, Path)) else segmenter
    with contextlib.ExitStack() as stack:
        picture = None if annotated is None else stack.enter_context(AnnotatedVideo(annotated))
        enrolled = stack.enter_context(Enrolled(gallery, opened.fingerprint, key, threshold))
        target = locate(source)
        if isinstance(chosen, BackgroundSegmenter) and target.kind == "file":
            _prime(chosen, source, stop)
        network = Network.load(opened, engine, threads)
        watcher = Watcher(network, enrolled, chosen, report, settings, picture, progress, trace=trace)
        reading = None if trace is None else trace.decode
        video = stack.enter_context(LiveVideo(source, paced=paced, loop=loop, reading=reading))
        return watcher.run(video, seconds, stop)


def _prime(segmenter: BackgroundSegmenter, source: str | Path, stop: Callable[[], bool]) -> None:
    """Learn the background of a file; a camera's is learnt while it is looked at."""
    with open_video(source) as video:
        if not video.live:
            seen = itertools.takewhile(
                lambda frame: not frame.index or (frame.time < _PRIMED and not stop()), video
            )
            segmenter.prime(frame.image for frame in seen)
