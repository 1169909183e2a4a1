"""Commands as processes of their own, which a shell's user watches, interrupts and waits for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import COMMAND, Done

from gaitedge.cli.interrupt import INTERRUPTED

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals, limits and /proc")

# What a shell would have: Python holds back what is printed to a pipe until the end.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

# Options of `synth` for so many walks that two workers are busy for a second or so.
MANY = ["--subjects", 2, "--views", "054,072,090,108", "--conditions", "nm-01,nm-05,bg-01,cl-01"]


def start(*arguments: object, command: list[str] = COMMAND, **options: object) -> subprocess.Popen[str]:
    """Start a command as a shell does: in a process group of its own."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT, **options}
    whole = [*command, *map(str, arguments)]
    return subprocess.Popen(whole, text=True, start_new_session=True, **settings)  # type: ignore[call-overload, no-any-return]


# GaitEdge, which says on a descriptor when it answers Ctrl-C.
_TELLING = """
import os, sys
from gaitedge.cli.interrupt import Interrupt
descriptor, take_over = int(sys.argv.pop(1)), Interrupt.take_over
def tell(self):
    take_over(self)
    os.write(descriptor, b".")
    os.close(descriptor)
Interrupt.take_over = tell
from gaitedge.cli import main
main()
"""


def started(*arguments: object) -> subprocess.Popen[str]:
    """start(), once the command answers Ctrl-C: until then, on a busy machine, it is Python that ends."""
    ours, theirs = os.pipe()
    command = [sys.executable, "-c", _TELLING, str(theirs)]
    process = start(*arguments, command=command, pass_fds=(theirs,))
    os.close(theirs)
    told = os.read(ours, 1)
    os.close(ours)
    assert told == b".", finish(process)
    return process


def finish(process: subprocess.Popen[str]) -> Done:
    stdout, stderr = process.communicate(timeout=60)
    return Done(process.returncode, stdout or "", stderr or "")


def group_of(leader: int) -> list[int]:
    """The processes of a group that are still alive."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if entry.name.isdecimal():
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group) == leader and state != "Z":
                    found.append(int(entry.name))
    return found


def until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait for something that a process does, or for its end."""
    limit = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.003)


def press(process: subprocess.Popen[str], times: int = 1) -> Done:
    """Ctrl-C: the signal goes to the whole group."""
    for _ in range(times):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    done = finish(process)
    ended(process)
    return done


def ended(process: subprocess.Popen[str]) -> None:
    """Wait for the end of all that a process started."""
    limit = time.monotonic() + 60
    while group_of(process.pid):
        assert time.monotonic() < limit
        time.sleep(0.02)


def check_interrupted(done: Done) -> bool:
    """Whether a command was interrupted, or had done its work already; never half of each."""
    assert (done.status, done.stderr) in {(1, f"{INTERRUPTED}\n"), (0, "")}, done
    return done.status == 1


def read_terminal(descriptor: int) -> str:
    """All that is written to a terminal until nobody has it open."""
    shown = b""
    with contextlib.suppress(OSError):  # so Linux says the end
        while data := os.read(descriptor, 4096):
            shown += data
    os.close(descriptor)
    return shown.decode()
