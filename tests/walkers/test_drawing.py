from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.data.silhouettes import align_sequence
from gaitedge.errors import InputError
from gaitedge.walkers.drawing import CONDITIONS, FRAME_RATE, GENERATOR, VIEWS, draw_sequence, draw_walker

SEED = 21


@functools.cache
def drawn(subject: int, condition: str, view: str, frames: int | None = None) -> NDArray[np.uint8]:
    return draw_sequence(draw_walker(SEED, subject), condition, view, frames)


@functools.cache
def mean_silhouette(subject: int, condition: str, view: str) -> NDArray[np.float64]:
    """The average aligned silhouette of about two gait cycles, 0 to 1."""
    aligned, _ = align_sequence(drawn(subject, condition, view, 66)[::2])
    return np.asarray(aligned.mean(axis=0) / 255)


def heights(silhouettes: NDArray[np.uint8]) -> NDArray[np.int64]:
    rows = silhouettes.any(axis=2)
    return silhouettes.shape[1] - rows.argmax(axis=1) - rows[:, ::-1].argmax(axis=1)


def centres(silhouettes: NDArray[np.uint8]) -> NDArray[np.float64]:
    columns = silhouettes.sum(axis=1, dtype=np.float64)
    return np.asarray((columns * np.arange(columns.shape[1])).sum(axis=1) / columns.sum(axis=1))


def test_the_conditions_and_views_are_casia_bs() -> None:
    assert VIEWS == ("000", "018", "036", "054", "072", "090", "108", "126", "144", "162", "180")
    assert len(CONDITIONS) == 10
    assert {name: sum(c.startswith(name) for c in CONDITIONS) for name in ("nm", "bg", "cl")} == {
        "nm": 6,
        "bg": 2,
        "cl": 2,
    }


def test_a_sequence_is_silhouettes_of_0_and_255() -> None:
    for condition, view in itertools.product(("nm-01", "bg-02", "cl-01"), ("000", "054", "180")):
        silhouettes = drawn(1, condition, view)
        assert silhouettes.dtype == np.uint8
        assert silhouettes.shape[1:] == (240, 320)
        assert 45 <= len(silhouettes) < 108
        assert set(np.unique(silhouettes)) == {0, 255}


def test_a_seed_draws_the_same_whatever_was_drawn_before() -> None:
    first = draw_sequence(draw_walker(SEED, 5), "bg-01", "036")
    draw_sequence(draw_walker(SEED, 6), "cl-02", "090")
    np.random.default_rng(0).random()
    assert draw_walker(SEED, 5) == draw_walker(SEED, 5)
    assert np.array_equal(draw_sequence(draw_walker(SEED, 5), "bg-01", "036"), first)


def test_what_the_generators_version_draws() -> None:
    """Change these numbers only together with GENERATOR."""
    walker = draw_walker(0, 1)
    silhouettes = draw_sequence(walker, "cl-02", "072")
    assert GENERATOR == 1
    assert walker.body.height == pytest.approx(1.615547969142699, rel=1e-9)
    assert walker.gait.hip[1][3] == pytest.approx(-4.2142356829854375, rel=1e-9)
    assert len(silhouettes) == 62
    # The last bit of a sine differs from one processor to another: a pixel may.
    assert np.count_nonzero(silhouettes) == pytest.approx(186026, abs=3)


def test_every_choice_changes_the_drawing() -> None:
    walker = draw_walker(SEED, 1)
    drawings = [
        draw_sequence(walker, "nm-01", "090", 12),
        draw_sequence(walker, "nm-02", "090", 12),
        draw_sequence(walker, "nm-01", "108", 12),
        draw_sequence(draw_walker(SEED, 2), "nm-01", "090", 12),
        draw_sequence(draw_walker(SEED + 1, 1), "nm-01", "090", 12),
    ]
    for one, other in itertools.combinations(drawings, 2):
        assert np.count_nonzero(one != other) > 5000
    assert walker.body != draw_walker(SEED, 2).body
    assert walker.gait != draw_walker(SEED, 2).gait


def test_the_walker_is_in_every_frame_and_seldom_at_an_edge() -> None:
    at_edge = frames = 0
    for subject, condition, view in itertools.product((1, 2, 3), ("nm-03", "bg-01", "cl-01"), VIEWS[::2]):
        silhouettes = drawn(subject, condition, view)
        assert np.count_nonzero(silhouettes, axis=(1, 2)).min() > 500
        edges = (silhouettes[:, 0], silhouettes[:, -1], silhouettes[..., 0], silhouettes[..., -1])
        at_edge += int(np.any([edge.any(axis=1) for edge in edges], axis=0).sum())
        frames += len(silhouettes)
    assert 0 < at_edge < 0.1 * frames


