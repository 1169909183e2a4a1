"""A walk that cannot be used costs one clear line, exit 1, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_walks import (
    a_file,
    all_black,
    black_pickle,
    colours,
    cut_pickle,
    cut_store,
    empty_folder,
    float_pickle,
    mixed_sizes,
    newer_store,
    no_image,
    no_such_store,
    no_such_walk,
    nothing,
    one_frame,
    program,
    rgb_pickle,
    store_without_index,
    text_called_png,
    truncated_png,
    unfinished_store,
    zeros_and_ones,
)
from commands import Refused, succeed

from gaitedge.bundle import Bundle
from gaitedge.engines import embed_all, load
from gaitedge.errors import SilhouetteError
from gaitedge.people.recognizer import Recognizer

# What is wrong with one walk, and the needles in its line.
WALKS: list[tuple[Callable[[Path, Path], object], tuple[str, ...]]] = [
    (nothing, ("nothing at", "give a folder of silhouette PNGs")),
    (empty_folder, ("no PNG file in", "it is empty")),
    (no_image, ("no PNG file in", "notes.txt")),
    (text_called_png, ("007.png", "not a PNG file")),
    (truncated_png, ("007.png", "truncated")),
    (one_frame, ("1 usable frames", "needs 15 or more")),
    (all_black, ("none of 20 frames shows a person", "20 empty")),
    (mixed_sizes, ("007.png", "160×130", "160×120", "must be of one size")),
    (colours, ("007.png", "has colours", "save it as")),
    (zeros_and_ones, ("0 and 1", "multiply")),
    (float_pickle, ("walk.pkl", "uint8", "float32[20, 64, 44]")),
    (rgb_pickle, ("walk.pkl", "uint8[20, 64, 44, 3]")),
    (black_pickle, ("walk.pkl", "black")),
    (cut_pickle, ("walk.pkl", "not a readable pickle")),
    (program, ("walk.pkl", "is refused", "only NumPy arrays are read")),
    (a_file, ("walk.mp4", "is no source of a walk")),
    (no_such_walk, ("001/nm-01/018", "it holds, for example, 001/nm-01/072")),
    (no_such_store, ("no store at", "walks")),
    (unfinished_store, ("unfinished", "once more")),
    (newer_store, ("of version 2", "prepare it again")),
    (store_without_index, ("index.jsonl is missing", "prepare it again")),
    (cut_store, ("frames.npy",)),
]


@pytest.mark.parametrize("command", ["enroll", "enroll anew", "identify"])
@pytest.mark.parametrize(("make", "needles"), WALKS, ids=[make.__name__ for make, _ in WALKS])
def test_a_walk_that_cannot_be_used(
    make: Callable[[Path, Path], object],
    needles: tuple[str, ...],
    command: str,
    bundle: Path,
    people: Path,
    store: Path,
    tmp_path: Path,
    refused: Refused,
) -> None:
    source = make(tmp_path, store)
    where = tmp_path / "new.db" if command == "enroll anew" else people
    more = ["--json"] if command == "identify" else ["--id", "Ada"]
    refused([command.removesuffix(" anew"), bundle, where, source, *more], *needles)


@pytest.mark.parametrize(
    ("options", "needles"),
    [
        ([], ("does not say who walks there", "--id")),
        (["--id", ""], ("name ''", "1 to 200 printable characters")),
        (["--id", " Ada"], ("' Ada'", "without a blank at either end")),
        (["--id", "Ada\nEve"], ("printable",)),
        (["--id", "Ada\x1b[31m"], ("printable",)),
        (["--id", "A" * 201], ("1 to 200",)),
        (["--id", "Ada", "--engine", "tensorflow"], ("unknown engine 'tensorflow'", "openvino, onnxruntime")),
        (["--id", "Ada", "--set-threshold"], ("a threshold needs 2 subjects or more",)),
    ],
)
def test_an_enrolment_that_cannot_be(
    options: list[str], needles: tuple[str, ...], bundle: Path, raw: Path, tmp_path: Path, refused: Refused
) -> None:
    """Neither is there a new gallery afterwards, nor anything new in an old one."""
    source = raw / "001" / "nm-01" / "090"
    refused(["enroll", bundle, tmp_path / "new.db", source, *options], *needles)
    succeed("enroll", bundle, tmp_path / "old.db", source, "--id", "Ada")
    refused(["enroll", bundle, tmp_path / "old.db", source, *options], *needles)


@pytest.mark.parametrize("threshold", ["-1", "nan", "inf"])
def test_a_threshold_that_cannot_be(
    threshold: str, bundle: Path, people: Path, store: Path, refused: Refused
) -> None:
    refused(["identify", bundle, people, store, "--threshold", threshold], "threshold", threshold)


# The Python interface


@pytest.mark.parametrize(
    ("walk", "message"),
    [
        (np.ones((20, 64, 44), np.float32), "uint8, 0 to 255, not float32"),
        (np.ones((20, 64, 44)), "uint8, 0 to 255, not float64"),
        (np.ones((20, 64, 44), bool), "uint8, 0 to 255, not bool"),
        (np.full((20, 64, 44, 3), 255, np.uint8), r"not \[.*20, 64, 44, 3\]"),
        (np.full((20, 64, 64), 255, np.uint8), r"not \[.*20, 64, 64\]"),
        (np.zeros((0, 64, 44), np.uint8), r"none of them 0, not \[.*0, 64, 44\]"),
        ([[0, 255]], "must be a NumPy array, not list"),
    ],
)
def test_arrays_that_are_no_silhouettes(walk: Any, message: str, bundle: Path, tmp_path: Path) -> None:
    engine = load(Bundle.open(bundle))
    recognizer = Recognizer(bundle, tmp_path / "people.db")
    good = np.full((20, 64, 44), 255, np.uint8)
    one = walk[None] if isinstance(walk, np.ndarray) else walk
    for call in (
        lambda: engine.embed(one),
        lambda: embed_all(engine, [good, walk]),
        lambda: recognizer.embed([good, walk]),
    ):
        with pytest.raises(SilhouetteError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
