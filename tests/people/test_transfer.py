from __future__ import annotations

import dataclasses
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import GalleryError
from gaitedge.people import enrolment, transfer
from gaitedge.people import gallery as gallery_module
from gaitedge.people.gallery import Enrolment, Gallery, Imported, import_file

MODEL, OTHER = "ab" * 32, "cd" * 32
POINT = {"distance": 0.25, "rate": 0.1}


def walk(value: float) -> NDArray[np.float32]:
    return (np.arange(32, dtype=np.float32) / 7 + np.float32(value)).reshape(4, 8)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch, Gallery.create(tmp_path / "people", MODEL, 4, 8) as gallery:
        patch.setattr(gallery_module, "utc_now", lambda: "2020-02-02T00:00:00+00:00")
        gallery.enroll_many(
            [
                Enrolment("Ada", walk(0), "nm-01", "090", 42, "a folder"),
                Enrolment("José", walk(1)),
                Enrolment("Ada", walk(2), "bg-01"),
            ]
        )
        gallery.set_operating_point(0.25, POINT)
    return tmp_path / "people"


@pytest.fixture
def file(path: Path) -> Path:
    with Gallery.open(path) as gallery:
        gallery.export(path.with_suffix(".npz"))
    return path.with_suffix(".npz")


def content(path: Path) -> tuple[list[dict[str, Any]], bytes]:
    """Everything but the numbers, which a gallery gives itself."""
    with Gallery.open(path) as gallery:
        array, records = gallery.embeddings()
    return [{**dataclasses.asdict(record), "id": 0} for record in records], array.tobytes()


def test_what_is_imported_anew_is_what_was_exported(path: Path, file: Path, tmp_path: Path) -> None:
    assert import_file(tmp_path / "new", file) == Imported(3, 0)
    assert content(tmp_path / "new") == content(path)
    with Gallery.open(tmp_path / "new", MODEL) as gallery:
        assert (gallery.threshold, gallery.operating_point) == (0.25, POINT)
        assert gallery.records()[0].enrolled_at == "2020-02-02T00:00:00+00:00"  # retention goes by it


def test_what_is_there_already_is_skipped(path: Path, file: Path) -> None:
    assert import_file(path, file) == Imported(0, 3)
    with Gallery.open(path) as gallery:
        gallery.remove("Ada")
        gallery.enroll("Eve", walk(0))  # the same walk under another name is another enrolment
        gallery.threshold = 3.0
    assert import_file(path, file) == Imported(2, 1)
    with Gallery.open(path) as gallery:
        assert gallery.subjects() == {"Ada": 2, "Eve": 1, "José": 1}
        assert [record.id for record in gallery.records()] == [2, 4, 5, 6]
        assert gallery.threshold == 3.0  # its own


def test_walks_that_were_enrolled_twice_come_back_twice(path: Path, tmp_path: Path) -> None:
    with Gallery.open(path) as gallery:
        gallery.enroll("Ada", walk(0))
        gallery.export(tmp_path / "twice.npz")
    assert import_file(tmp_path / "new", tmp_path / "twice.npz") == Imported(4, 0)
    assert import_file(tmp_path / "new", tmp_path / "twice.npz") == Imported(0, 4)


@pytest.mark.parametrize(("model", "parts"), [(OTHER, 4), (MODEL, 16)])
def test_another_model_s_export_is_refused(model: str, parts: int, file: Path, tmp_path: Path) -> None:
    Gallery.create(tmp_path / "other", model, parts, 8).close()
    with pytest.raises(GalleryError, match="holds embeddings"):
        import_file(tmp_path / "other", file)
    with Gallery.open(tmp_path / "other") as gallery:
        with pytest.raises(GalleryError, match="into a gallery of their own model"):
            gallery.merge(transfer.read_export(file))
        assert gallery.subjects() == {}


