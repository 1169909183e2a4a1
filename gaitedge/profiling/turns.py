"""Candidates that take turns, each in a process of its own.

The waiting threads of one runtime, or the memory that it keeps, would change the speed of the next;
and ratios of figures that were taken in turns survive a machine that is busy now and then.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Generator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from gaitedge.errors import GaitEdgeError, MachineError
from gaitedge.machine.workers import begin_worker, undisturbed

__all__ = ["Worker"]

PAUSE_S = 0.02  # between turns: lets the last candidate's threads stop waiting actively
_END_S = 10.0  # for a process to end once it was told to
_SIGKILL = 9  # which Windows' Python has no name for

Candidate = Callable[..., Generator[Any, None, None]]
"""Gives first what it is ready with, then one result for each turn."""


class Worker:
    """A candidate in a process of its own that runs when it is asked to.

    As a context it ends the process, at once where the block is left by an exception. Making it, and a turn,
    raise the GaitEdgeError or the MemoryError that the candidate raises, and MachineError where its process
    ends by itself or is killed. Ctrl-C is for this process alone; the other one ends with it.
    """

    def __init__(self, candidate: Candidate, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # by itself: it lets go of the signals that are held below
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, candidate, arguments), daemon=True)
        with undisturbed():
            self._process.start()
        there.close()  # else a process that has ended would not be told from one that is at work
        try:
            self.ready: Any = self._receive()
            """What the candidate gave first."""
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def turn(self) -> Any:
        """What the candidate gives for one turn."""
        time.sleep(PAUSE_S)
        try:
            self._here.send(True)
        except OSError:
            raise self._ended() from None
        return self._receive()

    def stop(self) -> None:
        """End the process, as soon as it is done with its turn; at once where that takes too long."""
        try:
            self._here.send(False)
        except OSError:  # it has ended by itself
            self.kill()
            return
        self._process.join(_END_S)
        self.kill()

    def kill(self) -> None:
        """End the process at once, if it has not ended yet."""
        self._process.kill()
        self._process.join()
        self._here.close()

    def _receive(self) -> Any:
        try:
            result, error = self._here.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if error is not None:
            raise error
        return result

    def _ended(self) -> MachineError:
        """Why there is no answer."""
        self._process.join(_END_S)
        code = self._process.exitcode
        if code is None or code >= 0:
            return MachineError(f"its process ended with exit status {code}; what it said stands above")
        if -code in (_SIGKILL, signal.SIGTERM):
            return MachineError(
                f"its process was killed (signal {-code}), as by a system out of memory: give it less at once"
            )
        return MachineError(f"its process crashed ({signal.Signals(-code).name})")


def _serve(connection: Connection[Any, Any], candidate: Candidate, arguments: tuple[Any, ...]) -> None:
    begin_worker()
    try:
        results = candidate(*arguments)
        connection.send((next(results), None))
        while _asked(connection):
            connection.send((next(results), None))
    except GaitEdgeError as error:
        connection.send((None, error))
    except MemoryError as error:
        connection.send((None, MemoryError(str(error))))  # NumPy's own kind does not travel everywhere


def _asked(connection: Connection[Any, Any]) -> bool:
    """Whether another turn is wanted; none is by whoever has left."""
    try:
        return bool(connection.recv())
    except (EOFError, OSError):
        return False
