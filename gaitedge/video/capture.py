"""Frames out of a file, a camera, a URL or a pipeline, through OpenCV."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import MachineError, VideoError, one_line, require
from gaitedge.video.sources import Target, locate, shown, why_not

__all__ = ["Capture", "Frame", "Video", "open_video"]

_USUAL_FPS = 25.0  # what a video that tells no rate is taken to have
_MOST_FPS = 1000.0  # more is a container's nonsense, such as the 90000 of a raw MPEG stream
_MOST_DAMAGED = 25  # frames in a row that may fail; OpenCV calls a damaged frame an end, and goes on if asked
_PATIENCE_S = 1.0  # how long a live source may fail: one that is gone fails slowly
_LONGEST_GAP_S = 24 * 3600.0  # a larger step of a file's timestamps is a broken one


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video. It stays valid for as long as it is kept."""

    index: int
    """Its number, from 0."""
    time: float
    """Seconds, never less than those of the frame before: from the first frame of a recording; of a
    live source on a monotonic clock of arbitrary origin."""
    image: NDArray[np.uint8]
    """[height, width, 3], blue, green, red, upright as the recorder meant it."""


class Capture(Protocol):
    """What is needed of a cv2.VideoCapture that is open."""

    def read(self) -> tuple[bool, Any]: ...
    def get(self, prop: int, /) -> float: ...
    def release(self) -> None: ...


def open_video(
    source: str | Path,
    *,
    open_timeout: float = 10.0,
    read_timeout: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> Video:
    """Open a source of frames and read its first one.

    source: a file; a camera as its number or /dev/videoN; a URL (rtsp://, http://, …); a GStreamer
    pipeline, a str with "!" that ends in appsink. open_timeout, read_timeout: seconds after which a URL
    or a pipeline that sends nothing is given up. clock: where a live source has its times from.
    OpenCV and FFmpeg are told to print nothing themselves, unless OPENCV_LOG_LEVEL or
    OPENCV_FFMPEG_LOGLEVEL say otherwise; a process that had FFmpeg open files before keeps its setting.
    Raises VideoError, of one line, where there is no such thing or it gives no frame; MachineError where
    OpenCV is not installed or was built without what the source needs.
    """
    target = locate(source)
    cv2 = _quiet_opencv(target)
    limits: list[int] = []
    if target.kind in ("url", "pipeline"):
        limits += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, max(1, round(1000 * open_timeout))]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, max(1, round(1000 * read_timeout))]
    try:
        capture = cv2.VideoCapture(target.address, getattr(cv2, f"CAP_{target.backend}"), limits)
    except cv2.error as error:
        raise VideoError(f"{why_not(target)} ({shown(one_line(error))})") from None
    if not capture.isOpened():
        capture.release()
        raise VideoError(why_not(target))
    if target.backend == "FFMPEG":
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # its default; a build may have another
    live = {"camera": True, "file": False}.get(target.kind)
    return Video(capture, target.name, live=live, clock=clock)


