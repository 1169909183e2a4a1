from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from damage import cut, written
from videos import (
    FakeCapture,
    MjpegCamera,
    descriptors,
    error_of,
    number_of,
    picture,
    pictures,
    turn,
    write_video,
)

from gaitedge.errors import VideoError
from gaitedge.video.capture import Video, open_video


class TimedCapture(FakeCapture):
    """A camera; frames come when its clock shows `times`."""

    def __init__(self, times: list[float], frames: list[Any]) -> None:
        super().__init__(frames)
        self.times = iter(times)
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def read(self) -> tuple[bool, Any]:
        self.now = next(self.times)
        return super().read()


@pytest.mark.parametrize(
    ("name", "codec"), [("v.avi", "MJPG"), ("v.mkv", "FFV1"), ("v.mp4", "mp4v"), ("v.webm", "VP80")]
)
def test_every_frame_of_a_file_in_order(name: str, codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, frames=30, fps=25.0, codec=codec)
    with open_video(path) as video:
        assert (video.fps, video.size, video.frames, video.live) == (25.0, (64, 48), 30, False)
        frames = list(video)
        assert (video.read, video.ended, video.ended_early) == (30, True, False)
        assert video.ending == f"{path}: 30 frames"
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(30)], abs=1e-3)
    assert [number_of(frame.image) for frame in frames] == list(range(30))  # still valid, all of them
    for frame in frames:
        assert (frame.image.shape, frame.image.dtype) == ((48, 64, 3), np.uint8)
        blue, green, red = frame.image[4, 4].astype(int)
        assert red > 180
        assert max(blue, green) < 90


def test_frames_are_memory_of_their_own() -> None:
    """Of a capture that writes all of them into the same buffer."""
    buffer = np.zeros((48, 64, 4), np.uint8)

    def reused() -> Iterator[Any]:
        for number in range(5):
            buffer[:] = number
            yield buffer[:, :, :3]

    capture = FakeCapture([])
    capture.frames = reused()
    frames = list(Video(capture, "camera", live=False))
    assert [int(frame.image.max()) for frame in frames] == [0, 1, 2, 3, 4]
    assert all(frame.image.flags.c_contiguous for frame in frames)


def test_a_video_recorded_on_its_side_stands_upright(tmp_path: Path) -> None:
    path = turn(write_video(tmp_path / "v.mp4", codec="mp4v"))
    with open_video(path) as video:
        assert video.size == (48, 64)
        image = next(video).image
    assert image.shape == (64, 48, 3)
    red = (image[:, :, 2].astype(int) - image[:, :, 0]) > 100
    assert red[:12, -8:].all()  # upper left before, upper right after a quarter turn
    assert red.sum() == pytest.approx(16 * 12, rel=0.3)


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (48, 64, 3), (48, 64, 4)])
def test_grey_and_transparent_pictures_become_bgr(shape: tuple[int, ...]) -> None:
    raw = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = next(Video(FakeCapture([raw]), "camera", live=True)).image
    assert image.shape == (48, 64, 3)
    grey = raw.reshape(48, 64, -1)
    assert all((image[:, :, n] == grey[:, :, min(n, grey.shape[2] - 1)]).all() for n in range(3))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((0, 0, 3), np.uint8), "v: frame 0 has no pixels"),
        (np.zeros((48, 0, 3), np.uint8), "v: frame 0 has no pixels"),
        (np.zeros((48, 64), np.uint16), "v: frame 0 has pixels of uint16, must be of 8 bits"),
        (np.zeros((48, 64, 2), np.uint8), r"v: frame 0 is no picture: its shape is \(48, 64, 2\)"),
        (cv2.error("out of\nmemory"), "v: frame 0 cannot be read: out of memory"),
        (None, "v: no frame of it can be decoded"),
    ],
)
@pytest.mark.parametrize("live", [False, True])
def test_a_first_frame_that_is_none(raw: Any, message: str, live: bool) -> None:
    capture = FakeCapture([raw])
    with pytest.raises(VideoError, match=f"^{message}"):
        Video(capture, "v", live=live)
    assert capture.released == 1


