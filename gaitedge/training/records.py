"""What a training writes down as it goes: JSON lines, and the same as TensorBoard events.

RUN/log.jsonl         a line every few iterations, one an evaluation, one where it went wrong
RUN/events.out.*      for tensorboard --logdir RUN
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from gaitedge.errors import InputError, require
from gaitedge.files import atomic_write, naming

__all__ = ["Records", "read_log"]

LOG = "log.jsonl"


def read_log(run: Path) -> list[dict[str, Any]]:
    """The log of a run, a dict a line; a last line that a kill cut short is left out.

    Raises InputError where another line is damaged.
    """
    path = run / LOG
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [_figures(path, number, line) for number, line in enumerate(lines, 1) if line.endswith(b"\n")]


class Records:
    """Writes a run's log and events; use it in a `with` statement.

    run: its folder. after: the iteration that the training goes on from; what was written of later
    ones, before the training was killed, is taken back. Raises MissingPackage without TensorBoard, and
    InputError where the log is damaged.
    """

    def __init__(self, run: Path, after: int = 0) -> None:
        require("tensorboard", "writing a training's events")
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        kept = [line for line in read_log(run) if line["iteration"] <= after]
        with atomic_write(run / LOG) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        self.kept = kept
        now = time.time()
        # TensorBoard reads a run's files in the order of their names.
        name = f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}"
        self._paths = run / LOG, run / name
        with contextlib.ExitStack() as stack:
            self._log, self._events = (stack.enter_context(path.open("ab")) for path in self._paths)
            # Not through SummaryWriter: on a full disk its thread would end with a traceback on the screen.
            self._records = RecordWriter(self._events)
            self._write_event(Event(wall_time=now, file_version="brain.Event:2"))
            # TensorBoard forgets what an earlier start wrote from here on.
            start = SessionLog(status=SessionLog.START)
            self._write_event(Event(wall_time=now, step=after + 1, session_log=start))
            self._files = stack.pop_all()

    def add(self, figures: dict[str, Any]) -> None:
        """Write figures down, "iteration" among them. Every number becomes a curve of its own."""
        with naming(self._paths[0]):
            line = json.dumps({name: _finite(value) for name, value in figures.items()})
            self._log.write(line.encode() + b"\n")
            self._log.flush()
        values = []
        for name, value in figures.items():
            if name == "iteration":
                continue
            curves = value if isinstance(value, dict) else {"": value}
            for key, number in curves.items():
                if isinstance(number, int | float):
                    tag = f"{name}/{key}" if key else f"train/{name}"
                    values.append(self._summary.Value(tag=tag, simple_value=number))
        summary = self._summary(value=values)
        self._write_event(self._event(wall_time=time.time(), step=figures["iteration"], summary=summary))

    def _write_event(self, event: Any) -> None:
        with naming(self._paths[1]):
            self._records.write(event.SerializeToString())
            self._events.flush()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._files.close()
            return
        with contextlib.suppress(OSError):  # a full disk would only say so again
            self._files.close()


def _figures(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        figures = json.loads(line)
        if isinstance(figures, dict) and isinstance(figures.get("iteration"), int):
            return figures
    except ValueError:
        pass
    raise InputError(f"line {number} of {path} is damaged: delete that line, or the file, to go on")


def _finite(value: Any) -> Any:
    """A value as JSON has it, which knows neither NaN nor infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
