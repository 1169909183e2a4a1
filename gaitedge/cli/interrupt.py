"""Ctrl-C at any moment: one line, once, with time to clean up."""

from __future__ import annotations

import math
import signal
import sys
import time
from types import FrameType
from typing import Any

__all__ = ["INTERRUPTED", "Interrupt"]

INTERRUPTED = "gaitedge: interrupted; what was finished before is kept, nothing is half-written"

_HAS_TIMER = hasattr(signal, "setitimer")  # not on Windows
_AGAIN = 0.02  # seconds after which to look whether an import or a destructor is done
_PATIENCE = 10.0  # seconds to wait for that
_CLEANING = 5.0  # seconds after a Ctrl-C in which another one does not disturb the cleaning up


class Interrupt:
    """Answers Ctrl-C: once, with time to clean up, and not where it would get lost.

    An import that is broken off may end as an ImportError, and a destructor goes on: both after a
    traceback. There it waits until they are done.
    """

    def __init__(self) -> None:
        self._last = -math.inf
        self._waits_since = math.inf

    def take_over(self) -> None:
        """Answer from now on, unless whoever started us has it ignored."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self)
            sys.unraisablehook = self.lost

    def let_go(self) -> None:
        """Ignore it from now on: an interpreter that ends would show a traceback."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if _HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def __call__(self, _: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last < _CLEANING:
            return
        self._waits_since = min(self._waits_since, now)
        if _HAS_TIMER and _fragile(frame) and now - self._waits_since < _PATIENCE:
            self._wait()
            return
        self._last, self._waits_since = now, math.inf
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
