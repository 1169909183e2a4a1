"""Memory that a process has freed: give it back to the system, or keep it for the next use."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory", "return_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt


def keep_freed_memory() -> bool:
    """Have the C library keep large blocks that were freed; returns whether it does.

    By default glibc maps every block above some megabytes anew and unmaps it when it is freed. A
    training frees and takes the same gigabytes in every step, and then spends a large part of its
    time in the kernel, which clears each page again. Does nothing without glibc.
    """
    libc = _glibc("mallopt")
    return bool(libc and libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, -1))


def return_freed_memory() -> None:
    """Give the system once what has been kept: for after work of another shape than what follows."""
    libc = _glibc("malloc_trim")
    if libc:
        libc.malloc_trim(0)


def _glibc(function: str) -> ctypes.CDLL | None:
    """The C library where it has a function of glibc's."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None)
    except OSError:
        return None
    return libc if hasattr(libc, function) else None
