from __future__ import annotations

import json
import random
import re
import tracemalloc
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError
from gaitedge.people.gallery import Enrolment, Gallery, Record, Stats

MODEL, OTHER = "ab" * 32, "cd" * 32
PARTS, DIM = 4, 8


def walk(value: float) -> NDArray[np.float32]:
    """An embedding that is told from every other."""
    return (np.arange(PARTS * DIM, dtype=np.float32) / 7 + np.float32(value)).reshape(PARTS, DIM)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gallery.create(tmp_path / "people.gallery", MODEL, PARTS, DIM) as gallery:
        gallery.enroll_many(
            [
                Enrolment("Ada", walk(0), "nm-01", "090", 42, "a folder"),
                Enrolment("Bob", walk(1), "nm-01", "018"),
                Enrolment("Ada", walk(2), "bg-01"),
            ]
        )
    return tmp_path / "people.gallery"


def test_what_was_enrolled_comes_back_bit_by_bit(path: Path) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    with Gallery.open(path, MODEL) as gallery:
        assert gallery.enroll("Eve", walk(3), condition="cl-02", view="180", frames=7, source="x") == 4
        array, records = gallery.embeddings()
        assert array.dtype == np.float32
        assert array.tobytes() == np.stack([walk(0), walk(1), walk(2), walk(3)]).tobytes()
        assert records == gallery.records()
        assert [(r.id, r.subject, r.condition, r.view, r.frames, r.source) for r in records] == [
            (1, "Ada", "nm-01", "090", 42, "a folder"),
            (2, "Bob", "nm-01", "018", None, None),
            (3, "Ada", "bg-01", None, None, None),
            (4, "Eve", "cl-02", "180", 7, "x"),
        ]
        enrolled = datetime.fromisoformat(records[3].enrolled_at)
        assert before <= enrolled <= datetime.now(timezone.utc)


def test_a_view_of_a_larger_array_is_enrolled_as_it_is(path: Path) -> None:
    large = np.random.default_rng(0).standard_normal((DIM, PARTS, 3), dtype=np.float32)
    with Gallery.open(path) as gallery:
        gallery.enroll("Eve", large[:, :, 1].T)
        assert np.array_equal(gallery.embeddings()[0][3], large[:, :, 1].T)


def test_an_empty_gallery(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "people", MODEL, PARTS, DIM) as gallery:
        array, records = gallery.embeddings()
        assert array.shape == (0, PARTS, DIM)
        assert records == gallery.records() == []
        assert gallery.subjects() == {}
        assert gallery.stats().sequences == 0
        assert gallery.enroll_many([]) == []


def test_subjects_and_stats(path: Path) -> None:
    with Gallery.open(path) as gallery:
        gallery.threshold = 1.5
        assert gallery.subjects() == {"Ada": 2, "Bob": 1}
        stats = gallery.stats()
        assert stats == Stats(
            subjects=2,
            sequences=3,
            by_condition={"bg-01": 1, "nm-01": 2},
            by_view={"018": 1, "090": 1, "not given": 1},
            created=gallery.created,
            size=path.stat().st_size,
            fingerprint=MODEL,
            parts=PARTS,
            dim=DIM,
            threshold=1.5,
            operating_point=None,
            encrypted=False,
            journal="wal",
        )
        json.dumps(asdict(stats))


def test_the_threshold_stays_until_it_is_taken_away(path: Path) -> None:
    with Gallery.open(path) as gallery:
        assert gallery.threshold is None
        gallery.threshold = np.float32(0.1)  # type: ignore[assignment]
    with Gallery.open(path) as gallery:
        assert gallery.threshold == float(np.float32(0.1))
        gallery.threshold = 0
        assert gallery.threshold == 0.0
        gallery.threshold = None
    with Gallery.open(path) as gallery:
        assert gallery.threshold is None


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_a_threshold_is_a_distance(path: Path, value: float) -> None:
    with Gallery.open(path) as gallery:
        gallery.threshold = 2.0
        with pytest.raises(InputError, match="a distance of 0 or more"):
            gallery.threshold = value
        assert gallery.threshold == 2.0