def test_an_encrypted_gallery_is_exported_only_if_so_said(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="needs cryptography")
    before = content(path)
    with Gallery.open(path) as gallery:
        gallery.encrypt(bytes(32))
        with pytest.raises(GalleryError, match="is encrypted and an export is not: say --plain"):
            gallery.export(tmp_path / "people.npz")
        assert not (tmp_path / "people.npz").exists()
        gallery.export(tmp_path / "people.npz", plain=True)
    assert import_file(tmp_path / "plain", tmp_path / "people.npz") == Imported(3, 0)
    assert content(tmp_path / "plain") == before
    assert import_file(tmp_path / "sealed", tmp_path / "people.npz", key=bytes(32)) == Imported(3, 0)
    with Gallery.open(tmp_path / "sealed") as gallery:
        assert gallery.encrypted
    assert import_file(tmp_path / "sealed", tmp_path / "people.npz", key=bytes(32)) == Imported(0, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX knows them")
def test_an_export_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with Gallery.open(path) as gallery:
            gallery.export(path.with_suffix(".npz"))
    finally:
        os.umask(before)
    assert path.with_suffix(".npz").stat().st_mode & 0o777 == 0o600


def test_a_damaged_export_is_refused_at_any_byte(file: Path, tmp_path: Path) -> None:
    """A byte that ZIP itself does not look at may be changed without changing the contents."""
    whole, refusals = file.read_bytes(), 0
    expected = transfer.read_export(file)
    for number in range(0, len(whole), 7):
        file.write_bytes(whole[:number] + bytes([whole[number] ^ 0x20]) + whole[number + 1 :])
        try:
            found = transfer.read_export(file)
        except GalleryError:
            refusals += 1
        else:
            assert found.checksum == expected.checksum
    assert refusals > len(whole) / 7 / 2
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(GalleryError, match="damaged or no export") as caught:
            import_file(tmp_path / "new", file)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


Change = Callable[[dict[str, Any], dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, meta: meta.pop("sha256"), "has no checksum"),
        (lambda arrays, meta: meta.update(threshold=9.0), "do not fit its SHA-256"),
        (lambda arrays, meta: meta["sequences"][0].update(subject="Eve"), "do not fit its SHA-256"),
        (lambda arrays, meta: arrays.update(embeddings=arrays["embeddings"] + 1), "do not fit its SHA-256"),
        (lambda arrays, meta: arrays.update(embeddings=arrays["embeddings"].reshape(-1)), "SHA-256"),
        (lambda arrays, meta: arrays.update(embeddings=arrays["embeddings"].astype(float)), "SHA-256"),
        (lambda arrays, meta: arrays.update(subjects=np.array(["Ada"])), "do not fit each other"),
        (lambda arrays, meta: arrays.pop("subjects"), "is no export of a gallery"),
        (lambda arrays, meta: arrays.update(embeddings=np.array([{}])), "damaged or no export"),
    ],
)
def test_an_export_that_was_changed(change: Change, message: str, file: Path, tmp_path: Path) -> None:
    with np.load(file) as opened:
        arrays = dict(opened)
    metadata = json.loads(str(arrays.pop("metadata")))
    change(arrays, metadata)
    np.savez(file, metadata=np.array(json.dumps(metadata)), **arrays)
    with pytest.raises(GalleryError, match=message) as caught:
        import_file(tmp_path / "new", file)
    assert str(file) in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "about",
    [
        *({"threshold": value} for value in ("1", [1], True, -1.0, float("nan"), 10**400)),
        {"threshold": 1.0, "operating_point": [1]},
        {"parts": 8, "dim": 4},
        {"parts": 10**30},
    ],
)
def test_what_an_export_cannot_say_of_itself(about: dict[str, Any], path: Path, tmp_path: Path) -> None:
    with Gallery.open(path) as gallery:
        array, records = gallery.embeddings()
    before = content(path)
    whole = {"fingerprint": MODEL, "parts": 4, "dim": 8, "threshold": None, "operating_point": None}
    transfer.write_export(tmp_path / "bad.npz", whole | about, array + 1, records)
    for gallery_path in (tmp_path / "new", path):
        with pytest.raises(GalleryError, match=r"bad\.npz is damaged"):
            import_file(gallery_path, tmp_path / "bad.npz")
    assert not (tmp_path / "new").exists()
    assert content(path) == before


