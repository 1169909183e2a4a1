from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gaitedge.walkers.bodies import Body, Gait
from gaitedge.walkers.drawing import draw_walker
from gaitedge.walkers.posing import Bag, BagKind, Coat, Walk, pose, stride
from gaitedge.walkers.rendering import Capsules

FRAMES = 120  # of one gait cycle


def plain_walk(coat: Coat | None = None, bag: Bag | None = None) -> Walk:
    phase = np.linspace(0, 2 * np.pi, FRAMES, endpoint=False)
    noise = np.zeros((FRAMES, 12))
    return Walk(phase, noise, speed=1, arms=1, girth=1, lean=0, elbow=0, head=0, coat=coat, bag=bag)


def subjects() -> list[tuple[Body, Gait]]:
    walkers = [draw_walker(3, number) for number in range(1, 9)]
    return [(walker.body, walker.gait) for walker in walkers]


def lowest(capsules: Capsules) -> np.ndarray:
    return np.minimum(
        (capsules.start[..., 2] - capsules.start_radius).min(axis=1),
        (capsules.end[..., 2] - capsules.end_radius).min(axis=1),
    )


def test_one_foot_always_stands_on_the_ground() -> None:
    for body, gait in subjects():
        assert np.allclose(lowest(pose(body, gait, plain_walk())), 0, atol=0.03)
        assert lowest(pose(body, gait, plain_walk())).max() < 1e-9  # nobody floats


def test_walkers_are_as_tall_as_their_bodies_say() -> None:
    for body, gait in subjects():
        capsules = pose(body, gait, plain_walk())
        top = (capsules.end[..., 2] + capsules.end_radius).max()
        assert top == pytest.approx(body.height, rel=0.08)


def test_a_standing_foot_hardly_slides() -> None:
    slides = []
    for body, gait in subjects():
        capsules = pose(body, gait, plain_walk())
        heel = capsules.end[:, 3, 0]  # of the right leg: its fourth capsule ends there
        advance = stride(body, gait, 1.0) / FRAMES
        standing = slice(round(0.10 * FRAMES), round(0.40 * FRAMES))
        slides.append(np.diff(heel[standing]).mean() / advance + 1)
        assert 0.9 < stride(body, gait, 1.0) < 1.9
    assert abs(np.mean(slides)) < 0.1
    assert np.abs(slides).max() < 0.6


def test_legs_are_half_a_cycle_apart_and_arms_swing_against_them() -> None:
    for body, gait in subjects():
        capsules = pose(body, gait, plain_walk())
        each = capsules.start.shape[1] // 2
        ankles = capsules.end[:, [2, 2 + 12], 0]
        wrists = capsules.end[:, [6, 6 + 12], 0]
        assert each > 12
        assert np.corrcoef(ankles.T)[0, 1] < -0.5
        assert np.corrcoef(ankles[:, 0], wrists[:, 0])[0, 1] < -0.3
        assert np.corrcoef(ankles[:, 1], wrists[:, 1])[0, 1] < -0.3


def test_knees_flex_about_sixty_degrees_in_swing_and_never_far_the_wrong_way() -> None:
    peaks = []
    for body, gait in subjects():
        capsules = pose(body, gait, plain_walk())
        thigh, shank = capsules.end[:, 0] - capsules.start[:, 0], capsules.end[:, 2] - capsules.end[:, 0]
        angles = np.rad2deg(np.arctan2(thigh[:, 0], -thigh[:, 2]) - np.arctan2(shank[:, 0], -shank[:, 2]))
        assert angles.min() > -4
        assert 55 <= 100 * np.argmax(angles) / FRAMES <= 85
        peaks.append(angles.max())
    assert 50 < np.mean(peaks) < 70


def test_a_coat_widens_torso_and_arms_and_hangs_a_hem() -> None:
    body, gait = subjects()[0]
    plain = pose(body, gait, plain_walk())
    coat = Coat(torso=0.04, sleeves=0.02, hem=0.7, flare=0.15, swing=0.8, head=0.01, brim=0.04, trousers=0.01)
    dressed = pose(body, gait, plain_walk(coat=coat))
    assert dressed.start.shape[1] == plain.start.shape[1] + 2 + 2 + 2  # hems, skirt, brim
    assert dressed.start_radius.sum() > plain.start_radius.sum() + 0.3
    skirt = np.flatnonzero(dressed.end_radius == 0.15)
    hip, knee = plain.start[:, 0, 2].mean(), plain.end[:, 0, 2].mean()
    assert knee < dressed.end[:, skirt, 2].mean() < hip


@pytest.mark.parametrize("kind", ["backpack", "shoulder", "hand"])
def test_a_bag_is_where_it_is_carried(kind: BagKind) -> None:
    body, gait = subjects()[1]
    plain = pose(body, gait, plain_walk())
    bag = Bag(kind, left=1, width=0.1, height=0.1, radius=0.06, still=0.0, drop=0.1)
    laden = pose(body, gait, plain_walk(bag=bag))
    radii = laden.end_radius.tolist()
    added = [number for number, radius in enumerate(radii) if radius not in plain.end_radius.tolist()]
    assert len(added) == (2 if kind == "backpack" else 3)
    middle = laden.end[:, added].mean(axis=(0, 1))
    if kind == "backpack":
        assert middle[0] < -0.1
        assert middle[2] > 0.5 * body.height
    else:
        assert middle[1] > 0.1
        assert middle[2] < 0.6 * body.height
        # The arm that holds it is still, the other one swings as ever.
        swing = [np.ptp(laden.end[:, number, 0] - laden.start[:, number, 0]) for number in (5, 5 + 12)]
        before = [np.ptp(plain.end[:, number, 0] - plain.start[:, number, 0]) for number in (5, 5 + 12)]
        assert swing[0] == pytest.approx(before[0])
        assert swing[1] < 0.35 * before[1]


def test_girth_scales_every_radius_and_no_length() -> None:
    body, gait = subjects()[2]
    plain = pose(body, gait, plain_walk())
    stout = pose(body, gait, dataclasses.replace(plain_walk(), girth=1.1))
    assert np.allclose(stout.start_radius, 1.1 * plain.start_radius)
    assert np.allclose(stout.start[..., :2], plain.start[..., :2])
