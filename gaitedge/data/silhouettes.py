"""Silhouettes: alignment to 64×44 and the check of what claims to be aligned.

The alignment gives OpenGait's result, so that weights and data travel between the two. Its cubic
resize follows OpenCV's fixed-point arithmetic in NumPy, because a device need not have OpenCV.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT, WIDTH
from gaitedge.data.images import Frame, read_folder, read_image
from gaitedge.data.unpickling import unpickle_array
from gaitedge.errors import SilhouetteError

__all__ = [
    "Dropped",
    "Frame",
    "Silhouettes",
    "align",
    "align_sequence",
    "check_silhouettes",
    "nothing_left",
    "read_folder",
    "read_image",
    "read_pickle",
    "resize_cubic",
    "take_sequence",
]

Silhouettes = NDArray[np.uint8]
"""Aligned silhouettes, [frames, 64, 44], 0 to 255."""

_HALF = HEIGHT // 2  # columns kept on either side of the centre: the square of 64×64
_MARGIN = (HEIGHT - WIDTH) // 2  # columns then left away on either side
_LEAST_SUM = 10_000  # a frame whose pixels sum to this or less holds nobody
_ONE = 2048  # OpenCV's fixed-point one of a resize coefficient
_ALIGNED = ((HEIGHT, WIDTH), (HEIGHT, HEIGHT))


class Dropped(SilhouetteError):
    """One frame holds no usable silhouette; the rest of its sequence may.

    reason: a short stable phrase: "empty", "too few pixels", "too narrow" or "off centre".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def align(frame: Frame) -> NDArray[np.uint8]:
    """Cut the person out of a raw silhouette and centre it: [height, width] -> [64, 44], uint8.

    As OpenGait does: crop to the rows that hold anything, resize these to 64 rows keeping the
    aspect, centre on the column at which the cumulative sum of the columns passes half the total,
    keep 22 columns on either side of it. Greys that the resize makes stay.

    Raises Dropped where nobody is to be seen in the frame, SilhouetteError where it is no frame.
    """
    frame = _check_frame(frame)
    rows = np.flatnonzero(frame.max(axis=1))
    if not rows.size:
        raise Dropped("empty")
    body = frame[rows[0] : rows[-1] + 1]
    highest = body.max(axis=0)
    if int(highest.max()) == 1:
        raise SilhouetteError("its values are 0 and 1, must be 0 to 255: multiply by 255")
    columns = np.flatnonzero(highest)
    first, last = int(columns[0]), int(columns[-1])
    if int(body[:, first : last + 1].sum()) <= _LEAST_SUM:
        raise Dropped("too few pixels")
    width = frame.shape[1] * HEIGHT // body.shape[0]
    if width < 1:
        raise Dropped("too narrow")
    resized, left = _resize_columns(body, first, last, width)
    sums = np.cumsum(resized.sum(axis=0, dtype=np.int64))
    if not sums.size or not sums[-1]:
        raise Dropped("too narrow")
    centre = left + int(np.searchsorted(2 * sums, sums[-1], side="right"))
    if centre == 0:
        raise Dropped("off centre")
    # Column 0 of the result is column `start` of the resized image; what lies outside that is zero.
    start = centre - _HALF + _MARGIN
    aligned = np.zeros((HEIGHT, WIDTH), np.uint8)
    begin, end = max(left, start), min(left + resized.shape[1], start + WIDTH)
    if begin < end:
        aligned[:, begin - start : end - start] = resized[:, begin - left : end - left]
    return aligned


def align_sequence(frames: Iterable[Frame]) -> tuple[Silhouettes, dict[int, str]]:
    """Align the raw frames of one sequence, all of one size.

    Returns the kept ones, [kept, 64, 44], and number (from 0) -> reason of each dropped one.
    Raises SilhouetteError where no frame could be kept, and, naming the frame, where one is no
    silhouette or of another size than the first.
    """
    kept: list[NDArray[np.uint8]] = []
    dropped: dict[int, str] = {}
    size: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        size = size or np.shape(frame)
        result = _align_numbered(number, frame, size)
        if isinstance(result, str):
            dropped[number] = result
        else:
            kept.append(result)
    if not kept:
        raise SilhouetteError(nothing_left(list(dropped.values())))
    return np.stack(kept), dropped


def take_sequence(frames: list[Frame]) -> tuple[Silhouettes, dict[int, str]]:
    """Frames of a sequence as silhouettes: 64×44 and 64×64 as they are, raw ones aligned.

    Returns and raises as align_sequence does.
    """
    sizes = {np.shape(frame) for frame in frames}
    if len(sizes) == 1 and sizes <= set(_ALIGNED):
        return check_silhouettes(np.stack(frames)), {}
    return align_sequence(frames)


def nothing_left(reasons: list[str]) -> str:
    """The message of a sequence of which every frame was dropped, for these reasons."""
    if not reasons:
        return "there is no frame"
    counts = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
    return f"none of {len(reasons)} frames shows a person: {counts}"


