"""What an interrupted collection has counted so far, in a file from which it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from gaitedge.calibration.observers import Histogram
from gaitedge.files import atomic_write, sha256

__all__ = ["ProgressFile"]


class ProgressFile:
    """A line with the SHA-256 of the rest, and the rest as JSON.

    path: may not exist. key: a fingerprint of everything on which the counts depend; what was counted under
    another is not taken.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = Path(path), key

    def read(self) -> tuple[int, dict[str, Histogram]]:
        """How many sequences are done, and what was counted, tensor by tensor; nothing where the file is not
        there, damaged or of another collection."""
        try:
            digest, _, body = self._path.read_bytes().partition(b"\n")
        except OSError:  # nothing is lost but time; if the file cannot be written either, that is an error
            return 0, {}
        if digest != sha256(body).encode():
            return 0, {}
        values = json.loads(body)  # as written, for its fingerprint is right
        if values["key"] != self._key:
            return 0, {}
        counted = {}
        for tensor, (exponent, largest, counts) in values["counted"].items():
            histogram = counted[tensor] = Histogram()
            histogram.exponent, histogram.largest = exponent, largest
            histogram.counts = np.array(counts, np.int64)
        return values["done"], counted

    def write(self, done: int, counted: dict[str, Histogram]) -> None:
        """Replace the file, whole or not at all."""
        entries = {
            tensor: (histogram.exponent, histogram.largest, histogram.counts.tolist())
            for tensor, histogram in counted.items()
        }
        body = json.dumps({"key": self._key, "done": done, "counted": entries}).encode()
        with atomic_write(self._path) as file:
            file.write(sha256(body).encode() + b"\n" + body)