def test_no_frame_names_the_codec() -> None:
    capture = FakeCapture([])
    capture.properties[cv2.CAP_PROP_FOURCC] = float(cv2.VideoWriter.fourcc(*"hev1"))
    assert error_of(lambda: Video(capture, "v")) == "v: no frame of it can be decoded (codec hev1)"


@pytest.mark.parametrize("bad", [np.zeros((0, 0, 3), np.uint8), np.zeros((24, 32, 3), np.uint8)])
def test_a_broken_frame_in_the_middle_is_told_after_those_before_it(bad: Any) -> None:
    video = Video(FakeCapture([*pictures(3), bad, picture(4)], count=5), "v")
    assert [next(video).index for _ in range(3)] == [0, 1, 2]
    what = "has no pixels" if not bad.size else "is 32×24 pixels and those before are 64×48"
    assert error_of(lambda: next(video)).startswith(f"v: frame 3 {what}")


def test_ffmpeg_scales_what_changes_its_size(tmp_path: Path) -> None:
    """Two streams of JPEGs in one file: `Video` promises one size, and FFmpeg sees to it."""
    sizes = [(64, 48)] * 9 + [(32, 24)] * 9
    path = tmp_path / "v.mjpeg"
    path.write_bytes(b"".join(cv2.imencode(".jpg", picture(n, size))[1] for n, size in enumerate(sizes)))
    with open_video(path) as video:
        frames = list(video)
    assert [number_of(frame.image) for frame in frames] == list(range(18))
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([3.0, 3.1, 3.3, 3.4], [0.0, 0.1, 0.3, 0.4]),  # a variable rate, from a start other than 0
        ([0.0, 0.0, 0.0, 0.0], [0.0, 0.04, 0.08, 0.12]),  # none told
        ([7.0, 7.1, 0.0, 0.1], [0.0, 0.1, 0.14, 0.24]),  # two recordings joined
        ([0.0, 0.04, 1e9, 0.12], [0.0, 0.04, 0.08, 0.12]),  # nonsense
        ([0.0, float("nan"), float("inf"), 0.12], [0.0, 0.04, 0.08, 0.12]),
        ([0.0, 0.04, 3600.0, 3600.04], [0.0, 0.04, 3600.0, 3600.04]),  # a recorder that waits for motion
    ],
)
def test_times_of_a_file_never_go_back(stamps: list[float], times: list[float]) -> None:
    video = Video(FakeCapture(pictures(4), stamps, count=4), "v")
    assert [frame.time for frame in video] == pytest.approx(times)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 90_000.0])
def test_a_rate_that_is_none(fps: float) -> None:
    video = Video(FakeCapture(pictures(3), fps=fps, count=3), "v")
    assert video.fps is None
    assert [frame.time for frame in video] == pytest.approx([0.0, 0.04, 0.08])


def test_times_of_a_camera_are_the_clocks_and_never_go_back() -> None:
    capture = TimedCapture([100.0, 100.5, 99.0, 101.0], pictures(4))
    video = Video(capture, "camera", live=True, clock=capture.clock)
    assert [next(video).time for _ in range(4)] == [100.0, 100.5, 100.5, 101.0]
    assert (video.live, video.frames) == (True, None)


def test_a_camera_that_vanishes_is_an_error_and_not_an_end() -> None:
    video = Video(FakeCapture(pictures(2)), "camera", live=True)
    assert len([next(video), next(video)]) == 2
    assert error_of(lambda: next(video)) == "camera stopped after 2 frames"


