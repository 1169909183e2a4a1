"""What a training writes down as it goes: JSON lines, and the same as TensorBoard events.

RUN/log.jsonl         a line every few iterations, one an evaluation, one where it went wrong
RUN/events.out.*      for tensorboard --logdir RUN
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from gaitedge.errors import require
from gaitedge.files import atomic_write

__all__ = ["Records", "read_log"]

LOG = "log.jsonl"


def read_log(run: Path) -> list[dict[str, Any]]:
    """The log of a run, a dict a line; a last line that a kill cut short is left out."""
    path = run / LOG
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


class Records:
    """Writes a run's log and events; use it in a `with` statement.

    run: its folder. after: the iteration that the training goes on from; what was written of later
    ones, before the training was killed, is taken back. Raises MissingPackage without TensorBoard.
    """

    def __init__(self, run: Path, after: int = 0) -> None:
        require("tensorboard", "writing a training's events")
        from torch.utils.tensorboard import SummaryWriter

        kept = [line for line in read_log(run) if line["iteration"] <= after]
        with atomic_write(run / LOG) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        self.kept = kept
        self._log = (run / LOG).open("a")
        self._events = SummaryWriter(str(run), purge_step=after + 1 if after else None)

    def add(self, figures: dict[str, Any]) -> None:
        """Write figures down, "iteration" among them. Every number becomes a curve of its own."""
        self._log.write(json.dumps(figures) + "\n")
        self._log.flush()
        for name, value in figures.items():
            if name == "iteration":
                continue
            curves = value if isinstance(value, dict) else {"": value}
            for key, number in curves.items():
                if isinstance(number, int | float):
                    tag = f"{name}/{key}" if key else f"train/{name}"
                    self._events.add_scalar(tag, number, figures["iteration"])

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        self._events.close()
