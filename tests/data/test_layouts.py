from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaitedge.data.layouts import LAYOUTS, RawSequence, find_sequences
from gaitedge.data.silhouettes import align
from gaitedge.errors import InputError, SilhouetteError


def person(left: int = 40, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    frame = np.zeros(size, np.uint8)
    frame[10:110, left : left + 30] = 255
    frame[10:30, left : left + 10] = 0
    return frame


def write(path: Path, frame: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).convert("1").save(path)


def casia_b(raw: Path) -> Path:
    for subject in ("010", "002"):
        for condition in ("nm-02", "bg-01"):
            for view in ("090", "018"):
                for number in (1, 2, 10):
                    name = f"{subject}-{condition}-{view}-{number}.png"
                    write(raw / subject / condition / view / name, person(left=30 + number))
    return raw


def oumvlp(raw: Path) -> Path:
    for folder in ("Silhouette_090-01", "Silhouette_000-00"):
        for subject in ("00010", "00002"):
            for number in (1, 2):
                write(raw / folder / subject / f"{number:04}.png", person(left=30 + number))
    return raw


def opengait(raw: Path) -> Path:
    for subject in ("010", "002"):
        folder = raw / subject / "nm-01" / "090"
        folder.mkdir(parents=True)
        square = np.pad(align(person())[None], ((0, 3), (0, 0), (10, 10)), mode="edge")
        (folder / "090.pkl").write_bytes(pickle.dumps(square))
    return raw


def test_casia_b(tmp_path: Path) -> None:
    sequences = find_sequences(casia_b(tmp_path), "casia-b")
    assert [sequence.name for sequence in sequences] == [
        f"{subject}/{condition}/{view}"
        for subject in ("002", "010")
        for condition in ("bg-01", "nm-02")
        for view in ("018", "090")
    ]
    silhouettes, dropped = sequences[0].read()
    assert (silhouettes == np.stack([align(person(left=30 + number)) for number in (1, 2, 10)])).all()
    assert dropped == {}


def test_oumvlp(tmp_path: Path) -> None:
    sequences = find_sequences(oumvlp(tmp_path), "oumvlp")
    assert [(s.subject, s.condition, s.view) for s in sequences] == [
        ("00002", "00", "000"),
        ("00002", "01", "090"),
        ("00010", "00", "000"),
        ("00010", "01", "090"),
    ]
    assert sequences[1].path == tmp_path / "Silhouette_090-01" / "00002"
    assert len(sequences[1].read()[0]) == 2


def test_opengait(tmp_path: Path) -> None:
    sequences = find_sequences(opengait(tmp_path), "opengait")
    assert [sequence.name for sequence in sequences] == ["002/nm-01/090", "010/nm-01/090"]
    silhouettes, dropped = sequences[0].read()
    assert (silhouettes == align(person())).all()
    assert len(silhouettes) == 4
    assert dropped == {}


def test_what_does_not_belong_is_reported_or_passed_over(tmp_path: Path) -> None:
    casia_b(tmp_path)
    (tmp_path / "README.txt").write_text("walk")
    (tmp_path / ".cache" / "x").mkdir(parents=True)
    walk = tmp_path / "002" / "nm-02" / "090"
    for name in ("Thumbs.db", ".DS_Store", "notes.txt"):
        (walk / name).write_bytes(b"x")
    (walk / "002-nm-02-090-002.png").write_bytes((walk / "002-nm-02-090-2.png").read_bytes()[:40])
    write(walk / "002-nm-02-090-003.png", np.zeros((120, 160), np.uint8))
    sequences = find_sequences(tmp_path, "casia-b")
    assert len(sequences) == 8
    silhouettes, dropped = next(s for s in sequences if s.path == walk).read()
    assert len(silhouettes) == 3
    assert list(dropped) == ["notes.txt", "002-nm-02-090-002.png", "002-nm-02-090-003.png"]
    assert dropped["notes.txt"] == "not a PNG file"
    assert dropped["002-nm-02-090-002.png"].startswith("the PNG file is damaged or truncated")
    assert dropped["002-nm-02-090-003.png"] == "empty"


def test_an_empty_folder_is_a_sequence_that_cannot_be_read(tmp_path: Path) -> None:
    casia_b(tmp_path)
    (tmp_path / "002" / "nm-02" / "180").mkdir()
    sequences = find_sequences(tmp_path, "casia-b")
    assert len(sequences) == 9
    with pytest.raises(SilhouetteError, match="180 holds no frame"):
        next(s for s in sequences if s.view == "180").read()


def sequence(path: Path) -> RawSequence:
    return RawSequence("1", "nm-01", "000", path)


def test_frames_of_several_sizes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "1.png", person())
    write(tmp_path / "2.png", person(size=(240, 320)))
    with pytest.raises(SilhouetteError, match=r"2\.png is 320×240 pixels and 1\.png is 160×120"):
        sequence(tmp_path).read()


