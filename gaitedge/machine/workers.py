"""Work spread over processes: results in order, none far ahead of its use, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process, resource_tracker
from types import TracebackType
from typing import TypeVar

from gaitedge.errors import MachineError

__all__ = ["begin_worker", "in_order", "undisturbed"]

_AHEAD = 4  # tasks that each worker may be ahead of the reader
_HAS_MASK = hasattr(signal, "pthread_sigmask")  # not on Windows

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Generator[tuple[Task, Result], None, None]:
    """Every task with its result, in the tasks' order.

    workers: 1 works in this process; more are started afresh, so the function must be importable
    and a script that gets here needs `if __name__ == "__main__"`. Closing the generator, or an
    exception, Ctrl-C included, ends the workers as soon as they have done what they are at.
    Raises what the function raises, and MachineError where a worker is killed.
    """
    if workers == 1:
        for task in tasks:
            yield task, function(task)
        return
    resource_tracker.ensure_running()  # by itself: it lets go of the signals that are held below
    with undisturbed():
        # Spawned, because a fork copies the locks that threads of this process may hold.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), begin_worker)
    waiting: deque[tuple[Task, Future[Result]]] = deque()
    try:
        for task in tasks:
            with undisturbed():
                waiting.append((task, pool.submit(function, task)))
            if len(waiting) > _AHEAD * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    except BrokenProcessPool:
        raise MachineError(
            "a worker process was killed, perhaps for want of memory: run the command again with fewer "
            "workers, it goes on where it stopped"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back Ctrl-C until the end: what is made here is whole, and a process that is started here
    is not interrupted before it has got to `begin_worker`, with a traceback on the user's screen."""
    seen: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1)) if in_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if _HAS_MASK else set()
    try:
        yield
    finally:
        if _HAS_MASK:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if seen:
            signal.raise_signal(signal.SIGINT)


def begin_worker() -> None:
    """In a worker: leave Ctrl-C to the parent, and end with it, in silence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _tell_unless_the_parent_left
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _tell_unless_the_parent_left(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """As sys.excepthook. A thread of multiprocessing's shows a traceback through it when the parent
    goes while it fetches a result; what a task raises travels to the parent instead."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a killed parent's worker would wait for its next task for ever