def test_a_walk_towards_the_camera_grows_and_one_away_shrinks() -> None:
    for subject in range(1, 6):
        for view, sign in (("000", 1), ("018", 1), ("162", -1), ("180", -1)):
            tall = heights(drawn(subject, "nm-01", view))
            first, last = tall[:10].mean(), tall[-10:].mean()
            assert sign * np.log(last / first) > 0.15
            assert min(first, last) > 50
            assert max(first, last) < 235


def test_a_walk_across_the_image_goes_from_left_to_right() -> None:
    for subject in range(1, 6):
        across = drawn(subject, "nm-01", "090")
        x = centres(across)
        assert np.all(np.diff(x[::5]) > 0)
        assert x[-1] - x[0] > 130
        assert heights(across)[:20].mean() == pytest.approx(heights(across)[-20:].mean(), rel=0.12)
        towards = centres(drawn(subject, "nm-01", "000"))
        assert np.ptp(towards) < 60


def test_the_legs_open_twice_in_a_gait_cycle() -> None:
    for subject in range(1, 6):
        walker = draw_walker(SEED, subject)
        aligned, _ = align_sequence(draw_sequence(walker, "nm-02", "090", 128))
        rows = aligned[:, 44:] > 127
        width = np.array([np.ptp(np.flatnonzero(row.any(axis=0))) for row in rows], float)
        spectrum = np.abs(np.fft.rfft((width - width.mean()) * np.hanning(width.size), 1024))
        frames = 1024 / (8 + np.argmax(spectrum[8:]))
        assert frames == pytest.approx(walker.gait.cycle / 2 * FRAME_RATE, rel=0.08)


def test_a_number_of_frames_is_kept_and_the_walker_stays_in_the_image() -> None:
    for frames in (1, 30, 240):
        silhouettes = drawn(4, "nm-01", "090", frames)
        assert len(silhouettes) == frames
        assert np.count_nonzero(silhouettes, axis=(1, 2)).min() > 500


def test_a_coat_covers_more_than_everyday_clothes_and_a_bag_too() -> None:
    """At the same height in the image: aligned silhouettes."""
    area = {
        condition: np.mean(
            [mean_silhouette(s, condition, v).sum() for s in range(1, 9) for v in ("000", "090")]
        )
        for condition in ("nm-01", "bg-01", "cl-01")
    }
    assert area["cl-01"] > 1.1 * area["nm-01"]
    assert area["bg-01"] > 1.02 * area["nm-01"]


def test_subjects_differ_more_than_walks_and_clothes_hide_them() -> None:
    """By the nearest mean silhouette of the same view: far better than chance, and worse the more a
    condition changes. A trained network has to beat this across views."""
    subjects, gallery = range(1, 17), "nm-01"

    def distances(condition: str, view: str) -> NDArray[np.float64]:
        probes, known = (
            np.stack([mean_silhouette(subject, name, view).ravel() for subject in subjects])
            for name in (condition, gallery)
        )
        return np.asarray(np.linalg.norm(probes[:, None] - known[None], axis=2))

    rank1 = {}
    for condition in ("nm-05", "bg-01", "cl-01"):
        hits = []
        for view in ("000", "090"):
            table = distances(condition, view)
            hits.append(table.argmin(axis=1) == np.arange(len(table)))
            if condition == "nm-05":
                others = table[~np.eye(len(table), dtype=bool)]
                assert np.median(others) > 1.3 * np.median(np.diag(table))
        rank1[condition] = float(np.mean(hits))
    assert rank1["nm-05"] > rank1["bg-01"] > rank1["cl-01"]
    assert rank1["nm-05"] >= 0.7
    assert rank1["cl-01"] <= 0.5


def test_bodies_are_plausible_and_differ_modestly() -> None:
    bodies = [draw_walker(SEED, number).body for number in range(300)]
    tall = np.array([body.height for body in bodies])
    assert 1.66 < tall.mean() < 1.74
    assert 1.45 < tall.min() < tall.max() < 1.95
    legs = np.array([(body.thigh + body.shank) / body.height for body in bodies])
    assert 0.02 < legs.std() / legs.mean() < 0.05
    girths = np.array([body.chest / body.height for body in bodies])
    assert 0.07 < girths.std() / girths.mean() < 0.15
    for body in bodies:
        lengths = dataclasses.asdict(body)
        signed = {"slope", "hunch"}
        assert all(value >= 0 for name, value in lengths.items() if name not in signed)


@pytest.mark.parametrize(
    ("condition", "view", "frames", "message"),
    [
        ("nm-07", "090", None, "unknown condition 'nm-07'"),
        ("nm-01", "90", None, "unknown view '90'"),
        ("nm-01", "090", 0, "1 frame or more, not 0"),
    ],
)
def test_a_wrong_choice_is_refused(condition: str, view: str, frames: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        draw_sequence(draw_walker(0, 1), condition, view, frames)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("seed", "subject"), [(-1, 1), (0, -1)])
def test_a_negative_seed_or_subject_is_refused(seed: int, subject: int) -> None:
    with pytest.raises(InputError, match="0 or more"):
        draw_walker(seed, subject)
