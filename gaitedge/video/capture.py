"""MINIMAL: the contract's names only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError, require


class VideoError(InputError):
    """x"""


@dataclass(frozen=True, eq=False)
class Frame:
    index: int
    time: float
    image: NDArray[np.uint8]


class Video:
    def __init__(self, source: str) -> None:
        cv2 = self._cv2 = require("cv2", "reading a video")
        self._capture = cv2.VideoCapture(str(source))
        if not self._capture.isOpened():
            raise VideoError(f"{source} is no video that OpenCV can read")
        self.fps: float | None = self._capture.get(cv2.CAP_PROP_FPS) or None
        self.frames: int | None = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) or None
        self.size = (int(self._capture.get(3)), int(self._capture.get(4)))
        self.live = False
        self.name = source

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while True:
            ok, image = self._capture.read()
            if not ok:
                return
            yield Frame(index, index / (self.fps or 30), image)
            index += 1


def open_video(source: str | Path) -> Video:
    return Video(str(source))
