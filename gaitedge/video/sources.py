"""What the name of a video source means, and in one line why it cannot be opened."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from gaitedge.errors import VideoError, one_line
from gaitedge.files import printable

__all__ = ["Target", "locate", "shown", "why_not"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DEVICES = Path("/dev")
_CAMERA = re.compile(r"/dev/video(\d+)")
_SECRETS = [
    (re.compile(r"(://)[^/\s]*@"), r"\1***@"),  # rtsp://user:password@camera/
    (re.compile(r"\b(user-pw|user-id|password|passwd|token)=[^\s&]+", re.IGNORECASE), r"\1=***"),
]
_PORTS = {"http": 80, "https": 443, "rtmp": 1935, "rtsp": 554, "rtsps": 322}
_POSSIBLE = "a video file, a camera's number or /dev/videoN, a URL such as rtsp://…, or a GStreamer pipeline"
_KNOCK_S = 3.0  # a host that answers at all does so sooner


@dataclass(frozen=True)
class Target:
    """A source, as one of OpenCV's backends takes it."""

    kind: Literal["file", "camera", "url", "pipeline"]
    address: str | int
    """What the backend opens: an absolute path, a camera's number, a URL or a pipeline."""
    backend: Literal["FFMPEG", "V4L2", "GSTREAMER"]
    name: str
    """How messages call it: without a password."""


def shown(text: str) -> str:
    """A source as it may be printed: on one line, with user names, passwords and tokens left out."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return printable(text)


def locate(source: str | Path) -> Target:
    """What a source means: a file, a camera, a URL or a pipeline.

    A str of digits is a camera; a file of that name is meant by ./0 or by a Path. A file that is there
    wins over a pipeline. Raises VideoError where a file or a camera is not there, may not be read, or
    is something else.
    """
    text = str(source)
    name = shown(text)
    if not text or "\0" in text:
        raise VideoError(f"{text!r} is no video: give {_POSSIBLE}")
    try:
        text.encode()
    except UnicodeEncodeError:  # OpenCV would crash on it
        raise VideoError(f"{name}: the name is not UTF-8, which OpenCV needs; rename the file") from None
    if isinstance(source, str):
        if text.isascii() and text.isdecimal():
            return _camera(int(text), name)
        if _URL.match(text):
            if not text.lower().startswith("file://"):
                return Target("url", text, "FFMPEG", name)
            source = Path(unquote(urlsplit(text).path))
        elif "!" in text and not os.path.lexists(text):
            return Target("pipeline", text, "GSTREAMER", name)
    return _file(Path(source), name)


def why_not(target: Target) -> str:
    """One line on a source that is there, as far as can be seen, and does not open."""
    if target.kind == "file":
        return (
            f"{target.name} is no video that OpenCV can read: it is damaged, cut off before its recorder "
            "closed it, or of an unknown format; convert it to H.264 in an .mp4 file"
        )
    if target.kind == "camera":
        return f"{target.name} does not open: another program uses it, or it records no video"
    if target.kind == "pipeline":
        return f"GStreamer cannot run {target.name!r}: try it with gst-launch-1.0; it must end in appsink"
    return f"{target.name}: {_knock(str(target.address))}"


def _camera(number: int, name: str) -> Target:
    device = _DEVICES / f"video{number}"
    name = f"camera {device}" if name == str(number) else name
    if not device.exists():
        others = sorted(_DEVICES.glob("video*"))
        there = f"there is {', '.join(map(str, others))}" if others else "this machine has none"
        raise VideoError(f"no {name}: {there}")
    if not os.access(device, os.R_OK | os.W_OK):
        raise VideoError(f"{name}: permission denied; add this user to the group that owns it, often `video`")
    return Target("camera", number, "V4L2", name)


def _file(path: Path, name: str) -> Target:
    camera = _CAMERA.fullmatch(str(path.resolve() if path.is_symlink() else path))
    if camera:
        return _camera(int(camera[1]), f"camera {name}")
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not path.is_file():
                raise VideoError(f"{name} is a device or a pipe, no video file: give {_POSSIBLE}")
            if not file.read(1):
                raise VideoError(f"{name} is empty")
    except FileNotFoundError:
        raise VideoError(f"no file {name}: give {_POSSIBLE}") from None
    except IsADirectoryError:
        raise VideoError(f"{name} is a folder, no video: give {_POSSIBLE}") from None
    except OSError as error:
        raise VideoError(f"{name}: {error.strerror}") from None
    # Absolute: FFmpeg would take the "a" of a file a:b.mp4 for a protocol.
    return Target("file", str(path.absolute()), "FFMPEG", name)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe too, without waiting until somebody writes into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _knock(url: str) -> str:
    """Why a URL gives no video, as far as its host says when it is asked for a connection."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme.lower())
    except ValueError as error:
        return f"no URL: {one_line(error)}"
    if not host:
        return "the URL names no host"
    if port is None:  # what rides on UDP refuses nobody
        return "no video came"
    try:
        socket.create_connection((host, port), _KNOCK_S).close()
    except socket.gaierror:
        return f"no host is called {host}"
    except TimeoutError:
        return f"{host} does not answer at port {port}"
    except ConnectionRefusedError:
        return f"{host} refuses connections at port {port}"
    except OSError as error:
        return f"{host}: {error.strerror or one_line(error)}"
    return f"{host} answers and sends no video that can be read: check the path, the user and the password"
