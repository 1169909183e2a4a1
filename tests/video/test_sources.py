from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest
from damage import cut, written
from videos import (
    FakeCapture,
    MjpegCamera,
    error_of,
    pictures,
    write_video,
)

from gaitedge.errors import MachineError
from gaitedge.video import sources
from gaitedge.video.capture import open_video
from gaitedge.video.sources import Target, locate, shown


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"this is a letter", "is no video that OpenCV can read: it is damaged, cut off"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(500), "is no video that OpenCV can read"),
    ],
)
def test_files_that_are_no_videos(content: bytes, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "v.mp4", content)
    assert error_of(lambda: open_video(path)).startswith(f"{path} {message}")


def test_an_mp4_cut_off_before_its_index(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", codec="mp4v")
    cut(path, path.stat().st_size * 4 // 5)
    assert "cut off before its recorder closed it" in error_of(lambda: open_video(path))


def test_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert error_of(lambda: open_video(tmp_path / "no.mp4")).startswith(
        f"no file {tmp_path}/no.mp4: give a video"
    )
    assert error_of(lambda: open_video("٣")).startswith("no file ٣")
    assert "is a folder, no video" in error_of(lambda: open_video(tmp_path))
    assert "is a device or a pipe" in error_of(lambda: open_video(pipe))
    assert "is a device or a pipe" in error_of(lambda: open_video("/dev/zero"))
    assert "is no video" in error_of(lambda: open_video(""))
    assert "is no video" in error_of(lambda: open_video("a\0b.mp4"))
    assert "is not UTF-8" in error_of(lambda: open_video(os.fsdecode(b"/tmp/\xff.mp4")))


@pytest.mark.parametrize("name", ["a:b.avi", "100%.avi", "a!b.avi", "Größe 大.avi", "7", "-i.avi"])
def test_names_that_mean_something_to_others(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (write_video(tmp_path / "v.avi", frames=3)).rename(tmp_path / name)
    for source in (Path(name), f"./{name}", (tmp_path / name).as_uri()):
        with open_video(source) as video:
            assert len(list(video)) == 3


def test_a_camera_that_is_not_there() -> None:
    for source in ("97", "/dev/video97", Path("/dev/video97")):
        message = error_of(lambda source=source: open_video(source))
        assert "/dev/video97: " in message
        assert message.startswith("no camera")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:{port}/x", "127.0.0.1 refuses connections at port {port}"),
        ("rtsp://me:secret@127.0.0.1:{port}/x", "127.0.0.1 refuses connections at port {port}"),
        ("http://127.0.0.1:99999/x", "no URL: Port out of range 0-65535"),
        ("http:///x", "the URL names no host"),
        ("nonsense://127.0.0.1/x", "no video came"),
    ],
)
def test_a_url_that_refuses(url: str, reason: str) -> None:
    with MjpegCamera() as camera:
        port = camera.port
    message = error_of(lambda: open_video(url.format(port=port), open_timeout=2))
    name = url.format(port=port).replace("me:secret", "***")
    assert message == f"{name}: {reason.format(port=port)}"


def test_a_server_that_sends_no_video() -> None:
    with MjpegCamera(frames=0) as camera:
        message = error_of(lambda: open_video(camera.url, open_timeout=0.3, read_timeout=0.3))
    assert message.startswith(f"{camera.url}: 127.0.0.1 answers and sends no video that can be read")


def test_a_pipeline_needs_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: False)
    with pytest.raises(MachineError, match=r"^rtspsrc location=rtsp://\*\*\*@cam .* without: that of pip"):
        open_video("rtspsrc location=rtsp://me:secret@cam ! appsink")
    with pytest.raises(MachineError, match="needs an OpenCV with FFmpeg, this one is without"):
        open_video("rtsp://cam/")