@pytest.mark.parametrize(("name", "codec"), [("v.avi", "MJPG"), ("v.mkv", "MJPG")])
def test_a_truncated_file_gives_what_it_has_and_tells(name: str, codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, codec=codec)
    whole = path.stat().st_size
    cut(path, whole * 3 // 5)
    with open_video(path) as video:
        assert video.ending == f"{path}: 0 frames so far"
        count = len(list(video))
        assert 8 <= count <= 22
        assert video.ended_early
        assert video.ending == (
            f"{path} is damaged or cut off: {count} of the 30 frames that it promises could be read"
        )
        assert list(video) == []


@pytest.mark.parametrize(
    ("read", "promised", "early"),
    [(30, 30, False), (28, 30, False), (27, 30, True), (980, 1000, False), (970, 1000, True), (9, -1, False)],
)
def test_what_counts_as_early(read: int, promised: int, early: bool) -> None:
    video = Video(FakeCapture(pictures(read), count=promised), "v", live=False)
    assert not video.ended_early
    assert len(list(video)) == read
    assert video.ended_early == early


@pytest.mark.parametrize(("name", "codec"), [("v.avi", "MJPG"), ("v.mkv", "MJPG"), ("v.avi", "FFV1")])
def test_garbage_in_the_middle_costs_frames_and_nothing_else(name: str, codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, size=(320, 240), codec=codec)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1200] = bytes(np.random.default_rng(0).integers(0, 256, 1200, dtype=np.uint8))
    path.write_bytes(data)
    with open_video(path) as video:
        frames = list(video)
    times = [frame.time for frame in frames]
    assert 23 <= len(frames) <= 30
    assert number_of(frames[-1].image) == 29
    assert (times, [frame.index for frame in frames]) == (sorted(times), list(range(len(frames))))


@pytest.mark.parametrize("live", [False, True])
def test_damaged_frames_are_passed_over_and_not_for_ever(live: bool) -> None:
    damaged = [None] * 25
    video = Video(
        FakeCapture([*damaged, *pictures(2), *damaged, picture(2), *damaged, None, picture(3)]),
        "v",
        live=live,
    )
    assert [number_of(next(video).image) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(VideoError if live else StopIteration):
        next(video)


def test_a_live_source_that_fails_slowly_is_gone() -> None:
    capture = TimedCapture([0.0, 2.0, 2.5], [picture(0), None, picture(1)])
    video = Video(capture, "camera", live=True, clock=capture.clock)
    next(video)
    assert error_of(lambda: next(video)) == "camera stopped after 1 frames"


def test_a_network_camera() -> None:
    clock = itertools.count(1000.0)
    with MjpegCamera() as camera, open_video(camera.url, clock=lambda: next(clock)) as video:
        assert (video.live, video.frames, video.size) == (True, None, (64, 48))
        frames = [next(video) for _ in range(10)]
        assert [frame.index for frame in frames] == list(range(10))
        assert all(1000 < a.time < b.time for a, b in itertools.pairwise(frames))
        numbers = [number_of(frame.image) for frame in frames]
        assert all((b - a) % 30 == 1 for a, b in itertools.pairwise(numbers))
        camera.pull_out()
        assert "stopped after" in error_of(lambda: [next(video) for _ in range(10_000)])


def test_nothing_stays_open(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", frames=5)
    broken = written(tmp_path / "b.avi", b"no video")
    open_video(path).close()
    before = descriptors()
    for _ in range(5):
        with open_video(path) as video:
            next(video)
        error_of(lambda: open_video(broken))
    assert descriptors() == before
    video.close()  # a second time
    with pytest.raises(ValueError, match="was closed"):
        next(video)


@pytest.mark.shared
def test_the_real_clip(shared: Path) -> None:
    with open_video(shared / "data" / "video" / "sports2d_demo.mp4") as video:
        assert (video.size, video.fps, video.frames) == ((1768, 994), 30.0, 230)
        times = [frame.time for frame in video]
    assert len(times) == 230
    assert np.diff(times) == pytest.approx(1 / 30, abs=1e-3)
