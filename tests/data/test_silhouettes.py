from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.data.silhouettes import (
    Dropped,
    align,
    align_sequence,
    check_silhouettes,
    read_image,
    read_pickle,
    resize_cubic,
    take_sequence,
)
from gaitedge.errors import SilhouetteError

Image = NDArray[np.uint8]


def person(
    height: int = 140, width: int = 50, top: int = 60, left: int = 130, size: tuple[int, int] = (240, 320)
) -> Image:
    """A ragged upright blob, cut off where it leaves the image."""
    y, x = np.mgrid[: size[0], : size[1]]
    v, u = (y - top) / height, (x - left) / width
    sway = 0.12 * np.sin(9 * v)
    blob = (np.abs(u - 0.5 - sway) < 0.22 + 0.2 * v) & (v >= 0) & (v < 1)
    return (255 * blob).astype(np.uint8)


def by_the_letter(frame: Image) -> Image | None:
    """The alignment step by step as it is described, on the whole image, nothing cropped for speed."""
    if int(frame.sum()) <= 10_000:
        return None
    rows = [row for row in range(len(frame)) if frame[row].any()]
    frame = frame[rows[0] : rows[-1] + 1]
    frame = resize_cubic(frame, 64, int(64 * frame.shape[1] / frame.shape[0]))
    total, running, centre = int(frame.sum()), 0, None
    for column in range(frame.shape[1]):
        running += int(frame[:, column].sum())
        if running > total / 2:
            centre = column
            break
    if not centre:
        return None
    left, right = centre - 32, centre + 32
    if left <= 0 or right >= frame.shape[1]:
        frame = np.pad(frame, ((0, 0), (32, 32)))
        left, right = left + 32, right + 32
    return frame[:, left:right][:, 10:-10]


def keys_cubic(image: Image, height: int, width: int) -> NDArray[np.float64]:
    """The cubic of a = -0.75 in plain floating point, a pixel at a time: neither rounded nor saturated."""

    def weight(distance: float) -> float:
        d, a = abs(distance), -0.75
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    def matrix(source: int, target: int) -> NDArray[np.float64]:
        result = np.zeros((target, source))
        for pixel in range(target):
            position = (pixel + 0.5) * source / target - 0.5
            for tap in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
                result[pixel, min(max(tap, 0), source - 1)] += weight(position - tap)
        return result

    return matrix(image.shape[0], height) @ image.astype(np.float64) @ matrix(image.shape[1], width).T


def random_images(seed: int, count: int, largest: int = 400) -> list[Image]:
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        size = rng.integers(1, largest, 2)
        grey = rng.integers(0, 256, size)
        images.append((grey if number % 2 else 255 * (grey > 127)).astype(np.uint8))
    return images


def test_resize_is_opencvs() -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(1)
    pixels = different = 0
    sizes = [(h, w) for h in (1, 2, 3, 63, 64, 65, 128, 150, 240) for w in (1, 5, 44, 64, 320)]
    images = random_images(2, 150) + [rng.integers(0, 256, size).astype(np.uint8) for size in sizes]
    for image in images:
        width = int(rng.integers(1, 250))
        expected = cv2.resize(image, (width, 64), interpolation=cv2.INTER_CUBIC)
        difference = np.abs(resize_cubic(image, 64, width).astype(int) - expected)
        assert difference.max() <= 1, (image.shape, width)
        pixels += difference.size
        different += int((difference > 0).sum())
    # 0.0004 % against OpenCV's own code; where Intel's IPP stands in for that, about 3 %.
    assert different / pixels < 0.05


def test_resize_is_keys_cubic() -> None:
    for image in random_images(3, 12, largest=90):
        exact = keys_cubic(image, 64, 37)
        # Each coefficient is rounded to 1/2048: of 16 taps of 255 that is less than 2 grey levels.
        assert np.abs(resize_cubic(image, 64, 37) - np.clip(exact, 0, 255)).max() < 2


def test_resize_to_the_same_size_changes_nothing() -> None:
    for image in random_images(4, 6):
        assert (resize_cubic(image, *image.shape) == image).all()


