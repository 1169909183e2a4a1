from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.walkers.rendering import IMAGE_HEIGHT, IMAGE_WIDTH, Camera, Discs, cover, erase, fill

Floats = NDArray[np.float64]


def signed_distances(start: tuple[float, ...], end: tuple[float, ...]) -> Floats:
    """Reference: of every pixel's centre, how far outside the hull of two discs it lies.

    The hull is the union of all discs whose centre and radius lie between the two, so the distance
    is a minimum over that one parameter, convex where neither disc holds the other.
    """
    row, column = np.mgrid[:IMAGE_HEIGHT, :IMAGE_WIDTH].astype(float)
    low, high = np.zeros_like(row), np.ones_like(row)

    def distance(share: Floats) -> Floats:
        x, y, radius = (a + share * (b - a) for a, b in zip(start, end, strict=True))
        return np.hypot(column - x, row - y) - radius

    for _ in range(60):
        third = (high - low) / 3
        left = distance(low + third) < distance(high - third)
        low, high = np.where(left, low, low + third), np.where(left, high - third, high)
    return distance((low + high) / 2)


def discs(*values: tuple[float, ...]) -> Discs:
    x, y, radius = (np.array([column]) for column in zip(*values, strict=True))
    return x, y, radius


PAIRS = {
    "tapered": ((60.3, 40.2, 12.1), (90.7, 110.9, 5.3)),
    "growing": ((160.0, 30.5, 3.0), (120.2, 190.1, 20.4)),
    "level": ((50.0, 70.0, 9.5), (120.0, 70.0, 9.5)),
    "upright": ((200.5, 20.0, 8.0), (200.5, 120.0, 8.0)),
    "one point": ((100.2, 100.7, 15.3), (100.2, 100.7, 15.3)),
    "one holds the other": ((100.0, 100.0, 30.0), (108.0, 95.0, 6.0)),
    "touching from within": ((100.0, 100.0, 30.0), (120.0, 100.0, 10.0)),
    "thin": ((20.4, 30.1, 0.4), (70.9, 55.2, 0.4)),
    "over the left edge": ((-12.0, 80.0, 20.0), (30.0, 120.0, 10.0)),
    "over the corner": ((310.0, 230.0, 25.0), (350.0, 260.0, 18.0)),
    "outside": ((-90.0, -80.0, 20.0), (-30.0, -60.0, 10.0)),
    "below": ((100.0, 300.0, 20.0), (130.0, 280.0, 10.0)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_capsule_covers_the_pixels_inside_it_and_no_others(name: str) -> None:
    start, end = PAIRS[name]
    drawn = fill(cover(discs(start), discs(end)), 1)[0] > 0
    distance = signed_distances(start, end)
    certain = np.abs(distance) > 1e-6
    assert np.array_equal(drawn[certain], (distance < 0)[certain])


def test_random_capsules_are_united_frame_by_frame() -> None:
    rng = np.random.default_rng(5)
    frames, capsules = 2, 4
    starts, ends = (
        tuple(rng.uniform(low, high, (frames, capsules)) for low, high in ((-20, 340), (-20, 260), (1, 25)))
        for _ in range(2)
    )
    drawn = fill(cover(starts, ends), frames)
    assert set(np.unique(drawn)) == {0, 255}
    for frame in range(frames):
        distance = np.min(
            [
                signed_distances(
                    tuple(value[frame, number] for value in starts),
                    tuple(value[frame, number] for value in ends),
                )
                for number in range(capsules)
            ],
            axis=0,
        )
        certain = np.abs(distance) > 1e-6
        assert np.array_equal((drawn[frame] > 0)[certain], (distance < 0)[certain])


def test_ragged_moves_both_borders_of_a_row() -> None:
    start, end = discs((100.0, 60.0, 10.0)), discs((100.0, 160.0, 10.0))
    ragged = np.zeros((2, 1, IMAGE_HEIGHT))
    ragged[0, 0, 100], ragged[1, 0, 101], ragged[:, 0, 102] = 3, -2, -30
    columns = np.flatnonzero
    drawn = fill(cover(start, end, ragged), 1)[0]
    assert columns(drawn[99]).tolist() == list(range(90, 111))
    assert columns(drawn[100]).tolist() == list(range(87, 111))
    assert columns(drawn[101]).tolist() == list(range(90, 109))
    assert not drawn[102].any()


def test_erasing_clears_overlapping_spans_and_nothing_else() -> None:
    images = np.full((2, IMAGE_HEIGHT, IMAGE_WIDTH), 255, np.uint8)
    x, y = np.array([[50.0, 55.0], [0.0, 0.0]]), np.array([[70.0, 72.0], [-500.0, 0.0]])
    holes = cover((x, y, np.full((2, 2), 6.0)), (x + 9, y + 2, np.full((2, 2), 3.0)))
    erase(images, holes)
    assert np.array_equal(images == 0, fill(holes, 2) == 255)
    assert (images == 0).any(axis=(1, 2)).all()
    before = images.copy()
    nothing = np.zeros((2, 0))
    erase(images, cover((nothing,) * 3, (nothing,) * 3))
    assert np.array_equal(images, before)


def test_a_level_camera_sees_things_in_proportion() -> None:
    camera = Camera(view=90, distance=6, height=1.0, pitch=0, focal=480, row=120)
    column, row, scale = camera.project(np.array([[0.0, 0, 1], [1, 0, 1], [0, 0, 1.5], [0, -3, 0]]))
    # Ahead on the walk is right, up is a lower row, half the distance is twice the size.
    assert np.allclose(column, [160, 240, 160, 160])
    assert np.allclose(row, [120, 120, 80, 280])
    assert np.allclose(scale, [80, 80, 80, 160])


@pytest.mark.parametrize("view", [0, 36, 90, 126, 180])
def test_the_walk_nears_the_camera_before_90_degrees_and_leaves_it_after(view: int) -> None:
    camera = Camera(view=view, distance=6, height=1.2, pitch=-3, focal=480, row=120)
    column, _, scale = camera.project(np.array([[-1.5, 0, 1], [0, 0, 1], [1.5, 0, 1]]))
    assert column[1] == pytest.approx(160)
    assert scale[1] == pytest.approx(80, rel=0.01)
    if view == 90:
        assert scale[2] == pytest.approx(scale[0])
    else:
        assert (scale[2] > scale[0]) == (view < 90)
    assert column[2] - column[0] == pytest.approx(0, abs=1e-6) if view in (0, 180) else column[2] > column[0]


def test_pitch_moves_the_picture_down() -> None:
    point = np.array([0.0, 0.0, 1.0])
    level = Camera(view=0, distance=6, height=1.0, pitch=0, focal=480, row=120).project(point)[1]
    raised = Camera(view=0, distance=6, height=1.0, pitch=5, focal=480, row=120).project(point)[1]
    assert float(raised) - float(level) == pytest.approx(480 * np.tan(np.deg2rad(5)))
