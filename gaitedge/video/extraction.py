"""A video to folders of aligned silhouettes, a folder a walk, and a report of all that was left out.

    OUT/track-003/000041.png   64×44, 8-bit grey, aligned; the frame's number from 0
    OUT/report.json            every track, walk or not, with every rejection counted and named

The folder takes its name once it is complete.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gaitedge.errors import InputError, VideoError
from gaitedge.files import atomic_write, naming
from gaitedge.video.capture import Frame, Video, open_video
from gaitedge.video.contact_sheet import Strip, draw_contact_sheet
from gaitedge.video.quality import QualitySettings
from gaitedge.video.segmentation import BackgroundSegmenter, Segmenter, open_segmenter
from gaitedge.video.walks import Rejected, TrackEnded, WalkSettings, WalkSilhouette, walks

__all__ = ["Extraction", "TrackReport", "extract"]

_FORMAT = "gaitedge-silhouettes"
_PRIMED = 120.0  # seconds of a file from which its background is learnt first
_ROWS = 40  # of a contact sheet, at most


@dataclass(frozen=True)
class TrackReport:
    """What became of one track."""

    track: int
    folder: str | None
    """Where its silhouettes are; None where it is no walk."""
    begin: float
    """Seconds: the first and the last frame that showed the person."""
    end: float
    silhouettes: int
    """Usable frames in which the person did not stand."""
    rejected: dict[str, int]
    """Reason -> frames of this track that were left out."""
    fault: str | None
    """Why it is no walk; None where it is one."""
    step: float | None
    """Seconds of a step, or of two as seen from the front."""


@dataclass(frozen=True)
class Extraction:
    """What one video gave."""

    format: str
    source: str
    segmenter: str
    size: tuple[int, int]
    """Width and height of the video in pixels."""
    frames: int
    """Of the video that were looked at."""
    seconds: float
    """That it took."""
    walks: int
    tracks: list[TrackReport]
    """By their number."""
    rejected_tracks: dict[str, int]
    """Reason -> tracks that are no walks."""
    rejected_frames: dict[str, int]
    """Reason -> frames of all tracks."""
    note: str | None
    """Why the video ended sooner than it should have, where it did."""


def extract(
    source: str | Path,
    out: str | Path,
    segmenter: str | Path | Segmenter = "background",
    settings: WalkSettings | None = None,
    contact_sheet: str | Path | None = None,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Follow the people in a video and write the aligned silhouettes of each walk into the folder `out`.

    source: as open_video takes it. segmenter: "background", of which a file's first two minutes are learnt
    before, or a model, MODEL.onnx. contact_sheet: a PNG to draw the tracks into. seconds: of a file or a
    camera to look at; None: to the end. progress: called with the number of frames done and of all, 0
    where that is not known. Raises InputError where `out` is there and not an empty folder, and what
    open_video and open_segmenter raise.
    """
    out, settings = Path(out), settings or WalkSettings()
    if (out.is_dir() and any(out.iterdir())) or (out.exists() and not out.is_dir()):
        raise InputError(f"{out} is there already and not an empty folder: choose another one")
    if seconds is not None and not seconds > 0:
        raise InputError(f"the seconds of a video to look at must be more than 0, not {seconds}")
    begun = time.monotonic()
    chosen = open_segmenter(segmenter) if isinstance(segmenter, (str, Path)) else segmenter
    if isinstance(chosen, BackgroundSegmenter):
        _prime(chosen, source, seconds)
    part = out.with_name(f".{out.name}.{secrets.token_hex(8)}.part")
    try:
        with open_video(source) as video, naming(out, part):
            part.mkdir(parents=True)
            writer = _Writer(part, settings.quality)
            for event in walks(writer.watch(video, seconds, progress), chosen, settings):
                writer.take(event)
            tracks = sorted(writer.tracks, key=lambda track: track.track)
            done = Extraction(
                format=_FORMAT,
                source=video.name,
                segmenter=str(segmenter) if isinstance(segmenter, (str, Path)) else type(segmenter).__name__,
                size=video.size,
                frames=writer.frames,
                seconds=round(time.monotonic() - begun, 3),
                walks=sum(track.fault is None for track in tracks),
                tracks=tracks,
                rejected_tracks=dict(Counter(track.fault for track in tracks if track.fault is not None)),
                rejected_frames=dict(sum((Counter(track.rejected) for track in tracks), Counter())),
                note=writer.note,
            )
            with atomic_write(part / "report.json") as file:
                file.write(json.dumps(dataclasses.asdict(done), indent=2).encode() + b"\n")
            if contact_sheet is not None:
                draw_contact_sheet(contact_sheet, writer.strips)
            part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return done


