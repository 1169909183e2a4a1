from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaitedge.data.silhouettes import align
from gaitedge.data.sources import open_source, open_sources
from gaitedge.data.store import StoreWriter
from gaitedge.errors import InputError, SilhouetteError, StoreError


def person(left: int) -> np.ndarray:
    frame = np.zeros((120, 160), np.uint8)
    frame[10:110, left : left + 30] = 255
    frame[10:30, left : left + 10] = 0
    return frame


def write(path: Path, frames: list[np.ndarray]) -> Path:
    path.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{number}.png")
    return path


WALK = np.stack([align(person(20 + number)) for number in range(15)])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "walks"
    with StoreWriter(path) as writer:
        for subject in ("007", "039"):
            for condition in ("nm-01", "nm-02", "bg-01"):
                for view in ("000", "090"):
                    writer.append(subject, condition, view, WALK[int(view == "000") :])
    return path


def names(text: str | Path) -> list[str]:
    return [f"{source.subject}/{source.condition}/{source.view}" for source in open_sources(text)]


def test_a_folder_of_raw_frames_is_aligned(tmp_path: Path) -> None:
    frames = [person(20 + number) for number in range(15)]
    frames[3:3] = [np.zeros((120, 160), np.uint8)] * 2
    source = open_source(write(tmp_path / "walk", frames))
    assert (source.silhouettes == WALK).all()
    assert source.description == f"{tmp_path}/walk (2 of 17 frames left out)"
    assert (source.subject, source.condition, source.view) == (None, None, None)


@pytest.mark.parametrize("margin", [0, 10])
def test_a_folder_of_aligned_frames_is_taken_as_it_is(margin: int, tmp_path: Path) -> None:
    shifted = np.roll(WALK, 6, axis=2)
    write(tmp_path / "walk", list(np.pad(shifted, ((0, 0), (0, 0), (margin, margin)))))
    source = open_source(str(tmp_path / "walk"))
    assert (source.silhouettes == shifted).all()
    assert source.description == f"{tmp_path}/walk"


def test_an_opengait_pickle(tmp_path: Path) -> None:
    (tmp_path / "090.pkl").write_bytes(pickle.dumps(np.pad(WALK, ((0, 0), (0, 0), (10, 10)))))
    source = open_source(tmp_path / "090.pkl")
    assert (source.silhouettes == WALK).all()
    assert source.description == f"{tmp_path}/090.pkl"
    (tmp_path / "090.pkl").write_bytes(pickle.dumps(os.system))
    with pytest.raises(SilhouetteError, match=r"090\.pkl is refused: it calls for"):
        open_source(tmp_path / "090.pkl")


def test_a_sequence_of_a_store(store: Path) -> None:
    source = open_source(f"{store}:007/nm-01/090")
    assert (source.silhouettes == WALK).all()
    assert source.description == f"{store}:007/nm-01/090"
    assert (source.subject, source.condition, source.view) == ("007", "nm-01", "090")


def test_several_of_a_store(store: Path) -> None:
    everything = names(f"{store}:007") + names(f"{store}:039")
    assert names(store) == names(f"{store}:*") == names(f"{store}:") == everything
    # Those of view 000 have 14 frames: of several walks the short ones are left out.
    assert everything == [
        f"{subject}/{condition}/090"
        for subject in ("007", "039")
        for condition in ("nm-01", "nm-02", "bg-01")
    ]
    assert names(f"{store}:039/nm") == ["039/nm-01/090", "039/nm-02/090"]
    assert names(f"{store}:*/bg-01") == names(f"{store}:*/bg/090") == ["007/bg-01/090", "039/bg-01/090"]
    assert names(f"{store}:0?9/nm-*") == ["039/nm-01/090", "039/nm-02/090"]
    assert names(f"{store}:0*/b?-01/09?") == ["007/bg-01/090", "039/bg-01/090"]
    assert len(open_sources(store, minimum=14)) == 12
    with pytest.raises(InputError, match=r"holds 3 walks, must be one, such as .*:007/nm-01/090"):
        open_source(f"{store}:007")


def test_a_store_at_a_path_with_a_colon(store: Path) -> None:
    moved = store.rename(store.with_name("a:b"))
    assert names(f"{moved}:007/nm-01/090") == ["007/nm-01/090"]
    assert len(names(moved)) == 6


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("0*/nm-9?", r"no sequence matches '0\*/nm-9\?' in the store"),
        ("007/nm-09/090", r"no sequence '007/nm-09/090' .*; it holds, for example, 007/nm-01/000"),
        ("007/nm/018", "no sequence '007/nm/018'"),
        ("008", "no sequence matches '008'"),
        ("007/nm-01/090/3", "is no sequence of a store"),
    ],
)
def test_sequences_that_a_store_lacks(pattern: str, message: str, store: Path) -> None:
    with pytest.raises(InputError, match=message):
        open_sources(f"{store}:{pattern}")


def test_a_walk_too_short_says_how_short(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SilhouetteError, match=r"007/nm-01/000: 14 usable frames, a walk needs 15 or more"):
        open_source(f"{store}:007/nm-01/000")
    folder = write(tmp_path / "walk", [person(50)] * 14 + [np.zeros((120, 160), np.uint8)])
    with pytest.raises(SilhouetteError, match=r"\(1 of 15 frames left out\): 14 usable frames"):
        open_source(folder)
    assert len(open_source(folder, minimum=1).silhouettes) == 14


def test_what_is_no_source(store: Path, tmp_path: Path) -> None:
    possible = "give a folder of silhouette PNGs, STORE:007/nm-01/090 for a sequence of a store, or"
    (tmp_path / "walk.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=rf"walk\.mp4 is no source of a walk: {possible}"):
        open_source(tmp_path / "walk.mp4")
    for text in (str(tmp_path / "none"), "", ":", "none.pkl:"):
        with pytest.raises(InputError) as caught:
            open_source(text)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=f"nothing at none: {possible}"):
        open_source("none")
    with pytest.raises(StoreError, match="no store at none"):
        open_source("none:007/nm-01/090")
    with pytest.raises(SilhouetteError, match=r"none\.pkl cannot be read"):
        open_source("none.pkl")
    with pytest.raises(SilhouetteError, match=r"no PNG file in .*; it holds walk\.mp4"):
        open_source(tmp_path)
    black = write(tmp_path / "black", [np.zeros((120, 160), np.uint8)] * 20)
    with pytest.raises(SilhouetteError, match="black: none of 20 frames shows a person: 20 empty"):
        open_source(black)


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "walk", [person(50)] * 20)
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:70])
    with pytest.raises(SilhouetteError, match=r"7\.png: the PNG file is damaged or truncated"):
        open_source(folder)
