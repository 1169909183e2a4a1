"""From images to walks: one event for every silhouette, every rejected frame and every end of a track.

Nothing is kept of what was said: a camera may run for days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT
from gaitedge.data.silhouettes import Dropped
from gaitedge.data.silhouettes import align as align_silhouette
from gaitedge.errors import require
from gaitedge.video.blobs import Blob, Box, find_blobs
from gaitedge.video.capture import Frame
from gaitedge.video.quality import QualitySettings, TrackQuality
from gaitedge.video.segmentation import Segmenter
from gaitedge.video.tracking import Tracker, TrackerSettings

__all__ = ["Event", "Rejected", "TrackEnded", "WalkSettings", "WalkSilhouette", "align_blob", "walks"]

_ROWS = 2 * HEIGHT  # of a mask before it is aligned: about what the training data have


@dataclass(frozen=True)
class WalkSettings:
    """Every threshold between an image and a walk."""

    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    least_blob: float = 2e-4
    """Share of the image that a blob has, at least."""


@dataclass(frozen=True, eq=False)
class WalkSilhouette:
    """A usable silhouette of a track."""

    track: int
    index: int
    """Of the frame."""
    time: float
    """Of the frame, in seconds."""
    box: Box
    silhouette: NDArray[np.uint8]
    """Aligned, [64, 44]."""
    fault: str | None
    """Why the track's last seconds are no walk, a key of TRACK_FAULTS; None while the person walks."""


@dataclass(frozen=True)
class Rejected:
    """A frame of a track that gives no silhouette."""

    track: int
    index: int
    time: float
    box: Box
    reason: str
    """A key of FRAME_FAULTS."""


@dataclass(frozen=True)
class TrackEnded:
    """A person has left, or the video is at its end."""

    track: int
    begin: float
    """Seconds: the first and the last frame that showed the person, usable or not."""
    end: float
    frames: int
    """Usable silhouettes."""
    rejected: dict[str, int]
    """Reason -> frames."""
    fault: str | None
    """Why it was no walk, a key of TRACK_FAULTS; None where it was one."""
    period: float | None
    """Seconds of a step, or of two as seen from the front."""


Event = WalkSilhouette | Rejected | TrackEnded


def align_blob(blob: Blob) -> NDArray[np.uint8]:
    """A blob as an aligned silhouette, [64, 44] uint8. Raises Dropped as align does.

    A person of many rows is made smaller first, as a mask: the alignment's resize does not average, and
    was trained on people of about 130 rows.
    """
    mask = blob.mask.view(np.uint8) * np.uint8(255)
    if mask.shape[0] > _ROWS:
        cv2 = require("cv2", "aligning silhouettes of a video")
        size = (max(1, round(mask.shape[1] * _ROWS / mask.shape[0])), _ROWS)
        mask = (cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 127).view(np.uint8) * np.uint8(255)
    side = max(4, mask.shape[0] // 8)  # nobody is off centre, and no edge is replicated
    return align_silhouette(np.pad(mask, ((0, 0), (side, side))))


def walks(
    frames: Iterable[Frame],
    segmenter: Segmenter,
    settings: WalkSettings | None = None,
    align: Callable[[Blob], NDArray[np.uint8]] = align_blob,
) -> Iterator[Event]:
    """Follow everyone through the frames of a video or a camera, and say what becomes of each.

    Events come in the order of the frames; at the end of the frames all tracks end. The caller decides what
    to do with the silhouettes of a track that turns out to be no walk. align: another align_blob, such as one
    that is timed. Raises what the segmenter raises.
    """
    settings = settings or WalkSettings()
    tracker, alive = Tracker(settings.tracker), dict[int, _Life]()
    for frame in frames:
        height, width = frame.image.shape[:2]
        blobs = find_blobs(segmenter.segment(frame.image), least=settings.least_blob)
        seen = tracker.update(blobs, frame.time)
        for track in tracker.ended:
            yield alive.pop(track).ended(track)
        for track in tracker.active:
            alive.setdefault(track, _Life(TrackQuality(settings.quality), align, frame.time, frame.time))
        for track, blob in tracker.merged.items():
            yield alive[track].reject(track, frame, blob, "merged")
        for track, blob in seen:
            yield alive[track].judge(track, frame, blob, width, height)
    for track in list(alive):
        yield alive.pop(track).ended(track)


@dataclass
class _Life:
    """What is kept of a track while it lives."""

    quality: TrackQuality
    align: Callable[[Blob], NDArray[np.uint8]]
    begin: float
    end: float

    def judge(self, track: int, frame: Frame, blob: Blob, width: int, height: int) -> Event:
        self.end = frame.time
        fault = self.quality.judge(blob, frame.time, width, height)
        if fault is not None:
            return Rejected(track, frame.index, frame.time, blob.box, fault)
        try:
            silhouette = self.align(blob)
        except Dropped:
            self.quality.reject("unusable", usable=True)
            return Rejected(track, frame.index, frame.time, blob.box, "unusable")
        fault = self.quality.walking()
        return WalkSilhouette(track, frame.index, frame.time, blob.box, silhouette, fault)

    def reject(self, track: int, frame: Frame, blob: Blob, reason: str) -> Event:
        self.end = frame.time
        self.quality.reject(reason)
        return Rejected(track, frame.index, frame.time, blob.box, reason)

    def ended(self, track: int) -> TrackEnded:
        quality = self.quality
        return TrackEnded(
            track,
            self.begin,
            self.end,
            quality.frames,
            dict(quality.rejected),
            quality.verdict(),
            quality.period if quality.walked else None,
        )