def test_align_is_the_letter_of_the_description() -> None:
    rng = np.random.default_rng(5)
    aligned = 0
    for number in range(300):
        frame = person(
            height=int(rng.integers(5, 300)),
            width=int(rng.integers(4, 120)),
            top=int(rng.integers(-60, 200)),
            left=int(rng.integers(-60, 330)),
            size=(240, 320) if number % 3 else (int(rng.integers(70, 200)), int(rng.integers(10, 120))),
        )
        if number % 5 == 0:
            frame[rng.integers(0, len(frame), 20), rng.integers(0, frame.shape[1], 20)] = 90
        expected = by_the_letter(frame)
        if expected is None:
            with pytest.raises(Dropped):
                align(frame)
        else:
            aligned += 1
            assert (align(frame) == expected).all(), number
    assert aligned > 100


def test_align_centres_a_body_at_the_edge() -> None:
    frame = person(left=-12)
    aligned = align(frame)
    assert aligned.shape == (64, 44)
    assert aligned.dtype == np.uint8
    assert aligned[0].any()
    assert aligned[-1].any()
    assert not aligned[:, :5].any()  # what lies outside the image is background
    sums = np.cumsum(aligned.sum(axis=0, dtype=int))
    assert np.searchsorted(2 * sums, sums[-1], side="right") == 22


def test_align_does_not_depend_on_memory_layout() -> None:
    frame = person()
    assert (align(np.asfortranarray(frame)) == align(frame)).all()
    assert (align(frame[:, ::-1]) == align(frame[:, ::-1].copy())).all()


def test_align_keeps_greys() -> None:
    assert set(np.unique(align(person()))) - {0, 255}


def one_pixel_more_than(total: int) -> Image:
    frame = np.zeros((240, 320), np.uint8)
    frame[50:60, 100:104] = total // 40
    frame[50, 100] += total - int(frame.sum())
    assert frame.sum() == total
    return frame


def slit() -> Image:
    frame = np.zeros((400, 6), np.uint8)
    frame[:, 3] = 255
    return frame


def at_the_left_edge() -> Image:
    frame = np.zeros((240, 320), np.uint8)
    frame[20:220, :2] = 255
    return frame


def between_the_taps() -> Image:
    """A line so thin that the resized image, at every 20th pixel, reads none of it."""
    frame = np.zeros((1280, 1280), np.uint8)
    frame[:, 615] = 255
    assert not resize_cubic(frame, 64, 64).any()
    return frame


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (np.zeros((240, 320), np.uint8), "empty"),
        (one_pixel_more_than(10_000), "too few pixels"),
        (slit(), "too narrow"),
        (at_the_left_edge(), "off centre"),
        (between_the_taps(), "too narrow"),
    ],
)
def test_align_drops(frame: Image, reason: str) -> None:
    with pytest.raises(Dropped) as caught:
        align(frame)
    assert caught.value.reason == reason


def test_align_takes_one_grey_level_more_than_too_few() -> None:
    assert align(one_pixel_more_than(10_001)).any()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (person() // 255, "values are 0 and 1.*multiply by 255"),
        (person() > 0, r"not bool\[240, 320\]"),
        (person().astype(np.float32), r"not float32\[240, 320\]"),
        (np.stack([person()] * 3, axis=-1), r"not uint8\[240, 320, 3\]"),
        (np.zeros((0, 5), np.uint8), r"not uint8\[0, 5\]"),
        ([[0, 255]], "not list"),
    ],
)
def test_align_refuses(frame: Image, message: str) -> None:
    with pytest.raises(SilhouetteError, match=message) as caught:
        align(frame)
    assert not isinstance(caught.value, Dropped)
    assert "\n" not in str(caught.value)


def test_align_sequence_numbers_what_it_drops() -> None:
    frames = [person(), np.zeros((240, 320), np.uint8), person(left=20), at_the_left_edge(), person(top=-30)]
    silhouettes, dropped = align_sequence(iter(frames))
    assert dropped == {1: "empty", 3: "off centre"}
    assert (silhouettes == np.stack([align(frames[number]) for number in (0, 2, 4)])).all()


def test_align_sequence_refuses_mixed_sizes_and_names_both() -> None:
    with pytest.raises(SilhouetteError, match="frame 1: it is 160×120 pixels and frame 0 is 320×240"):
        align_sequence([person(), person(size=(120, 160), top=5, left=20, height=100)])


