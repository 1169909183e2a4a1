"""Walks that cannot be used, or not whole: each maker spoils one in a folder and gives the source."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
from PIL import Image


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
