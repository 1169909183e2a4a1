"""Compiled graphs kept for the next start, in a folder that belongs to this user alone.

OpenVINO has a cache of its own, CACHE_DIR. It makes a blob anew where that was cut off or is another
version's, but takes one with a flipped byte among the weights and gives other embeddings. So each blob
lies here behind the SHA-256 of its key and itself. What is missing, damaged, writable by others or
cannot be written is no error: then the graph is compiled as if there were no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from gaitedge.files import atomic_write, user_cache

__all__ = ["keep", "recall"]

KEPT = 8  # blobs, those used last; one of the paper's network takes 6 MB


def recall(key: str) -> bytes | None:
    """The blob that was kept under a key, exactly as it was; None where there is none to be trusted.

    key: hexadecimal digits that tell apart whatever a blob depends on.
    """
    folder = user_cache("openvino")
    if folder is None:
        return None
    path = folder / f"{key}.blob"
    try:
        if not _private(folder.lstat()):
            return None
        with path.open("rb") as file:
            if not _private(os.fstat(file.fileno())):
                return None
            seal, blob = file.read(hashlib.sha256().digest_size), file.read()
    except OSError:  # not there, or not ours to read
        return None
    if seal != _seal(key, blob):
        return None
    with contextlib.suppress(OSError):  # a folder that cannot be written still serves
        os.utime(path)  # the ones used last are kept
    return blob


def keep(key: str, blob: bytes) -> None:
    """Keep a blob for recall(), in place of the one that was used longest ago where there are many."""
    folder = user_cache("openvino")
    if folder is None:
        return
    with contextlib.suppress(OSError):  # no room, or no right to write: the next start compiles again
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _private(folder.lstat()):
            return
        with atomic_write(folder / f"{key}.blob") as file:
            file.write(_seal(key, blob))
            file.write(blob)
        # Whatever a killed process left unfinished grows old and goes too.
        for old in sorted(folder.iterdir(), key=_last_used)[:-KEPT]:
            old.unlink(missing_ok=True)


def _private(status: os.stat_result) -> bool:
    """Whether a file or folder is this user's, and nobody else may change it: a blob is like a program."""
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        return False
    if not hasattr(os, "geteuid"):  # Windows keeps others out of a user's profile by itself
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _seal(key: str, blob: bytes) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(blob)
    return digest.digest()


def _last_used(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:  # another process has just removed it
        return 0.0
