"""The command that runs all day: watch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from gaitedge.cli.console import BundleArgument
from gaitedge.cli.gallery import KeyFileOption
from gaitedge.files import naming

if TYPE_CHECKING:
    from gaitedge.watching.reports import Report, Status

__all__ = ["watch"]


def watch(
    bundle: BundleArgument,
    gallery: Annotated[Path, typer.Argument(help="The gallery's file.")],
    source: Annotated[
        str,
        typer.Argument(
            help="A camera's number or /dev/videoN, an RTSP or HTTP address, a GStreamer pipeline, or a "
            "video file."
        ),
    ],
    segmenter: Annotated[
        str, typer.Option(help="background, for a camera that stands still, or a model, MODEL.onnx.")
    ] = "background",
    out: Annotated[
        Path | None,
        typer.Option(help="Append the lines to this file instead of standard output.", metavar="FILE.jsonl"),
    ] = None,
    annotated: Annotated[
        Path | None,
        typer.Option(help="Write a video with boxes, names and distances.", metavar="FILE.mp4"),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Distance beyond which a walk is nobody's; the gallery's by default.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Of the frame network: auto, cuda, openvino or onnxruntime.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Of the engine; all cores by default.")] = None,
    key_file: KeyFileOption = None,
    seconds: Annotated[float | None, typer.Option(help="To watch; without end by default.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a file again at its end.")] = False,
    paced: Annotated[
        bool,
        typer.Option(
            help="Play a file at its own speed and drop frames, as a camera would; else every frame is "
            "looked at."
        ),
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Write what each frame's time went into, for chrome://tracing or Perfetto.",
            metavar="FILE.json",
        ),
    ] = None,
) -> None:
    """Say who walks before a camera, as it happens: one JSON object a line.

    SIGTERM and Ctrl-C end it with the last decisions written.
    """
    from gaitedge.destinations import check_destination
    from gaitedge.people.encryption import find_key
    from gaitedge.watching.tracing import Trace, write_chrome_trace
    from gaitedge.watching.watch import watch as run

    if trace is not None:
        check_destination(trace, ".json")
    noted = None if trace is None else Trace()
    key = find_key(key_file)
    status = _StatusLine(sys.stderr)
    with _signals() as stopped, _lines(out, status) as write:
        run(
            bundle,
            gallery,
            source,
            write,
            segmenter=segmenter,
            annotated=annotated,
            threshold=threshold,
            engine=engine,
            threads=threads,
            key=key,
            seconds=seconds,
            loop=loop,
            paced=paced,
            stop=lambda: bool(stopped),
            progress=status.show if status.shown else None,
            trace=noted,
        )
    if trace is not None and noted is not None:
        write_chrome_trace(noted, trace)
    if signal.SIGINT in stopped:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to stop that came. A second Ctrl-C does not wait for the end of the turn."""
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        again = number == signal.SIGINT and number in came
        came.append(number)
        if again:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _lines(out: Path | None, status: _StatusLine) -> Iterator[Callable[[Report], None]]:
    """A function that writes a report as a line, at once."""
    with contextlib.ExitStack() as stack:
        stream, name = sys.stdout, "standard output"
        if out is not None:
            stream, name = stack.enter_context(_append(out)), str(out)

        def write(report: Report) -> None:
            status.clear()
            line = json.dumps(dataclasses.asdict(report), ensure_ascii=False)
            with naming(name):
                stream.write(f"{line}\n")
                stream.flush()

        stack.callback(status.clear)
        yield write


def _append(path: Path) -> TextIO:
    """A file to add lines to; a line that was cut off by the end of a former watch is ended."""
    file = path.open("ab+")
    torn = False
    if file.tell() > 0:
        file.seek(-1, 2)
        torn = file.read(1) != b"\n"
    if torn:
        file.write(b"\n")
    file.close()
    return path.open("a", encoding="utf-8")


class _StatusLine:
    """One line on a terminal that changes in place; nothing elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self.shown = stream.isatty()
        self._stream = stream
        self._there = False

    def show(self, status: Status) -> None:
        people = "1 person" if status.people == 1 else f"{status.people} people"
        parts = [f"{status.rate:.1f} frames/s", people, f"{status.dropped} dropped"]
        parts.append(f"{status.reconnects} reconnects")
        if status.lost:
            parts.append("source lost")
        self._stream.write(f"\r\x1b[K{', '.join(parts)}")
        self._stream.flush()
        self._there = True

    def clear(self) -> None:
        if self._there:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._there = False