def test_an_export_that_unpacks_to_more_than_it_is(file: Path, tmp_path: Path) -> None:
    with np.load(file) as opened:
        arrays = dict(opened)
    np.savez_compressed(file, **arrays)
    with pytest.raises(GalleryError, match="is compressed"):
        import_file(tmp_path / "new", file)
    np.savez(file, **arrays)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = members["embeddings.npy"]
    members["embeddings.npy"] = header.replace(b"(3, 4, 8), }" + b" " * 12, b"(3000000000000, 4, 8), }")
    assert len(header) == len(members["embeddings.npy"])
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    with pytest.raises(GalleryError, match=r"embeddings\.npy is cut off"):
        import_file(tmp_path / "new", file)
    assert not (tmp_path / "new").exists()


def test_an_import_that_was_killed_before_it_began_takes_the_threshold_over(
    path: Path, file: Path, tmp_path: Path
) -> None:
    Gallery.create(tmp_path / "new", MODEL, 4, 8).close()
    assert import_file(tmp_path / "new", file) == Imported(3, 0)
    with Gallery.open(tmp_path / "new") as gallery:
        assert (gallery.threshold, gallery.operating_point) == (0.25, POINT)


def test_an_export_does_not_replace_the_gallery_s_log(path: Path) -> None:
    with Gallery.open(path) as gallery:
        for end in ("", "-wal", "-shm", "-journal"):
            with pytest.raises(GalleryError, match="is the gallery itself"):
                gallery.export(path.with_name(path.name + end))


@pytest.mark.parametrize("change", ["subject", "condition", "frames", "enrolled_at", "embedding"])
def test_what_no_gallery_takes_is_refused_even_with_a_checksum(
    change: str, path: Path, tmp_path: Path
) -> None:
    """Whoever makes an export by himself can make its checksum as well."""
    with Gallery.open(path) as gallery:
        array, records = gallery.embeddings()
        about = {"fingerprint": MODEL, "parts": 4, "dim": 8, "threshold": None, "operating_point": None}
    if change == "embedding":
        array = array.copy()
        array[1, 0, 0] = np.nan
    else:
        bad = {"subject": "a\nb", "condition": " ", "frames": 0, "enrolled_at": "yesterday"}[change]
        records[1] = dataclasses.replace(records[1], **{change: bad})
    transfer.write_export(tmp_path / "bad.npz", about, array, records)
    with pytest.raises(GalleryError, match=r"bad\.npz"):
        import_file(tmp_path / "new", tmp_path / "bad.npz")
    assert not (tmp_path / "new").exists()


def test_an_import_that_fails_leaves_the_gallery_as_it_was(
    path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gallery.open(path) as gallery:
        gallery.remove("Ada")
    before = content(path)
    insert = gallery_module.rows.insert

    def fail(connection: Any, cipher: Any, number: int, *more: Any) -> int:
        if number == 5:
            raise KeyboardInterrupt
        return insert(connection, cipher, number, *more)

    with monkeypatch.context() as patch:
        patch.setattr(gallery_module.rows, "insert", fail)
        with pytest.raises(KeyboardInterrupt):
            import_file(path, file)
    assert content(path) == before
    assert import_file(path, file) == Imported(2, 1)


def test_other_files(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "other.npz", embeddings=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        for name in ("embeddings", "subjects", "metadata"):
            archive.writestr(f"{name}.npy", b"text")
    for name in ("array.npy", "pickle.npy", "other.npz", "text.npz", "none.npz", "."):
        with pytest.raises(GalleryError, match="export"):
            import_file(tmp_path / "new", tmp_path / name)
    assert not (tmp_path / "new").exists()
    assert enrolment.utc_now()
