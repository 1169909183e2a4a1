"""Synthetic scenes: drawn walkers before a textured background, as a camera that stands still sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gaitedge.video.capture import Frame
from gaitedge.walkers.drawing import draw_sequence, draw_walker

WIDTH, HEIGHT, RATE = 640, 240, 30.0
FEET = 200  # the row on which people stand


@dataclass(frozen=True)
class Person:
    """Somebody in a scene; places are those of the middle of the body, in pixels."""

    begin: float
    end: float
    subject: int = 1
    first: int = 0
    last: int = 90
    """Frames between which he or she goes from `begin` to `end`."""
    jumps: bool = False
    """On the spot, legs together: there is no gait."""
    colour: tuple[int, int, int] = (60, 70, 150)
    view: str = "090"


@dataclass(frozen=True)
class Scene:
    """What happens before the camera."""

    people: tuple[Person, ...]
    frames: int = 100
    noise: float = 2.0
    shadows: bool = False
    pillar: tuple[int, int] | None = None
    """Columns that stand before the people."""
    seed: int = 0

    def background(self) -> NDArray[np.float32]:
        """The empty scene, [240, 640, 3]: coarse and fine texture above, a paler ground below."""
        rng = np.random.default_rng(self.seed)
        coarse = cv2.resize(rng.uniform(-30, 30, (12, 32, 3)).astype(np.float32), (WIDTH, HEIGHT))
        fine = cv2.GaussianBlur(rng.uniform(-60, 60, (HEIGHT, WIDTH, 1)).astype(np.float32), (0, 0), 1.2)
        image = np.full((HEIGHT, WIDTH, 3), (150, 160, 165), np.float32) + coarse + fine[:, :, None]
        image[170:] += 25
        return image

    def masks(self) -> Iterator[list[NDArray[np.bool_]]]:
        """For every frame the pixels that each person covers, [240, 640]; what a pillar hides is in none."""
        figures = [_figures(person) for person in self.people]
        for index in range(self.frames):
            shown = []
            for person, figure in zip(self.people, figures, strict=True):
                mask = np.zeros((HEIGHT, WIDTH), np.bool_)
                if person.first <= index <= person.last:
                    _place(mask, figure[index - person.first], *_where(person, index))
                if self.pillar is not None:
                    mask[:, slice(*self.pillar)] = False
                shown.append(mask)
            yield shown

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """BGR [240, 640, 3]."""
        rng = np.random.default_rng(self.seed + 1)
        background = self.background()
        for masks in self.masks():
            image = background.copy()
            for person, mask in zip(self.people, masks, strict=True):
                if self.shadows:
                    image *= 1 - 0.4 * _shadow(mask)[:, :, None]
                cloth = np.asarray(person.colour, np.float32) + 12 * rng.standard_normal((HEIGHT, 1, 1))
                image[mask] = np.broadcast_to(cloth, image.shape)[mask]
            if self.pillar is not None:
                image[:, slice(*self.pillar)] = (95, 100, 90)
            image += self.noise * rng.standard_normal(image.shape)
            yield np.clip(np.rint(image), 0, 255).astype(np.uint8)

    def video(self, rate: float = RATE) -> Iterator[Frame]:
        """Its frames, at so many a second."""
        for index, image in enumerate(self.images()):
            yield Frame(index, index / rate, image)

    def silhouette_frames(self) -> Iterator[tuple[Frame, NDArray[np.uint8]]]:
        """Frames of no picture, and the mask that a perfect segmenter would give for each."""
        for index, masks in enumerate(self.masks()):
            union = np.logical_or.reduce(masks).astype(np.uint8) * np.uint8(255)
            yield Frame(index, index / RATE, np.zeros((HEIGHT, WIDTH, 3), np.uint8)), union


def two_cross(frames: int = 110) -> Scene:
    """One from the left and one from the right, in one lane; both are in the image to the end."""
    left = Person(90, 550, subject=1, last=frames)
    right = Person(550, 90, subject=4, last=frames, colour=(150, 80, 60))
    return Scene((left, right), frames=frames)


def _figures(person: Person) -> NDArray[np.bool_]:
    """One figure for every frame that the person is there, cut out of the drawn sequence."""
    count = person.last - person.first + 1
    drawn = draw_sequence(draw_walker(0, person.subject), "nm-01", person.view, frames=count) > 0
    if person.jumps:
        widths = [np.ptp(np.flatnonzero(figure[150:].any(axis=0))) for figure in drawn]
        drawn = np.broadcast_to(drawn[int(np.argmin(widths))], drawn.shape)
    return drawn if person.end >= person.begin else drawn[:, :, ::-1]


def _where(person: Person, index: int) -> tuple[float, float]:
    """Column and height above the ground at a frame."""
    share = (index - person.first) / max(1, person.last - person.first)
    lift = 30 * abs(np.sin(2 * np.pi * (index - person.first) / 45)) if person.jumps else 0.0
    return person.begin + share * (person.end - person.begin), float(lift)


def _place(mask: NDArray[np.bool_], figure: NDArray[np.bool_], column: float, lift: float) -> None:
    rows, columns = np.flatnonzero(figure.any(axis=1)), np.flatnonzero(figure.any(axis=0))
    body = figure[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top = FEET - round(lift) - body.shape[0]
    weights = body.sum(axis=0)
    left = round(column - float(np.dot(np.arange(body.shape[1]), weights)) / float(weights.sum()))
    begin, end = max(left, 0), min(left + body.shape[1], WIDTH)
    if begin < end:
        body, top = body[max(0, -top) :], max(0, top)  # close to the camera the head is out of the image
        mask[top : top + body.shape[0], begin:end] |= body[:, begin - left : end - left]


def _shadow(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The figure laid down on the ground, to the right and towards the camera: 0 to 1, soft at the edge."""
    to = np.array([[1.0, -0.6, 0.6 * FEET], [0.0, -0.3, 1.3 * FEET]], np.float32)
    laid = cv2.warpAffine(mask.astype(np.float32), to, (WIDTH, HEIGHT))
    return np.asarray(cv2.GaussianBlur(laid, (0, 0), 2.0), np.float32)


def without(scene: Scene) -> Scene:
    """The same scene with nobody in it."""
    return dataclasses.replace(scene, people=())