POINT = {"distance": 1.25, "false_accept_rate": 0.01, "interval": [0.004, 0.02], "how": "store walks"}


def test_an_operating_point_stays_with_its_threshold(path: Path) -> None:
    with Gallery.open(path) as gallery:
        assert gallery.operating_point is None
        gallery.set_operating_point(1.25, POINT)
    with Gallery.open(path) as gallery:
        assert (gallery.threshold, gallery.operating_point) == (1.25, POINT)
        assert gallery.stats().operating_point == POINT
        gallery.threshold = 1.25  # by itself, even if the same
        assert (gallery.threshold, gallery.operating_point) == (1.25, None)
        gallery.set_operating_point(2.0, {})
        gallery.threshold = None
        assert (gallery.threshold, gallery.operating_point) == (None, None)


@pytest.mark.parametrize("details", [{"rate": np.nan}, {"rate": np.float32(1)}, {"rate": b"1"}, {(1, 2): 3}])
def test_an_operating_point_that_is_no_json_changes_nothing(path: Path, details: Any) -> None:
    with Gallery.open(path) as gallery:
        gallery.set_operating_point(1.25, POINT)
        with pytest.raises(InputError, match="must be JSON"):
            gallery.set_operating_point(2.0, details)
        with pytest.raises(InputError, match="a distance of 0 or more"):
            gallery.set_operating_point(-1.0, {})
        assert (gallery.threshold, gallery.operating_point) == (1.25, POINT)


def test_one_unfit_walk_keeps_all_of_them_out(path: Path) -> None:
    with Gallery.open(path) as gallery:
        with pytest.raises(GalleryError, match="NaN"):
            gallery.enroll_many([Enrolment("Eve", walk(5)), Enrolment("Eve", walk(np.nan))])
        assert gallery.subjects() == {"Ada": 2, "Bob": 1}


def test_all_or_nothing(path: Path) -> None:
    def change(gallery: Gallery, end: type[BaseException] | None) -> None:
        with gallery.all_or_nothing():
            gallery.enroll("Eve", walk(3))
            gallery.threshold = 0.5
            assert len(gallery.embeddings()[0]) == 4
            if end:
                raise end

    with Gallery.open(path) as gallery:
        before, _ = gallery.embeddings()
        with pytest.raises(KeyboardInterrupt):
            change(gallery, KeyboardInterrupt)
        assert gallery.subjects() == {"Ada": 2, "Bob": 1}
        assert gallery.threshold is None
        assert np.array_equal(gallery.embeddings()[0], before)
        change(gallery, None)
    with Gallery.open(path) as gallery:
        assert gallery.subjects() == {"Ada": 2, "Bob": 1, "Eve": 1}
        assert gallery.threshold == 0.5


def test_remove(path: Path) -> None:
    secret = walk(2).tobytes()
    assert secret in path.read_bytes()
    with Gallery.open(path) as gallery:
        assert gallery.remove("Ada") == 2
        assert gallery.subjects() == {"Bob": 1}
        assert np.array_equal(gallery.embeddings()[0], walk(1)[None])
        assert gallery.enroll("Ada", walk(9)) == 4  # a number is not given twice
    content = path.read_bytes()
    assert walk(1).tobytes() in content
    assert secret not in content
    assert walk(0).tobytes() not in content


@pytest.mark.parametrize(
    ("name", "hint"), [("Adda", "; did you mean 'Ada'?"), ("bob", "; did you mean 'Bob'?"), ("Zoe", "")]
)
def test_removing_nobody_names_who_may_be_meant(path: Path, name: str, hint: str) -> None:
    with Gallery.open(path) as gallery:
        with pytest.raises(GalleryError, match=re.escape(f"nobody called '{name}' in {path}{hint}") + "$"):
            gallery.remove(name)
        assert gallery.subjects() == {"Ada": 2, "Bob": 1}