def test_what_each_backend_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, int, list[int]]] = []
    made: list[FakeCapture] = []

    class Opened(FakeCapture):
        def __init__(self, address: object, backend: int, parameters: list[int]) -> None:
            super().__init__(pictures(1))
            asked.append((address, backend, parameters))
            made.append(self)

        def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
            return address_works

        def set(self, prop: int, value: float) -> bool:
            return True

    monkeypatch.setattr(cv2, "VideoCapture", Opened)
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: True)
    monkeypatch.setattr(
        "gaitedge.video.capture.locate",
        lambda source: Target("camera", 0, "V4L2", "camera") if source == "0" else locate(source),
    )
    address_works = True
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1_500]
    for source in ("0", "rtsp://cam/", "videotestsrc ! appsink"):
        assert open_video(source, read_timeout=1.5).live
    assert asked == [
        (0, cv2.CAP_V4L2, []),
        ("rtsp://cam/", cv2.CAP_FFMPEG, limits),
        ("videotestsrc ! appsink", cv2.CAP_GSTREAMER, limits),
    ]
    address_works = False
    assert error_of(lambda: open_video("0")) == (
        "camera does not open: another program uses it, or it records no video"
    )
    assert "must end in appsink" in error_of(lambda: open_video("videotestsrc ! appsink"))
    assert [capture.released for capture in made] == [0, 0, 0, 1, 1]


def test_secrets_are_not_shown() -> None:
    assert shown("rtsp://me:p@ss@cam:554/a") == "rtsp://***@cam:554/a"
    assert shown("rtspsrc location=rtsp://cam user-id=me user-pw=x ! appsink") == (
        "rtspsrc location=rtsp://cam user-id=*** user-pw=*** ! appsink"
    )
    assert shown("http://cam/x?user=me&token=abc&size=1") == "http://cam/x?user=me&token=***&size=1"
    assert shown("http://cam/me@home") == "http://cam/me@home"


@pytest.mark.parametrize(
    ("wishes", "spoke"),
    [({}, False), ({"OPENCV_LOG_LEVEL": "WARNING", "OPENCV_FFMPEG_LOGLEVEL": "16"}, True)],
)
def test_it_is_silent_unless_asked(wishes: dict[str, str], spoke: bool, tmp_path: Path) -> None:
    """In a process of its own, as the settings hold for the whole of one."""
    cut_off = written(tmp_path / "v.mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(500))
    sources = [str(written(tmp_path / "v.avi", b"a letter")), str(cut_off), "http://127.0.0.1:1/", "rtsp:///"]
    code = """
        import sys
        from gaitedge.errors import VideoError
        from gaitedge.video.capture import open_video
        for source in sys.argv[1:]:
            try:
                open_video(source)
            except VideoError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *sources],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **wishes},
    )
    told = [line for line in done.stdout.splitlines() if not line.startswith("[OPENCV:FFMPEG")]
    assert [line.startswith(source) for line, source in zip(told, sources, strict=True)] == [True] * 4
    assert (bool(done.stderr), len(done.stdout.splitlines()) > 4) == (spoke, spoke)


def test_cameras_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_DEVICES", tmp_path)
    assert error_of(lambda: locate("4")) == f"no camera {tmp_path}/video4: this machine has none"
    for number in (0, 4):
        (tmp_path / f"video{number}").touch()
    assert error_of(lambda: locate("1")).endswith(f": there is {tmp_path}/video0, {tmp_path}/video4")
    assert locate("4") == Target("camera", 4, "V4L2", f"camera {tmp_path}/video4")
    assert locate("/dev/video4") == Target("camera", 4, "V4L2", "camera /dev/video4")
    by_name = tmp_path / "usb-camera"
    by_name.symlink_to("/dev/video4")
    assert locate(by_name) == Target("camera", 4, "V4L2", f"camera {by_name}")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "permission denied; add this user to the group" in error_of(lambda: locate("4"))


def test_a_recording_behind_a_url_is_no_live_source(tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    write_video(tmp_path / "v.mp4", codec="mp4v")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with open_video(f"http://127.0.0.1:{server.server_port}/v.mp4") as video:
            assert (video.live, video.frames) == (False, 30)
            assert [frame.time for frame in video] == pytest.approx([n / 25 for n in range(30)], abs=1e-3)
        server.shutdown()
        thread.join()
