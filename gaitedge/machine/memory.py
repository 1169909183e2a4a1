"""Memory that a process has freed: give it back to the system, or keep it for the next use."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt


def keep_freed_memory() -> bool:
    """Have the C library keep large blocks that were freed; returns whether it does.

    By default glibc maps every block above some megabytes anew and unmaps it when it is freed. A
    training frees and takes the same gigabytes in every step, and then spends a large part of its
    time in the kernel, which clears each page again. Does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
