"""Data that cannot be made, prepared or used costs one clear line, exit 1, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bad_walks import (
    all_black,
    colours,
    cut_store,
    empty_folder,
    float_pickle,
    mixed_sizes,
    newer_store,
    no_image,
    one_frame,
    program,
    rgb_pickle,
    store_without_index,
    text_called_png,
    truncated_png,
    unfinished_store,
    write_walk,
    zeros_and_ones,
)
from commands import Refused, succeed


def data_set(here: Path, make: Callable[[Path, Path], object] | None = None) -> Path:
    """CASIA-B's layout with one walk of 20 frames in it, or with what `make` makes in its place."""
    folder = here / "raw" / "001" / "nm-01"
    folder.mkdir(parents=True)
    if make is None:
        write_walk(folder / "090")
    else:
        Path(str(make(folder, here))).rename(folder / "090")
    return here / "raw"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("make", "needles"),
    [
        (empty_folder, ("no sequence in", "001/nm-01/090", "holds no frame")),
        (no_image, ("notes.txt", "expected ID/COND/VIEW/*.png")),
        (all_black, ("no sequence in", "20 empty")),
        (mixed_sizes, ("no sequence in", "007.png", "must be of one size")),
        (zeros_and_ones, ("no sequence in", "multiply by 255")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_data_of_which_nothing_can_be_prepared(
    make: Callable[[Path, Path], object],
    needles: tuple[str, ...],
    workers: int,
    tmp_path: Path,
    refused: Refused,
) -> None:
    raw = data_set(tmp_path, make)
    refused(["prepare", raw, tmp_path / "store", "--workers", workers], *needles)
    refused(["prepare", raw, tmp_path / "store", "--workers", workers, "--json"], *needles)


@pytest.mark.parametrize(
    ("make", "needle"),
    [(float_pickle, "float32[20, 64, 44]"), (rgb_pickle, "uint8[20, 64, 44, 3]"), (program, "refused")],
)
def test_pickles_of_which_none_can_be_prepared(
    make: Callable[[Path, Path], object], needle: str, tmp_path: Path, refused: Refused
) -> None:
    folder = tmp_path / "raw" / "001" / "nm-01" / "090"
    folder.mkdir(parents=True)
    make(folder, tmp_path)
    arguments = ["prepare", tmp_path / "raw", tmp_path / "store", "--layout", "opengait"]
    refused(arguments, "no sequence in", "001/nm-01/090", needle)


@pytest.mark.parametrize(
    ("make", "left", "reason"),
    [
        (text_called_png, 19, "not a PNG file"),
        (truncated_png, 19, "truncated"),
        (colours, 19, "has colours"),
        (one_frame, 1, ""),
    ],
)
def test_a_damaged_frame_costs_that_frame_and_is_reported(
    make: Callable[[Path, Path], object], left: int, reason: str, tmp_path: Path
) -> None:
    done = succeed("prepare", data_set(tmp_path, make), tmp_path / "store", "--json").json
    assert (done["sequences"], done["frames"]) == (1, left)
    reasons = [reason for frames in done["dropped_frames"].values() for reason in frames.values()]
    assert len(reasons) == (1 if reason else 0)
    assert all(reason in text for text in reasons)


def test_a_store_that_cannot_be_made(raw: Path, store: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").write_text("a store")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("a walk")
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "frames.npy", np.arange(10))
    shutil.copytree(store, tmp_path / "store")
    shutil.copytree(store, tmp_path / "begun")
    about = (tmp_path / "begun" / "store.json").read_text()
    (tmp_path / "begun" / "store.json").write_text(
        about.replace("true", "false").replace("casia-b", "oumvlp")
    )
    synth = ["--subjects", "1", "--views", "090", "--conditions", "nm-01"]
    for command, more in ((["prepare", raw], []), (["synth"], [*synth, "--store"])):
        for name, needle in (
            ("file", "is a file"),
            ("other", "not empty"),
            ("arrays", "not empty"),
            ("store", "is finished"),
            ("begun", "was begun from"),
        ):
            refused([*command, tmp_path / name, *more], name, needle)
    refused(["prepare", raw, raw / "store"], "inside the raw data")
    refused(["prepare", tmp_path / "none", tmp_path / "new"], "no folder at")
    refused(["prepare", tmp_path / "arrays", tmp_path / "new"], "is not of the layout casia-b", "frames.npy")
    refused(["prepare", tmp_path / "file", tmp_path / "new"], "file")
    refused(["prepare", raw, tmp_path / "file" / "store"], "file")


def test_walkers_that_cannot_be_drawn(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").write_text("walkers")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("a walk")
    few = ["--subjects", "1", "--views", "090", "--conditions", "nm-01"]
    succeed("synth", tmp_path / "walkers", *few)
    for name, more, needle in (
        ("file", few, "is a file"),
        ("other", few, "not empty"),
        ("walkers", [*few, "--seed", "2"], "walkers of seed 0, not of seed 2"),
        ("new", ["--views", "091"], "unknown view '091'"),
        ("new", ["--views", ""], "unknown view ''"),
        ("new", ["--conditions", "nm-99"], "unknown condition 'nm-99'"),
        ("new", ["--seed", "-1"], "seed must be 0 or more"),
        ("file/walkers", few, "file"),
    ):
        refused(["synth", tmp_path / name, *more], needle)
        refused(["synth", tmp_path / name, *more, "--json"], needle)


# Training and evaluation


def test_training_refuses_a_damaged_store(store: Path, tmp_path: Path, refused: Refused) -> None:
    out = tmp_path / "run"
    refused(["train", tmp_path / "none", out], "no store at")
    for make in (unfinished_store, newer_store, store_without_index, cut_store):
        bad = make(tmp_path, store)
        refused(["train", bad, out], "walks")
        shutil.rmtree(str(bad))


def test_an_evaluation_that_cannot_be(bundle: Path, store: Path, tmp_path: Path, refused: Refused) -> None:
    refused(["eval", bundle, tmp_path / "none"], "no store at")
    refused(["eval", bundle, store, "--views", "018"], "no sequence at the views 018")
    refused(["eval", bundle, store, "--views", "090"], "only view 090", "needs 2")
    for make in (unfinished_store, newer_store, store_without_index, cut_store):
        bad = make(tmp_path, store)
        refused(["eval", bundle, bad], "walks")
        shutil.rmtree(str(bad))


def test_a_demonstration_goes_into_a_folder_of_its_own(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").write_text("a demonstration")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("a walk")
    refused(["demo", "--out", tmp_path / "file"], "file is not a folder", "--out")
    refused(["demo", "--out", tmp_path / "other"], "other holds other things (notes.txt)", "--out")
