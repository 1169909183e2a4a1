"""What an interrupted sweep has measured so far, in a file from which it goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gaitedge.files import naming, sha256, sync_folder

__all__ = ["UnfinishedSweep", "unfinished"]


def unfinished(out: Path) -> Path:
    """Where a sweep that is to become the profile `out` keeps what it has measured."""
    return out.with_name(f".{out.name}.unfinished")


class UnfinishedSweep:
    """Lines of JSON, each after the SHA-256 of it; the first says which sweep it is.

    path: may not exist. key: a fingerprint of everything on which the figures depend; what was measured under
    another is not taken. A line is on the disk before the next thing is measured. What a kill left of a
    last line is cut off.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = Path(path), key
        self.replaced = False
        """Whether another sweep's file is there, which the first line replaces."""
        self._whole = 0  # bytes
        self._entries = self._read()

    @property
    def entries(self) -> list[Any]:
        """What was measured, in its order."""
        return list(self._entries)

    def add(self, entry: Any) -> None:
        """Keep something that JSON can hold."""
        lines = [_line(entry)] if self._whole else [_line({"sweep": self._key}), _line(entry)]
        with naming(self._path), self._path.open("r+b" if self._whole else "wb") as file:
            file.truncate(self._whole)
            file.seek(self._whole)
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        if not self._whole:
            sync_folder(self._path.parent)
        self._whole += sum(map(len, lines))
        self._entries.append(entry)

    def _read(self) -> list[Any]:
        try:
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


def _line(value: Any) -> bytes:
    text = json.dumps(value, allow_nan=False).encode()
    return sha256(text).encode() + b" " + text + b"\n"
