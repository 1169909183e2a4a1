from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import Person, Scene, two_cross

from gaitedge.video.blobs import Blob, Box, find_blobs
from gaitedge.video.tracking import Tracker

RATE = 30.0


def block(left: float, top: float = 50, width: int = 30, height: int = 100) -> Blob:
    box = Box(round(left), round(top), round(left) + width, round(top) + height)
    return Blob(box, np.ones((height, width), np.bool_), width * height)


def followed(scene: Scene) -> tuple[dict[int, set[int]], Tracker]:
    """For every track the people whom its blobs show, and the tracker at the end."""
    tracker, shown = Tracker(), dict[int, set[int]]()
    for (frame, mask), masks in zip(scene.silhouette_frames(), scene.masks(), strict=True):
        for track, blob in tracker.update(find_blobs(mask), frame.time):
            shown.setdefault(track, set()).add(_who(blob, masks))
    return shown, tracker


def _who(blob: Blob, masks: list[NDArray[np.bool_]]) -> int:
    box = blob.box
    inside = [int(mask[box.top : box.bottom, box.left : box.right].sum()) for mask in masks]
    return int(np.argmax(inside))


@pytest.mark.parametrize("pace", [1.0, 1.4])
def test_two_who_cross_keep_their_identities(pace: float) -> None:
    shown, tracker = followed(two_cross(round(110 / pace)))
    assert sorted(map(sorted, shown.values())) == [[0], [1]]
    assert sorted(tracker.active) == sorted(shown)


def test_two_in_one_blob_are_merged_and_nobodys() -> None:
    scene = two_cross()
    tracker, apart, together = Tracker(), [], []
    for frame, mask in scene.silhouette_frames():
        blobs = find_blobs(mask)
        seen = tracker.update(blobs, frame.time)
        if frame.index > 10:
            (apart if len(seen) == 2 else together).append((len(blobs), len(seen), len(tracker.merged)))
    assert set(apart) == {(2, 2, 0)}
    assert set(together) == {(1, 0, 2)}
    assert 8 <= len(together) <= 30


def test_a_persons_own_shadow_that_touches_him_again_merges_with_nobody() -> None:
    tracker = Tracker()
    for n in range(20):
        apart = [block(100 + 3 * n), block(130 + 3 * n, top=140, width=20, height=10)]
        tracker.update(apart, n / RATE)
    assert len(tracker.active) == 2
    for n in range(20, 30):
        seen = tracker.update([block(100 + 3 * n, width=50)], n / RATE)
        assert ([track for track, _ in seen], tracker.merged) == ([1], {})


def test_one_who_passes_behind_a_pillar_is_the_same_afterwards() -> None:
    scene = Scene((Person(60, 580, last=100),), frames=100, pillar=(300, 345))
    shown, _ = followed(scene)
    assert list(shown.values()) == [{0}]


def test_a_track_needs_some_images_and_then_keeps_its_number() -> None:
    tracker = Tracker()
    ids = [tracker.update([block(20 + 3 * n)], n / RATE) for n in range(30)]
    first = next(n for n, seen in enumerate(ids) if seen)
    assert 3 <= first <= 6
    assert [[track for track, _ in seen] for seen in ids[first:]] == [[1]] * (30 - first)


def test_a_flicker_is_no_track() -> None:
    tracker = Tracker()
    for n in range(60):
        assert tracker.update([block(200)] if n % 20 == 0 else [], n / RATE) == []
    assert tracker.active == []


@pytest.mark.parametrize("rate", [10.0, 30.0, 60.0])
def test_seconds_decide_when_a_track_ends_not_images(rate: float) -> None:
    tracker = Tracker()
    for n in range(int(rate)):
        tracker.update([block(100)], n / rate)
    assert tracker.active == [1]
    for n in range(int(0.9 * rate)):
        tracker.update([], 1 + n / rate)
        assert (tracker.active, tracker.ended) == ([1], [])
    tracker.update([], 2.3)
    assert (tracker.active, tracker.ended) == ([], [1])
    tracker.update([], 2.4)
    assert tracker.ended == []


def test_a_new_person_where_one_left_long_ago_is_another() -> None:
    tracker = Tracker()
    for n in range(20):
        tracker.update([block(100)], n / RATE)
    seen = [tracker.update([block(100)], 10 + n / RATE) for n in range(20)]
    assert {track for pairs in seen for track, _ in pairs} == {2}


def test_a_clock_that_goes_backwards_stops_nothing() -> None:
    tracker = Tracker()
    for n in range(20):
        tracker.update([block(100 + 3 * n)], n / RATE)
    assert [track for track, _ in tracker.update([block(160)], -3600.0)] == [1]
    assert [track for track, _ in tracker.update([block(163)], -3600.0 + 1 / RATE)] == [1]


def test_somebody_of_another_size_or_far_away_is_somebody_else() -> None:
    for other in (block(100, height=30, width=10), block(260)):
        tracker = Tracker()
        for n in range(20):
            tracker.update([block(100)], n / RATE)
        assert tracker.update([other], 20 / RATE) == []


def test_a_day_before_the_camera_takes_no_memory() -> None:
    tracker = Tracker()
    for n in range(2000):
        tracker.update([block(100 + 50 * np.sin(n / 40))], n / RATE)
    assert tracker.active == [1]
    assert len(tracker._tracks) == 1
    assert all(not isinstance(value, list | dict) for value in vars(tracker._tracks[0]).values())