def check_silhouettes(array: NDArray[Any]) -> Silhouettes:
    """Check an array that claims to hold aligned silhouettes.

    array: [frames, 64, 44], or [frames, 64, 64] as OpenGait keeps them, of which the middle 44
    columns are taken; uint8, 0 to 255. Returns [frames, 64, 44], contiguous.
    Raises SilhouetteError on another type or shape, on no frames, and where all of it is black.
    """
    if not isinstance(array, np.ndarray):
        raise SilhouetteError(f"aligned silhouettes must be a NumPy array, not {type(array).__name__}")
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[1:] not in _ALIGNED:
        raise SilhouetteError(
            f"aligned silhouettes must be uint8[frames, {HEIGHT}, {WIDTH}] or "
            f"uint8[frames, {HEIGHT}, {HEIGHT}] of 0 to 255, not {array.dtype}{list(array.shape)}"
        )
    if not len(array):
        raise SilhouetteError("there is no frame")
    if array.shape[2] != WIDTH:
        array = array[:, :, _MARGIN:-_MARGIN]
    highest = int(array.max())
    if highest == 0:
        raise SilhouetteError(f"all of {len(array)} aligned silhouettes are black")
    if highest == 1:
        raise SilhouetteError("these silhouettes' values are 0 and 1, must be 0 to 255: multiply them by 255")
    return np.ascontiguousarray(array)


def read_pickle(path: str | Path) -> Silhouettes:
    """Read aligned silhouettes as OpenGait keeps them: a pickle of uint8[frames, 64, 64].

    Returns [frames, 64, 44]. Nothing that the pickle may contain is run. Raises SilhouetteError as
    unpickle_array and check_silhouettes do.
    """
    array = unpickle_array(path)
    try:
        return check_silhouettes(array)
    except SilhouetteError as error:
        raise SilhouetteError(f"{path}: {error}") from None


def resize_cubic(image: Frame, height: int, width: int) -> Frame:
    """Resize a grey image, [h, w] uint8 -> [height, width] uint8, as OpenCV's INTER_CUBIC does.

    Keys' cubic of a = -0.75 at half-pixel centres, the border replicated, no anti-aliasing;
    coefficients rounded to 1/2048, the result saturated. OpenCV's own code gives the same value at
    all but a few pixels in a million; where Intel's IPP replaces that, up to one in 20 differs by 1.
    """
    rows, columns = _taps(image.shape[0], height), _taps(image.shape[1], width)
    return _resize(image, *rows, *columns)


def _resize_columns(body: Frame, first: int, last: int, width: int) -> tuple[Frame, int]:
    """Resize rows to 64 by `width`, but only the columns that can be other than zero.

    first, last: the first and the last column of `body` that hold anything. Returns the columns of
    the resized image that read any of these, [64, n], and the number of the first of them.
    """
    index, coefficients = _taps(body.shape[1], width)
    begin = int(np.searchsorted(index[3], first))
    end = int(np.searchsorted(index[0], last, side="right"))
    if begin >= end:
        return np.zeros((HEIGHT, 0), np.uint8), begin
    index, coefficients = index[:, begin:end], coefficients[:, begin:end]
    low, high = index[0, 0], index[3, -1]
    resized = _resize(body[:, low : high + 1], *_taps(body.shape[0], HEIGHT), index - low, coefficients)
    return resized, begin


def _resize(
    image: Frame,
    rows: NDArray[np.intp],
    row_coefficients: NDArray[np.float32],
    columns: NDArray[np.intp],
    column_coefficients: NDArray[np.float32],
) -> Frame:
    """Read the rows and columns as _taps gives them. Whole numbers throughout: below 2^24 after the
    rows, where float32 is exact, and below 2^53 after the columns."""
    tall = (image[rows] * row_coefficients[:, :, None]).sum(axis=0)
    wide = (tall[:, columns] * column_coefficients.astype(np.float64)).sum(axis=1)
    wide *= 1 / _ONE**2
    np.rint(wide, out=wide)
    np.clip(wide, 0, 255, out=wide)
    resized: Frame = wide.astype(np.uint8)
    return resized


@functools.lru_cache(maxsize=1024)
def _taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Which four pixels each pixel of a resized line reads, [4, target], and 2048 times their
    coefficients."""
    scale = 1 / (target / source)  # OpenCV's own detour: the last bit counts
    position = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    base = np.floor(position)
    a, one, x = np.float32(-0.75), np.float32(1), position - base
    y = one - x
    before = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a + 2) * y - (a + 3)) * y * y + 1
    coefficients = np.rint(np.stack([before, near, far, one - before - near - far]) * _ONE)
    index = np.clip(base.astype(np.intp) + np.arange(-1, 3)[:, None], 0, source - 1)
    return index, coefficients


def _align_numbered(number: int, frame: Frame, size: tuple[int, ...]) -> NDArray[np.uint8] | str:
    """One frame of a sequence aligned, or the reason why it is dropped."""
    try:
        if np.shape(frame) != size:
            raise SilhouetteError(
                f"it is {_size(np.shape(frame))} pixels and frame 0 is {_size(size)}: "
                "the frames of a sequence must be of one size"
            )
        return align(frame)
    except Dropped as error:
        return error.reason
    except SilhouetteError as error:
        raise SilhouetteError(f"frame {number}: {error}") from None


def _check_frame(frame: NDArray[Any]) -> Frame:
    if not isinstance(frame, np.ndarray):
        raise SilhouetteError(f"a silhouette must be a NumPy array, not {type(frame).__name__}")
    if frame.dtype != np.uint8 or frame.ndim != 2 or not frame.size:
        raise SilhouetteError(
            "a silhouette must be one grey image, uint8[height, width] of 0 to 255, "
            f"not {frame.dtype}{list(frame.shape)}"
        )
    return frame


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(str(length) for length in reversed(shape))
