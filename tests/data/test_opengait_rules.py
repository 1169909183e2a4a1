"""OpenGait's own rules for data, each against a plain NumPy statement of it.

tests/data/test_silhouettes.py takes the alignment apart, on our own resize; here it is stated from end
to end, the resize too, and held against frames of people.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from commands import succeed
from numpy.typing import NDArray

from gaitedge.data.silhouettes import Dropped, align
from gaitedge.data.splits import choose_subjects
from gaitedge.data.store import Store
from gaitedge.walkers.drawing import draw_sequence, draw_walker

Image = NDArray[np.uint8]


def cubic(source: int, target: int) -> NDArray[np.float64]:
    """The matrix [target, source] of a cubic resize as OpenCV computes it: a = -0.75, half-pixel centres,
    the border replicated, coefficients in whole 2048ths."""
    matrix = np.zeros((target, source))
    for pixel in range(target):
        position = (pixel + 0.5) * source / target - 0.5
        base = int(np.floor(position))
        for tap in range(base - 1, base + 3):
            d, a = abs(position - tap), -0.75
            weight = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[pixel, min(max(tap, 0), source - 1)] += np.rint(2048 * weight) / 2048
    return matrix


def stated(frame: Image) -> Image | None:
    """OpenGait's alignment, step by step: [height, width] -> [64, 44], or None where it drops the frame."""
    if frame.sum() <= 10_000:
        return None
    rows = np.flatnonzero(frame.sum(axis=1))
    body = frame[rows[0] : rows[-1] + 1].astype(np.float64)
    height, width = body.shape[0], int(64 * body.shape[1] / body.shape[0])
    if width == 0:
        return None
    resized = cubic(height, 64) @ body @ cubic(body.shape[1], width).T
    grey = np.clip(np.rint(resized), 0, 255).astype(np.uint8)  # and no longer 0 and 255 alone
    cumulative = grey.sum(axis=0, dtype=np.int64).cumsum()
    beyond = np.flatnonzero(cumulative > cumulative[-1] / 2)
    if not beyond.size or beyond[0] == 0:
        return None
    left, right = beyond[0] - 32, beyond[0] + 32
    if left <= 0 or right >= grey.shape[1]:
        blank = np.zeros((64, 32), np.uint8)
        grey = np.concatenate([blank, grey, blank], axis=1)
        left, right = left + 32, right + 32
    return grey[:, left:right][:, 10:-10]


def check(frames: list[Image]) -> tuple[int, int]:
    """Hold `align` against the statement on every frame; counts the kept and the dropped ones.

    One pixel in 200 may differ by a grey level: OpenCV computes its coefficients in float32, and of two
    that lie halfway between 2048ths it may take the other.
    """
    kept = dropped = different = 0
    for frame in frames:
        expected = stated(frame)
        if expected is None:
            with pytest.raises(Dropped):
                align(frame)
            dropped += 1
            continue
        found = align(frame)
        assert (found.shape, found.dtype) == ((64, 44), np.uint8)
        apart = np.abs(found.astype(int) - expected)
        assert apart.max() <= 1
        different += int((apart > 0).sum())
        kept += 1
    assert different <= kept * 64 * 44 / 200
    return kept, dropped


@pytest.mark.parametrize("view", ["000", "054", "090", "162"])
@pytest.mark.parametrize("condition", ["nm-01", "bg-01", "cl-02"])
def test_walkers_are_aligned_as_opengait_does(view: str, condition: str) -> None:
    whole = draw_sequence(draw_walker(0, 5), condition, view)[::12]
    frames = list(whole)
    for frame in whole[::2]:  # cut off at either side, too few rows left, and nobody
        columns = np.flatnonzero(frame.any(axis=0))
        middle = (columns[0] + columns[-1]) // 2
        frames += [frame[:, middle:], frame[:, :middle], frame[:, middle - 1 : middle + 1], 0 * frame]
        frames.append(frame[: int(np.flatnonzero(frame.any(axis=1))[0]) + 3])
    kept, dropped = check(frames)
    assert kept > len(whole)
    assert dropped >= 2 * len(whole[::2])


def test_random_images_are_aligned_as_opengait_does() -> None:
    rng = np.random.default_rng(0)
    frames: list[Image] = []
    for number in range(80):
        height, width = rng.integers(5, 260), rng.integers(2, 340)
        if number % 8 == 0:  # a speck
            height, width = rng.integers(2, 9, 2)
        grey = rng.integers(0, 256, (height, width)).astype(np.uint8)
        if number % 3 == 0:
            grey = 255 * (grey > 127).astype(np.uint8)
        if number % 2:  # somewhere in an empty image
            top, left, bottom, right = rng.integers(0, 120, 4)
            grey = np.pad(grey, ((top, bottom), (left, right)))
        frames.append(grey)
    kept, dropped = check(frames)
    assert kept > 60
    assert dropped > 3


# Pickled data sets ----------------------------------------------------------------------------------


def write(root: Path, subject: str, kind: str, view: str, rng: np.random.Generator) -> Image:
    """A sequence as OpenGait's preparation leaves it: root/ID/TYPE/VIEW/VIEW.pkl, uint8 [frames, 64, 64]."""
    folder = root / subject / kind / view
    folder.mkdir(parents=True)
    square = rng.integers(0, 256, (int(rng.integers(15, 25)), 64, 64)).astype(np.uint8)
    with (folder / f"{view}.pkl").open("wb") as file:
        pickle.dump(square, file)
    return square


@pytest.mark.parametrize(
    ("subjects", "kinds", "views", "split", "tested"),
    [
        (
            ["001", "074", "075"],
            ["nm-01", "nm-05", "bg-01", "cl-02"],
            ["000", "018", "180"],
            "casia-b",
            ["075"],
        ),
        (["00001", "00002", "10307"], ["00", "01"], ["000", "090", "270"], "oumvlp", ["00002", "10307"]),
    ],
)
def test_a_pickled_data_set_is_read_as_it_is(
    subjects: list[str], kinds: list[str], views: list[str], split: str, tested: list[str], tmp_path: Path
) -> None:
    """Every sequence is there under its own names, its columns 10:-10, no value changed."""
    rng = np.random.default_rng(1)
    squares = {
        (subject, kind, view): write(tmp_path / "pkl", subject, kind, view, rng)
        for subject in subjects
        for kind in kinds
        for view in views
    }
    report = succeed("prepare", tmp_path / "pkl", tmp_path / "store", "--layout", "opengait", "--json").json
    assert (report["sequences"], report["dropped_frames"], report["dropped_sequences"]) == (
        len(squares),
        {},
        {},
    )
    store = Store(tmp_path / "store")
    found = {
        (walk.subject, walk.condition, walk.view): store[index] for index, walk in enumerate(store.sequences)
    }
    assert found.keys() == squares.keys()
    for name, square in squares.items():
        assert (found[name] == square[:, :, 10:-10]).all()
    assert sorted(choose_subjects(f"{split}/test", subjects)) == tested
