"""Whatever a command is given that it cannot use costs one clear line, exit 1, and nothing else."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import check_refusal, contents, in_process, succeed
from PIL import Image

from gaitedge.bundle import Bundle
from gaitedge.engines import embed_all, load
from gaitedge.errors import SilhouetteError
from gaitedge.people.recognizer import Recognizer

Refused = Callable[..., str]


def person(frame: int = 0, height: int = 120, width: int = 160) -> np.ndarray:
    """A raw frame: somebody, somewhat like a post."""
    image = np.zeros((height, width), np.uint8)
    image[8:112, 20 + frame : 50 + frame] = 255
    return image


def write_walk(folder: Path, frames: int = 20, change: dict[int, np.ndarray] | None = None) -> Path:
    """A folder of PNGs; change: frame number -> what it shows instead."""
    folder.mkdir(parents=True)
    for number in range(frames):
        image = (change or {}).get(number, person(number))
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return folder


def write_pickle(path: Path, value: object) -> Path:
    path.write_bytes(pickle.dumps(value))
    return path


# What is wrong with one walk: its maker gives the source, the needles are in the line.


def nothing(here: Path, _: Path) -> object:
    return here / "walk"


def empty_folder(here: Path, _: Path) -> object:
    (here / "walk").mkdir()
    return here / "walk"


def no_image(here: Path, _: Path) -> object:
    (here / "walk").mkdir()
    (here / "walk" / "notes.txt").write_text("a walk")
    return here / "walk"


def text_called_png(here: Path, _: Path) -> object:
    walk = write_walk(here / "walk")
    (walk / "007.png").write_text("a walk")
    return walk


def truncated_png(here: Path, _: Path) -> object:
    walk = write_walk(here / "walk")
    whole = (walk / "007.png").read_bytes()
    (walk / "007.png").write_bytes(whole[: len(whole) // 2])
    return walk


def one_frame(here: Path, _: Path) -> object:
    return write_walk(here / "walk", 1)


def all_black(here: Path, _: Path) -> object:
    return write_walk(here / "walk", 20, {number: np.zeros((120, 160), np.uint8) for number in range(20)})


def mixed_sizes(here: Path, _: Path) -> object:
    return write_walk(here / "walk", 20, {7: person(7, 130)})


def colours(here: Path, _: Path) -> object:
    image = np.repeat(person()[:, :, None], 3, axis=2)
    image[50, 30, 0] = 9
    return write_walk(here / "walk", 20, {7: image})


def zeros_and_ones(here: Path, _: Path) -> object:
    return write_walk(here / "walk", 20, {number: person(number) // 255 for number in range(20)})


def float_pickle(here: Path, _: Path) -> object:
    return write_pickle(here / "walk.pkl", np.ones((20, 64, 44), np.float32))


def rgb_pickle(here: Path, _: Path) -> object:
    return write_pickle(here / "walk.pkl", np.full((20, 64, 44, 3), 255, np.uint8))


def black_pickle(here: Path, _: Path) -> object:
    return write_pickle(here / "walk.pkl", np.zeros((20, 64, 64), np.uint8))


def cut_pickle(here: Path, _: Path) -> object:
    path = write_pickle(here / "walk.pkl", np.full((20, 64, 64), 255, np.uint8))
    path.write_bytes(path.read_bytes()[:-700])
    return path


def program(here: Path, _: Path) -> object:
    return write_pickle(here / "walk.pkl", Path("of another type"))


def a_file(here: Path, _: Path) -> object:
    (here / "walk.mp4").write_bytes(bytes(100))
    return here / "walk.mp4"


def no_such_walk(_: Path, store: Path) -> object:
    return f"{store}:001/nm-01/018"


def no_such_store(here: Path, _: Path) -> object:
    return f"{here / 'walks'}:001/nm-01/090"


def unfinished_store(here: Path, store: Path) -> object:
    return changed(here, store, "store.json", b'"finished": true', b'"finished": false')


def newer_store(here: Path, store: Path) -> object:
    return changed(here, store, "store.json", b'"version": 1', b'"version": 2')


def store_without_index(here: Path, store: Path) -> object:
    copy = changed(here, store, "store.json", b"", b"")
    (copy / "index.jsonl").unlink()
    return copy


def cut_store(here: Path, store: Path) -> object:
    copy = changed(here, store, "store.json", b"", b"")
    frames = (copy / "frames.npy").read_bytes()
    (copy / "frames.npy").write_bytes(frames[:-5000])
    return copy


def changed(here: Path, store: Path, member: str, old: bytes, new: bytes) -> Path:
    copy = here / "walks"
    shutil.copytree(store, copy)
    text = (copy / member).read_bytes()
    assert old in text
    (copy / member).write_bytes(text.replace(old, new, 1))
    return copy


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


# Bundles


def flipped(path: Path, position: float) -> Path:
    """A copy with one bit turned over, at this share of its length."""
    data = bytearray(path.read_bytes())
    data[int(position * (len(data) - 1))] ^= 1
    return written(path, bytes(data))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def of_format(path: Path, number: int) -> Path:
    """The bundle as a GaitEdge of another format would have written it, its checksums in order."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["manifest.json"] = json.dumps({**json.loads(members["manifest.json"]), "format": number}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.comment = hashlib.sha256(members["manifest.json"]).hexdigest().encode()
    return path


