"""A run's folder: whose training it holds, so that only the same one goes on there.

RUN/run.json              the network, the recipe, the subjects and the data
RUN/weights.safetensors   the newest weights
RUN/calibration.json      of these weights, where they are fine-tuned for INT8
RUN/checkpoints/, RUN/log.jsonl, RUN/events.out.*
RUN/stopped.json          where it went wrong, until it goes on
RUN/.lock                 held by the process that trains there
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gaitedge import __version__
from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import InputError
from gaitedge.files import atomic_write, sha256
from gaitedge.training.presets import Recipe

if sys.platform != "win32":
    import fcntl

__all__ = ["ABOUT", "CALIBRATION", "CHECKPOINTS", "STOPPED", "WEIGHTS", "describe", "open_run", "read_about"]

ABOUT, WEIGHTS, CHECKPOINTS, STOPPED = "run.json", "weights.safetensors", "checkpoints", "stopped.json"
CALIBRATION = "calibration.json"
_LOCK = ".lock"  # a file that is never replaced: who holds a replaced one holds nothing
_FREE = {"gaitedge", "iterations"}  # may differ from one start to the next
_REMEDIES = {"learning_rate", "clip", "precision"}  # may differ after a training that went wrong


def describe(config: GaitPartConfig, recipe: Recipe, store: Store, subjects: Iterable[str]) -> dict[str, Any]:
    """What decides the weights of a training: as JSON, flat but for the network."""
    about: dict[str, Any] = {"gaitedge": __version__, "network": json.loads(config.to_json())}
    about |= json.loads(json.dumps(dataclasses.asdict(recipe)))
    about["trained_on"] = sorted(subjects)
    parts = [(store.path / name).read_bytes() for name in ("store.json", "index.jsonl")]
    about["data"] = sha256(b"".join(parts))  # what it was made from, and what lies where in it
    return about


@contextlib.contextmanager
def open_run(run: Path, about: dict[str, Any]) -> Iterator[None]:
    """Make a run's folder, or go on in it, alone among processes.

    about: as describe gives it. Raises InputError where the folder holds another training or
    something else, or where another process is training there.
    """
    if run.exists() and not run.is_dir():
        raise InputError(f"{run} is a file: name a folder for the training, as in runs/gait")
    _check(run, about)
    run.mkdir(parents=True, exist_ok=True)
    with (run / _LOCK).open("ab") as lock:
        if sys.platform != "win32":
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"another process is training in {run}") from None
        if _check(run, about) != about:  # once more: another one may have been here before the lock
            with atomic_write(run / ABOUT) as file:
                file.write(json.dumps(about, indent=2).encode() + b"\n")
        (run / STOPPED).unlink(missing_ok=True)
        (run / CHECKPOINTS).mkdir(exist_ok=True)
        for leftover in filter(_unfinished, run.iterdir()):
            leftover.unlink(missing_ok=True)
        yield


def read_about(run: Path) -> dict[str, Any] | None:
    """What describe said of the training in a folder; None where it holds none. Raises InputError."""
    path = run / ABOUT
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_bytes())
        if isinstance(about, dict) and "network" in about:
            return about
    except ValueError:
        pass
    raise InputError(f"{path} is damaged: choose another folder for the training")


def _check(run: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """What read_about says. Raises InputError where this training cannot be in the folder."""
    before = read_about(run)
    if before is not None:
        _compare(run, before, about)
    elif run.is_dir() and any(path.name != _LOCK and not _unfinished(path) for path in run.iterdir()):
        raise InputError(f"{run} is not empty and holds no training: choose another folder")
    return before


def _unfinished(path: Path) -> bool:
    """Whether a kill in the middle of a write left this."""
    return path.name.startswith(".") and path.name.endswith(".part")


def _compare(run: Path, before: dict[str, Any], about: dict[str, Any]) -> None:
    free = _FREE if about["schedule"] == "constant" else _FREE - {"iterations"}
    free = free | _REMEDIES if (run / STOPPED).exists() else free
    short = {"trained_on": "other subjects", "data": "another store", "network": "another network"}
    short |= {"started_from": "other first weights", "calibration": "another calibration or none"}
    keys = about.keys() | before.keys()
    # What says most comes first; the number of iterations is the schedule's matter.
    for key in sorted(keys, key=lambda key: (key == "iterations", key not in short, key)):
        old, new = before.get(key), about.get(key)
        if key in free or old == new:
            continue
        what = short.get(key) or f"{key} {old}, not {new}"
        raise InputError(
            f"{run} holds a training with {what}: give the same options and it goes on, or another folder"
        )
