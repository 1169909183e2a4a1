"""From a mask to blobs: connected pixels, a person's pieces put together, small holes filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError, require

__all__ = ["Blob", "Box", "find_blobs"]


class Box(NamedTuple):
    """Pixels of an image: columns `left` up to but without `right`, rows `top` up to but without `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


@dataclass(frozen=True, eq=False)
class Blob:
    """What may be a person in one image."""

    box: Box
    mask: NDArray[np.bool_]
    """[box.height, box.width]"""
    area: int
    """Pixels of it."""


def find_blobs(
    mask: NDArray[np.uint8], least: float = 2e-4, gap: float = 0.06, hole: float = 0.012
) -> list[Blob]:
    """The blobs of a mask, [height, width] of 0 and 255, from left to right.

    least: share of the image that a blob has, at least; smaller pieces count only as parts of another.
    gap: pieces one above the other, as a head and a trunk, are one person where the space between them is
    at most this share of the height of the larger one. hole: share of a blob that a hole in it has,
    at most, to be filled: what is larger is the space between arms or legs. Raises InputError for another
    type or shape.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
        raise InputError(
            f"a mask must be uint8[height, width] of 0 and 255, not {mask.dtype}{list(mask.shape)}"
        )
    cv2 = require("cv2", "finding people in a mask")
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    speck = max(4.0, 0.02 * least * mask.size)
    pieces = [
        _Piece([number], Box(left, top, left + width, top + height), area)
        for number, (left, top, width, height, area) in enumerate(stats[1:count].tolist(), 1)
        if area >= speck
    ]
    found = [piece for piece in _together(pieces, gap) if piece.area >= least * mask.size]
    blobs = [_blob(labels, piece, hole) for piece in found]
    return sorted(blobs, key=lambda blob: (blob.box.left, blob.box.top))


@dataclass
class _Piece:
    labels: list[int]
    box: Box
    area: int


def _together(pieces: list[_Piece], gap: float) -> list[_Piece]:
    """Pieces of one person joined, the largest ones first."""
    done: list[_Piece] = []
    waiting = sorted(pieces, key=lambda piece: -piece.area)
    while waiting:
        person = waiting.pop(0)
        joined = True
        while joined:
            joined = False
            for other in waiting:
                if _one_person(person.box, other.box, gap):
                    boxes = (person.box, other.box)
                    box = Box(
                        min(b.left for b in boxes),
                        min(b.top for b in boxes),
                        max(b.right for b in boxes),
                        max(b.bottom for b in boxes),
                    )
                    person = _Piece(person.labels + other.labels, box, person.area + other.area)
                    waiting.remove(other)
                    joined = True
                    break
        done.append(person)
    return done


def _one_person(large: Box, small: Box, gap: float) -> bool:
    """Whether the smaller box belongs to the larger one: mostly above, below or inside it, and near."""
    shared = min(large.right, small.right) - max(large.left, small.left)
    if shared < 0.5 * small.width:
        return False
    space = max(large.top, small.top) - min(large.bottom, small.bottom)
    return space <= gap * large.height


def _blob(labels: NDArray[np.int32], piece: _Piece, hole: float) -> Blob:
    cv2 = require("cv2", "finding people in a mask")
    box = piece.box
    crop = labels[box.top : box.bottom, box.left : box.right]
    mask = np.isin(crop, piece.labels) if len(piece.labels) > 1 else crop == piece.labels[0]
    outside = np.pad(~mask, 1, constant_values=True).view(np.uint8)
    count, holes, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4, ltype=cv2.CV_32S)
    small = stats[:count, cv2.CC_STAT_AREA] <= hole * piece.area
    small[0] = False  # the mask itself
    mask = mask | small[holes[1:-1, 1:-1]]
    return Blob(box, mask, int(mask.sum()))