def _prime(segmenter: BackgroundSegmenter, source: str | Path, seconds: float | None) -> None:
    """Learn the background of a file; a camera's is learnt while it is looked at."""
    with open_video(source) as video:
        if not video.live:
            limit = _PRIMED if seconds is None else min(seconds, _PRIMED)
            segmenter.prime(frame.image for frame in _until(video, limit))


def _until(video: Video, seconds: float | None) -> Iterator[Frame]:
    first: float | None = None
    for frame in video:
        first = frame.time if first is None else first
        if seconds is not None and frame.time - first >= seconds:
            return
        yield frame


class _Writer:
    """Puts silhouettes where they belong until it is known what their track is."""

    def __init__(self, folder: Path, settings: QualitySettings) -> None:
        self.tracks: list[TrackReport] = []
        self.strips: list[tuple[str, Strip]] = []
        self.frames = 0
        self.note: str | None = None
        self._folder, self._settings = folder, settings
        self._frame: Frame | None = None
        self._open: dict[int, _Open] = {}

    def watch(
        self, video: Video, seconds: float | None, progress: Callable[[int, int], None] | None
    ) -> Iterator[Frame]:
        """The frames as they pass; the last one is what the next events are about."""
        try:
            for self._frame in _until(video, seconds):
                yield self._frame
                self.frames += 1
                if progress is not None:
                    progress(self.frames, video.frames or 0)
        except VideoError as error:
            if not video.live or not self.frames:
                raise
            self.note = str(error)  # a camera that vanishes takes nothing with it
        if video.ended_early:
            self.note = video.ending

    def take(self, event: WalkSilhouette | Rejected | TrackEnded) -> None:
        """Write what an event brings."""
        if isinstance(event, WalkSilhouette):
            self._write(event)
        elif isinstance(event, TrackEnded):
            self._close(event)

    def _write(self, event: WalkSilhouette) -> None:
        from PIL import Image

        track = self._open.setdefault(event.track, _Open(self._folder / f".track-{event.track:03d}", Strip()))
        if event.fault == "not moving":
            track.standing += 1
            return
        track.folder.mkdir(exist_ok=True)
        Image.fromarray(event.silhouette).save(track.folder / f"{event.index:06d}.png", compress_level=1)
        track.written += 1
        if self._frame is not None:
            track.strip.add(self._frame.image, event.box, event.silhouette, event.index)

    def _close(self, event: TrackEnded) -> None:
        name = f"track-{event.track:03d}"
        track = self._open.pop(event.track, _Open(self._folder / f".{name}", Strip()))
        fault = event.fault
        if fault is None and track.written < self._settings.least_frames:
            fault = "too short"
        rejected = dict(event.rejected)
        if track.standing:
            rejected["not moving"] = track.standing
        if fault is None:
            track.folder.rename(self._folder / name)
        else:
            shutil.rmtree(track.folder, ignore_errors=True)
        self.tracks.append(
            TrackReport(
                track=event.track,
                folder=name if fault is None else None,
                begin=round(event.begin, 3),
                end=round(event.end, 3),
                silhouettes=track.written,
                rejected=rejected,
                fault=fault,
                step=None if event.period is None else round(event.period, 3),
            )
        )
        if track.written >= self._settings.least_frames and len(self.strips) < _ROWS:
            what = "walk" if fault is None else fault
            self.strips.append((f"{name}: {what}, {track.written} silhouettes", track.strip))


@dataclass
class _Open:
    """A track that is not at its end: where its silhouettes wait."""

    folder: Path
    strip: Strip
    written: int = 0
    standing: int = 0
