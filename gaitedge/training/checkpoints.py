"""Checkpoints: everything that a training needs to go on exactly where it stopped.

    RUN/checkpoints/00001000.pt     weights, Adam's moments and the iteration, for torch.load

A checkpoint takes its name when it is whole and on the disk; a kill at any moment leaves the one before.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gaitedge.errors import InputError, WeightsError
from gaitedge.files import atomic_write
from gaitedge.torch_file import read_torch_file

__all__ = ["newest", "read_checkpoint", "write_checkpoint"]

_NAME = re.compile(r"(\d{8})\.pt")
_FORMAT = 1


def write_checkpoint(folder: Path, iteration: int, state: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint, then delete the oldest beyond `keep` and what a kill left unfinished.

    state: state dicts of modules and optimisers, as torch.load with weights_only reads them back.
    """
    import torch

    folder.mkdir(exist_ok=True)
    path = folder / f"{iteration:08d}.pt"
    with atomic_write(path) as file:
        try:
            torch.save({"format": _FORMAT, "iteration": iteration, **state}, file)
        except RuntimeError as error:  # PyTorch's own, over a full disk's or Ctrl-C
            if error.__context__ is not None:
                raise error.__context__ from None
            raise
    for old in _all(folder)[:-keep]:
        old.unlink()
    for leftover in folder.glob(".*.pt.*.part"):
        leftover.unlink()
    return path


def newest(folder: Path) -> Path | None:
    """The last checkpoint of a run, or None where it has none yet."""
    every = _all(folder)
    return every[-1] if every else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What write_checkpoint was given, and the iteration. Raises InputError where it is damaged."""
    try:
        state = read_torch_file(path)
    except WeightsError:
        state = None
    name = _NAME.fullmatch(path.name)
    good = isinstance(state, dict) and state.get("format") == _FORMAT
    if not good or (name and state.get("iteration") != int(name[1])):
        raise InputError(
            f"the checkpoint {path} is damaged, or of another version; delete it to go on from the one before"
        )
    return dict(state)


def _all(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
