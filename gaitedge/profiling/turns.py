"""Candidates that take turns, each in a process of its own.

The waiting threads of one runtime, or the memory that it keeps, would change the speed of the next;
and ratios of figures that were taken in turns survive a machine that is busy now and then.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["Worker"]

PAUSE_S = 0.02  # between turns: lets the last candidate's threads stop waiting actively

Candidate = Callable[..., Generator[Any, None, None]]
"""Gives first what it is ready with, then one result for each turn."""


class Worker:
    """A candidate in a process of its own that runs when it is asked to."""

    def __init__(self, candidate: Candidate, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, candidate, arguments), daemon=True)
        self._process.start()
        there.close()
        self.ready: Any = self._here.recv()
        """What the candidate gave first."""

    def turn(self) -> Any:
        """What the candidate gives for one turn."""
        time.sleep(PAUSE_S)
        self._here.send(True)
        return self._here.recv()

    def stop(self) -> None:
        """End the process."""
        self._here.send(False)
        self._process.join()


def _serve(connection: Connection[Any, Any], candidate: Candidate, arguments: tuple[Any, ...]) -> None:
    results = candidate(*arguments)
    connection.send(next(results))
    while connection.recv():
        connection.send(next(results))
