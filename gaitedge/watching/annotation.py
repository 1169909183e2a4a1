"""What was seen as a video to look at: boxes, names, distances."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError, MachineError, require
from gaitedge.files import naming
from gaitedge.video.blobs import Box
from gaitedge.video.capture import Frame

__all__ = ["AnnotatedVideo", "Mark"]

_LONGEST_HOLD = 5.0  # seconds that a picture stands where none came, as while a camera was gone
_LINE = 2  # pixels
_COLOURS = {"known": (80, 200, 80), "unknown": (60, 60, 230), "undecided": (200, 200, 200)}  # BGR


@dataclass(frozen=True)
class Mark:
    """One person in a picture."""

    box: Box
    label: str
    verdict: str
    """ "known", "unknown" or "undecided"."""


class AnnotatedVideo:
    """A video that is written as frames come; a context manager. It takes its name when it is complete.

    path: FILE.mp4, .mkv or .avi. It plays as fast as what it shows: a picture stands until the next one's
    time. Frames of another size than the first are scaled to it. Raises InputError for another ending,
    MachineError where OpenCV cannot write such a file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in (".mp4", ".mkv", ".avi"):
            raise InputError(f"an annotated video is an .mp4, .mkv or .avi file, not {self.path.name}")
        if not self.path.parent.is_dir():
            raise InputError(f"no folder {self.path.parent} to write {self.path.name} in")
        self._cv2 = require("cv2", "annotated video")
        self._part = self.path.with_name(f".{secrets.token_hex(8)}.{self.path.name}")
        self._writer: Any = None
        self._size = (0, 0)
        self._fps, self._begin, self._written = 25.0, 0.0, 0

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.release()
        with naming(self.path, self._part):
            self._part.replace(self.path)  # after an error too: what was seen before is worth seeing

    def write(self, frame: Frame, marks: Sequence[Mark], fps: float) -> None:
        """Add a frame with these marks; fps: of the file, as the first call says."""
        image = _draw(frame.image, marks)
        if self._writer is None:
            self._open(frame, fps)
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            image = self._cv2.resize(image, self._size, interpolation=self._cv2.INTER_AREA)
        due = round((frame.time - self._begin) * self._fps) + 1 - self._written
        if due > _LONGEST_HOLD * self._fps:
            due = round(_LONGEST_HOLD * self._fps)
            self._begin = frame.time - (self._written + due - 1) / self._fps
        for _ in range(due):  # none where frames come faster than they are shown
            self._writer.write(image)
            self._written += 1

    def _open(self, frame: Frame, fps: float) -> None:
        cv2 = self._cv2
        height, width = frame.image.shape[:2]
        self._size, self._fps, self._begin = (width, height), fps, frame.time
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, code, fps, self._size)
        if not self._writer.isOpened():
            self._writer = None
            self._part.unlink(missing_ok=True)
            raise MachineError(
                f"this OpenCV cannot write {self.path} ({width}×{height} pixels, {fps:g} frames a second): "
                "check the folder, or leave the annotated video out"
            )


def _draw(image: NDArray[np.uint8], marks: Sequence[Mark]) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, ImageFont

    # Pillow's own font has the letters of names that OpenCV's would turn into question marks.
    picture = Image.fromarray(image)  # its channels are swapped, and so are the colours
    drawing = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(12, image.shape[0] // 30))
    for mark in marks:
        colour = _COLOURS[mark.verdict]
        box = mark.box
        drawing.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), outline=colour, width=_LINE)
        left, top, right, bottom = drawing.textbbox((0, 0), mark.label, font=font)
        x = max(0, min(box.left, image.shape[1] - (right - left) - 4))
        y = box.top - (bottom - top) - 6
        y = y if y >= 0 else box.top + _LINE
        drawing.rectangle((x, y, x + right - left + 4, y + bottom - top + 4), fill=colour)
        drawing.text((x + 2 - left, y + 2 - top), mark.label, fill=(0, 0, 0), font=font)
    return np.asarray(picture)
