"""From capsules in space to silhouettes: a perspective camera, and capsules filled row by row.

A walker is a set of tapered capsules (the convex hull of two balls). A ball projects to a disc, a
capsule to the hull of two discs, and that hull meets an image row in one interval. The union of all
intervals of a row is the running sum of +1 where one begins and -1 behind where one ends: no pixel
is ever tested against a capsule, and a whole sequence is drawn at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "IMAGE_HEIGHT",
    "IMAGE_WIDTH",
    "Camera",
    "Capsules",
    "Discs",
    "Spans",
    "cover",
    "erase",
    "fill",
    "project",
]

IMAGE_HEIGHT, IMAGE_WIDTH = 240, 320  # of a raw CASIA-B frame, in pixels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Capsules:
    """Tapered capsules in space, in metres: x along the walk, y to the walker's left, z up."""

    start: Floats  # [frames, capsules, 3]
    end: Floats  # [frames, capsules, 3]
    start_radius: Floats  # [capsules]
    end_radius: Floats  # [capsules]

    def moved(self, along: Floats, aside: float) -> Capsules:
        """Every frame carried by along[frame] metres of the walk, all by `aside` to the left."""
        shift = np.zeros((along.size, 1, 3))
        shift[:, 0, 0], shift[:, 0, 1] = along, aside
        return Capsules(self.start + shift, self.end + shift, self.start_radius, self.end_radius)


