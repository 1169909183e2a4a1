"""Small synthetic videos, and a camera that serves one over HTTP and can be pulled out of the wall."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import VideoError
from gaitedge.video.capture import Video
from gaitedge.video.live import LiveVideo

SIZE = (64, 48)  # width, height
SECONDS = 20  # a test that waits for longer has failed
STEP = 8  # frame n is of the grey 8·n, so that a decoder's losses do not hide its number


def picture(number: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Frame `number`: grey of its number, a red corner at the upper left."""
    width, height = size
    image = np.full((height, width, 3), number * STEP % 256, np.uint8)
    image[: height // 4, : width // 4] = (0, 0, 255)
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """Which frame (of the first 32) a decoded picture is, by its middle."""
    height, width = image.shape[:2]
    return round(float(image[height // 2, width // 2].mean()) / STEP)


def write_video(
    path: Path, frames: int = 30, size: tuple[int, int] = SIZE, fps: float = 25.0, codec: str = "MJPG"
) -> Path:
    """Write a video of `picture`s; the ending of `path` says the container."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size)
    assert writer.isOpened(), path
    for number in range(frames):
        writer.write(picture(number, size))
    writer.release()
    return path


def turn(path: Path) -> Path:
    """Mark the picture of an .mp4 as recorded with the camera on its side: a quarter turn clockwise."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2: version 0
    one = 1 << 16
    width = int.from_bytes(data[matrix + 36 : matrix + 40], "big")
    values = (0, one, 0, -one, 0, 0, width, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data)
    return path


def pictures(count: int) -> list[Any]:
    return [picture(number) for number in range(count)]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class FakeCapture:
    """A capture that gives `frames`, None where it fails, with `stamps` in seconds."""

    def __init__(
        self, frames: list[Any], stamps: list[float] | None = None, fps: float = 25.0, count: float = 0.0
    ) -> None:
        self.frames: Iterator[Any] = iter(frames)
        self.stamps = iter(stamps) if stamps is not None else None
        self.properties = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: count}
        self.released = 0

    def read(self) -> tuple[bool, Any]:
        try:
            frame = next(self.frames)
        except StopIteration:
            return False, None
        if isinstance(frame, Exception):
            raise frame
        return frame is not None, frame

    def get(self, prop: int, /) -> float:
        if prop == cv2.CAP_PROP_POS_MSEC:
            return 0.0 if self.stamps is None else 1000 * next(self.stamps)
        return self.properties.get(prop, 0.0)

    def release(self) -> None:
        self.released += 1


def error_of(action: Callable[[], object]) -> str:
    """The one line of a VideoError."""
    with pytest.raises(VideoError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class MjpegCamera:
    """A network camera: multipart JPEG over HTTP, of the same pictures without end.

    pull_out() breaks every connection and refuses new ones, plug_in() brings it back at the same port.
    frames: after so many a connection goes silent, yet stays open.
    """

    def __init__(self, frames: int | None = None) -> None:
        self.frames = frames
        self.port = 0
        self._parts = [
            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)
            for jpeg in (cv2.imencode(".jpg", picture(n))[1].tobytes() for n in range(30))
        ]
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._out = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/video"

    def __enter__(self) -> MjpegCamera:
        self.plug_in()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pull_out()

    def plug_in(self) -> None:
        self._out.clear()
        server = socket.create_server(("127.0.0.1", self.port))
        self.port = server.getsockname()[1]
        self._sockets.append(server)
        self._run(self._accept, server)

    def pull_out(self) -> None:
        self._out.set()
        while self._sockets:  # the server's is the first: once its thread has ended, no viewer is added
            each = self._sockets.pop(0)
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
            self._threads.pop(0).join()

    def _run(self, work: object, argument: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(argument,))  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # pulled out
            while True:
                viewer = server.accept()[0]
                self._sockets.append(viewer)
                self._run(self._serve, viewer)

    def _serve(self, viewer: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the viewer left, or we were pulled out
            viewer.recv(4096)
            viewer.sendall(
                b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=frame\r\n\r\n"
            )
            numbers = itertools.count() if self.frames is None else range(self.frames)
            for number in numbers:
                viewer.sendall(self._parts[number % len(self._parts)])
                if self._out.wait(0.005):
                    return
            self._out.wait()


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
    """Frames, and then a read that hangs until it is let go, and gives the frames of `after`, if any."""

    def __init__(self, count: int) -> None:
        self.gate = threading.Event()
        self.blocked = threading.Event()
        self.after: list[Any] = []
        self.capture = FakeCapture([])
        self.capture.frames = self._frames(count)

    def _frames(self, count: int) -> Iterator[Any]:
        yield from pictures(count)
        self.blocked.set()
        self.gate.wait(SECONDS)
        yield from self.after


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

    def let_go(self) -> None:
        self.over.gate.set()


def opened(script: Script, clock: Clock, **settings: Any) -> LiveVideo:
    settings = {"opener": script, "chance": lambda: 0.0, "queue": 100, **settings}
    return LiveVideo("camera", clock=clock, sleep=clock.sleep, **settings)


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """All threads that were started end, and all files that they opened are closed."""
    before, files = set(threading.enumerate()), descriptors()
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS)
    assert set(threading.enumerate()) <= before
    assert descriptors() <= files
