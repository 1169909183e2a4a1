"""Galleries that an earlier GaitEdge wrote keep everything."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.people import database
from gaitedge.people.gallery import Gallery, Record

MODEL = "ab" * 32
SCHEMA_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value)",
    "CREATE TABLE subjects (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE sequences (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        subject INTEGER NOT NULL REFERENCES subjects (id),
        enrolled_at TEXT NOT NULL,
        condition TEXT,
        view TEXT,
        frames INTEGER,
        source TEXT,
        embedding BLOB NOT NULL
    )""",
    "CREATE INDEX sequences_of_subject ON sequences (subject)",
    "PRAGMA application_id = 0x47414954",
    "PRAGMA user_version = 1",
)
RECORDS = [
    Record(1, "Ada", "2025-01-01T00:00:00+00:00", "nm-01", "090", 42, "a folder"),
    Record(2, "Bob", "2025-01-02T00:00:00+00:00", None, None, None, None),
    Record(4, "Ada", "2025-01-03T00:00:00+00:00", "bg-01", None, 7, None),
]


def walk(value: float) -> NDArray[np.float32]:
    return np.full((4, 8), value, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """As version 1 is on a disk, its third enrolment removed again."""
    path = tmp_path / "people"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in SCHEMA_1:
            connection.execute(statement)
        meta = {"fingerprint": MODEL, "parts": 4, "dim": 8, "created": "2024-12-31T00:00:00+00:00"}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", {**meta, "threshold": 1.5}.items())
        connection.executemany("INSERT INTO subjects VALUES (?, ?)", [(1, "Ada"), (2, "Bob")])
        connection.executemany(
            "INSERT INTO sequences VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(r.id, 1 if r.subject == "Ada" else 2, r.enrolled_at, r.condition, r.view),
                    *(r.frames, r.source, walk(r.id).tobytes()),
                )
                for r in RECORDS
            ],
        )
    return path


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return found


def test_reading_keeps_everything_and_the_version(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        array, records = gallery.embeddings()
        assert records == RECORDS
        assert np.array_equal(array, np.stack([walk(1), walk(2), walk(4)]))
        assert (gallery.threshold, gallery.operating_point) == (1.5, None)
        assert (gallery.created, gallery.audit()) == ("2024-12-31T00:00:00+00:00", [])
        assert gallery.stats().journal == "wal"
        assert not gallery.encrypted
        assert gallery.swept
    assert version(path) == 1


def test_the_first_change_brings_it_to_this_version(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        assert gallery.enroll("Ada", walk(5)) == 5
        assert gallery.enroll("Eve", walk(6)) == 6
        array, records = gallery.embeddings()
        assert records[:3] == RECORDS
        assert np.array_equal(array, np.stack([walk(1), walk(2), walk(4), walk(5), walk(6)]))
        assert gallery.threshold == 1.5
        lines = [(line.action, line.subject, line.name) for line in gallery.audit()]
        assert lines == [("upgrade", None, None), ("enroll", 1, "Ada"), ("enroll", 3, "Eve")]
        assert gallery.remove("Bob") == 1
        gallery.enroll("Bob", walk(7))
        assert gallery.subject_number("Bob") == 4  # 2 and 3 have been others
    assert version(path) == 2


def test_a_change_that_is_undone_leaves_the_version(path: Path) -> None:
    with (
        contextlib.suppress(KeyboardInterrupt),
        Gallery.open(path) as gallery,
        gallery.all_or_nothing(),
    ):
        gallery.remove("Ada")
        raise KeyboardInterrupt
    assert version(path) == 1
    with Gallery.open(path) as gallery:
        assert gallery.records() == RECORDS


def test_on_a_read_only_medium(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with Gallery.open(path, MODEL) as gallery:
        assert gallery.embeddings()[1] == RECORDS
        assert gallery.audit() == []
    assert path.read_bytes() == before


def test_a_journal_that_a_kill_left_behind_is_played_back(path: Path, tmp_path: Path) -> None:
    """What version 1 did when it was killed in the middle of a change."""
    connection = database.connect(path, "rw")
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO subjects (name) VALUES (?)", [(f"{i:0500}",) for i in range(200)])
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("people", "people-journal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    connection.execute("ROLLBACK")
    connection.close()
    assert (copy / "people").read_bytes() != path.read_bytes()
    with Gallery.open(copy / "people") as gallery:
        assert gallery.records() == RECORDS
        assert list(gallery.subjects()) == ["Ada", "Bob"]