@dataclass(frozen=True)
class Camera:
    """A camera on the view's circle about the middle of the walk."""

    view: float
    """Degrees: 0 is walked towards, 90 sees the walker's right side, 180 is walked away from."""
    distance: float
    """Metres from the middle of the walk, along the ground."""
    height: float
    """Metres above the ground."""
    pitch: float
    """Degrees upwards."""
    focal: float
    """Pixels."""
    row: float
    """Image row of the optical axis: a shifted lens, as a cropped video has."""

    def project(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Points [..., 3] -> column, row, and pixels per metre there, each [...]."""
        angle, pitch = np.deg2rad(self.view), np.deg2rad(self.pitch)
        sin, cos = float(np.sin(angle)), float(np.cos(angle))
        # Ground coordinates first: to the right of the camera, and away from it.
        right = points[..., 0] * sin + points[..., 1] * cos
        away = self.distance - points[..., 0] * cos + points[..., 1] * sin
        above = points[..., 2] - self.height
        scale = self.focal / np.maximum(away * np.cos(pitch) + above * np.sin(pitch), 0.3)
        column = IMAGE_WIDTH / 2 + right * scale
        row = self.row - (above * np.cos(pitch) - away * np.sin(pitch)) * scale
        return column, row, scale


Discs = tuple[Floats, Floats, Floats]  # column, row and radius in pixels, each [frames, capsules]


def project(camera: Camera, capsules: Capsules) -> tuple[Discs, Discs]:
    """The discs at both ends of every capsule."""
    column0, row0, scale0 = camera.project(capsules.start)
    column1, row1, scale1 = camera.project(capsules.end)
    return (
        (column0, row0, scale0 * capsules.start_radius),
        (column1, row1, scale1 * capsules.end_radius),
    )


class Spans(NamedTuple):
    """Runs of pixels: image `frame * IMAGE_HEIGHT + row`, from column `begin` up to but without
    `stop`; each [spans]."""

    line: NDArray[np.int64]
    begin: NDArray[np.int64]
    stop: NDArray[np.int64]


def cover(starts: Discs, ends: Discs, ragged: Floats | None = None) -> Spans:
    """The pixels whose centres lie in the hulls of disc pairs, as spans that may overlap.

    ragged: [2, frames, IMAGE_HEIGHT], pixels by which every span of a row grows at its left and at
    its right end; negative shrinks it.
    """
    frames, capsules = starts[0].shape
    x0, y0, r0 = (np.ravel(value) for value in starts)
    x1, y1, r1 = (np.ravel(value) for value in ends)
    frame = np.repeat(np.arange(frames), capsules)

    # One element for every capsule and row that it covers.
    first = np.clip(np.ceil(np.minimum(y0 - r0, y1 - r1)), 0, IMAGE_HEIGHT).astype(np.int64)
    last = np.clip(np.floor(np.maximum(y0 + r0, y1 + r1)), -1, IMAGE_HEIGHT - 1).astype(np.int64)
    count = np.maximum(last - first + 1, 0)
    which = np.repeat(np.arange(count.size), count)
    row = np.arange(which.size) - np.repeat(np.cumsum(count) - count - first, count)

    left = np.full(which.size, np.inf)
    right = np.full(which.size, -np.inf)

    def extend(low: Floats, high: Floats) -> None:
        # fmin and fmax pass over the NaN of a row that the piece does not reach.
        np.fmin(left, low, out=left)
        np.fmax(right, high, out=right)

    with np.errstate(invalid="ignore", divide="ignore"):
        for x, y, r in ((x0, y0, r0), (x1, y1, r1)):
            half = np.sqrt(np.square(r)[which] - np.square(row - y[which]))
            centre = x[which]
            extend(centre - half, centre + half)
        # The two outer tangents touch both discs at the angle whose cosine is (r0 - r1) / distance
        # from the axis; where one disc holds the other there are none, and all of it is NaN.
        dx, dy = x1 - x0, y1 - y0
        distance = np.hypot(dx, dy)
        cosine = (r0 - r1) / distance
        sine = np.sqrt(1 - cosine * cosine)
        for side in (sine, -sine):
            nx, ny = (dx * cosine - dy * side) / distance, (dy * cosine + dx * side) / distance
            xa, ya, xb, yb = x0 + r0 * nx, y0 + r0 * ny, x1 + r1 * nx, y1 + r1 * ny
            slope = (xb - xa) / (yb - ya)
            edge = xa[which] + (row - ya[which]) * slope[which]
            reached = (row >= np.minimum(ya, yb)[which]) & (row <= np.maximum(ya, yb)[which])
            edge[~reached] = np.nan
            extend(edge, edge)

    line = frame[which] * IMAGE_HEIGHT + row
    if ragged is not None:
        left -= ragged[0].ravel()[line]
        right += ragged[1].ravel()[line]
    begin = np.clip(np.ceil(left), 0, IMAGE_WIDTH).astype(np.int64)
    stop = np.clip(np.floor(right) + 1, 0, IMAGE_WIDTH).astype(np.int64)
    seen = stop > begin
    return Spans(line[seen], begin[seen], stop[seen])


def fill(spans: Spans, frames: int) -> NDArray[np.uint8]:
    """The union of the spans, [frames, IMAGE_HEIGHT, IMAGE_WIDTH] of 0 and 255."""
    steps = np.zeros((frames * IMAGE_HEIGHT, IMAGE_WIDTH + 1), np.int8)
    flat, first = steps.reshape(-1), spans.line * (IMAGE_WIDTH + 1)
    np.add.at(flat, first + spans.begin, np.int8(1))
    np.add.at(flat, first + spans.stop, np.int8(-1))
    depth = np.add.accumulate(steps, axis=1, out=steps)[:, :IMAGE_WIDTH]
    images: NDArray[np.uint8] = (depth > 0).view(np.uint8) * np.uint8(255)
    return images.reshape(frames, IMAGE_HEIGHT, IMAGE_WIDTH)


def erase(images: NDArray[np.uint8], spans: Spans) -> None:
    """Clear the spans' pixels in what `fill` returned. For few and short spans."""
    count = spans.stop - spans.begin
    before = np.cumsum(count) - count
    pixels = np.repeat(spans.line * IMAGE_WIDTH + spans.begin - before, count) + np.arange(count.sum())
    images.reshape(-1)[pixels] = 0
