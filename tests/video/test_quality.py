from __future__ import annotations

import numpy as np
import pytest
from scenes import HEIGHT, RATE, WIDTH, Person, Scene

from gaitedge.video.blobs import Blob, Box, find_blobs
from gaitedge.video.quality import (
    FRAME_FAULTS,
    TRACK_FAULTS,
    QualitySettings,
    TrackQuality,
    frame_fault,
    step_period,
)

SETTINGS = QualitySettings()


def block(left: int, top: int, width: int, height: int) -> Blob:
    box = Box(left, top, left + width, top + height)
    return Blob(box, np.ones((height, width), np.bool_), width * height)


def judged(scene: Scene, rate: float = RATE, first: float = 0.0) -> TrackQuality:
    """The quality of the only person of a scene."""
    quality = TrackQuality()
    for frame, mask in scene.silhouette_frames():
        for blob in find_blobs(mask)[:1]:
            if quality.judge(blob, first + frame.index / rate, WIDTH, HEIGHT) is None:
                quality.walking()
    return quality


@pytest.mark.parametrize(
    ("blob", "fault"),
    [
        (block(100, 50, 40, 120), None),
        (block(0, 50, 40, 120), "cut at the border"),
        (block(600, 50, 40, 120), "cut at the border"),
        (block(100, 1, 40, 120), "cut at the border"),
        (block(100, 120, 40, 120), "cut at the border"),
        (block(2, 2, 40, 120), None),
        (block(100, 50, 20, 63), "too small"),
        (block(100, 50, 20, 64), None),
        (block(100, 50, 120, 100), "not upright"),
        (block(100, 50, 80, 100), None),
    ],
)
def test_the_fault_of_a_frame(blob: Blob, fault: str | None) -> None:
    assert frame_fault(blob, WIDTH, HEIGHT, SETTINGS) == fault
    assert fault is None or fault in FRAME_FAULTS


@pytest.mark.parametrize("view", ["036", "054", "072", "090", "108", "126", "144"])
@pytest.mark.parametrize("subject", [1, 5])
def test_a_walk_is_one_from_the_side_and_at_an_angle(view: str, subject: int) -> None:
    way = round(300 * np.sin(np.deg2rad(int(view))))
    quality = judged(Scene((Person(150, 150 + way, subject=subject, view=view),), frames=91))
    assert quality.verdict() is None
    assert quality.period == pytest.approx(0.55, abs=0.1) or quality.period == pytest.approx(1.1, abs=0.2)
    assert (quality.frames, dict(quality.rejected)) == (91, {})


@pytest.mark.parametrize("view", ["000", "180"])
def test_a_walk_towards_the_camera_or_away_from_it_is_one_for_most_people(view: str) -> None:
    walks = [
        judged(Scene((Person(300, 300, subject=n, view=view),), frames=91)).verdict() for n in range(1, 7)
    ]
    assert walks.count(None) >= 4
    assert set(walks) <= {None, "not walking"}


@pytest.mark.parametrize("rate", [12.5, 25.0, 60.0])
def test_seconds_decide_not_frames(rate: float) -> None:
    """A film of 30 frames a second shown at another rate has another step."""
    quality = judged(Scene((Person(60, 580),), frames=91), rate)
    assert quality.verdict() is None
    assert quality.period == pytest.approx(0.55 * RATE / rate, rel=0.2)


def test_jumping_on_the_spot_is_no_walk() -> None:
    quality = judged(Scene((Person(300, 300, last=130, jumps=True),), frames=130))
    assert quality.verdict() == "not moving"


def test_gliding_along_with_still_legs_is_no_walk() -> None:
    quality = judged(Scene((Person(100, 500, last=110, jumps=True),), frames=110))
    assert quality.verdict() == "not walking"


def test_walking_on_the_spot_is_no_walk() -> None:
    assert judged(Scene((Person(300, 300),), frames=91)).verdict() == "not moving"


def test_a_few_frames_are_no_walk() -> None:
    quality = judged(Scene((Person(100, 180, last=13),), frames=14))
    assert quality.verdict() == "too short"
    assert TrackQuality().verdict() == "too short"
    assert set(TRACK_FAULTS) == {"too short", "not moving", "not walking"}


def test_who_stops_has_walked() -> None:
    quality = judged(Scene((Person(60, 500),), frames=91))
    for n in range(300):
        assert quality.judge(block(480, 80, 40, 120), 91 / RATE + n / RATE, WIDTH, HEIGHT) is None
    assert quality.walking() == "not moving"
    assert quality.verdict() is None


def test_a_body_that_is_half_hidden_is_left_out_until_it_stays_so() -> None:
    quality = TrackQuality()
    for n in range(30):
        assert quality.judge(block(100 + n, 50, 40, 120), n / RATE, WIDTH, HEIGHT) is None
    half = [quality.judge(block(130 + n, 50, 20, 120), (30 + n) / RATE, WIDTH, HEIGHT) for n in range(60)]
    assert half[:20] == ["partly hidden"] * 20
    assert half[-1] is None
    assert quality.rejected == {"partly hidden": half.count("partly hidden")}


def test_a_rhythm_is_found_over_a_gap_and_noise_has_none() -> None:
    times = np.arange(0, 3, 1 / RATE)
    widths = 0.4 + 0.1 * np.sin(2 * np.pi * times / 0.5) + 0.05 * times
    seen = (times < 1.2) | (times > 1.55)
    assert step_period(times, widths) == pytest.approx(0.5, abs=0.04)
    assert step_period(times[seen], widths[seen]) == pytest.approx(0.5, abs=0.04)
    assert step_period(times, 0.4 + 0.2 * times) is None
    assert step_period(times, 0.4 + 0.002 * np.sin(2 * np.pi * times / 0.5)) is None
    assert step_period(times[:5], widths[:5]) is None


def test_a_ten_hour_track_takes_no_memory_and_no_clock_disturbs_it() -> None:
    quality = TrackQuality()
    for n in range(4000):
        time = n * 10.0 if n % 7 else -n * 10.0  # a clock gone mad
        quality.judge(block(100, 50, 40, 120), time, WIDTH, HEIGHT)
        quality.walking()
    for n in range(4000):
        quality.judge(block(100, 50, 40, 120), 36_000 + n * 1e-4, WIDTH, HEIGHT)
    assert max(len(quality._sights), len(quality._sizes)) <= 1024
    assert quality.frames == 8000
    assert quality.verdict() in TRACK_FAULTS