def test_a_name_is_found_by_either_spelling(path: Path) -> None:
    with Gallery.open(path) as gallery:
        gallery.enroll("Jos\u00e9", walk(5))
        gallery.enroll("Jose\u0301", walk(6))
        assert gallery.subjects()["Jos\u00e9"] == 2
        assert gallery.remove("Jose\u0301") == 2


def test_any_course_of_changes_gives_what_a_plain_list_gives(tmp_path: Path) -> None:
    rng = random.Random(0)
    expected: list[tuple[int, str, float]] = []
    number = 0
    with Gallery.create(tmp_path / "people", MODEL, PARTS, DIM) as gallery:
        for step in range(60):
            name = rng.choice("ABCD")
            if rng.random() < 0.7:
                count = rng.randint(1, 3)
                gallery.enroll_many([Enrolment(name, walk(step + i / 8)) for i in range(count)])
                expected += [(number + 1 + i, name, step + i / 8) for i in range(count)]
                number += count
            elif any(name == known for _, known, _ in expected):
                assert gallery.remove(name) == sum(name == known for _, known, _ in expected)
                expected = [entry for entry in expected if entry[1] != name]
            array, records = gallery.embeddings()
            assert [(r.id, r.subject) for r in records] == [entry[:2] for entry in expected]
            assert np.array_equal(
                array, np.array([walk(value) for *_, value in expected]).reshape(array.shape)
            )


def test_the_array_is_kept_until_anybody_changes_the_gallery(path: Path) -> None:
    with Gallery.open(path) as mine, Gallery.open(path) as theirs:
        first, records = mine.embeddings()
        assert mine.embeddings()[0] is first
        records.clear()
        assert len(mine.embeddings()[1]) == 3
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 0
        theirs.enroll("Eve", walk(7))
        second = mine.embeddings()[0]
        assert np.array_equal(second[3], walk(7))
        mine.remove("Eve")
        assert len(mine.embeddings()[0]) == len(theirs.embeddings()[0]) == 3


def test_embeddings_are_read_into_one_allocation(tmp_path: Path) -> None:
    embedding = np.random.default_rng(0).standard_normal((16, 256), dtype=np.float32)
    with Gallery.create(tmp_path / "people", MODEL, 16, 256) as gallery:
        gallery.enroll_many(Enrolment(f"{i % 100}", embedding) for i in range(1000))
        tracemalloc.start()
        array = gallery.embeddings()[0]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert array.nbytes == 1000 * 16 * 256 * 4
    assert array.nbytes < peak < 1.1 * array.nbytes


def test_another_model_is_refused(path: Path) -> None:
    for attempt in (
        lambda: Gallery.open(path, OTHER),
        lambda: Gallery.open_or_create(path, OTHER, PARTS, DIM),
    ):
        with pytest.raises(GalleryError) as caught:
            attempt()
        message = str(caught.value)
        assert MODEL[:12] in message
        assert OTHER[:12] in message
        assert "enrol again into a new gallery" in message
        assert MODEL[:13] not in message


def test_open_or_create(tmp_path: Path) -> None:
    path = tmp_path / "people"
    with Gallery.open_or_create(path, MODEL, PARTS, DIM) as gallery:
        gallery.enroll("Ada", walk(0))
    with Gallery.open_or_create(path, MODEL, PARTS, DIM) as gallery:
        assert gallery.subjects() == {"Ada": 1}
    with pytest.raises(GalleryError, match=r"holds embeddings \[4, 8\], not \[16, 8\]"):
        Gallery.open_or_create(path, MODEL, 16, DIM)


