from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from videos import (
    SECONDS,
    Blocked,
    Clock,
    FakeCapture,
    MjpegCamera,
    Script,
    nothing_left_behind,
    number_of,
    opened,
    picture,
    pictures,
)

from gaitedge.errors import MachineError, VideoError
from gaitedge.video import live as live_module
from gaitedge.video.capture import Video
from gaitedge.video.live import LiveVideo


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_lost_camera_is_found_again(clock: Clock) -> None:
    refused = VideoError("camera: refuses\nconnections")
    script = Script(clock, pictures(3), refused, refused, pictures(2), [picture(0)])
    with opened(script, clock) as video:
        frames = [next(video) for _ in range(7)]
        assert [frame.index for frame in frames] == list(range(7))
        assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 0, 1, 0, 0]
        found = video.statistics
        assert (found.read, found.dropped, found.reconnects, found.connected) == (7, 0, 3, True)
        assert found.last_error == "camera stopped after 1 frames"
        script.let_go()
    assert clock.slept[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]  # none of the connections lasted
    assert [frame.time for frame in frames] == [1000, 1000, 1000, 1003.5, 1003.5, 1007.5, 1015.5]
    assert all(capture.released == 1 for capture in script.captures)


def test_the_waits_grow_to_a_limit_and_are_shortened_by_chance(clock: Clock) -> None:
    script = Script(clock, [picture(0)], *[VideoError("no")] * 8)
    draws = itertools.cycle([0.0, 1.0, 0.5])
    with opened(script, clock, most_delay=10.0, chance=lambda: next(draws)) as video:
        assert [next(video).index for _ in range(2)] == [0, 1]
        script.let_go()
    assert clock.slept[:9] == [0.5, 0.5, 1.5, 4.0, 4.0, 7.5, 10.0, 5.0, 7.5]


def test_a_connection_that_lasted_starts_the_waits_anew(clock: Clock) -> None:
    def lasting(seconds: float) -> FakeCapture:
        def frames() -> Iterator[Any]:
            yield picture(0)
            clock.now += seconds
            yield picture(1)

        capture = FakeCapture([])
        capture.frames = frames()
        return capture

    script = Script(clock, lasting(0), lasting(0), lasting(0.9), lasting(60), lasting(0))
    with opened(script, clock, read_timeout=1000.0) as video:
        for _ in range(11):
            next(video)
        script.let_go()
    assert clock.slept[:5] == [0.5, 1.0, 2.0, 0.5, 1.0]


@pytest.mark.parametrize("error", [VideoError("no camera 3: there is none"), MachineError("no GStreamer")])
def test_a_source_that_does_not_open_at_the_start(error: Exception, clock: Clock) -> None:
    with pytest.raises(type(error)) as caught, opened(Script(clock, error), clock):
        pass
    assert caught.value is error
    assert clock.slept == []


def test_a_source_may_be_waited_for(clock: Clock) -> None:
    refused = VideoError("refused")
    script = Script(clock, refused, refused)
    with opened(script, clock, must_open=False) as video:
        assert next(video).index == 0
        assert video.statistics.reconnects == 0
        script.let_go()
    assert clock.slept[:2] == [0.5, 1.0]
    script = Script(clock, MachineError("no GStreamer"))
    with opened(script, clock, must_open=False) as video, pytest.raises(MachineError, match="no GStreamer"):
        next(video)


def test_what_cannot_heal_ends_it_after_the_frames_that_came(clock: Clock) -> None:
    with opened(Script(clock, pictures(2), MachineError("FFmpeg is gone")), clock) as video:
        assert [next(video).index for _ in range(2)] == [0, 1]
        with pytest.raises(MachineError, match="FFmpeg is gone"):
            next(video)
        assert video.ended


def test_a_read_that_hangs_is_left_behind(clock: Clock) -> None:
    hanging = Blocked(2)
    script = Script(clock, hanging.capture, pictures(1))
    with opened(script, clock, read_timeout=5.0) as video:
        assert [next(video).index for _ in range(2)] == [0, 1]
        assert hanging.blocked.wait(SECONDS)
        clock.now += 9.9
        assert video.get() is None
        assert video.statistics.connected
        clock.now += 0.2
        assert next(video).index == 2
        assert hanging.capture.released == 0  # nobody but its own thread may do that
        hanging.gate.set()
        assert next(video).index == 3  # of the third connection: what the first one still reads is not used
        assert video.statistics.reconnects == 2
        script.let_go()
    for thread in threading.enumerate():
        if thread.name.startswith("reader of"):
            thread.join(SECONDS)
    assert hanging.capture.released == 1


def test_readers_that_hang_are_no_crowd(clock: Clock) -> None:
    sources = [Blocked(1) for _ in range(5)]
    script = Script(clock, *(source.capture for source in sources))
    with opened(script, clock) as video:
        for number in range(3):
            assert next(video).index == number
            assert sources[number].blocked.wait(SECONDS)
            clock.now += 60
        for _ in range(5):
            assert video.get() is None
            clock.now += 60
        assert len(script.captures) == 3
        assert [thread.name for thread in threading.enumerate()].count("reader of camera") == 3
        sources[0].gate.set()
        assert next(video).index == 3
        for source in sources:
            source.gate.set()


