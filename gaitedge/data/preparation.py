"""Raw silhouettes of a whole data set -> an aligned store, on every core, and resumable."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gaitedge.data.layouts import RawSequence, find_sequences
from gaitedge.data.silhouettes import Silhouettes
from gaitedge.data.store import StoreWriter
from gaitedge.errors import InputError, SilhouetteError
from gaitedge.files import atomic_write
from gaitedge.machine.cpu import usable_cores
from gaitedge.machine.workers import in_order

__all__ = ["Preparation", "prepare"]

_Read: TypeAlias = "tuple[Silhouettes, dict[str, str]] | str"  # or why the sequence is dropped


@dataclass(frozen=True)
class Preparation:
    """What became of a data set; STORE/report.json holds the same."""

    sequences: int
    """Sequences in the store."""
    frames: int
    """Frames in the store."""
    dropped_frames: dict[str, dict[str, str]]
    """Sequence -> file, or frame -> why it was left out; of sequences in the store."""
    dropped_sequences: dict[str, str]
    """Sequence -> why no frame of it is in the store."""
    seconds: float
    """How long the last run took; not what an interrupted one took before it."""


def prepare(
    raw: str | Path,
    out: str | Path,
    layout: str = "casia-b",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Preparation:
    """Align every sequence of a data set into a new store.

    raw: a folder of the layout `layout`, a key of gaitedge.data.layouts.LAYOUTS. out: the store's
    folder. workers: processes, all cores if None; 1 stays in this process. With more, a script of
    your own must begin under `if __name__ == "__main__":`, because each of them imports it. progress
    is called with how many sequences are done and how many there are.

    The store is the same whatever the number of workers. Interrupted or killed at any moment, the
    same call goes on where it stopped. A damaged image costs that frame, a sequence without any
    usable frame is left out, and both are reported.
    Raises InputError where `raw` does not look like the layout or no sequence of it is usable,
    StoreError where `out` holds something else or a finished store, MachineError where a worker
    dies.
    """
    began = time.monotonic()
    raw, out = Path(raw), Path(out)
    if workers is not None and workers < 1:
        raise InputError(f"workers must be 1 or more, not {workers}")
    if out.resolve().is_relative_to(raw.resolve()):
        raise InputError(f"the store {out} would lie inside the raw data {raw}: choose another folder")
    sequences = find_sequences(raw, layout)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(StoreWriter(out, source=f"{layout} {raw.resolve()}"))
        done = writer.names
        todo = [sequence for sequence in sequences if sequence.name not in done]
        finished = len(sequences) - len(todo)
        if progress is not None:
            progress(finished, len(sequences))
        count = max(1, min(workers or usable_cores(), len(todo)))
        results = stack.enter_context(contextlib.closing(in_order(_read, todo, count)))
        for number, (sequence, result) in enumerate(results, start=finished + 1):
            where = sequence.subject, sequence.condition, sequence.view
            if isinstance(result, str):
                writer.drop(*where, result)
            else:
                writer.append(*where, *result)
            if progress is not None:
                progress(number, len(sequences))
        if not writer.frames:
            writer.abandon()
            name, reason = next(iter(writer.dropped_sequences.items()))
            raise InputError(f"no sequence in {raw} is usable; the first, {name}: {reason}")
        report = Preparation(
            sequences=len(writer.names) - len(writer.dropped_sequences),
            frames=writer.frames,
            dropped_frames=writer.dropped_frames,
            dropped_sequences=writer.dropped_sequences,
            seconds=time.monotonic() - began,
        )
        with atomic_write(out / "report.json") as file:
            file.write(json.dumps(dataclasses.asdict(report), indent=1).encode() + b"\n")
    return report


def _read(sequence: RawSequence) -> _Read:
    """In a worker: the sequence's silhouettes and dropped frames, or why there are none."""
    try:
        return sequence.read()
    except SilhouetteError as error:
        return str(error)
