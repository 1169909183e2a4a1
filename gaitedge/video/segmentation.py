"""Which pixels show people: the background of a static camera, learnt and followed.

The background is a median, so that whoever passes is not in it; each pixel has its own noise, so that
foliage does not count as movement. A frame differs from the background by three things: people, their
shadows, and the light. The light is smooth over the image and is taken off; a shadow darkens and keeps the
colour and the texture, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError, require

__all__ = ["BackgroundSegmenter", "BackgroundSettings", "Segmenter", "check_image", "open_segmenter"]

Image = NDArray[np.uint8]
_WHY = "cutting people out of a video"


class Segmenter(Protocol):
    """Whatever finds the pixels of people."""

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image BGR [height, width, 3] to a mask [height, width]: 255 where people are, else 0.

        Images of a video come in their order. Raises InputError for what is no such image.
        """


@dataclass(frozen=True)
class BackgroundSettings:
    """How a background is learnt and what differs from it."""

    rows: int = 480
    """Image height that is worked at; larger images are made smaller first."""
    warm_up: int = 45
    """Images from which an unprimed background is learnt; nobody is seen in these."""
    noise: float = 4.0
    """Least noise of a pixel, in grey levels (0 to 255)."""
    low: float = 3.0
    """Times its noise by which a pixel differs where it belongs to a person, if..."""
    high: float = 7.0
    """...some pixel that it is connected to differs by this many times."""
    cell: int = 16
    """Pixels at working height over which the change of the light is averaged, and..."""
    light: int = 17
    """...cells, an odd number, over whose median it is smooth: more than twice as wide as a person."""
    brightest_shadow: float = 0.97
    """Brightness of a shadow on the background, at most;"""
    darkest_shadow: float = 0.35
    """at least;"""
    shadow_colour: float = 0.10
    """change of its share of red, green or blue, at most;"""
    shadow_texture: float = 0.35
    """correlation with the background's texture, at least, in windows of..."""
    window: float = 0.019
    """...of this share of the image's height."""
    gap: float = 0.018
    """Share of the image's height: what is thinner than this within a person is closed."""
    rate: float = 0.01
    """Share of a new image in the background that it shows."""
    foreground_rate: float = 0.001
    """The same where something stands before it: what is left standing becomes background in the end."""
    upset: float = 0.6
    """Share of an image that differs at which it is the light or the camera that changed: learn anew."""


