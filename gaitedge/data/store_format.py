"""The files of a store: what store.json, index.jsonl and frames.npy hold, read and checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT, WIDTH
from gaitedge.errors import StoreError
from gaitedge.files import atomic_write, naming

ABOUT, FRAMES, INDEX = "store.json", "frames.npy", "index.jsonl"
FRAME_BYTES = HEIGHT * WIDTH
HEADER_BYTES = 128

_FORMAT, _VERSION = "gaitedge-store", 1


@dataclass(frozen=True, slots=True)
class Sequence:
    """Where in a store one walk of one subject lies."""

    subject: str
    condition: str  # "nm-01"; of OU-MVLP the recording, "00" or "01"
    view: str  # degrees in three digits, "090"
    start: int  # of its first frame in Store.frames
    length: int  # in frames

    @property
    def name(self) -> str:
        """Such as "007/nm-01/090"."""
        return f"{self.subject}/{self.condition}/{self.view}"


def is_store(path: str | Path) -> bool:
    """Whether the folder holds a store, finished or not."""
    return (Path(path) / ABOUT).is_file()


def row_sequence(row: dict[str, Any]) -> Sequence:
    """The sequence of which a line of the index speaks."""
    return Sequence(row["subject"], row["condition"], row["view"], row["start"], row["length"])


def make_row(sequence: Sequence, dropped: Mapping[str, str] | None, reason: str = "") -> dict[str, Any]:
    """What a line of the index says; a dropped sequence has length 0 and a reason."""
    row: dict[str, Any] = dataclasses.asdict(sequence)
    if dropped:
        row["dropped"] = dict(dropped)
    if reason:
        row["reason"] = reason
    return row


def read_about(path: Path) -> dict[str, Any] | None:
    """What store.json says, None where there is none."""
    if not is_store(path):
        return None
    try:
        about: Any = json.loads((path / ABOUT).read_bytes())
    except ValueError as error:
        raise StoreError(f"{path / ABOUT} is not readable: {error}") from None
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise StoreError(f"{path / ABOUT} does not speak of a GaitEdge store")
    if about.get("version") != _VERSION:
        raise StoreError(
            f"the store {path} is of version {about.get('version')}, this GaitEdge reads version {_VERSION}: "
            "prepare it again"
        )
    if not isinstance(about.get("finished"), bool):
        raise StoreError(f"{path / ABOUT} does not say whether the store is finished: prepare it again")
    return about


def write_about(path: Path, about: dict[str, Any]) -> None:
    """Write store.json, whole or not at all."""
    text = json.dumps({"format": _FORMAT, "version": _VERSION, **about}, indent=1)
    with atomic_write(path / ABOUT) as file:
        file.write(text.encode() + b"\n")


def read_index(path: Path, *, whole: bool = True) -> tuple[list[dict[str, Any]], int]:
    """The lines of the index, and how many bytes they take.

    whole: every line must be readable. Otherwise the reading ends before the first that is not:
    the last ones that a killed writer wrote, or a power cut left half.
    """
    try:
        data = (path / INDEX).read_bytes()
    except FileNotFoundError:
        raise StoreError(f"the store {path} is damaged: {INDEX} is missing; prepare it again") from None
    lines = data.splitlines(keepends=True)
    if whole:
        try:
            rows: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")
        except (ValueError, RecursionError) as error:
            raise StoreError(f"the store {path} is damaged: {INDEX} is not readable: {error}") from None
        good = len(data)
    else:
        rows, good = [], 0
        for line in lines:
            row = _whole_row(line)
            if row is None:
                break
            rows.append(row)
            good += len(line)
    end, names = 0, set()
    for number, row in enumerate(rows, start=1):
        if not _is_row(row) or row["start"] != end:
            raise StoreError(f"the store {path} is damaged: line {number} of {INDEX} does not fit its place")
        end += row["length"]
        names.add((row["subject"], row["condition"], row["view"]))
    if len(names) != len(rows):
        raise StoreError(f"the store {path} is damaged: {INDEX} names a sequence twice")
    return rows, good


def _whole_row(line: bytes) -> Any:
    """The value of one line of the index, None where the line is cut off or torn."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) for key in ("subject", "condition", "view"))
        and all(isinstance(row.get(key), int) and row[key] >= 0 for key in ("start", "length"))
        and isinstance(row.get("dropped", {}), dict)
        and isinstance(row.get("reason", ""), str)
    )


def map_frames(path: Path) -> NDArray[np.uint8]:
    """frames.npy, memory-mapped, read-only."""
    try:
        frames: NDArray[np.uint8] = np.lib.format.open_memmap(path / FRAMES, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"the store {path} is damaged: {FRAMES} is not readable: {error}") from None
    if frames.dtype != np.uint8 or frames.shape[1:] != (HEIGHT, WIDTH) or not frames.flags.c_contiguous:
        raise StoreError(
            f"the store {path} is damaged: {FRAMES} is {frames.dtype}{list(frames.shape)}, "
            f"should be uint8[frames, {HEIGHT}, {WIDTH}]"
        )
    return frames


def header(frames: int) -> bytes:
    """The header of a NumPy file of format 1.0, always of one length, so that it can be rewritten."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({frames}, {HEIGHT}, {WIDTH}), }}"
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return start + text.ljust(HEADER_BYTES - 11).encode() + b"\n"


def write_all(file: BinaryIO, data: memoryview) -> None:
    """Write all of it: an unbuffered file may take less at a time."""
    with naming(file.name):
        while data:
            data = data[file.write(data) :]


def check_free(path: Path) -> None:
    """Raise StoreError unless a new store may be made at `path`."""
    if not path.is_dir():
        raise StoreError(f"{path} is a file: a store is a folder")
    for entry in path.iterdir():
        begun = entry.name in (FRAMES, INDEX) and not entry.stat().st_size  # killed before it wrote ABOUT
        if not begun and not entry.name.startswith("."):
            raise StoreError(f"{path} is not empty and holds no store: choose another folder")