def test_frames_that_show_nobody_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "1.png", np.zeros((120, 160), np.uint8))
    write(tmp_path / "2.png", np.zeros((120, 160), np.uint8))
    with pytest.raises(SilhouetteError, match="none of 2 frames shows a person: 2 empty"):
        sequence(tmp_path).read()
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"walk")
    with pytest.raises(SilhouetteError, match="none of 2 frames shows a person: 2 not a PNG file"):
        sequence(tmp_path).read()


def test_frames_aligned_already_stay_as_they_are(tmp_path: Path) -> None:
    aligned = 255 * (align(person()) > 127).astype(np.uint8)
    shifted = np.roll(aligned, 5, axis=1)  # aligning it again would move it back
    write(tmp_path / "1.png", shifted)
    assert (sequence(tmp_path).read()[0] == shifted).all()


def test_pickles_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(SilhouetteError, match=r"1\.pkl is refused: it calls for"):
        sequence(tmp_path).read()
    (tmp_path / "2.pkl").write_bytes(b"")
    with pytest.raises(SilhouetteError, match=r"holds 2 pickles, 1\.pkl and others"):
        sequence(tmp_path).read()
    (tmp_path / "2.pkl").unlink()
    write(tmp_path / "1.png", person())
    with pytest.raises(SilhouetteError, match="holds PNG files and pickles"):
        sequence(tmp_path).read()


MAKERS = {"casia-b": casia_b, "oumvlp": oumvlp, "opengait": opengait}
OTHERS = [
    ("casia-b", "oumvlp", "002 does not fit"),
    ("casia-b", "opengait", "it holds 002/bg-01/018/002-bg-01-018-1.png as in the layout casia-b"),
    ("oumvlp", "casia-b", "Silhouette_000-00/00002 does not fit"),
    ("oumvlp", "opengait", "it holds Silhouette_000-00"),
    ("opengait", "casia-b", "it holds 002/nm-01/090/090.pkl as in the layout opengait"),
    ("opengait", "oumvlp", "002 does not fit"),
]


@pytest.mark.parametrize(("found", "asked", "message"), OTHERS)
def test_another_layout_is_named(found: str, asked: str, message: str, tmp_path: Path) -> None:
    MAKERS[found](tmp_path)
    with pytest.raises(InputError) as caught:
        find_sequences(tmp_path, asked)
    assert f"not of the layout {asked}: expected {LAYOUTS[asked]}, " in str(caught.value)
    assert message in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder at"):
        find_sequences(tmp_path / "none", "casia-b")
    with pytest.raises(InputError, match="no layout 'grew': choose one of casia-b, oumvlp, opengait"):
        find_sequences(tmp_path, "grew")
    with pytest.raises(InputError, match="it holds nothing"):
        find_sequences(tmp_path, "casia-b")
    (tmp_path / "001.tar.gz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"it holds 001\.tar\.gz: unpack it first"):
        find_sequences(tmp_path, "casia-b")
    (tmp_path / "001" / "nm-01").mkdir(parents=True)
    (tmp_path / "001" / "loop").symlink_to(tmp_path / "001")
    with pytest.raises(InputError, match="001/loop does not fit"):
        find_sequences(tmp_path, "casia-b")


def test_a_folder_too_deep_is_named(tmp_path: Path) -> None:
    casia_b(tmp_path / "GaitDatasetB-silh")
    with pytest.raises(InputError, match="GaitDatasetB-silh/002 does not fit"):
        find_sequences(tmp_path, "casia-b")
    assert len(find_sequences(tmp_path / "GaitDatasetB-silh", "casia-b")) == 8