class Video:
    """An open source of frames: a context manager and an iterator of them, for one thread.

    capture: what is read, and released at the end; name: how messages call it; live: whether its times
    are those at which the frames came, and its end is a failure; None for where the source promises no
    number of frames, as a URL or a pipeline does for a recording.

    Iterating raises VideoError at a frame of another size or of no pixels, and where a live source
    stops; a recording simply ends, and `ended_early` and `ending` tell of one that was cut off. Damaged
    frames are passed over. (FFmpeg itself scales all frames of a file or a URL to the size of the first.)
    """

    name: str
    fps: float | None
    """Frames a second as the source tells; None where it does not, or nonsense."""
    size: tuple[int, int]
    """Width and height, those of the first frame as it is shown."""
    frames: int | None
    """How many frames the container promises; None for a live source and where it does not say."""
    live: bool
    read: int
    """Frames that were given so far."""
    ended: bool
    """Whether a recording was read to its end."""

    def __init__(
        self,
        capture: Capture,
        name: str,
        *,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cv2 = require("cv2", "video")
        self._capture: Capture | None = capture
        self._clock = clock
        self._time = -math.inf
        self._stamp = math.nan
        self.name = name
        self.read = 0
        self.ended = False
        try:
            fps, frames = (
                capture.get(prop) for prop in (self._cv2.CAP_PROP_FPS, self._cv2.CAP_PROP_FRAME_COUNT)
            )
            self.fps = fps if 0 < fps <= _MOST_FPS else None
            self.frames = int(frames) if 0 < frames < 2**31 and not live else None
            self.live = live if live is not None else self.frames is None
            self.size = (0, 0)
            self._held = self._read()
            if self._held is None:
                raise VideoError(f"{name}: no frame of it can be decoded{self._codec(capture)}")
        except BaseException:
            self.close()
            raise
        self.size = (self._held.image.shape[1], self._held.image.shape[0])

    @property
    def ended_early(self) -> bool:
        """Whether a recording ended, and well short of the number of frames that its container promises.

        Some containers hold a duration only, which may be that of the sound: two frames are forgiven,
        and up to a second of a longer recording."""
        if not self.ended or self.frames is None:
            return False
        return self.frames - self.read > max(2.0, min(self.fps or _USUAL_FPS, self.frames / 20))

    @property
    def ending(self) -> str:
        """How far the video was read, in one line."""
        if self.ended_early:
            return (
                f"{self.name} is damaged or cut off: {self.read} of the {self.frames} frames that it "
                "promises could be read"
            )
        count = "1 frame" if self.read == 1 else f"{self.read} frames"
        return f"{self.name}: {count}" if self.ended else f"{self.name}: {count} so far"

    def close(self) -> None:
        """Let go of the file or the camera. May be called again; not while another thread reads."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        frame, self._held = self._held, None
        if frame is None and not self.ended:
            frame = self._read()
        if frame is None:
            self.ended = True
            raise StopIteration
        self.read += 1
        return frame

    def _read(self) -> Frame | None:
        if self._capture is None:
            raise ValueError(f"{self.name} was closed")
        try:
            there, raw = self._grab(self._capture)
        except self._cv2.error as error:
            raise VideoError(f"{self.name}: frame {self.read} cannot be read: {one_line(error)}") from None
        if not there:
            if self.live and self.size != (0, 0):
                raise VideoError(f"{self.name} stopped after {self.read} frames")
            return None
        image = _as_bgr(raw, f"{self.name}: frame {self.read}")
        height, width = image.shape[:2]
        if self.size not in ((0, 0), (width, height)):
            raise VideoError(
                f"{self.name}: frame {self.read} is {width}×{height} pixels and those before are "
                f"{self.size[0]}×{self.size[1]}: the frames of a video must be of one size"
            )
        self._time = self._next_time(self._capture)
        return Frame(self.read, self._time, image)

    def _grab(self, capture: Capture) -> tuple[bool, Any]:
        """Read one frame, over damaged ones."""
        began = self._clock()
        there, raw = capture.read()
        for _ in range(_MOST_DAMAGED):
            if there or (self.live and self._clock() - began > _PATIENCE_S):
                break
            there, raw = capture.read()
        return there, raw

    def _next_time(self, capture: Capture) -> float:
        """Seconds of the frame just read: by the clock, or by the timestamps as far as these make sense.

        Where a timestamp stands still, goes back (recordings joined end to end) or leaps by more than a
        day, the usual step is taken instead."""
        if self.live:
            return max(self._time, self._clock())
        before, self._stamp = self._stamp, capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
        if self._time == -math.inf:
            return 0.0
        step = self._stamp - before  # not a number where either is none
        return self._time + (step if 0 < step < _LONGEST_GAP_S else 1 / (self.fps or _USUAL_FPS))

    def _codec(self, capture: Capture) -> str:
        code = capture.get(self._cv2.CAP_PROP_FOURCC)
        letters = int(code).to_bytes(4, "little") if 0 < code < 2**32 else b""
        readable = len(letters) == 4 and letters.isascii() and letters.decode().isprintable()
        return f" (codec {letters.decode().strip()})" if readable else ""


def _as_bgr(raw: Any, what: str) -> NDArray[np.uint8]:
    """A frame as [height, width, 3] from grey, BGR or BGRA, in memory of its own."""
    image = np.asarray(raw)
    if raw is None or image.size == 0:
        raise VideoError(f"{what} has no pixels")
    if image.dtype != np.uint8:
        raise VideoError(
            f"{what} has pixels of {image.dtype}, must be of 8 bits: set the camera to such a format"
        )
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise VideoError(f"{what} is no picture: its shape is {image.shape}")
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    # cv2.VideoCapture.read gives a new array each time, which needs no second copy.
    owned = image.shape[2] == 3 and image.flags.c_contiguous and image.flags.owndata
    return image if owned else image[:, :, :3].copy()


def _quiet_opencv(target: Target) -> ModuleType:
    """OpenCV, silent, with the backend that a source needs."""
    cv2 = require("cv2", "video")
    _silence()
    backend = getattr(cv2, f"CAP_{target.backend}")
    if not cv2.videoio_registry.hasBackend(backend):
        what = {"FFMPEG": "FFmpeg", "GSTREAMER": "GStreamer", "V4L2": "Video4Linux"}[target.backend]
        remedy = {
            "FFMPEG": "the one of pip has it: pip install 'gaitedge[video]'",
            "GSTREAMER": "that of pip has none; JetPack and most Linux distributions bring one with it",
            "V4L2": "cameras need Linux",
        }[target.backend]
        raise MachineError(f"{target.name} needs an OpenCV with {what}, this one is without: {remedy}")
    return cv2


@functools.cache
def _silence() -> None:
    """Let OpenCV and FFmpeg write nothing on stderr: what they would say is said once, by an exception."""
    cv2 = require("cv2", "video")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when FFmpeg is first used
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
