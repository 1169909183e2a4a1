"""Why a walk was taken for somebody: the distance of each part, drawn over a silhouette of the walk.

A part is a horizontal strip of the silhouette (Sec. 3.3, horizontal pooling). What its feature has seen
reaches beyond the strip, so that the picture says which parts of the embedding matched, and roughly
where they look.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError
from gaitedge.files import atomic_write
from gaitedge.people.identification import Identification, Match

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["check_picture", "colour", "draw", "explain", "strips", "widest_frame"]

SCALE = 8  # pixels of the picture for one of the silhouette
MARGIN, NUMBERS, GAP, HEAD, FOOT = 24, 64, 40, 96, 64
BAR, TICKS = 24, 96
PAPER, INK, PALE = (255, 255, 255), (32, 32, 32), (112, 112, 112)
WASH = 0.22  # how much of its colour a strip has beside the body

# From near to far. Lightness rises all the way, so that grey prints and the colour-blind read it too.
RAMP = ((47, 16, 96), (56, 80, 156), (28, 136, 148), (96, 188, 110), (236, 220, 84))


def check_picture(path: Path) -> None:
    """Raise InputError where no PNG can be meant by `path`, before anything is computed for it."""
    if path.suffix.lower() != ".png":
        name = path.with_suffix(".png") if path.name.strip(".") else "OUT.png"
        raise InputError(f"an explanation is a PNG picture: name it {name}, not {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file to draw the explanation into")
    if not path.parent.is_dir():
        raise InputError(f"no folder {path.parent} to write {path.name} in")


def explain(silhouettes: NDArray[np.uint8], found: Identification, path: Path) -> None:
    """Draw the picture of `draw` and write it, whole or not at all, as a PNG."""
    check_picture(path)
    picture = draw(silhouettes, found)
    with atomic_write(path) as file:
        picture.save(file, format="PNG")


def draw(silhouettes: NDArray[np.uint8], found: Identification) -> Image:
    """The nearest and the next person side by side, each part coloured by its distance to the probe.

    silhouettes [frames, h, w], uint8: the probe's. found: of `identify`, with two matches where two
    people are enrolled. Both sides share one scale from 0 to the largest distance; the legend marks
    the threshold, which is one of the mean over the parts.
    """
    from PIL import Image, ImageDraw

    shown = found.matches[:2]
    body = widest_frame(silhouettes)
    height, width = body.shape[0] * SCALE, body.shape[1] * SCALE
    panel = width + NUMBERS
    largest = max((*(part for match in shown for part in match.parts), found.threshold or 0.0)) or 1.0
    size = (MARGIN * 2 + len(shown) * (panel + GAP) + BAR + TICKS, HEAD + height + FOOT)
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    _write(pen, (MARGIN, 14), _verdict(found), 20, size[0] - 2 * MARGIN)
    for number, match in enumerate(shown):
        left = MARGIN + number * (panel + GAP)
        title = f"{('nearest', 'next')[number]}: {match.subject}"
        _write(pen, (left, 48), title, 18, panel)
        about = ", ".join(text for text in (match.condition, match.view) if text)
        _write(pen, (left, 70), f"distance {match.distance:.3f}{f'; {about}' if about else ''}", 15, panel)
        picture.paste(Image.fromarray(_coloured(body, match, largest)), (left, HEAD))
        pen.rectangle((left - 1, HEAD - 1, left + width, HEAD + height), outline=PALE)
        for distance, (top, bottom) in zip(match.parts, strips(body.shape[0], len(match.parts)), strict=True):
            middle = HEAD + SCALE * (top + bottom) / 2
            _write(pen, (left + width + 8, middle - 9), f"{distance:.2f}", 15, NUMBERS)
    _legend(pen, (MARGIN + len(shown) * (panel + GAP), HEAD), height, largest, found.threshold)
    _write(pen, (MARGIN, HEAD + height + 14), _summary(found), 15, size[0] - 2 * MARGIN)
    note = "Numbers and colours: Euclidean distance of each part's embedding."
    _write(pen, (MARGIN, HEAD + height + 36), note, 15, size[0] - 2 * MARGIN)
    return picture


def widest_frame(silhouettes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame [h, w] in which the body is widest, legs apart; the first of several."""
    columns = silhouettes.max(axis=1) > 127
    width = columns.shape[1] - columns[:, ::-1].argmax(axis=1) - columns.argmax(axis=1)
    frame: NDArray[np.uint8] = silhouettes[int(np.where(columns.any(axis=1), width, -1).argmax())]
    return frame


