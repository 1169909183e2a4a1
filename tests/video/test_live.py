from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from damage import cut
from videos import FakeCapture, MjpegCamera, descriptors, number_of, picture, pictures, write_video

from gaitedge.errors import InputError, MachineError, VideoError
from gaitedge.video import live as live_module
from gaitedge.video.capture import Video
from gaitedge.video.live import LiveVideo

SECONDS = 20  # a test that waits for longer has failed


class Clock:
    """Time that passes when a test says so, or somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Blocked:
    """Frames, and then a read that hangs until it is let go."""

    def __init__(self, count: int) -> None:
        self.gate = threading.Event()
        self.blocked = threading.Event()
        self.capture = FakeCapture([])
        self.capture.frames = self._frames(count)

    def _frames(self, count: int) -> Iterator[Any]:
        yield from pictures(count)
        self.blocked.set()
        self.gate.wait(SECONDS)


class Script:
    """An opener: each call takes the next step, a list of frames, a capture or an error.

    Connections are live and end in a loss; after the last step it hangs until the test ends."""

    def __init__(self, clock: Clock, *steps: Any, live: bool = True, count: int = 0) -> None:
        self.clock, self.steps, self.live, self.count = clock, list(steps), live, count
        self.captures: list[Any] = []
        self.over = Blocked(1)

    def __call__(self) -> Video:
        step = self.steps.pop(0) if self.steps else self.over.capture
        if isinstance(step, BaseException):
            raise step
        capture = FakeCapture(step, count=self.count) if isinstance(step, list) else step
        self.captures.append(capture)
        return Video(capture, "camera", live=self.live, clock=self.clock)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    before, files = set(threading.enumerate()), descriptors()
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS)
    assert set(threading.enumerate()) <= before
    assert descriptors() <= files


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(script: Script, clock: Clock, **settings: Any) -> LiveVideo:
    settings = {"chance": lambda: 0.0, "queue": 100, **settings}
    return LiveVideo("camera", opener=script, clock=clock, sleep=clock.sleep, **settings)


def let_go(script: Script) -> None:
    script.over.gate.set()


def test_a_file_is_given_whole_however_slow_the_consumer(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi")
    with LiveVideo(path, queue=1) as video:
        assert (video.fps, video.size) == (25.0, (64, 48))
        frames = list(video)
        assert video.ended
        assert list(video) == []
    assert [number_of(frame.image) for frame in frames] == list(range(30))
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(30)], abs=1e-3)
    assert video.statistics == live_module.LiveStatistics(30, 0, 0, False, None)


def test_the_oldest_frames_are_dropped_and_counted(clock: Clock) -> None:
    source = Blocked(20)
    with opened(Script(clock, source.capture), clock, queue=4) as video:
        assert source.blocked.wait(SECONDS)
        assert [next(video).index for _ in range(4)] == [16, 17, 18, 19]
        assert (video.statistics.read, video.statistics.dropped) == (20, 16)
        assert video.statistics.connected
        assert video.get() is None
        source.gate.set()


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
        let_go(script)
    assert clock.slept[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]  # none of the connections lasted
    assert [frame.time for frame in frames] == [1000, 1000, 1000, 1003.5, 1003.5, 1007.5, 1015.5]
    assert all(capture.released == 1 for capture in script.captures)


def test_the_waits_grow_to_a_limit_and_are_shortened_by_chance(clock: Clock) -> None:
    script = Script(clock, [picture(0)], *[VideoError("no")] * 8)
    draws = iter([0.0, 1.0, 0.5] * 10)
    with opened(script, clock, most_delay=10.0, chance=lambda: next(draws)) as video:
        assert [next(video).index for _ in range(2)] == [0, 1]
        let_go(script)
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
        let_go(script)
    assert clock.slept[:5] == [0.5, 1.0, 2.0, 0.5, 1.0]


def test_a_clock_that_goes_back_does_not_matter(clock: Clock) -> None:
    def frames() -> Iterator[Any]:
        yield picture(0)
        clock.now -= 900
        yield picture(1)

    capture = FakeCapture([])
    capture.frames = frames()
    script = Script(clock, capture, [picture(0)])
    with opened(script, clock) as video:
        times = [next(video).time for _ in range(4)]
        let_go(script)
    assert times == [1000.0] * 4


@pytest.mark.parametrize("error", [VideoError("no camera 3: there is none"), MachineError("no GStreamer")])
def test_a_source_that_does_not_open_at_the_start(error: Exception, clock: Clock) -> None:
    with pytest.raises(type(error)) as caught, opened(Script(clock, error), clock):
        pass
    assert caught.value is error
    assert clock.slept == []


def test_a_source_may_be_waited_for(clock: Clock) -> None:
    refused = VideoError("refused")
    script = Script(clock, refused, refused, pictures(1))
    with opened(script, clock, must_open=False) as video:
        assert next(video).index == 0
        assert video.statistics.reconnects == 0
        let_go(script)
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
        clock.now += 6.9
        assert video.get() is None
        assert video.statistics.connected
        clock.now += 0.2
        assert next(video).index == 2
        assert script.captures[1].released in (0, 1)
        assert hanging.capture.released == 0  # nobody but its own thread may do that
        hanging.gate.set()
        assert next(video).index == 3  # of the third connection: what the first one still reads is not used
        assert video.statistics.reconnects == 2
        let_go(script)
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
        sources[0].gate.set()
        assert next(video).index == 3
        for source in sources:
            source.gate.set()


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


def test_a_recording_cut_short_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi")
    cut(path, path.stat().st_size * 3 // 5)
    with LiveVideo(path) as video:
        count = len(list(video))
        assert video.statistics.last_error == (
            f"{path} is damaged or cut off: {count} of the 30 frames that it promises could be read"
        )


def test_a_looped_file_goes_on_in_time(tmp_path: Path) -> None:
    with LiveVideo(write_video(tmp_path / "v.avi", frames=5), queue=2, loop=True) as video:
        frames = [next(video) for _ in range(23)]
    assert [number_of(frame.image) for frame in frames] == [n % 5 for n in range(23)]
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(23)], abs=1e-3)
    assert (video.statistics.dropped, video.statistics.reconnects) == (0, 0)


def test_a_paced_file_plays_at_its_own_speed(tmp_path: Path, clock: Clock) -> None:
    path = write_video(tmp_path / "v.avi", frames=10)
    with LiveVideo(path, paced=True, queue=100, clock=clock, sleep=clock.sleep) as video:
        frames = list(video)
    assert clock.slept == pytest.approx([0.04] * 9, abs=1e-3)
    assert [frame.time for frame in frames] == pytest.approx([1000 + n / 25 for n in range(10)], abs=1e-3)


def test_a_paced_file_drops_what_nobody_takes(tmp_path: Path, clock: Clock) -> None:
    path = write_video(tmp_path / "v.avi", frames=10)
    ready = threading.Event()
    done = threading.Event()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if len(clock.slept) == 9:  # before the last frame
            ready.set()
            done.wait(SECONDS)

    with LiveVideo(path, paced=True, queue=2, clock=clock, sleep=sleep) as video:
        assert ready.wait(SECONDS)
        assert [next(video).index for _ in range(2)] == [7, 8]
        done.set()
        assert next(video).index == 9
        assert list(video) == []
        assert video.statistics.dropped == 7


def test_a_paced_file_and_a_clock_that_leaps(tmp_path: Path) -> None:
    """No wait is longer than between two frames, however far back the clock went."""
    clock = Clock()
    path = write_video(tmp_path / "v.avi", frames=6)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        clock.now -= 100

    with LiveVideo(path, paced=True, queue=100, clock=clock, sleep=sleep) as video:
        times = [frame.time for frame in video]
    assert times == sorted(times)
    assert clock.slept == pytest.approx([0.04] * 5, abs=1e-3)


@pytest.mark.parametrize("how", ["another thread", "a signal"])
def test_stop_ends_a_consumer_that_waits(how: str, clock: Clock) -> None:
    source = Blocked(1)
    with opened(Script(clock, source.capture), clock) as video:
        next(video)
        assert source.blocked.wait(SECONDS)
        if how == "a signal":
            before = signal.signal(signal.SIGALRM, lambda *_: video.stop())
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            before = None
            threading.Timer(0.01, video.stop).start()
        assert list(video) == []
        assert video.ended
        if how == "a signal":
            signal.signal(signal.SIGALRM, before)
        source.gate.set()


def test_stop_ends_the_wait_for_a_camera() -> None:
    """With the true sleep: a reader that would wait for an hour is gone at once."""
    opens = iter([Video(FakeCapture(pictures(1)), "camera", live=True)])

    def opener() -> Video:
        for video in opens:
            return video
        raise VideoError("refused")

    with LiveVideo(
        "camera", opener=opener, first_delay=3600.0, most_delay=3600.0, chance=lambda: 0.0
    ) as video:
        next(video)
        assert video.get(0.01) is None
    assert not [thread for thread in threading.enumerate() if thread.name == "reader of camera"]


def test_closing_leaves_a_reader_that_hangs(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "_JOIN_S", 0.01)
    source = Blocked(1)
    with opened(Script(clock, source.capture), clock) as video:
        next(video)
        assert source.blocked.wait(SECONDS)
    assert source.capture.released == 0
    video.close()  # a second time
    source.gate.set()


def test_a_network_camera_pulled_out_and_plugged_in_again() -> None:
    with MjpegCamera() as camera:
        with LiveVideo(camera.url, first_delay=0.01, most_delay=0.05, read_timeout=5.0) as video:
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
        LiveVideo(camera.url, first_delay=0.01, most_delay=0.01, read_timeout=0.3) as video,
    ):
        while video.statistics.reconnects < 2:
            next(video)
        assert "stopped after" in str(video.statistics.last_error)


def test_a_hundred_lives_leak_nothing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", frames=5)
    threads, files = threading.active_count(), descriptors()
    for number in range(100):
        with LiveVideo(path, queue=1, loop=True) as video:
            for _ in range(number % 7):
                next(video)
        assert threading.active_count() == threads
        assert descriptors() == files


def test_a_bug_in_the_reader_is_no_quiet_end(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    with (
        opened(Script(clock, pictures(1), ZeroDivisionError("a bug")), clock) as video,
        pytest.raises(RuntimeError, match="died of a bug"),
    ):
        list(video)
    assert [each.exc_type for each in seen] == [ZeroDivisionError]


@pytest.mark.parametrize(
    "ending", ["", "raise SystemExit(3)", "os.kill(os.getpid(), signal.SIGTERM); list(video)"]
)
def test_a_program_that_forgets_to_close_ends_as_it_should(ending: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi")
    code = f"""
        import os, signal, sys
        from gaitedge.video.live import LiveVideo
        video = LiveVideo(sys.argv[1], loop=True, paced=True).__enter__()
        signal.signal(signal.SIGTERM, lambda *_: video.stop())
        next(video)
        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3 if "SystemExit" in ending else 0, "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"queue": 0}, "a queue holds 1 frame or more, not 0"),
        ({"first_delay": 0.0}, "0 < first ≤ most, not 0 and 30"),
        ({"first_delay": 9.0, "most_delay": 3.0}, "not 9 and 3"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LiveVideo("0", **settings)


def test_it_is_entered_once_and_before_reading(tmp_path: Path) -> None:
    video = LiveVideo(write_video(tmp_path / "v.avi", frames=2))
    with pytest.raises(ValueError, match="enter the LiveVideo before"):
        next(video)
    with video, pytest.raises(ValueError, match="entered once"):
        video.__enter__()


def test_passwords_are_not_shown() -> None:
    with MjpegCamera() as camera:
        port = camera.port
    url = f"http://me:secret@127.0.0.1:{port}/"
    with LiveVideo(url, must_open=False, first_delay=1.0) as video:
        while video.statistics.last_error is None:
            video.get(0.01)
        assert video.statistics.last_error.startswith(f"http://***@127.0.0.1:{port}/: 127.0.0.1 refuses")
        assert all("secret" not in thread.name for thread in threading.enumerate())
