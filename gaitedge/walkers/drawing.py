"""Synthetic walkers in CASIA-B's form: subjects drawn from a seed, walks seen from 11 views.

A subject is a body and a gait, drawn once from (seed, subject number). A sequence is one walk of
that subject in one condition; all views see the same walk, each with a camera and silhouette noise
of its own. Every draw has its own generator, keyed by what it is for, so that no sequence depends
on which others are drawn, in which order, or by how many processes.

How hard they are to tell apart is set in gaitedge/hardness.py.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError
from gaitedge.walkers.bodies import Body, Gait, cut_normal, draw_body, draw_gait
from gaitedge.walkers.hardness import BETWEEN, GENERATOR, NOISE, WITHIN
from gaitedge.walkers.posing import Bag, BagKind, Coat, Walk, pose, stride
from gaitedge.walkers.rendering import IMAGE_HEIGHT, IMAGE_WIDTH, Camera, Discs, cover, erase, fill, project

__all__ = [
    "BETWEEN",
    "CONDITIONS",
    "FRAME_RATE",
    "GENERATOR",
    "NOISE",
    "VIEWS",
    "WITHIN",
    "Body",
    "Gait",
    "Walker",
    "draw_sequence",
    "draw_walker",
]

VIEWS = tuple(f"{angle:03d}" for angle in range(0, 181, 18))
CONDITIONS = (*(f"nm-{number:02d}" for number in range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02")
FRAME_RATE = 30.0  # frames per second

_LENGTHS = (62, 108)  # frames of a sequence: from, and up to but without
_LEAST_LENGTH = 45  # however little of the path a camera sees
_WALKER, _WALK, _SHOT = 1, 2, 3  # what a generator is for: the first number of its key


@dataclass(frozen=True)
class Walker:
    """One subject, and what it was drawn from."""

    seed: int
    subject: int
    body: Body
    gait: Gait


def draw_walker(seed: int, subject: int) -> Walker:
    """The subject of this number among those of this seed.

    The same on every machine. Raises InputError where either number is negative.
    """
    if seed < 0 or subject < 0:
        raise InputError(f"seed and subject must be 0 or more, not {seed} and {subject}")
    rng = _generator(_WALKER, seed, subject)
    return Walker(seed, subject, draw_body(rng), draw_gait(rng))


def draw_sequence(walker: Walker, condition: str, view: str, frames: int | None = None) -> NDArray[np.uint8]:
    """One walk as one camera sees it: silhouettes [frames, 240, 320] of 0 and 255.

    condition: one of CONDITIONS; view: one of VIEWS. frames: None draws a length as CASIA-B has
    them, 62 to 107 and no more than the walker is in the image for; a number is kept, and where
    the path that the camera sees is too short for it, the walker advances more slowly.
    Raises InputError for an unknown condition or view, or where frames < 1.
    """
    if condition not in CONDITIONS:
        raise InputError(f"unknown condition {condition!r}: choose from {', '.join(CONDITIONS)}")
    if view not in VIEWS:
        raise InputError(f"unknown view {view!r}: choose from {', '.join(VIEWS)}")
    if frames is not None and frames < 1:
        raise InputError(f"a sequence needs 1 frame or more, not {frames}")
    number = CONDITIONS.index(condition)
    walk, advance, offset = _draw_walk(walker, number, frames)
    rng = _generator(_SHOT, walker.seed, walker.subject, number, VIEWS.index(view))
    camera = _draw_camera(rng, view)
    near, far = _visible(camera, walker.body.height)
    length = walk.phase.size
    if frames is None:
        length = min(length, max(int((far - near) / advance), _LEAST_LENGTH))
    spare = max(far - near - length * advance, 0.0)
    advance = min(advance, (far - near) / length)
    steps = np.arange(length, dtype=np.float64) - (length - 1) / 2
    path = (near + far) / 2 + 0.5 * offset * spare + advance * steps
    walk = dataclasses.replace(walk, phase=walk.phase[:length], noise=walk.noise[:length])
    capsules = pose(walker.body, walker.gait, walk).moved(path, cut_normal(rng, 0, 0.08))
    starts, ends = project(camera, capsules)

    border = NOISE.border * rng.standard_normal()
    rough = rng.uniform(*NOISE.ragged) * rng.standard_normal((2, length, IMAGE_HEIGHT + 2))
    ragged = (rough[..., :-2] + rough[..., 1:-1] + rough[..., 2:]) / np.sqrt(3) + border
    silhouettes = fill(cover(starts, ends, ragged), length)
    erase(silhouettes, cover(*_draw_holes(rng, starts, ends, camera)))
    return silhouettes


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _draw_walk(walker: Walker, condition: int, frames: int | None) -> tuple[Walk, float, float]:
    """The walk; metres that it advances in a frame; where on the visible path it lies, -1 to 1."""
    rng = _generator(_WALK, walker.seed, walker.subject, condition)
    drawn = int(rng.integers(*_LENGTHS))
    length = drawn if frames is None else frames
    speed = 1 + float(np.clip(WITHIN.speed * rng.standard_normal(), -0.08, 0.08))
    swing = float(np.sqrt(speed))  # half of the speed by longer strides, half by a higher cadence
    girth = 1 + float(np.clip(WITHIN.girth * rng.standard_normal(), -0.05, 0.05))
    start = float(rng.uniform(0, 2 * np.pi))
    arms, lean = cut_normal(rng, 1, WITHIN.arms), cut_normal(rng, 0, WITHIN.lean)
    elbow, head = cut_normal(rng, 0, WITHIN.elbow), cut_normal(rng, 0, WITHIN.head)
    kind = CONDITIONS[condition].partition("-")[0]
    coat = _draw_coat(rng) if kind == "cl" else None
    bag = _draw_bag(rng) if kind == "bg" else None
    offset = float(rng.uniform(-1, 1))
    rate = 2 * np.pi / (FRAME_RATE * walker.gait.cycle) * swing
    steps = rate * (1 + WITHIN.stride * _smooth(rng, length, 1, reach=12)[:, 0])
    noise = WITHIN.pose * _smooth(rng, length, 12, reach=6)
    walk = Walk(start + np.cumsum(steps), noise, swing, arms, girth, lean, elbow, head, coat, bag)
    return walk, stride(walker.body, walker.gait, swing) * rate / (2 * np.pi), offset


def _smooth(rng: np.random.Generator, length: int, columns: int, reach: int) -> NDArray[np.float64]:
    """Standard normal noise [length, columns], smooth over about `reach` rows."""
    kernel = np.hanning(2 * reach + 1)[1:-1]
    kernel /= np.sqrt(np.sum(kernel**2))
    raw = rng.standard_normal((length + kernel.size - 1, columns))
    return np.stack([np.convolve(column, kernel, "valid") for column in raw.T], axis=1)


def _draw_coat(rng: np.random.Generator) -> Coat:
    """A jacket, a coat or a long coat; one in three with a hood or a hat."""
    hem = float(rng.uniform(*((0.05, 0.35), (0.4, 0.8), (0.8, 1.25))[int(rng.integers(3))]))
    torso = float(rng.uniform(0.015, 0.07))
    hat = rng.random()
    return Coat(
        torso=torso,
        sleeves=float(rng.uniform(0.008, 0.028)),
        hem=hem,
        flare=float(rng.uniform(0.10, 0.17) + 0.3 * torso + 0.06 * hem * rng.random()),
        swing=float(rng.uniform(0.5, 0.95)),
        head=float(rng.uniform(0.006, 0.03)) if hat < 0.35 else 0.0,
        brim=float(rng.uniform(0.02, 0.07)) if hat < 0.12 else 0.0,
        trousers=float(rng.uniform(0.0, 0.022)),
    )


def _draw_bag(rng: np.random.Generator) -> Bag:
    kinds: dict[BagKind, tuple[float, float, float]] = {
        "backpack": (0.05, 0.13, 0.085),
        "shoulder": (0.11, 0.09, 0.055),
        "hand": (0.12, 0.10, 0.05),
    }
    kind = tuple(kinds)[int(rng.integers(len(kinds)))]
    left = int(rng.integers(2)) * 2 - 1
    width, height, radius = (float(size * rng.uniform(0.65, 1.35)) for size in kinds[kind])
    drop = float(rng.uniform(0.02, 0.14) if kind == "backpack" else rng.uniform(-0.05, 0.28))
    return Bag(kind, left, width, height, radius, float(rng.uniform(0.1, 0.8)), drop)


def _draw_camera(rng: np.random.Generator, view: str) -> Camera:
    """A camera in which 1.70 m in the middle of the walk are 108 to 160 pixels."""
    tall = float(np.clip(rng.normal(134, 11), 108, 160))
    distance = float(rng.uniform(4.8, 8.5))
    height = float(rng.uniform(0.0, 1.7))
    middle = 0.85  # of a walker's height: what the camera is turned to, wholly or in part
    pitch = float(rng.uniform(0, 1) * np.rad2deg(np.arctan2(middle - height, distance)))
    angle = float(view) + cut_normal(rng, 0, 2.0)
    camera = Camera(angle, distance, height, pitch, tall * distance / 1.70, row=0.0)
    row = float(camera.project(np.array([0.0, 0.0, middle]))[1])
    return dataclasses.replace(camera, row=float(rng.uniform(116, 140)) - row)


def _visible(camera: Camera, height: float) -> tuple[float, float]:
    """The stretch of the path about its middle, in metres, on which the walker is in the image."""
    path = np.linspace(-3.5, 3.5, 141)
    points = np.zeros((path.size, 2, 3))  # on the ground and at the crown
    points[:, :, 0] = path[:, None]
    points[:, 1, 2] = height
    column, row, scale = camera.project(points)
    margin = 0.22 * scale[:, 0]  # half a stride may be cut off at the edge
    good = (column[:, 0] > margin) & (column[:, 0] < IMAGE_WIDTH - margin)
    good &= (row[:, 1] > 1) & (row[:, 0] < IMAGE_HEIGHT - 1)
    middle, bad = path.size // 2, np.flatnonzero(~good)
    first = max(bad[bad < middle], default=-1) + 1
    last = min(bad[bad >= middle], default=path.size) - 1
    return float(path[min(first, middle)]), float(path[max(last, middle)])


def _draw_holes(rng: np.random.Generator, starts: Discs, ends: Discs, camera: Camera) -> tuple[Discs, Discs]:
    """Missing bits: disc pairs that follow a place on the body for some frames each."""
    length, capsules = starts[0].shape
    count = int(rng.poisson(NOISE.holes * rng.lognormal(-0.3, 0.8) * length / 10))
    which = rng.integers(capsules, size=count)
    first, lasts = rng.integers(-6, length, size=count), rng.integers(1, 9, size=count)
    along = rng.uniform(size=count)
    beside = rng.uniform(-1, 1, size=(2, count))
    radius = rng.uniform(*NOISE.hole_radius, size=count) * camera.focal / camera.distance
    column, row, thick = (
        start[:, which] + along * (end[:, which] - start[:, which])
        for start, end in zip(starts, ends, strict=True)
    )
    frame = np.arange(length)[:, None]
    alive = (frame >= first) & (frame < first + lasts)
    column = column + beside[0] * thick
    row = np.where(alive, row + beside[1] * thick, -IMAGE_HEIGHT)  # above the image: not drawn
    other = (column + 2 * radius * beside[1], row + 2 * radius * beside[0])
    size = np.broadcast_to(radius, alive.shape)
    return (column, row, size), (*other, size * 0.7)