class BackgroundSegmenter:
    """People before the background of a camera that does not move. Not safe for several threads at once."""

    def __init__(self, settings: BackgroundSettings | None = None) -> None:
        self.settings = settings or BackgroundSettings()
        self._cv2 = require("cv2", _WHY)
        self._seen: list[Image] = []
        self._background: NDArray[np.float32] | None = None
        self._noise: NDArray[np.float32] | None = None

    def prime(self, images: Iterable[Image]) -> None:
        """Learn the background from a video: a place that is empty in more than half of it is learnt empty.

        Of any number of images so many are kept, spread over all of them, as an unprimed one warms up
        with, up to twice. Raises InputError where there is none, or one of another size.
        """
        seen: list[Image] = []
        every = 1
        for number, image in enumerate(images):
            if number % every:
                continue
            small = self._small(check_image(image))
            if seen and small.shape != seen[0].shape:
                raise InputError("a background is learnt from images of one size")
            seen.append(small)
            if len(seen) == 2 * self.settings.warm_up:
                seen, every = seen[::2], 2 * every
        if not seen:
            raise InputError("a background cannot be learnt from no images")
        self._learn(seen)

    def segment(self, image: Image) -> Image:
        """As in Segmenter. An unprimed one gives empty masks while it warms up, and after the light or
        the camera changed all over; an image of another size than the last one begins anew."""
        small = self._small(check_image(image))
        nobody = np.zeros(image.shape[:2], np.uint8)
        if self._background is not None and self._background.shape != small.shape:
            self._background = None
        if self._background is None:
            if self._seen and self._seen[0].shape != small.shape:
                self._seen.clear()
            self._seen.append(small)
            if len(self._seen) >= self.settings.warm_up:
                self._learn(self._seen)
            return nobody
        mask = self._foreground(small)
        if mask.mean() > 255 * self.settings.upset:
            self._background = None
            self._seen = [small]
            return nobody
        large: Image = self._cv2.resize(
            mask, (image.shape[1], image.shape[0]), interpolation=self._cv2.INTER_LINEAR
        )
        whole: Image = np.where(large > 127, np.uint8(255), np.uint8(0))
        return whole

    def _small(self, image: Image) -> Image:
        height, width = image.shape[:2]
        if height <= self.settings.rows:
            return np.array(image)  # a copy: the caller's may be written over
        size = (max(1, round(width * self.settings.rows / height)), self.settings.rows)
        small: Image = self._cv2.resize(image, size, interpolation=self._cv2.INTER_AREA)
        return small

    def _learn(self, seen: list[Image]) -> None:
        """The median of images, and as each pixel's noise 1.5 times the median distance from it, row by
        row: all of them at once in floating point would take gigabytes."""
        height, width = seen[0].shape[:2]
        background = np.empty((height, width, 3), np.float32)
        noise = np.empty((height, width), np.float32)
        for top in range(0, height, 32):
            rows = np.stack([image[top : top + 32] for image in seen]).astype(np.float32)
            middle = np.median(rows, axis=0)
            background[top : top + 32] = middle
            noise[top : top + 32] = 1.5 * np.median(np.abs(rows - middle), axis=0).max(axis=2)
        # A leaf is not always where it was: a pixel is as restless as its neighbourhood.
        noise = self._cv2.GaussianBlur(self._cv2.dilate(noise, np.ones((3, 3), np.uint8)), (0, 0), 1.5)
        self._background, self._noise = background, np.maximum(noise, self.settings.noise)
        self._seen = []

    def _foreground(self, image: Image) -> Image:
        """The mask at working size; the background then takes the image in."""
        cv2, settings = self._cv2, self.settings
        background, noise = self._background, self._noise
        if background is None or noise is None:
            raise RuntimeError("no background is learnt yet")
        difference = image.astype(np.float32)
        difference -= background
        difference -= self._light(difference)
        blue, green, red = cv2.split(cv2.absdiff(difference, 0.0))
        distance = cv2.GaussianBlur(cv2.max(cv2.max(blue, green), red), (0, 0), 1.0)
        distance /= noise
        # What is above `low` and touches what is above `high`.
        changed = (distance > settings.low).view(np.uint8)
        count, labels = cv2.connectedComponents(changed, connectivity=8)
        sure = np.zeros(count, np.uint8)
        sure[labels[distance > settings.high]] = 255
        sure[0] = 0
        mask: Image = sure[labels]
        left, top, width, height = cv2.boundingRect(mask)
        if width:
            where = (slice(top, top + height), slice(left, left + width))
            mask[where][self._shadow(difference[where], background[where], len(image))] = 0
            mask = self._clean(mask)
        still = cv2.bitwise_not(mask)
        cv2.accumulateWeighted(image, background, settings.rate, still)
        cv2.accumulateWeighted(image, background, settings.foreground_rate, mask)
        return mask

    def _light(self, difference: NDArray[np.float32]) -> Any:
        """The part of a difference that is smooth over the image: [height, width, 3]."""
        cv2, settings = self._cv2, self.settings
        height, width = difference.shape[:2]
        size = (max(1, width // settings.cell), max(1, height // settings.cell))
        coarse = np.clip(np.rint(cv2.resize(difference, size, interpolation=cv2.INTER_AREA)) + 128, 0, 255)
        smooth = cv2.medianBlur(coarse.astype(np.uint8), settings.light).astype(np.float32) - 128
        return cv2.resize(cv2.GaussianBlur(smooth, (0, 0), 1.0), (width, height))

    def _shadow(
        self, difference: NDArray[np.float32], background: NDArray[np.float32], rows: int
    ) -> NDArray[np.bool_]:
        """Where the background is darker than it was and otherwise the same; rows: of the whole image."""
        cv2, settings = self._cv2, self.settings
        side = max(5, round(settings.window * rows) | 1)
        window = (side, side)
        was = cv2.add(cv2.blur(background, (3, 3)), (1.0, 1.0, 1.0, 0.0))
        now = cv2.max(cv2.add(was, cv2.blur(difference, (3, 3))), 1.0)
        to_sum = np.ones((1, 3), np.float32)
        bright, bright_was = cv2.transform(now, to_sum), cv2.transform(was, to_sum)
        ratio = bright / bright_was
        shadow = (ratio < settings.brightest_shadow) & (ratio > settings.darkest_shadow)
        for channel in range(3):
            share = now[:, :, channel] / bright - was[:, :, channel] / bright_was
            shadow &= np.abs(share) < settings.shadow_colour
        # The texture: the local correlation of the two in grey.
        grey_was = cv2.transform(background, to_sum / 3)
        grey = grey_was + cv2.transform(difference, to_sum / 3)
        mean, mean_was = cv2.blur(grey, window), cv2.blur(grey_was, window)
        spread = cv2.max(cv2.blur(grey * grey, window) - mean * mean, 4.0)
        spread_was = cv2.max(cv2.blur(grey_was * grey_was, window) - mean_was * mean_was, 4.0)
        common = cv2.blur(grey * grey_was, window) - mean * mean_was
        shadow &= common > settings.shadow_texture * np.sqrt(spread * spread_was)
        whole = cv2.morphologyEx(shadow.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return np.asarray(whole, np.bool_)

    def _clean(self, mask: Image) -> Image:
        """Specks off, cracks closed."""
        cv2 = self._cv2
        gap = max(3, round(self.settings.gap * mask.shape[0]) | 1)
        crack = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap, gap))
        mask = cv2.morphologyEx(cv2.medianBlur(mask, 3), cv2.MORPH_CLOSE, crack)
        cleaned: Image = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return cleaned


def check_image(image: Any) -> Image:
    """Check that an image is BGR, uint8 [height, width, 3]. Raises InputError where it is not."""
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image must be a NumPy array, not {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"an image must be uint8[height, width, 3], not {image.dtype}{list(image.shape)}")
    return image


def open_segmenter(spec: str | Path) -> Segmenter:
    """The segmenter of this name: "background", or a segmentation model, MODEL.onnx.

    Raises InputError for another name, and what ModelSegmenter raises.
    """
    if str(spec) == "background":
        return BackgroundSegmenter()
    if Path(spec).suffix.lower() == ".onnx":
        from gaitedge.video.model_segmentation import ModelSegmenter

        return ModelSegmenter(spec)
    raise InputError(f"unknown segmenter {str(spec)!r}: background, or a segmentation model MODEL.onnx")