def strips(height: int, parts: int) -> list[tuple[int, int]]:
    """First row and first row below of each part, from the head down."""
    edges = [round(height * part / parts) for part in range(parts + 1)]
    return list(itertools.pairwise(edges))


def colour(share: float) -> tuple[int, int, int]:
    """The colour of a distance, given as a share of the largest one; 0 is near and dark."""
    place = min(max(share, 0.0), 1.0) * (len(RAMP) - 1)
    first = min(int(place), len(RAMP) - 2)
    low, high = RAMP[first], RAMP[first + 1]
    red, green, blue = (round(a + (b - a) * (place - first)) for a, b in zip(low, high, strict=True))
    return red, green, blue


def _coloured(body: NDArray[np.uint8], match: Match, largest: float) -> NDArray[np.uint8]:
    """[h * SCALE, w * SCALE, 3]: the body in its parts' colours on a wash of them."""
    strong = np.empty((*body.shape, 3))
    for distance, (top, bottom) in zip(match.parts, strips(len(body), len(match.parts)), strict=True):
        strong[top:bottom] = colour(distance / largest)
    share = (body / 255.0 * (1 - WASH) + WASH)[..., None]
    mixed: NDArray[np.uint8] = (strong * share + np.array(PAPER) * (1 - share)).round().astype(np.uint8)
    return mixed.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def _legend(
    pen: ImageDraw, corner: tuple[int, int], height: int, largest: float, threshold: float | None
) -> None:
    left, top = corner
    for line in range(height):
        pen.line((left, top + line, left + BAR - 1, top + line), fill=colour(line / (height - 1)))
    pen.rectangle((left - 1, top - 1, left + BAR, top + height), outline=PALE)
    _write(pen, (left, top - 26), "near", 15, BAR + TICKS)
    _write(pen, (left, top + height + 6), "far", 15, BAR + TICKS)
    marked = None if threshold is None else top + threshold / largest * (height - 1)
    for step in range(5):
        row = top + step / 4 * (height - 1)
        if marked is None or abs(row - marked) > 24:
            pen.line((left + BAR, row, left + BAR + 6, row), fill=INK)
            _write(pen, (left + BAR + 10, row - 9), f"{step / 4 * largest:.2f}", 15, TICKS)
    if marked is not None and threshold is not None:
        pen.line((left - 6, marked, left + BAR + 6, marked), fill=INK, width=2)
        _write(pen, (left + BAR + 10, marked - 9), f"{threshold:.2f}", 15, TICKS)
        _write(pen, (left + BAR + 10, marked + 8), "threshold", 13, TICKS)


def _verdict(found: Identification) -> str:
    margin = "nobody else is enrolled" if found.margin is None else f"margin {found.margin:.3f}"
    limit = "no threshold set" if found.threshold is None else f"threshold {found.threshold:.3f}"
    return f"{'unknown' if found.unknown else found.matches[0].subject}   ({margin}, {limit})"


def _summary(found: Identification) -> str:
    best, *others = found.matches[:2]
    parts = f"{len(best.parts)} parts"
    if not others:
        return f"{parts}, from the head down."
    closer = sum(mine < other for mine, other in zip(best.parts, others[0].parts, strict=True))
    return f"{closer} of {parts} are nearer to {best.subject} than to {others[0].subject}."


def _write(pen: ImageDraw, place: tuple[float, float], text: str, size: int, room: float) -> None:
    """Write in one line; what finds no room ends with three dots."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    if pen.textlength(text, font) > room:
        while text and pen.textlength(f"{text}...", font) > room:
            text = text[:-1]
        text = f"{text}..."
    pen.text(place, text, INK, font)
