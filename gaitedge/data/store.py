"""A store: every aligned silhouette of a data set in one memory-mapped file, and an index.

    STORE/frames.npy    uint8 [frames, 64, 44], a plain NumPy file; sequences one after another
    STORE/index.jsonl   a line a sequence: what it is, where it starts, what preparation dropped
    STORE/store.json    the version, whether it is finished, what it was made from

A line of the index is written only after its frames are on the disk. A writer that was killed at
any moment therefore reopens the store, cuts away what no line speaks of, and goes on.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.data.silhouettes import Silhouettes, check_silhouettes
from gaitedge.data.store_format import (
    ABOUT,
    FRAME_BYTES,
    FRAMES,
    HEADER_BYTES,
    INDEX,
    Sequence,
    check_free,
    header,
    is_store,
    make_row,
    map_frames,
    read_about,
    read_index,
    row_sequence,
    write_about,
    write_all,
)
from gaitedge.errors import StoreError

if sys.platform != "win32":
    import fcntl

__all__ = ["Sequence", "Store", "StoreWriter", "is_store"]

_SYNC_BYTES, _SYNC_SECONDS = 32 << 20, 2.0  # at most this much work is done again after a kill
_NAME = re.compile(r"[\w.-]+")  # nothing that has a meaning in "STORE:007/nm-01/090"


class Store:
    """A finished store, opened for reading.

    path: its folder. `frames` is the memory-mapped uint8 array [frames, 64, 44], `sequences` says
    what lies where in it; store[i] is the silhouettes of sequence i, [length, 64, 44], read-only
    and not copied. Pickles as its path alone: a worker opens it anew.
    Raises StoreError where there is no store, or one that is unfinished, damaged or of another
    version.
    """

    frames: NDArray[np.uint8]
    sequences: list[Sequence]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        about = read_about(self.path)
        if about is None:
            raise StoreError(f"no store at {self.path}: make one with gaitedge prepare or gaitedge synth")
        if not about["finished"]:
            raise StoreError(
                f"the store {self.path} is unfinished: run the command that was writing it once more, "
                "it goes on where it stopped"
            )
        rows, _ = read_index(self.path)
        self.sequences = [row_sequence(row) for row in rows if row["length"]]
        self.frames = map_frames(self.path)
        end = rows[-1]["start"] + rows[-1]["length"] if rows else 0
        found = {"sequences": len(self.sequences), "frames": len(self.frames)}
        expected = {key: about.get(key) for key in found}
        if found != expected or end != len(self.frames):
            raise StoreError(
                f"the store {self.path} is damaged: {found['frames']} frames and an index of "
                f"{found['sequences']} sequences over {end} frames, should be {expected['frames']} frames "
                f"and {expected['sequences']} sequences; delete it and prepare it again"
            )
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, number: int) -> Silhouettes:
        sequence = self.sequences[number]
        return np.asarray(self.frames[sequence.start : sequence.start + sequence.length])

    def __iter__(self) -> Iterator[Silhouettes]:
        return (self[number] for number in range(len(self)))

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return Store, (self.path,)

    def find(self, name: str) -> int:
        """The number of the sequence of this name, "007/nm-01/090". Raises StoreError."""
        if not self._numbers:
            self._numbers = {sequence.name: number for number, sequence in enumerate(self.sequences)}
        if name not in self._numbers:
            subject = name.partition("/")[0]
            near = [sequence.name for sequence in self.sequences if sequence.subject == subject]
            near = near or [self.sequences[0].name, self.sequences[-1].name]
            raise StoreError(
                f"no sequence {name!r} in the store {self.path}; it holds, for example, "
                f"{' and '.join(dict.fromkeys((near[0], near[-1])))}"
            )
        return self._numbers[name]

    def select(
        self,
        subjects: Collection[str] | None = None,
        conditions: Collection[str] | None = None,
        views: Collection[str] | None = None,
    ) -> list[int]:
        """The numbers of the sequences that match all that is given, in order; None matches any.

        A condition is matched whole, "nm-01", or by what stands before its hyphen, "nm".
        """
        return [
            number
            for number, sequence in enumerate(self.sequences)
            if (subjects is None or sequence.subject in subjects)
            and (views is None or sequence.view in views)
            and (
                conditions is None
                or sequence.condition in conditions
                or sequence.condition.partition("-")[0] in conditions
            )
        ]


class StoreWriter:
    """Writes a store, or goes on with one that was interrupted.

    path: a folder that does not exist, is empty, or holds an unfinished store. source: what the
    store is made from; an interrupted store goes on only with the same one. Use it in a `with`
    statement: leaving that without an exception finishes the store; with one, what was appended
    stays and the next writer goes on from there.
    Raises StoreError where the folder holds something else, a finished store or one that another
    process is writing, or where nothing was appended at all: then it is gone again.
    """

    def __init__(self, path: str | Path, source: str = "") -> None:
        self.path = Path(path)
        self._source = source
        if self.path.exists() and not is_store(self.path):
            check_free(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / FRAMES).touch()
        self._index = (self.path / INDEX).open("a+b", buffering=0)
        self._frames = (self.path / FRAMES).open("r+b", buffering=0)
        try:
            self._lock()
            self._resume()
        except BaseException:
            self._close()
            raise

    @property
    def names(self) -> set[str]:
        """Names of the sequences that are done, dropped ones among them."""
        return {*self._lengths}

    @property
    def frames(self) -> int:
        """How many frames it holds so far."""
        return self._end

    @property
    def dropped_frames(self) -> dict[str, dict[str, str]]:
        """Sequence -> frame -> why it was dropped."""
        return {name: dict(dropped) for name, dropped in self._dropped.items()}

    @property
    def dropped_sequences(self) -> dict[str, str]:
        """Sequence -> why it was dropped."""
        return dict(self._reasons)

    def append(
        self,
        subject: str,
        condition: str,
        view: str,
        silhouettes: NDArray[np.uint8],
        dropped: Mapping[str, str] | None = None,
    ) -> None:
        """Append one sequence, [frames, 64, 44] or [frames, 64, 64].

        dropped: frames that were left out, each with its reason. Raises StoreError where the store
        has the sequence already or its name cannot be used, SilhouetteError on a wrong array.
        """
        frames = check_silhouettes(silhouettes)
        sequence = Sequence(subject, condition, view, self._end, len(frames))
        self._check_new(sequence)
        self._write_frames(frames.data.cast("B"), HEADER_BYTES + self._end * FRAME_BYTES)
        self._add(make_row(sequence, dropped))

    def drop(
        self, subject: str, condition: str, view: str, reason: str, dropped: Mapping[str, str] | None = None
    ) -> None:
        """Note that a sequence was left out, and why, so that it is not tried again."""
        sequence = Sequence(subject, condition, view, self._end, 0)
        self._check_new(sequence)
        self._add(make_row(sequence, dropped, reason))

    def abandon(self) -> None:
        """Delete what there is of the store, and its folder where nothing else is in it."""
        for name in (INDEX, FRAMES, ABOUT):  # while ABOUT is there the folder is known for a store
            (self.path / name).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            elif not issubclass(kind, OSError):  # a full disk would only raise again
                self._sync()
        finally:
            self._close()

    def _lock(self) -> None:
        if sys.platform != "win32":
            try:
                fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"another process is writing the store {self.path}") from None

    def _resume(self) -> None:
        """Take up what is there and cut away what the index does not speak of."""
        about = read_about(self.path)
        if about is None:
            about = {"finished": False, "source": self._source}
            write_about(self.path, about)
        if about["finished"]:
            raise StoreError(f"the store {self.path} is finished: choose another folder, or delete it first")
        if about.get("source", "") != self._source:
            raise StoreError(
                f"the unfinished store {self.path} was begun from {about.get('source')!r}, not from "
                f"{self._source!r}: finish it from there, or delete it first"
            )
        rows, good = read_index(self.path, whole=False)
        self._lengths: dict[str, int] = {}
        self._dropped: dict[str, dict[str, str]] = {}
        self._reasons: dict[str, str] = {}
        for row in rows:
            self._note(row)
        self._end = sum(self._lengths.values())
        self._pending: list[bytes] = []
        self._synced, self._unsynced = time.monotonic(), 0
        end = HEADER_BYTES + self._end * FRAME_BYTES
        if rows and (self.path / FRAMES).stat().st_size < end:
            raise StoreError(
                f"the store {self.path} is damaged: {FRAMES} is shorter than its index says; "
                "delete it and prepare it again"
            )
        self._index.truncate(good)
        self._frames.truncate(end)
        self._write_frames(memoryview(header(0)), 0)

    def _check_new(self, sequence: Sequence) -> None:
        for part in (sequence.subject, sequence.condition, sequence.view):
            if not _NAME.fullmatch(part):
                raise StoreError(f"{part!r} cannot be in a sequence's name: use letters, digits and .-_")
        if sequence.name in self._lengths:
            raise StoreError(f"the store {self.path} has a sequence {sequence.name} already")

    def _note(self, row: dict[str, Any]) -> None:
        name = row_sequence(row).name
        self._lengths[name] = row["length"]
        if "dropped" in row:
            self._dropped[name] = row["dropped"]
        if "reason" in row:
            self._reasons[name] = row["reason"]

    def _add(self, row: dict[str, Any]) -> None:
        self._pending.append(json.dumps(row).encode() + b"\n")
        self._end += row["length"]
        self._note(row)
        self._unsynced += row["length"] * FRAME_BYTES
        if self._unsynced >= _SYNC_BYTES or time.monotonic() - self._synced >= _SYNC_SECONDS:
            self._sync()

    def _write_frames(self, data: memoryview, offset: int) -> None:
        self._frames.seek(offset)
        write_all(self._frames, data)

    def _sync(self) -> None:
        """Frames to the disk first, then the lines that speak of them."""
        if self._pending:
            os.fsync(self._frames.fileno())
            lines, self._pending = b"".join(self._pending), []  # first: never written twice, Ctrl-C or not
            write_all(self._index, memoryview(lines))
            os.fsync(self._index.fileno())
        self._synced, self._unsynced = time.monotonic(), 0

    def _finish(self) -> None:
        self._sync()
        if not self._end:
            self.abandon()
            raise StoreError(f"nothing to store: no sequence was appended to {self.path}")
        self._write_frames(memoryview(header(self._end)), 0)
        os.fsync(self._frames.fileno())
        sequences = sum(1 for length in self._lengths.values() if length)
        write_about(
            self.path, {"finished": True, "source": self._source, "sequences": sequences, "frames": self._end}
        )

    def _close(self) -> None:
        self._index.close()  # and with it the lock
        self._frames.close()