def test_create_leaves_what_is_there(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(GalleryError, match="exists already"):
        Gallery.create(path, MODEL, PARTS, DIM)
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", [("", PARTS, DIM), (MODEL, 0, DIM), (MODEL, PARTS, -1)])
def test_create_refuses_what_cannot_be(tmp_path: Path, arguments: Any) -> None:
    for make in (Gallery.create, Gallery.open_or_create):
        with pytest.raises(GalleryError, match="no gallery for model"):
            make(tmp_path / "people", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_opening_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no gallery at"):
        Gallery.open(tmp_path / "people")
    with pytest.raises(GalleryError, match="is not a file"):
        Gallery.open(tmp_path)
    with pytest.raises(GalleryError, match="no folder"):
        Gallery.open_or_create(tmp_path / "none" / "people", MODEL, PARTS, DIM)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_no_gallery_and_can_become_one(tmp_path: Path) -> None:
    path = tmp_path / "people"
    path.touch()
    with pytest.raises(GalleryError, match="is empty"):
        Gallery.open(path)
    assert path.stat().st_size == 0
    with Gallery.open_or_create(path, MODEL, PARTS, DIM) as gallery:
        assert gallery.subjects() == {}


@pytest.mark.parametrize("name", ["a?mode=memory", "a#b", "100%41", "é 山", "a'b\"c;--"])
def test_any_file_name(tmp_path: Path, name: str) -> None:
    with Gallery.create(tmp_path / name, MODEL, PARTS, DIM) as gallery:
        gallery.enroll("Ada", walk(0))
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with Gallery.open(tmp_path / name) as gallery:
        assert gallery.subjects() == {"Ada": 1}


def test_a_relative_path_survives_a_change_of_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with Gallery.open(Path(path.name)) as gallery:
        (path.parent / "elsewhere").mkdir()
        monkeypatch.chdir(path.parent / "elsewhere")
        gallery.enroll("Eve", walk(5))
        assert gallery.stats().subjects == 3
    assert list((path.parent / "elsewhere").iterdir()) == []


def test_export(path: Path, tmp_path: Path) -> None:
    with Gallery.open(path) as gallery:
        gallery.threshold = 0.25
        gallery.export(tmp_path / "people.npz")
        records = gallery.records()
    with np.load(tmp_path / "people.npz", allow_pickle=False) as file:
        assert set(file.files) == {"embeddings", "subjects", "metadata"}
        assert np.array_equal(file["embeddings"], np.stack([walk(0), walk(1), walk(2)]))
        assert file["subjects"].tolist() == ["Ada", "Bob", "Ada"]
        metadata = json.loads(str(file["metadata"]))
    assert [Record(**record) for record in metadata.pop("sequences")] == records
    assert len(metadata.pop("sha256")) == 64
    created = metadata.pop("created")
    assert datetime.fromisoformat(created).tzinfo is not None
    assert metadata == {
        "fingerprint": MODEL,
        "parts": PARTS,
        "dim": DIM,
        "threshold": 0.25,
        "operating_point": None,
    }


def test_export_of_nobody(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "people", MODEL, PARTS, DIM) as gallery:
        gallery.export(tmp_path / "people.npz")
    with np.load(tmp_path / "people.npz", allow_pickle=False) as file:
        assert file["embeddings"].shape == (0, PARTS, DIM)
        assert file["subjects"].shape == (0,)


def test_an_export_that_fails_leaves_the_former_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    (tmp_path / "people.npz").write_bytes(b"former")
    monkeypatch.setattr(np, "savez", full)
    with Gallery.open(path) as gallery, pytest.raises(OSError, match="No space left"):
        gallery.export(tmp_path / "people.npz")
    assert (tmp_path / "people.npz").read_bytes() == b"former"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["people.gallery", "people.npz"]


def test_export_does_not_overwrite_the_gallery(path: Path) -> None:
    Gallery.open(path).close()
    before = path.read_bytes()
    with Gallery.open(path) as gallery, pytest.raises(GalleryError, match="is the gallery itself"):
        gallery.export(path.parent / "." / path.name)
    assert path.read_bytes() == before
