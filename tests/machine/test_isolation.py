from __future__ import annotations

import sys
import time

import pytest

from gaitedge.machine.isolation import Outcome, run_apart


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_of_a_good_end() -> None:
    assert run_apart(python("print('all well')"), 60).output.strip() == "all well"


def test_a_crash_is_named() -> None:
    code = "import os, signal; print('so far', flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    assert run_apart(python(code), 60) == Outcome("", "crashed (SIGSEGV)")


def test_a_crash_leaves_no_core_file() -> None:
    """Nor does looking at it change what this process may leave."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    assert run_apart(python(code), 60).output.strip() == "0"
    assert resource.getrlimit(resource.RLIMIT_CORE) == before


def test_a_failure_gives_its_last_line() -> None:
    outcome = run_apart(python("raise SystemExit('first\\nno such device')"), 60)
    assert outcome == Outcome("", "failed with exit status 1 and said: no such device")


def test_a_silent_failure() -> None:
    outcome = run_apart(python("raise SystemExit(3)"), 60)
    assert outcome.problem == "failed with exit status 3 and said: nothing"


def test_a_hang_ends() -> None:
    started = time.monotonic()
    outcome = run_apart(python("import time; time.sleep(300)"), 0.5)
    assert outcome == Outcome("", "gave no answer within 0.5 s")
    assert time.monotonic() - started < 30


def test_more_output_than_a_pipe_holds() -> None:
    assert len(run_apart(python("print('x' * 1_000_000)"), 60).output) == 1_000_001


def test_a_command_that_does_not_exist() -> None:
    outcome = run_apart(["/nonexistent/command"], 60)
    assert outcome.problem is not None
    assert outcome.problem.startswith("could not be started")


def test_input_is_not_inherited() -> None:
    assert run_apart(python("import sys; print(repr(sys.stdin.read()))"), 60).output.strip() == "''"
