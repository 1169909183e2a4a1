from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import cut, replace_in
from stores import NAMES, fill, walk

from gaitedge.data import store_format
from gaitedge.data.store import Store, StoreWriter, is_store
from gaitedge.errors import SilhouetteError, StoreError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    store = Store(tmp_path / "store")
    assert len(store) == len(NAMES) == len(store.sequences)
    assert isinstance(store.frames, np.memmap)
    for number, (name, silhouettes) in enumerate(zip(NAMES, store, strict=True)):
        assert store.sequences[number].name == "/".join(name)
        assert store.find("/".join(name)) == number
        assert (silhouettes == walk(number)).all()
        assert (store[number] == walk(number)).all()
        assert not silhouettes.flags.writeable
    assert np.shares_memory(store[3], store.frames)


def test_its_frames_are_a_plain_numpy_file(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    frames = np.load(tmp_path / "store" / "frames.npy")
    assert (frames == np.concatenate([walk(number) for number in range(len(NAMES))])).all()


def test_opengaits_squares_are_cut(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store") as writer:
        writer.append("1", "nm-01", "000", np.pad(walk(1), ((0, 0), (0, 0), (10, 10))))
    assert (Store(tmp_path / "store")[0] == walk(1)).all()


def test_select(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    store = Store(tmp_path / "store")

    def names(**wanted: list[str]) -> list[tuple[str, str, str]]:
        picked = [store.sequences[number] for number in store.select(**wanted)]
        return [(sequence.subject, sequence.condition, sequence.view) for sequence in picked]

    assert names() == NAMES
    assert names(subjects=["002", "007"]) == NAMES[6:]
    assert names(conditions=["nm"]) == [name for name in NAMES if name[1] != "bg-01"]
    assert names(conditions=["nm-02", "bg"], views=["090"]) == [
        name for name in NAMES if name[1] != "nm-01" and name[2] == "090"
    ]
    assert names(conditions=["n"]) == names(subjects=[]) == []


def test_it_travels_to_a_worker_by_its_path(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    data = pickle.dumps(Store(tmp_path / "store"))
    assert len(data) < 500
    assert (pickle.loads(data)[2] == walk(2)).all()  # noqa: S301


def test_a_sequence_that_is_not_there(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    with pytest.raises(StoreError, match=r"'002/nm-09/000'.* 002/nm-01/000 and 002/bg-01/090"):
        Store(tmp_path / "store").find("002/nm-09/000")
    with pytest.raises(StoreError, match=r"'9'.* 001/nm-01/000 and 007/bg-01/090"):
        Store(tmp_path / "store").find("9")


def test_dropped_ones_are_kept_in_mind_and_not_read(tmp_path: Path) -> None:
    def interrupted() -> None:
        with StoreWriter(tmp_path / "store") as writer:
            writer.append(*NAMES[0], walk(0), {"004.png": "empty"})
            writer.drop(*NAMES[1], "holds no frame", {"note.txt": "not a PNG file"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with StoreWriter(tmp_path / "store") as writer:
        assert writer.names == {"001/nm-01/000", "001/nm-01/090"}
        assert writer.frames == 3
        assert writer.dropped_frames == {
            "001/nm-01/000": {"004.png": "empty"},
            "001/nm-01/090": {"note.txt": "not a PNG file"},
        }
        assert writer.dropped_sequences == {"001/nm-01/090": "holds no frame"}
        writer.append(*NAMES[2], walk(2))
    store = Store(tmp_path / "store")
    assert [sequence.name for sequence in store.sequences] == ["001/nm-01/000", "001/nm-02/000"]
    assert (store[1] == walk(2)).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (NAMES[0], "has a sequence 001/nm-01/000 already"),
        (("a/b", "nm-01", "000"), "'a/b' cannot be in a sequence's name"),
        (("", "nm-01", "000"), "'' cannot be in a sequence's name"),
        (("a:b", "nm-01", "000"), "cannot be in a sequence's name"),
        (("1", "nm-01\n", "000"), "cannot be in a sequence's name"),
    ],
)
def test_names_that_are_refused(name: tuple[str, str, str], message: str, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store") as writer:
        writer.append(*NAMES[0], walk(0))
        with pytest.raises(StoreError, match=message):
            writer.append(*name, walk(1))
        with pytest.raises(StoreError, match=message):
            writer.drop(*name, "empty")
        with pytest.raises(SilhouetteError, match=r"not float64\[3, 64, 44\]"):
            writer.append("1", "nm-05", "000", np.ones((3, 64, 44)))
        writer.append(*NAMES[1], walk(1))
    assert [len(silhouettes) for silhouettes in Store(tmp_path / "store")] == [3, 4]


def test_an_unfinished_store_is_not_read(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store")
    with pytest.raises(StoreError, match="is unfinished: run the command"):
        Store(tmp_path / "store")
    writer.__exit__(KeyboardInterrupt, None, None)


def test_a_finished_store_is_not_written(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    with pytest.raises(StoreError, match="is finished: choose another folder"):
        StoreWriter(tmp_path / "store")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}


def test_a_store_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing to store"), StoreWriter(tmp_path / "store") as writer:
        writer.drop(*NAMES[0], "holds no frame")
    assert not (tmp_path / "store").exists()


def test_two_writers_do_not_write_at_once(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store") as writer:
        writer.append(*NAMES[0], walk(0))
        with pytest.raises(StoreError, match="another process is writing the store"):
            StoreWriter(tmp_path / "store")
        writer.append(*NAMES[1], walk(1))
    assert len(Store(tmp_path / "store")) == 2


def test_another_source_does_not_go_on_with_it(tmp_path: Path) -> None:
    StoreWriter(tmp_path / "store", "casia-b /data/one").__exit__(KeyboardInterrupt, None, None)
    with pytest.raises(StoreError, match=r"begun from 'casia-b /data/one', not from 'casia-b /data/two'"):
        StoreWriter(tmp_path / "store", "casia-b /data/two")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("walk")
    with pytest.raises(StoreError, match="is not empty and holds no store"):
        StoreWriter(tmp_path)
    with pytest.raises(StoreError, match="is a file"):
        StoreWriter(tmp_path / "letter.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    for path in (tmp_path, tmp_path / "letter.txt", tmp_path / "none"):
        assert not is_store(path)
        with pytest.raises(StoreError, match="no store at"):
            Store(path)


def drop_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[number]
    path.write_bytes(b"".join(lines))


INDEX, FRAMES, ABOUT = "index.jsonl", "frames.npy", "store.json"
FIRST, SECOND = (f'"001", "condition": "nm-01", "view": "{view}"' for view in ("000", "090"))
DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "index cut": (INDEX, lambda file: cut(file, 300), "is not readable"),
    "index empty": (INDEX, lambda file: cut(file, 0), "index of 0 sequences"),
    "index missing": (INDEX, Path.unlink, "index.jsonl is missing"),
    "index of another kind": (INDEX, lambda file: replace_in(file, "{", "[{}, {"), "is not readable"),
    "first line missing": (INDEX, lambda file: drop_line(file, 0), "line 1 of index.jsonl does not fit"),
    "last line missing": (INDEX, lambda file: drop_line(file, -1), f"index of {len(NAMES) - 1} sequences"),
    "length": (INDEX, lambda file: replace_in(file, '"length": 4', '"length": 5'), "line 3 of index"),
    "negative": (INDEX, lambda file: replace_in(file, '"length": 4', '"length": -4'), "line 2 of index"),
    "twice": (INDEX, lambda file: replace_in(file, SECOND, FIRST), "names a sequence twice"),
    "frames cut": (FRAMES, lambda file: cut(file, 9999), "frames.npy is not readable"),
    "frames missing": (FRAMES, Path.unlink, "frames.npy is not readable"),
    "frames empty": (FRAMES, lambda file: cut(file, 0), "frames.npy is not readable"),
    "squares": (FRAMES, lambda file: np.save(file, np.zeros((9, 64, 64), "u1")), "is uint8.9, 64, 64"),
    "floats": (FRAMES, lambda file: np.save(file, np.zeros((9, 64, 44))), "is float64.9, 64, 44"),
    "fewer": (FRAMES, lambda file: np.save(file, np.zeros((9, 64, 44), "u1")), "damaged: 9 frames"),
    "version": (ABOUT, lambda file: replace_in(file, '"version": 1', '"version": 2'), "is of version 2"),
    "format": (ABOUT, lambda file: file.write_text("{}"), "does not speak of a GaitEdge store"),
    "no json": (ABOUT, lambda file: file.write_text("{"), "store.json is not readable"),
    "unsaid": (ABOUT, lambda file: replace_in(file, "true", "1"), "whether the store is finished"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found(what: str, tmp_path: Path) -> None:
    fill(tmp_path / "store")
    name, damage, message = DAMAGE[what]
    damage(tmp_path / "store" / name)
    with pytest.raises(StoreError, match=message) as caught:
        Store(tmp_path / "store")
    assert "\n" not in str(caught.value)


def test_a_store_as_large_as_ou_mvlp_opens(tmp_path: Path) -> None:
    one = np.full((1, 64, 44), 9, np.uint8)
    path = tmp_path / "store"
    with StoreWriter(path) as writer:
        writer.append("00001", "00", "000", one)
    count = 268_000
    lines = [
        f'{{"subject": "{n // 26:05}", "condition": "{n // 13 % 2:02}", "view": "{n % 13:03}", '
        f'"start": {n}, "length": 1}}\n'
        for n in range(count)
    ]
    (path / "index.jsonl").write_text("".join(lines))
    with (path / "frames.npy").open("r+b") as file:
        file.write(store_format.header(count))
        file.truncate(128 + count * 64 * 44)  # a hole: takes no room
    replace_in(path / "store.json", '"sequences": 1', f'"sequences": {count}')
    replace_in(path / "store.json", '"frames": 1', f'"frames": {count}')
    store = Store(path)
    assert len(store) == count
    assert store.find("10000/01/005") == 10000 * 26 + 13 + 5


def test_modes_of_the_files_are_the_users(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    mask = os.umask(0)
    os.umask(mask)
    for path in (tmp_path / "store").iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask
