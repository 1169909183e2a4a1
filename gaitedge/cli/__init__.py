"""The command line: every command parses, calls one public function of its name, and prints."""

from __future__ import annotations

import math
import signal
import sys
import time
from io import TextIOWrapper
from types import FrameType
from typing import Any

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = "gaitedge: interrupted; what was finished before is kept, nothing is half-written"

_HAS_TIMER = hasattr(signal, "setitimer")  # not on Windows
_AGAIN = 0.02  # seconds after which to look whether an import or a destructor is done
_CLEANING = 5.0  # seconds after a Ctrl-C in which another one does not disturb the cleaning up


def main() -> None:
    """Run the command `gaitedge`. Exit 0 done, 1 the user's input or environment, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be text
    interrupt = _Interrupt()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the shell has it ignored
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = interrupt.lost
    try:
        from gaitedge.cli.app import app

        app()
    except (KeyboardInterrupt, SystemExit) as end:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interpreter that ends would show a traceback
        if _HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(end, SystemExit) and end.code != 130:  # with which typer ends what slips through
            raise
        sys.exit(INTERRUPTED)


class _Interrupt:
    """Answers Ctrl-C: once, with time to clean up, and not where it would get lost.

    An import that is broken off may end as an ImportError, and a destructor goes on: both after a
    traceback. There it waits until they are done.
    """

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, _: int, frame: FrameType | None) -> None:
        if time.monotonic() - self._last < _CLEANING:
            return
        if _HAS_TIMER and _fragile(frame):
            self._wait()
            return
        self._last = time.monotonic()
        raise KeyboardInterrupt

    def lost(self, unraisable: Any) -> None:
        """As sys.unraisablehook: have it again when Python could not raise it."""
        if _HAS_TIMER and unraisable.exc_type is KeyboardInterrupt:
            self._last = -math.inf
            self._wait()
        else:
            sys.__unraisablehook__(unraisable)

    def _wait(self) -> None:
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)


def _fragile(frame: FrameType | None) -> bool:
    """Whether Python is in an import, or evaluates a string: when an interrupt ends that, the process
    itself ends by the signal in the end, whatever was made of it meanwhile."""
    while frame is not None and frame.f_back is not None:  # the last may be the string of python -c
        if frame.f_code.co_filename.startswith(("<frozen importlib._bootstrap", "<string>")):
            return True
        frame = frame.f_back
    return False
