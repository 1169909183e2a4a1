"""A picture of what was cut out: for every track some pictures, and the silhouettes below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT, WIDTH
from gaitedge.errors import require
from gaitedge.files import atomic_write
from gaitedge.video.blobs import Box

__all__ = ["TILES", "Strip", "draw_contact_sheet"]

TILES = 16  # of a track
_SCALE = 2
_CAPTION = 24  # rows above a track's tiles


@dataclass
class Strip:
    """Tiles of one track, spread over all that it was given; memory stays the same."""

    tiles: list[NDArray[np.uint8]] = field(default_factory=list)
    """Each [2 * 64 * scale, 44 * scale, 3], BGR."""
    _given: int = 0
    _every: int = 1

    def add(self, image: NDArray[np.uint8], box: Box, silhouette: NDArray[np.uint8], index: int) -> None:
        """Take in the frame `index`: its image, BGR, the person's box, and the aligned silhouette."""
        if self._given % self._every == 0:
            self.tiles.append(_tile(image, box, silhouette, index))
            if len(self.tiles) == 2 * TILES:
                self.tiles, self._every = self.tiles[::2], 2 * self._every
        self._given += 1


def draw_contact_sheet(path: str | Path, strips: Sequence[tuple[str, Strip]]) -> None:
    """Write a PNG: a row for every strip, its caption above it. ASCII captions; what is none shows as "?"."""
    cv2 = require("cv2", "a contact sheet")
    width = TILES * WIDTH * _SCALE
    rows = [np.zeros((_CAPTION, width, 3), np.uint8)] if not strips else []
    for caption, strip in strips:
        head = np.full((_CAPTION, width, 3), 48, np.uint8)
        text = caption.encode("ascii", "replace").decode()
        cv2.putText(head, text, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        row = np.zeros((2 * HEIGHT * _SCALE, width, 3), np.uint8)
        chosen = np.linspace(0, len(strip.tiles) - 1, min(TILES, len(strip.tiles))).round().astype(int)
        for place, number in enumerate(chosen):
            left = place * WIDTH * _SCALE
            row[:, left : left + WIDTH * _SCALE] = strip.tiles[number]
        rows += [head, row]
    _, data = cv2.imencode(".png", np.vstack(rows))
    with atomic_write(Path(path)) as file:
        file.write(data.tobytes())


def _tile(image: NDArray[np.uint8], box: Box, silhouette: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    cv2 = require("cv2", "a contact sheet")
    height, width = HEIGHT * _SCALE, WIDTH * _SCALE
    # The part of the image that the silhouette shows: as high as the person, 44 to 64 wide.
    half = max(1, round(box.height * WIDTH / HEIGHT / 2))
    middle = (box.left + box.right) // 2
    columns = np.clip(np.arange(middle - half, middle + half), 0, image.shape[1] - 1)
    crop = np.ascontiguousarray(image[box.top : box.bottom][:, columns])
    picture = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
    cv2.putText(picture, str(index), (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 255), 1, cv2.LINE_AA)
    shape = cv2.resize(silhouette, (width, height), interpolation=cv2.INTER_NEAREST)
    tile: NDArray[np.uint8] = np.vstack([picture, np.repeat(shape[:, :, None], 3, axis=2)])
    return tile
