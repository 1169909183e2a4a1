from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.people import audit
from gaitedge.people.gallery import Enrolment, Gallery, import_file

MODEL = "ab" * 32


def walk(value: float) -> NDArray[np.float32]:
    return np.full((4, 8), value, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gallery.create(tmp_path / "people", MODEL, 4, 8) as gallery:
        gallery.enroll_many([Enrolment("Ada", walk(0)), Enrolment("Bob", walk(1)), Enrolment("Ada", walk(2))])
    return tmp_path / "people"


def test_every_change_is_told_and_no_reading(path: Path, tmp_path: Path) -> None:
    with Gallery.open(path) as gallery:
        gallery.threshold = 1.5
        gallery.set_operating_point(1.25, {"rate": 0.01})
        gallery.remove("Ada")
        gallery.encrypt(bytes(32))
        gallery.embeddings()
        gallery.subjects()
        gallery.decrypt()
        gallery.export(tmp_path / "people.npz")
        gallery.enroll("Ada", walk(3))
    import_file(path, tmp_path / "people.npz")
    with Gallery.open(path) as gallery:
        lines = gallery.audit()
    assert [line.number for line in lines] == list(range(1, 11))
    assert [(line.action, line.subject, line.name, line.sequences) for line in lines] == [
        ("create", None, None, None),
        ("enroll", 1, None, 2),  # the first Ada: gone, and so is her name
        ("enroll", 2, "Bob", 1),
        ("threshold", None, None, None),
        ("threshold", None, None, None),
        ("remove", 1, None, 2),
        ("encrypt", None, None, 1),
        ("decrypt", None, None, 1),
        ("export", None, None, 1),
        ("enroll", 3, "Ada", 1),  # somebody else, as far as the table knows
    ]
    assert [line.details for line in lines[3:5]] == ["1.5", "1.25"]
    assert lines[8].details is not None
    assert lines[8].details.startswith("sha256 ")
    assert all(datetime.fromisoformat(line.at).utcoffset() is not None for line in lines)


def test_what_was_undone_is_not_told(path: Path) -> None:
    with Gallery.open(path) as gallery:
        before = gallery.audit()
        with contextlib.suppress(KeyboardInterrupt), gallery.all_or_nothing():
            gallery.enroll("Eve", walk(3))
            assert len(gallery.audit()) == len(before) + 1
            raise KeyboardInterrupt
        assert gallery.audit() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit WHERE number = 2",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit (number, at, who, action) VALUES (2, '', 'nobody', 'enroll')",
        "REPLACE INTO audit (number, at, who, action) SELECT number, at, 'nobody', action FROM audit",
    ],
)
def test_a_line_cannot_be_changed(statement: str, path: Path) -> None:
    with Gallery.open(path) as gallery:
        before = gallery.audit()
        with pytest.raises(sqlite3.IntegrityError, match="the audit table is append-only"):
            gallery._db.execute(statement)
        assert gallery.audit() == before


def test_a_clock_that_goes_backwards_changes_no_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery.open(path) as gallery:
        for year in (2031, 1970, 2029):
            monkeypatch.setattr(audit, "utc_now", lambda year=year: f"{year}-01-01T00:00:00+00:00")
            gallery.threshold = year
        lines = gallery.audit()[-3:]
    assert [line.details for line in lines] == ["2031.0", "1970.0", "2029.0"]
    assert [line.at[:4] for line in lines] == ["2031", "1970", "2029"]
    assert [line.number for line in lines] == [4, 5, 6]


@pytest.mark.skipif(sys.platform == "win32", reason="users as POSIX knows them")
def test_the_user_is_the_system_s_and_not_the_environment_s(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pwd

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    with Gallery.open(path) as gallery:
        gallery.threshold = 1
        assert gallery.audit()[-1].who == pwd.getpwuid(os.geteuid()).pw_name
        monkeypatch.setattr(os, "geteuid", lambda: 3_999_999_999)
        gallery.threshold = 2
        assert gallery.audit()[-1].who == "uid 3999999999"
