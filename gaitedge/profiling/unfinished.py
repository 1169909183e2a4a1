"""What an interrupted sweep has measured so far, in a file from which it goes on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from gaitedge.errors import InputError
from gaitedge.files import naming, sha256, sync_folder

if sys.platform != "win32":
    import fcntl

__all__ = ["UnfinishedSweep", "remove_unfinished", "unfinished"]


def unfinished(out: Path) -> Path:
    """Where a sweep that is to become the profile `out` keeps what it has measured."""
    return out.with_name(f".{out.name}.unfinished")


def remove_unfinished(out: Path) -> None:
    """Remove what a sweep kept beside `out`, which is written; not where another one is at work on it."""
    path = unfinished(out)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        if _lock(descriptor):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


class UnfinishedSweep:
    """Lines of JSON, each after the SHA-256 of it; the first says which sweep it is. A context, which lets
    go of the file.

    path: may not exist. key: a fingerprint of everything on which the figures depend; what was measured under
    another is not taken. A line is on the disk before the next thing is measured. What a kill left of a
    last line is cut off. Making it, and add(), raise InputError where another process is at work on it.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = Path(path), key
        self.replaced = False
        """Whether another sweep's file is there, which the first line replaces."""
        self._whole = 0  # bytes
        self._descriptor: int | None = None
        self._entries = self._read()

    def __enter__(self) -> UnfinishedSweep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def entries(self) -> list[Any]:
        """What was measured, in its order."""
        return list(self._entries)

    def add(self, entry: Any) -> None:
        """Keep something that JSON can hold."""
        first = not self._whole
        lines = b"".join([_line({"sweep": self._key}), _line(entry)] if first else [_line(entry)])
        descriptor = self._hold(os.O_CREAT) if self._descriptor is None else self._descriptor
        try:
            with naming(self._path):
                os.ftruncate(descriptor, self._whole)
                os.lseek(descriptor, self._whole, os.SEEK_SET)
                _write(descriptor, lines)
                os.fsync(descriptor)
        except OSError:
            if first:
                self.close()
                self._path.unlink(missing_ok=True)  # else a full disk would keep a file of nothing
            raise
        if first:
            sync_folder(self._path.parent)
        self._whole += len(lines)
        self._entries.append(entry)

    def _hold(self, flags: int = 0) -> int:
        self._descriptor = os.open(self._path, os.O_RDWR | flags | getattr(os, "O_BINARY", 0), 0o666)
        if not _lock(self._descriptor):
            self.close()
            raise InputError(
                f"another process is at work on the same profile and keeps {self._path}: wait until it "
                "is done, or write another file"
            )
        return self._descriptor

    def _read(self) -> list[Any]:
        try:
            self._hold()
            data = self._path.read_bytes()
        except OSError:  # nothing is lost but time; if the file cannot be written either, that is an error
            return []
        found, whole = [], 0
        for line in data.splitlines(keepends=True):
            digest, _, text = line.partition(b" ")
            if not line.endswith(b"\n") or digest != sha256(text[:-1]).encode():
                break
            found.append(json.loads(text))  # as written, for its fingerprint is right
            whole += len(line)
        if not found or found[0] != {"sweep": self._key}:
            self.replaced = bool(data)
            return []
        self._whole = whole
        return found[1:]


def _lock(descriptor: int) -> bool:
    """Whether no other process has the file; where there are no locks, none has."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # some network drives have no locks
            pass
    return True


def _write(descriptor: int, data: bytes) -> None:
    """All of it, where the system takes it bit by bit."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _line(value: Any) -> bytes:
    text = json.dumps(value, allow_nan=False).encode()
    return sha256(text).encode() + b" " + text + b"\n"
