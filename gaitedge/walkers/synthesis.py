"""Synthetic walkers to the disk: as PNG frames in CASIA-B's layout, or straight into a store.

    OUT/walkers.json                          what the walkers are drawn from
    OUT/001/nm-01/090/001-nm-01-090-001.png   1 bit a pixel, 320×240

A sequence's folder takes its name only once all its frames are in it. Whatever ends a run, the next
one removes what is unfinished and goes on.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError
from gaitedge.files import atomic_write, naming
from gaitedge.machine.cpu import usable_cores
from gaitedge.machine.workers import in_order
from gaitedge.walkers.drawing import CONDITIONS, GENERATOR, VIEWS, draw_sequence, draw_walker

if sys.platform != "win32":
    import fcntl

__all__ = ["Synthesis", "synthesise"]

_ABOUT = "walkers.json"
_FORMAT = "gaitedge-walkers"
_UNFINISHED = ".part"
_WORTH_A_WORKER = 24  # sequences: a process takes about as long to start


@dataclass(frozen=True)
class Synthesis:
    """What one run wrote."""

    sequences: int
    frames: int
    """In the images or, of a store, kept by the alignment."""
    skipped: int
    """Sequences that an earlier run had finished."""
    seconds: float


class _Task(NamedTuple):
    seed: int
    number: int
    condition: str
    view: str

    @property
    def subject(self) -> str:
        return f"{self.number:03d}"

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.condition}/{self.view}"

    def frame_name(self, index: int) -> str:
        """As CASIA-B names them, from 1."""
        return f"{self.subject}-{self.condition}-{self.view}-{index + 1:03d}.png"


def synthesise(
    out: str | Path,
    subjects: int = 8,
    first: int = 1,
    views: Sequence[str] = VIEWS,
    conditions: Sequence[str] = CONDITIONS,
    seed: int = 0,
    store: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Synthesis:
    """Draw synthetic walkers into the folder `out`, or go on where an interrupted run stopped.

    subjects: how many, numbered from `first`. store: write aligned silhouettes into a store, the
    same as `prepare` would make from the images; otherwise write images in CASIA-B's layout. A
    folder of images may be extended later by more subjects, views or conditions of the same seed.
    workers: processes, at most one a processor; None: as many as the work is worth. More than one
    asks of a script that it runs under `if __name__ == "__main__"`.
    progress: called with the number of sequences done and of all.

    Raises InputError for an unknown view or condition, for numbers that are too small, for a folder
    that holds something else or walkers of another seed or version, and where another process is
    writing to it; StoreError as StoreWriter does; MachineError where a worker is killed.
    """
    out = Path(out)
    tasks = _tasks(subjects, first, views, conditions, seed)
    if workers is not None and workers < 1:
        raise InputError(f"workers must be 1 or more, not {workers}")
    workers = min(usable_cores(), workers or max(1, len(tasks) // _WORTH_A_WORKER))
    begun = time.monotonic()
    done, frames, skipped = 0, 0, 0
    with contextlib.closing((_store if store else _images)(out, tasks, workers)) as written:
        for length in written:
            if length is None:
                skipped += 1
            else:
                done, frames = done + 1, frames + length
            if progress:
                progress(skipped + done, len(tasks))
    return Synthesis(done, frames, skipped, time.monotonic() - begun)


def _tasks(
    subjects: int, first: int, views: Sequence[str], conditions: Sequence[str], seed: int
) -> list[_Task]:
    """Every sequence that is asked for, in the order in which `prepare` would find them."""
    for name, number, least in (("subjects", subjects, 1), ("first", first, 1), ("seed", seed, 0)):
        if number < least:
            raise InputError(f"{name} must be {least} or more, not {number}")
    for chosen, known, name in ((views, VIEWS, "view"), (conditions, CONDITIONS, "condition")):
        if isinstance(chosen, str) or not chosen:
            raise InputError(f"at least one {name} must be given, as a list, not {chosen!r}")
        for value in chosen:
            if value not in known:
                raise InputError(f"unknown {name} {value!r}: choose from {', '.join(known)}")
    tasks = {
        _Task(seed, number, condition, view)
        for number in range(first, first + subjects)
        for condition in conditions
        for view in views
    }
    return sorted(tasks, key=lambda task: (task.subject, task.condition, task.view))


def _images(out: Path, tasks: list[_Task], workers: int) -> Generator[int | None, None, None]:
    """Write PNG files; yields the frames of each sequence, None where it was there."""
    with _claim(out, tasks[0].seed):
        for rest in out.glob(f"*/*/.*{_UNFINISHED}"):
            shutil.rmtree(rest)
        missing = [task for task in tasks if not (out / task.name).is_dir()]
        yield from [None] * (len(tasks) - len(missing))
        write = functools.partial(_write_images, out)
        with contextlib.closing(in_order(write, missing, workers)) as results:
            for _, frames in results:
                yield frames


def _store(out: Path, tasks: list[_Task], workers: int) -> Generator[int | None, None, None]:
    """Write a store; yields the frames of each sequence, None where it was there."""
    from gaitedge.data.store import StoreWriter

    with StoreWriter(out, _source(tasks)) as writer:
        missing = [task for task in tasks if task.name not in writer.names]
        yield from [None] * (len(tasks) - len(missing))
        with contextlib.closing(in_order(_align, missing, workers)) as results:
            for task, (silhouettes, dropped) in results:
                names = {task.frame_name(index): reason for index, reason in dropped.items()}
                writer.append(task.subject, task.condition, task.view, silhouettes, names)
                yield len(silhouettes)


def _source(tasks: list[_Task]) -> str:
    """What a store is made from: all that decides what is in it and in which order."""
    views, conditions = ({task[field] for task in tasks} for field in (3, 2))
    which = [
        "all" if chosen == set(known) else ",".join(sorted(map(str, chosen)))
        for chosen, known in ((views, VIEWS), (conditions, CONDITIONS))
    ]
    numbers = {task.number for task in tasks}
    return (
        f"synthetic walkers: generator {GENERATOR}, seed {tasks[0].seed}, "
        f"subjects {min(numbers)}-{max(numbers)}, views {which[0]}, conditions {which[1]}"
    )


@contextlib.contextmanager
def _claim(out: Path, seed: int) -> Iterator[None]:
    """Make sure that the folder is for these walkers, and for this process alone."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: synthetic walkers need a folder")
    out.mkdir(parents=True, exist_ok=True)
    path, about = out / _ABOUT, {"format": _FORMAT, "version": GENERATOR, "seed": seed}
    if not path.exists():
        if any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise InputError(f"{out} is not empty and holds no synthetic walkers: choose another folder")
        with atomic_write(path) as file:
            file.write(json.dumps(about).encode() + b"\n")
    with path.open("r+b") as file:
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"another process is writing synthetic walkers to {out}") from None
        try:
            found: Any = json.loads(file.read())
        except ValueError as error:
            raise InputError(f"{path} is not readable: {error}; choose another folder") from None
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise InputError(f"{path} does not speak of synthetic walkers: choose another folder")
        for key, what in (("version", "version {} of the generator"), ("seed", "seed {}")):
            if found.get(key) != about[key]:
                old, new = what.format(found.get(key)), what.format(about[key])
                raise InputError(f"{out} holds walkers of {old}, not of {new}: choose another folder")
        yield


def _draw(task: _Task) -> NDArray[np.uint8]:
    return draw_sequence(_walker(task.seed, task.number), task.condition, task.view)


_walker = functools.lru_cache(maxsize=4)(draw_walker)


def _align(task: _Task) -> tuple[NDArray[np.uint8], dict[int, str]]:
    from gaitedge.data.silhouettes import align_sequence

    return align_sequence(_draw(task))


def _write_images(out: Path, task: _Task) -> int:
    """Write one sequence's folder, whole or not at all; returns its frames."""
    from PIL import Image

    silhouettes = _draw(task)
    folder = out / task.name
    unfinished = folder.with_name(f".{folder.name}{_UNFINISHED}")
    try:
        with naming(folder, unfinished):
            unfinished.mkdir(parents=True)
            size = (silhouettes.shape[2], silhouettes.shape[1])
            for index, bits in enumerate(np.packbits(silhouettes, axis=2)):
                image = Image.frombytes("1", size, bits.tobytes())
                image.save(unfinished / task.frame_name(index), compress_level=1)
            unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return len(silhouettes)