@pytest.mark.parametrize("comes_back_with", ["a frame", "a loss"])
def test_what_a_reader_left_behind_still_finds_is_not_used(comes_back_with: str, clock: Clock) -> None:
    hanging = Blocked(1)
    script = Script(clock, hanging.capture)
    with opened(script, clock) as video:
        next(video)
        assert hanging.blocked.wait(SECONDS)
        (left,) = (thread for thread in threading.enumerate() if thread.name == "reader of camera")
        clock.now += 60
        assert next(video).index == 1
        before = video.statistics
        assert before.last_error == "camera hangs: OpenCV gave no answer"
        if comes_back_with == "a frame":
            hanging.after = [picture(9)]
        hanging.gate.set()
        left.join(SECONDS)
        assert video.get() is None
        assert video.statistics == before
        script.let_go()
    assert hanging.capture.released == 1


def test_an_opening_left_behind_is_closed_when_it_comes_back(clock: Clock) -> None:
    gate, hangs = threading.Event(), threading.Event()
    late = FakeCapture(pictures(5))
    script = Script(clock, pictures(1), late)

    def opener() -> Video:
        if len(script.steps) == 1:
            script.steps.clear()
            hangs.set()
            gate.wait(SECONDS)
            return Video(late, "camera", live=True, clock=clock)
        return script()

    with opened(script, clock, opener=opener) as video:
        next(video)
        assert hangs.wait(SECONDS)
        (left,) = (thread for thread in threading.enumerate() if thread.name == "reader of camera")
        clock.now += 60
        assert next(video).index == 1
        before = video.statistics
        gate.set()
        left.join(SECONDS)
        assert video.get() is None
        assert (video.statistics, late.released) == (before, 1)
        script.let_go()


def test_an_opening_that_hangs(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "_JOIN_S", 0.01)
    gate = threading.Event()

    def opener() -> Video:
        clock.now += 60
        gate.wait(SECONDS)
        return Video(FakeCapture(pictures(1)), "camera", live=True)

    with (
        pytest.raises(VideoError, match=r"^camera hangs: OpenCV gave no answer$"),
        LiveVideo("camera", opener=opener, clock=clock, sleep=clock.sleep) as video,
    ):
        next(video)
    gate.set()


def test_a_recording_that_hangs_or_breaks_does_not_start_again(clock: Clock) -> None:
    hanging = Blocked(1)
    with opened(Script(clock, hanging.capture, live=False), clock) as video:
        next(video)
        assert hanging.blocked.wait(SECONDS)
        clock.now += 60
        with pytest.raises(VideoError, match="hangs"):
            next(video)
        hanging.gate.set()
    broken = [picture(0), picture(1, (32, 24))]
    with opened(Script(clock, broken, live=False), clock, loop=True) as video:
        assert next(video).index == 0
        with pytest.raises(VideoError, match="frame 1 is 32×24 pixels"):
            next(video)


def test_a_network_camera_pulled_out_and_plugged_in_again() -> None:
    with MjpegCamera() as camera:
        with LiveVideo(camera.url, first_delay=0.01, most_delay=0.05, read_timeout=10.0) as video:
            before = [next(video) for _ in range(5)]
            camera.pull_out()
            while video.statistics.connected:
                video.get(0.01)
            assert video.statistics.last_error is not None
            camera.plug_in()
            while not video.statistics.connected:
                video.get(0.01)
            after = [next(video) for _ in range(5)]
            assert video.statistics.reconnects == 1
            assert video.size == (64, 48)
        assert after[0].index > before[-1].index
        times = [frame.time for frame in (*before, *after)]
        assert times == sorted(times)


def test_a_network_camera_that_falls_silent() -> None:
    """It stays connected and sends nothing: the read gives up, and another connection is made."""
    with (
        MjpegCamera(frames=40) as camera,
        LiveVideo(camera.url, first_delay=0.01, most_delay=0.01, must_open=False, read_timeout=0.3) as video,
    ):
        while video.statistics.reconnects < 2:
            next(video)
        assert "stopped after" in str(video.statistics.last_error)


def test_a_bug_in_the_reader_is_no_quiet_end(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    with (
        opened(Script(clock, pictures(1), ZeroDivisionError("a bug")), clock) as video,
        pytest.raises(RuntimeError, match="died of a bug"),
    ):
        list(video)
    assert [each.exc_type for each in seen] == [ZeroDivisionError]


def test_passwords_are_not_shown() -> None:
    with MjpegCamera() as camera:
        port = camera.port
    url = f"http://me:secret@127.0.0.1:{port}/"
    with LiveVideo(url, must_open=False, first_delay=1.0) as video:
        while video.statistics.last_error is None:
            video.get(0.01)
        assert video.statistics.last_error.startswith(f"http://***@127.0.0.1:{port}/: 127.0.0.1 refuses")
        assert all("secret" not in thread.name for thread in threading.enumerate())
