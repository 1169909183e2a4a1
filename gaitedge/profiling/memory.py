"""How much memory this process takes, and took at most."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["most", "peak", "resident"]

_STATUS = Path("/proc/self/status")


def resident(status: Path = _STATUS) -> int | None:
    """Bytes in memory now; None where the system does not say."""
    return _read(status, "VmRSS")


def peak(status: Path = _STATUS) -> int | None:
    """The most bytes in memory since the process began; None where the system does not say."""
    found = _read(status, "VmHWM")
    return _by_resource() if found is None else found


def most(*values: int | None) -> int | None:
    """Of several readings the largest; None where there is none."""
    return max((value for value in values if value is not None), default=None)


def _by_resource() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def _read(status: Path, name: str) -> int | None:
    """A line such as "VmHWM:     12345 kB"."""
    try:
        lines = status.read_text().splitlines()
    except OSError:  # no Linux, or a sandbox that hides it
        return None
    for line in lines:
        key, _, value = line.partition(":")
        words = value.split()
        if key == name and len(words) == 2 and words[0].isdigit():
            return int(words[0]) << 10
    return None
