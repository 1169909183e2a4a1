from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import HEIGHT, WIDTH, Person, Scene, two_cross

from gaitedge.data.silhouettes import Dropped, check_silhouettes
from gaitedge.video.blobs import Blob, Box
from gaitedge.video.capture import Frame
from gaitedge.video.quality import FRAME_FAULTS
from gaitedge.video.segmentation import BackgroundSegmenter
from gaitedge.video.walks import Event, Rejected, TrackEnded, WalkSilhouette, align_blob, walks


class Perfect:
    """A segmenter that knows the scene."""

    def __init__(self, scene: Scene) -> None:
        self._masks = (mask for _, mask in scene.silhouette_frames())

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert image.shape == (HEIGHT, WIDTH, 3)
        return next(self._masks)


def events(scene: Scene) -> list[Event]:
    return list(walks((frame for frame, _ in scene.silhouette_frames()), Perfect(scene)))


def ends(found: list[Event]) -> dict[int, TrackEnded]:
    return {event.track: event for event in found if isinstance(event, TrackEnded)}


def test_one_walker_is_one_walk_of_aligned_silhouettes() -> None:
    scene = Scene((Person(60, 580),), frames=91)
    found = events(scene)
    shown = [event for event in found if isinstance(event, WalkSilhouette)]
    (end,) = ends(found).values()
    assert (end.fault, end.frames, end.rejected) == (None, len(shown), {})
    assert len(shown) >= 85
    assert [event.index for event in shown] == list(range(91 - len(shown), 91))
    assert end.period == pytest.approx(0.57, abs=0.08)
    assert (end.begin, end.end) == (shown[0].time, shown[-1].time)
    assert len(check_silhouettes(np.stack([event.silhouette for event in shown]))) == len(shown)
    assert [event.fault for event in shown[-30:]] == [None] * 30


def test_events_are_counted_in_the_end() -> None:
    """Somebody comes in at the border, goes behind a pillar, and leaves at the other border."""
    scene = Scene((Person(-40, 680, last=130),), frames=131, pillar=(300, 330))
    found = events(scene)
    told = Counter(event.reason for event in found if isinstance(event, Rejected))
    (end,) = ends(found).values()
    assert end.rejected == told
    assert set(told) >= {"cut at the border", "partly hidden"}
    assert set(told) <= set(FRAME_FAULTS)
    assert end.fault is None
    assert isinstance(found[-1], TrackEnded)


def test_two_who_cross_are_two_walks_and_merged_in_between() -> None:
    found = events(two_cross())
    ended = ends(found)
    assert [end.fault for end in ended.values()] == [None, None]
    assert all(set(end.rejected) == {"merged"} for end in ended.values())
    for track in ended:
        middles = [
            (e.box.left + e.box.right) / 2
            for e in found
            if not isinstance(e, TrackEnded) and e.track == track
        ]
        alone = [
            (e.box.left + e.box.right) / 2
            for e in found
            if isinstance(e, WalkSilhouette) and e.track == track
        ]
        assert len(middles) > len(alone)
        assert abs(alone[-1] - alone[0]) > 350  # to the other side, not back


def test_who_jumps_and_who_is_far_away_are_no_walks() -> None:
    jumping = ends(events(Scene((Person(300, 300, last=120, jumps=True),), frames=121)))
    assert [end.fault for end in jumping.values()] == ["not moving"]
    far = ends(list(walks(*_far())))
    assert [(end.fault, end.frames, set(end.rejected)) for end in far.values()] == [
        ("too short", 0, {"too small"})
    ]


def _far() -> tuple[Iterator[Frame], _Masks]:
    def small() -> Iterator[NDArray[np.uint8]]:
        for number in itertools.count():
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[100:140, 50 + 2 * number : 64 + 2 * number] = 255
            yield mask

    scene = Scene((), frames=80)
    return (frame for frame, _ in scene.silhouette_frames()), _Masks(small())


class _Masks:
    def __init__(self, masks: Iterator[NDArray[np.uint8]]) -> None:
        self._masks = masks

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return next(self._masks)


def test_the_whole_way_from_pictures() -> None:
    scene = Scene((Person(60, 580, last=80),), frames=81, shadows=True)
    segmenter = BackgroundSegmenter()
    segmenter.prime(scene.images())
    ended = ends(list(walks(scene.video(), segmenter)))
    (walk,) = [end for end in ended.values() if end.fault is None]
    assert walk.frames > 55
    assert all(end.frames == 0 for end in ended.values() if end is not walk)  # rests of the shadow


def test_events_come_while_the_frames_do() -> None:
    scene = Scene((Person(60, 580),), frames=91)
    given: list[int] = []

    def watched() -> Iterator[Frame]:
        for frame, _ in scene.silhouette_frames():
            given.append(frame.index)
            yield frame

    first = next(walks(watched(), Perfect(scene)))
    assert isinstance(first, WalkSilhouette)
    assert len(given) < 10


def test_no_frames_are_no_events() -> None:
    assert list(walks([], Perfect(Scene(())))) == []


def test_a_large_body_aligns_as_a_small_one_does() -> None:
    small = next(mask for mask in (shown[0] for shown in Scene((Person(300, 300),)).masks()) if mask.any())
    rows, columns = np.flatnonzero(small.any(axis=1)), np.flatnonzero(small.any(axis=0))
    body = small[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    large = np.kron(body, np.ones((5, 5), np.bool_))
    aligned = [
        align_blob(Blob(Box(0, 0, mask.shape[1], mask.shape[0]), mask, int(mask.sum())))
        for mask in (body, large)
    ]
    assert all(result.shape == (64, 44) and result.dtype == np.uint8 for result in aligned)
    same = (aligned[0] > 127) == (aligned[1] > 127)
    assert same.mean() > 0.97


def test_a_thread_of_pixels_aligns_to_nothing() -> None:
    mask = np.zeros((90, 30), np.bool_)
    mask[:, 15] = np.arange(90) % 3 == 0
    with pytest.raises(Dropped):
        align_blob(Blob(Box(0, 0, 30, 90), mask, 30))
