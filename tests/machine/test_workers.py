from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from gaitedge.errors import MachineError
from gaitedge.machine.workers import in_order

# Workers import what they call, and they cannot import a test: only the library's own will do.
PROCESS = "__import__('os').getpid()"
BLOCKED = "2 in __import__('signal').pthread_sigmask(0, [])"
KILLED = "__import__('os').kill(__import__('os').getpid(), 9)"


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    assert list(in_order(math.sqrt, range(12), workers)) == [(n, math.sqrt(n)) for n in range(12)]


def test_one_worker_is_this_process_and_more_are_others() -> None:
    assert {pid for _, pid in in_order(eval, [PROCESS] * 3, 1)} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in in_order(eval, [PROCESS] * 3, 2)}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_function_is_the_readers(workers: int) -> None:
    results = in_order(math.sqrt, [4, 9, -1, *range(20)], workers)
    assert next(results) == (4, 2.0)
    assert next(results) == (9, 3.0)
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        next(results)


def test_a_killed_worker_is_one_clear_line() -> None:
    with pytest.raises(MachineError, match="a worker process was killed") as caught:
        list(in_order(eval, ["1", KILLED, "2"], 2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", ["ConnectionResetError", "EOFError", "ValueError"])
def test_a_thread_of_a_worker_says_nothing_of_a_parent_that_left(error: str) -> None:
    """multiprocessing's own threads report through sys.excepthook."""
    code = f"""
import sys
from gaitedge.machine.workers import begin_worker
begin_worker()
try:
    raise {error}("odd")
except Exception:
    sys.excepthook(*sys.exc_info())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("odd" in done.stderr) == (error == "ValueError")


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs POSIX signals")
def test_a_worker_never_sees_ctrl_c() -> None:
    """From its first moment on: later it would show a traceback of Python's own start."""
    before = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    results = in_order(eval, [BLOCKED], 2)
    assert [found for _, found in results] == [True]
    assert before == (signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_ctrl_c_while_a_worker_starts_comes_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    submit = ProcessPoolExecutor.submit

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        submitted.append(submit(*arguments))
        return submitted[-1]

    submitted: list[Any] = []
    monkeypatch.setattr(ProcessPoolExecutor, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(in_order(math.sqrt, [1, 2, 3], 2))
    assert len(submitted) == 1


def test_tasks_are_taken_only_as_results_are_read() -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with contextlib.closing(in_order(math.sqrt, tasks(), 2)) as results:
        next(results)
        assert len(taken) < 30
