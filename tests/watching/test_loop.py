"""The loop with a scripted source, perfect masks and an engine that costs nothing."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from frame_engines import PixelFrames, pixel_network
from numpy.typing import NDArray
from scenes import HEIGHT, RATE, WIDTH, Person, Scene
from videos import Clock

from gaitedge.errors import MachineError, VideoError
from gaitedge.people.identification import Identification, Match
from gaitedge.streaming.stream import Stream
from gaitedge.video.capture import Frame
from gaitedge.video.live import LiveStatistics
from gaitedge.watching.loop import Watcher, WatchSettings
from gaitedge.watching.reports import Notice, PersonReport, Report, Status

CONNECTED = LiveStatistics(0, 0, 0, True, None)
LOST = dataclasses.replace(CONNECTED, connected=False, last_error="camera stopped")
BACK = dataclasses.replace(CONNECTED, reconnects=1, last_error="camera stopped")


class Masks:
    """A segmenter of images that are masks."""

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image[:, :, 0].copy()


class Scripted:
    """A source: frames, None where none comes for a tenth of a second, statistics from here on, errors."""

    fps: float | None = RATE

    def __init__(self, clock: Clock, *script: Any) -> None:
        self.clock = clock
        self.statistics = CONNECTED
        self._script: Iterator[Any] = iter([item for part in script for item in as_items(part)])
        self.ended = False

    def get(self, timeout: float = 0.0) -> Frame | None:
        for item in self._script:
            if isinstance(item, LiveStatistics):
                self.statistics = item
                continue
            if isinstance(item, Exception):
                raise item
            self.clock.now += 1 / RATE if item is not None else 0.1
            assert item is None or isinstance(item, Frame)
            return item
        self.ended = True
        return None


def as_items(part: Any) -> Iterable[Any]:
    return part if isinstance(part, list) else [part]


class Known:
    """A gallery that says the same of everybody until told otherwise."""

    threshold: float | None = 1.0

    def __init__(self, *names: str | None) -> None:
        self.names = list(names) or ["anna"]
        self.looks = 0
        self.told: list[tuple[str, str]] = []

    def identify(self, probe: NDArray[np.float32]) -> Identification | None:
        assert np.isfinite(probe).all()
        name = self.names[min(self.looks, len(self.names) - 1)]
        self.looks += 1
        if name is None:
            return None
        unknown = name == "?"
        distance = 2.0 if unknown else 0.25
        matches = (Match(name, distance, None, None, 1), Match("other", 4.0, None, None, 2))
        return Identification(matches, unknown, self.threshold, 4.0 - distance)

    def news(self) -> list[tuple[str, str]]:
        told, self.told = self.told, []
        return told


def film(scene: Scene, begin: float = 0.0, width: int | None = None) -> list[Frame]:
    """A scene as pictures of its masks; width: of the image, cut off at the right."""
    return [
        Frame(frame.index, begin + frame.time, np.repeat(mask[:, :width, None], 3, axis=2))
        for frame, mask in scene.silhouette_frames()
    ]


def nobody(begin: float) -> list[Frame]:
    """Two seconds of an empty scene."""
    return [
        Frame(index, begin + index / RATE, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        for index in range(round(2 * RATE))
    ]


WALK = Scene((Person(80, 560, last=79),), frames=80)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(
    clock: Clock, *script: Any, known: Known | None = None, engine: PixelFrames | None = None, **more: Any
) -> tuple[list[Report], Status]:
    said: list[Report] = []
    parts = {name: more.pop(name) for name in ("settings", "progress") if name in more}
    watcher = Watcher(
        pixel_network(engine),
        known or Known(),
        Masks(),
        said.append,
        clock=clock,
        now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        **parts,
    )
    return said, watcher.run(Scripted(clock, *script), **more)


def people(said: list[Report]) -> list[PersonReport]:
    return [line for line in said if isinstance(line, PersonReport)]


def events(said: list[Report]) -> list[str]:
    return [line.event for line in said if isinstance(line, Notice)]


def test_somebody_is_named_while_walking_and_at_the_end(clock: Clock) -> None:
    said, status = run(clock, film(WALK))
    settled, final = people(said)
    assert said == [settled, final]
    assert (settled.state, settled.subject, settled.unknown) == ("settled", "anna", False)
    assert (settled.distance, settled.margin, settled.threshold) == (0.25, 3.75, 1.0)
    assert 25 <= settled.frames < final.frames <= 80
    assert (final.state, final.subject, final.track) == ("final", "anna", settled.track)
    assert settled.time < final.time == pytest.approx(79 / RATE, abs=1e-3)
    assert final.utc == "2026-01-02T03:04:05.000+00:00"
    assert (status.frames, status.tracks, status.walks, status.people) == (80, 1, 1, 0)
    assert status.rate == pytest.approx(RATE, rel=0.1)


def test_a_stranger_is_unknown(clock: Clock) -> None:
    said, _ = run(clock, film(WALK), known=Known("?"))
    assert [(line.state, line.subject, line.unknown) for line in people(said)] == [
        ("settled", None, True),
        ("final", None, True),
    ]


def test_a_decision_is_revised(clock: Clock) -> None:
    said, _ = run(clock, film(WALK), known=Known(*["anna"] * 4, "berta"))
    assert [(line.state, line.subject) for line in people(said)] == [
        ("settled", "anna"),
        ("revised", "berta"),
        ("final", "berta"),
    ]


def test_who_jumps_is_rejected_with_the_reason(clock: Clock) -> None:
    known = Known()
    said, status = run(clock, film(Scene((Person(300, 300, last=79, jumps=True),), frames=80)), known=known)
    (line,) = people(said)
    assert (line.state, line.reason, line.subject, line.unknown) == ("rejected", "not moving", None, False)
    assert known.looks == 0
    assert (status.tracks, status.walks) == (1, 0)


def test_two_people_share_the_engine(clock: Clock) -> None:
    engine = PixelFrames()
    far = Scene((Person(80, 280, last=79), Person(360, 560, last=79, subject=4)), frames=80)
    said, status = run(clock, film(far), engine=engine)
    assert status.walks == 2
    assert sum(engine.calls) == sum(line.frames for line in people(said) if line.state == "final")
    assert len(engine.calls) < sum(engine.calls) / 2


def test_nothing_is_kept_of_who_has_left(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[weakref.ref[Stream]] = []
    made = Stream.__init__

    def noted(self: Stream, *arguments: Any) -> None:
        streams.append(weakref.ref(self))
        made(self, *arguments)

    monkeypatch.setattr(Stream, "__init__", noted)

    def alive() -> int:
        gc.collect()
        return sum(stream() is not None for stream in streams)

    counts: list[int] = []
    script: list[Frame] = []
    for number in range(3):
        begin = number * 5.0
        script += [*film(WALK, begin), *nobody(begin + 80 / RATE)]
    said, status = run(clock, script, progress=lambda status: counts.append(alive() - status.people))
    assert status.walks == len(streams) == 3
    assert counts
    assert max(counts) <= 1  # the variable of the loop that holds the last one
    assert [line.track for line in people(said) if line.state == "final"] == [1, 2, 3]


def test_a_lost_camera_is_told_of_and_its_people_end(clock: Clock) -> None:
    gone = [LOST, *[None] * 30, BACK]
    said, status = run(clock, film(WALK), gone, film(WALK, 10.0))
    assert events(said) == ["lost", "regained"]
    assert [(line.track, line.state) for line in people(said)] == [
        (1, "settled"),
        (1, "final"),
        (2, "settled"),
        (2, "final"),
    ]
    order = [line.event if isinstance(line, Notice) else line.state for line in said]
    assert order == ["settled", "lost", "final", "regained", "settled", "final"]
    assert status.reconnects == 1
    assert not status.lost


def test_a_short_loss_between_two_looks_is_told_of_too(clock: Clock) -> None:
    said, _ = run(clock, film(WALK)[:40], BACK, film(WALK)[40:])
    assert events(said) == ["lost", "regained"]
    assert [line.track for line in people(said) if line.state == "final"] == [1]


def test_frames_of_another_size_begin_anew(clock: Clock) -> None:
    said, status = run(clock, film(WALK), BACK, film(WALK, 3.0, width=620))
    assert "other size" in events(said)
    assert [line.track for line in people(said) if line.state == "final"] == [1, 2]
    assert status.frames == 160


def test_the_engine_may_fail_once(clock: Clock) -> None:
    engine = PixelFrames()
    engine.failures = [RuntimeError("no memory\nfor this")]
    said, status = run(clock, film(WALK), engine=engine)
    assert events(said) == ["engine failed"]
    assert next(line for line in said if isinstance(line, Notice)).message == "no memory for this"
    assert status.walks == 1
    assert people(said)[-1].subject == "anna"


def test_an_engine_that_always_fails_ends_it(clock: Clock) -> None:
    engine = PixelFrames()
    engine.failures = [RuntimeError("broken")] * 1000
    with pytest.raises(MachineError, match="the engine failed 4 times in a row: broken"):
        run(clock, film(WALK), engine=engine, settings=WatchSettings(failures=4))


def test_a_file_that_breaks_ends_with_the_last_decisions(clock: Clock) -> None:
    said: list[Report] = []
    watcher = Watcher(pixel_network(), Known(), Masks(), said.append, clock=clock)
    with pytest.raises(VideoError, match="frame 60 is broken"):
        watcher.run(Scripted(clock, film(WALK)[:60], VideoError("frame 60 is broken")))
    assert [line.state for line in people(said)] == ["settled", "final"]


def test_a_stop_ends_with_the_last_decisions(clock: Clock) -> None:
    seen = iter([False] * 60 + [True] * 100)
    said, status = run(clock, film(WALK), stop=lambda: next(seen))
    assert [line.state for line in people(said)] == ["settled", "final"]
    assert status.frames == 60


def test_seconds_are_those_of_the_frames(clock: Clock) -> None:
    _, status = run(clock, film(WALK), seconds=2.0)
    assert status.frames == 60


def test_seconds_end_a_camera_that_is_gone(clock: Clock) -> None:
    _, status = run(clock, film(WALK)[:30], LOST, [None] * 100_000, seconds=20.0)
    assert status.lost
    assert clock.now < 1100


def test_a_gallery_that_loses_everybody_names_nobody(clock: Clock) -> None:
    known = Known(None)
    known.told = [("gallery changed", "people.db: 0 people")]
    said, _ = run(clock, film(WALK), known=known)
    assert events(said) == ["gallery changed"]
    (line,) = people(said)
    assert (line.state, line.subject, line.unknown, line.distance) == ("final", None, False, None)


def test_without_a_threshold_it_says_so_once(clock: Clock) -> None:
    known = Known()
    known.threshold = None
    said, _ = run(clock, film(WALK), known=known)
    assert events(said) == ["no threshold"]
    assert people(said)[-1].threshold is None


def test_a_file_that_is_cut_off_is_told_of(clock: Clock) -> None:
    said, _ = run(clock, film(WALK), dataclasses.replace(CONNECTED, last_error="v.mp4 is cut off"))
    assert events(said) == ["source ended early"]


def test_the_status_counts_what_was_dropped(clock: Clock) -> None:
    shown: list[Status] = []
    busy = dataclasses.replace(CONNECTED, dropped=7)
    _, status = run(clock, film(WALK), busy, nobody(3.0), progress=shown.append)
    assert status.dropped == shown[-1].dropped == 7
    assert [one.frames for one in shown] == sorted(one.frames for one in shown)
    assert (shown[0].frames, shown[0].rate) == (0, 0.0)
    assert shown[1].rate == pytest.approx(RATE, rel=0.1)
    assert max(one.people for one in shown) == 1
