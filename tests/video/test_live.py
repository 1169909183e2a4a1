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
from videos import (
    SECONDS,
    Blocked,
    Clock,
    FakeCapture,
    Script,
    descriptors,
    nothing_left_behind,
    number_of,
    opened,
    picture,
    pictures,
    write_video,
)

from gaitedge.errors import InputError, VideoError
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
        script.let_go()
    assert times == [1000.0] * 4


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


def test_stop_ends_the_wait_for_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the true sleep: a reader that would wait for an hour is gone at once."""
    monkeypatch.setattr(live_module, "_JOIN_S", SECONDS)
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


def test_a_hundred_lives_leak_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "_JOIN_S", SECONDS)
    path = write_video(tmp_path / "v.avi", frames=5)
    threads, files = threading.active_count(), descriptors()
    for number in range(100):
        with LiveVideo(path, queue=1, loop=True) as video:
            for _ in range(number % 7):
                next(video)
        assert threading.active_count() == threads
        assert descriptors() == files


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