def test_align_sequence_names_the_frame_that_is_none() -> None:
    with pytest.raises(SilhouetteError, match="frame 1: its values are 0 and 1"):
        align_sequence([person(), person() // 255])


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "there is no frame"),
        ([np.zeros((9, 9), np.uint8)] * 3, "none of 3 frames shows a person: 3 empty"),
    ],
)
def test_align_sequence_refuses_a_sequence_without_a_person(frames: list[Image], message: str) -> None:
    with pytest.raises(SilhouetteError, match=message):
        align_sequence(frames)


def test_take_sequence_leaves_aligned_frames_alone() -> None:
    aligned = [align(person()), align(person(left=30))]
    assert (take_sequence(aligned)[0] == np.stack(aligned)).all()
    squares = [np.pad(frame, ((0, 0), (10, 10))) for frame in aligned]
    assert (take_sequence(squares)[0] == np.stack(aligned)).all()
    raw, dropped = take_sequence([person(), np.zeros((240, 320), np.uint8)])
    assert (raw[0] == aligned[0]).all()
    assert dropped == {1: "empty"}


def test_check_cuts_opengaits_square() -> None:
    square = np.random.default_rng(6).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    checked = check_silhouettes(square)
    assert (checked == square[:, :, 10:-10]).all()
    assert checked.flags.c_contiguous
    assert check_silhouettes(checked) is checked


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((5, 64, 44), 0.5, np.float32), r"not float32\[5, 64, 44\]"),
        (np.full((64, 44), 255, np.uint8), r"not uint8\[64, 44\]"),
        (np.full((5, 44, 64), 255, np.uint8), r"not uint8\[5, 44, 64\]"),
        (np.full((1, 5, 64, 44), 255, np.uint8), r"not uint8\[1, 5, 64, 44\]"),
        (np.zeros((0, 64, 44), np.uint8), "there is no frame"),
        (np.zeros((5, 64, 44), np.uint8), "all of 5 aligned silhouettes are black"),
        (np.ones((5, 64, 44), np.uint8), "multiply them by 255"),
        (np.pad(np.zeros((2, 64, 44), np.uint8), ((0, 0), (0, 0), (10, 10)), constant_values=255), "black"),
        ("walk", "not str"),
    ],
)
def test_check_refuses(array: Image, message: str) -> None:
    with pytest.raises(SilhouetteError, match=message):
        check_silhouettes(array)


def test_read_pickle_takes_opengaits(tmp_path: Path) -> None:
    square = np.random.default_rng(7).integers(0, 256, (8, 64, 64)).astype(np.uint8)
    path = tmp_path / "090.pkl"
    path.write_bytes(pickle.dumps(square))
    assert (read_pickle(path) == square[:, :, 10:-10]).all()
    path.write_bytes(pickle.dumps(square.astype(np.float32) / 255))
    with pytest.raises(SilhouetteError, match=r"090.pkl: .* not float32\[8, 64, 64\]"):
        read_pickle(path)


@pytest.mark.shared
def test_real_walks_align_as_opencv_would(shared: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    archive = next(iter(sorted((shared / "data" / "walks").glob("005*"))))
    with tarfile.open(archive) as file:
        members = [member for member in file.getmembers() if member.name.endswith(".png")][::25]
        frames = []
        for number, member in enumerate(members):
            data = file.extractfile(member)
            assert isinstance(data, io.BufferedReader)
            path = tmp_path / f"{number}.png"
            path.write_bytes(data.read())
            frames.append(read_image(path))
    compared = 0
    for frame in frames:
        try:
            aligned = align(frame)
        except Dropped:
            continue
        rows = np.flatnonzero(frame.any(axis=1))
        body = frame[rows[0] : rows[-1] + 1]
        resized = cv2.resize(
            body, (int(64 * body.shape[1] / body.shape[0]), 64), interpolation=cv2.INTER_CUBIC
        )
        sums = np.cumsum(resized.sum(axis=0, dtype=int))
        centre = int(np.searchsorted(2 * sums, sums[-1], side="right"))
        expected = np.pad(resized, ((0, 0), (32, 32)))[:, centre + 10 : centre + 54]
        assert np.abs(aligned.astype(int) - expected).max() <= 1
        compared += 1
    assert compared > 20