def a_folder(path: Path) -> Path:
    path.unlink()
    path.mkdir()
    return path


def gone(path: Path) -> Path:
    path.unlink()
    return path


BUNDLES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a bit flipped at the start": (lambda path: flipped(path, 0), ""),
    "a bit flipped in the middle": (lambda path: flipped(path, 0.5), "damaged"),
    "a bit flipped at the end": (lambda path: flipped(path, 1), "damaged"),
    "half of it": (lambda path: written(path, path.read_bytes()[: path.stat().st_size // 2]), "damaged"),
    "another version": (lambda path: of_format(path, 2), "newer GaitEdge: format 2"),
    "no version": (lambda path: of_format(path, 0), "no GaitEdge ever wrote"),
    "an empty file": (lambda path: written(path, b""), "not a GaitEdge bundle"),
    "a text": (lambda path: written(path, b"a bundle"), "not a GaitEdge bundle"),
    "a folder": (a_folder, "is a folder"),
    "nothing": (gone, "no bundle at"),
}


@pytest.mark.parametrize("what", BUNDLES)
def test_a_bundle_that_cannot_be_used(
    what: str, bundle: Path, people: Path, store: Path, tmp_path: Path, refused: Refused
) -> None:
    damage, needle = BUNDLES[what]
    bad = damage(Path(shutil.copy(bundle, tmp_path / "bad.gait")))
    for command in (
        ["inspect", bad],
        ["inspect", bad, "--json"],
        ["export", bad, tmp_path / "new.gait"],
        ["export", bad, people],
        ["enroll", bad, people, store],
        ["enroll", bad, tmp_path / "new.db", store],
        ["identify", bad, people, store],
        ["bench", bad, "--seconds", "0.01"],
        ["eval", bad, store],
        ["eval", bad, store, "--json"],
    ):
        refused(command, "bad.gait", needle)


def test_a_bit_flipped_anywhere_in_a_bundle(bundle: Path, tmp_path: Path, refused: Refused) -> None:
    for position in np.linspace(0, 1, 40):
        bad = flipped(Path(shutil.copy(bundle, tmp_path / "bad.gait")), position)
        refused(["inspect", bad], "bad.gait")


@pytest.mark.parametrize("engine", ["tensorflow", ""])
def test_an_engine_that_nobody_knows(engine: str, bundle: Path, refused: Refused) -> None:
    refused(["bench", bundle, "--engine", engine], f"unknown engine {engine!r}", "auto, openvino")


def test_more_than_the_memory_holds(bundle: Path, refused: Refused) -> None:
    refused(["bench", bundle, "--batch", "100000000", "--frames", "1000"], "not enough memory", "at once")


# Galleries


def sql(path: Path, statement: str) -> Path:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    return path


GALLERIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a text": (lambda path: written(path, b"people, people, people" * 100), "no gallery"),
    "half of it": (lambda path: written(path, path.read_bytes()[: path.stat().st_size // 2]), "damaged"),
    "another database": (lambda path: sql(path, "PRAGMA application_id = 7"), "another program's database"),
    "a newer version": (lambda path: sql(path, "PRAGMA user_version = 2"), "of version 2"),
    "no table": (lambda path: sql(path, "DROP TABLE sequences"), "damaged"),
    "a cut embedding": (lambda path: sql(path, "UPDATE sequences SET embedding = x'00'"), "is no embedding"),
    "a folder": (a_folder, "is not a file"),
}


@pytest.mark.parametrize("what", GALLERIES)
def test_a_gallery_that_cannot_be_used(
    what: str, bundle: Path, people: Path, store: Path, tmp_path: Path, refused: Refused
) -> None:
    damage, needle = GALLERIES[what]
    bad = damage(people)
    commands: list[list[object]] = [
        ["identify", bundle, bad, store],
        ["gallery", "export", bad, tmp_path / "p.npz"],
    ]
    if what != "a cut embedding":
        commands += [
            ["enroll", bundle, bad, store],
            ["gallery", "list", bad],
            ["gallery", "list", bad, "--json"],
            ["gallery", "stats", bad, "--json"],
            ["gallery", "remove", bad, "001"],
        ]
    for command in commands:
        refused(command, "people.db", needle)


def test_a_gallery_of_another_model(other_bundle: Path, people: Path, store: Path, refused: Refused) -> None:
    for command in ("enroll", "identify"):
        refused([command, other_bundle, people, store], "people.db", "of model", "enrol again")


def test_no_gallery(bundle: Path, store: Path, tmp_path: Path, refused: Refused) -> None:
    for command in (
        ["list"],
        ["stats"],
        ["stats", "--json"],
        ["export", tmp_path / "people.npz"],
        ["remove", "Ada"],
    ):
        name, *rest = command
        refused(["gallery", name, tmp_path / "none.db", *rest], "no gallery at", "none.db", "enrolling")
    refused(["identify", bundle, tmp_path / "none.db", store], "no gallery at", "none.db")
    refused(["enroll", bundle, tmp_path / "none" / "people.db", store], "no folder")
    (tmp_path / "empty.db").touch()
    refused(["identify", bundle, tmp_path / "empty.db", store], "empty.db is empty", "nobody was enrolled")


def test_an_empty_gallery_identifies_nobody(
    bundle: Path, people: Path, store: Path, refused: Refused
) -> None:
    succeed("gallery", "remove", people, "001")
    succeed("gallery", "remove", people, "002")
    refused(["identify", bundle, people, store], "people.db")


def test_gallery_commands_that_cannot_be(people: Path, tmp_path: Path, refused: Refused) -> None:
    refused(["gallery", "remove", people, "003"], "nobody called '003'", "did you mean")
    refused(["gallery", "export", people, people], "is the gallery itself")
    refused(["gallery", "export", people, tmp_path / "none" / "people.npz"], "none")
    refused(["gallery", "export", people, people / "people.npz"], "Not a directory", "people.db/people.npz; ")
    (tmp_path / "folder.npz").mkdir()
    refused(["gallery", "export", people, tmp_path / "folder.npz"], "folder.npz")


# Weights


def test_weights_that_cannot_be_used(weights: Path, store: Path, tmp_path: Path, refused: Refused) -> None:
    whole = weights.read_bytes()
    nan = bytearray(whole)
    nan[-4:] = np.float32(np.nan).tobytes()
    bad = tmp_path / "bad.safetensors"
    for data, needle in (
        (b"", "not a readable safetensors file"),
        (b"weights", "not a readable safetensors file"),
        (whole[:-100], "not a readable safetensors file"),
        (whole.replace(b"frame.0", b"frame.9", 1), "missing frame.0"),
        (whole.replace(b"gaitpart", b"gaitnext", 1), "no GaitPart configuration"),
        (bytes(nan), "NaN or infinite values"),
    ):
        bad.write_bytes(data)
        refused(["export", bad, tmp_path / "new.gait"], "bad.safetensors", needle)
        refused(["eval", bad, store, "--json"], "bad.safetensors", needle)
    refused(["export", tmp_path / "none.safetensors", tmp_path / "new.gait"], "no weights file at")
    refused(["export", tmp_path, tmp_path / "new.gait"], "no weights file at")


def test_a_bundle_that_cannot_be_written(weights: Path, tmp_path: Path, refused: Refused) -> None:
    refused(["export", weights, tmp_path], "is a folder", "model.gait")
    refused(["export", weights, tmp_path / "none" / "new.gait"], "there is no folder")
    refused(
        ["export", weights, tmp_path / "new.gait", "--target", "portable", "--precision", "bf16"],
        "a portable bundle is fp32",
    )


# Data sets


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


def test_training_refuses_what_it_cannot_use(store: Path, tmp_path: Path, refused: Refused) -> None:
    out = tmp_path / "new.safetensors"
    refused(["train", tmp_path / "none", out], "no store at")
    refused(["train", store, out, "--subjects", "8"], "subjects")
    refused(
        ["train", store, tmp_path / "none" / "new.safetensors", "--subjects", "2", "--samples", "2"], "none"
    )
    refused(["train", store, tmp_path, "--subjects", "2", "--samples", "2"], str(tmp_path))
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


# Wrong usage, and what goes where


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["enroll"],
        ["inspect"],
        ["inspect", "--colour", "x.gait"],
        ["export", "x", "y", "--target", "phone"],
        ["prepare", "x", "y", "--layout", "grew"],
        ["synth", "x", "--subjects", "none"],
        ["synth", "x", "--workers", "0"],
        ["identify", "x.gait", "y.db", "z", "--top", "0"],
        ["gallery", "dance"],
        ["gallery", "remove", "x.db"],
    ],
)
def test_wrong_usage(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = in_process(*arguments)
    assert (done.status, done.stdout) == (2, "")
    assert "Usage: " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [["--batch", "many"], ["--frames", "30;60"]])
def test_a_list_that_is_none_is_wrong_usage(option: list[str], bundle: Path) -> None:
    done = in_process("bench", bundle, *option)
    assert (done.status, done.stdout) == (2, "")
    assert option[1] in done.stderr


def test_json_is_all_that_stands_on_stdout(
    weights: Path, bundle: Path, people: Path, store: Path, raw: Path, tmp_path: Path
) -> None:
    few = ["--subjects", 1, "--views", "090", "--conditions", "nm-01"]
    shutil.copytree(store, tmp_path / "store")
    for command in (
        ["synth", tmp_path / "walkers", *few],
        ["synth", tmp_path / "drawn", *few, "--store"],
        ["prepare", raw, tmp_path / "prepared"],
        ["export", weights, tmp_path / "new.gait"],
        ["inspect", bundle],
        ["enroll", bundle, people, f"{store}:*/nm-05"],
        ["enroll", bundle, tmp_path / "new.db", store, "--set-threshold"],
        ["identify", bundle, people, f"{store}:001/nm-01/090"],
        ["identify", bundle, people, store],
        ["bench", bundle, "--seconds", "0.01"],
        ["eval", bundle, store],
        ["eval", weights, store],
        ["doctor"],
        ["gallery", "list", people],
        ["gallery", "stats", people],
        ["gallery", "remove", people, "002"],
    ):
        assert succeed(*command, "--json").json
    assert not [name for name in contents(tmp_path) if name.endswith((".part", "-journal"))]


def test_json_of_a_failure_is_nothing(bundle: Path, people: Path, tmp_path: Path) -> None:
    check_refusal(in_process("identify", bundle, people, tmp_path / "none", "--json"), "nothing at")
