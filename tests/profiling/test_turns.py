"""Candidates in processes of their own, which may fail, die or be interrupted."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from candidates import counting, dying, leaving, pid, raising
from processes import ended, finish, group_of, linux, start, until

from gaitedge.errors import BundleError, MachineError
from gaitedge.profiling.turns import Worker


def test_turns_follow_what_it_was_ready_with() -> None:
    with Worker(counting, 5) as worker, Worker(counting, 50) as other:
        assert (worker.ready, other.ready) == (5, 50)
        assert [worker.turn(), other.turn(), worker.turn()] == [6, 51, 7]


@linux
@pytest.mark.parametrize("fails", [False, True])
def test_the_process_ends_with_the_block(fails: bool) -> None:
    worker = Worker(pid)
    assert Path(f"/proc/{worker.ready}").exists()
    if fails:
        with pytest.raises(ZeroDivisionError), worker:
            raise ZeroDivisionError
    else:
        worker.stop()
    assert not Path(f"/proc/{worker.ready}").exists()


@pytest.mark.parametrize("turns", [0, 1])
@pytest.mark.parametrize(
    "error", [BundleError("no bundle at all"), MachineError("no memory"), MemoryError("7 TiB")]
)
def test_an_error_of_the_candidate_is_raised_here(
    error: Exception, turns: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error), match=str(error)), Worker(raising, error, turns) as worker:
        worker.turn()
    assert capfd.readouterr().err == ""


def test_a_bug_shows_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MachineError, match="exit status 1; what it said stands above"):
        Worker(raising, ZeroDivisionError("a bug"), 0)
    assert "ZeroDivisionError: a bug" in capfd.readouterr().err


@linux
@pytest.mark.parametrize("turns", [0, 1])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        (signal.SIGKILL, r"killed \(signal 9\), as by a system out of memory"),
        (signal.SIGSEGV, r"crashed \(SIGSEGV\)"),
    ],
)
def test_a_process_that_dies_says_how(
    how: int, said: str, turns: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MachineError, match=said), Worker(dying, how, turns) as worker:
        worker.turn()
    assert capfd.readouterr().err == ""


def test_a_process_that_leaves() -> None:
    with pytest.raises(MachineError, match="ended with exit status 7"):
        Worker(leaving, 7)


@linux
def test_one_that_was_killed_between_turns() -> None:
    worker = Worker(pid)
    os.kill(worker.ready, signal.SIGKILL)
    while Path(f"/proc/{worker.ready}/status").read_text().find("State:\tZ") < 0:
        time.sleep(0.01)
    with pytest.raises(MachineError, match="signal 9"), worker:
        worker.turn()
    worker = Worker(pid)
    os.kill(worker.ready, signal.SIGKILL)
    worker.stop()  # is no news


SCRIPT = """
import pathlib, sys, time
from gaitedge.profiling.turns import Worker
begun = pathlib.Path(__file__).with_name("begun")
def slow(where):
    if where == "turn":
        yield 0
    begun.touch()
    time.sleep(600)
    yield 1
if __name__ == "__main__":
    try:
        with Worker(slow, sys.argv[1]) as worker:
            worker.turn()
    except KeyboardInterrupt:
        sys.exit("interrupted")
"""


@linux
@pytest.mark.parametrize("where", ["ready", "turn"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(where: str, how: int, tmp_path: Path) -> None:
    script: Any = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = start(where, command=[sys.executable, str(script)])
    until((tmp_path / "begun").exists, process)
    assert len(group_of(process.pid)) > 1
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as Ctrl-C does, to all of them
    else:
        process.kill()
        process.wait()
    ended(process)
    done = finish(process)
    assert done.stderr == ("interrupted\n" if how == signal.SIGINT else "")
