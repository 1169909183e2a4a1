"""Removal removes: not a byte of an embedding or a name stays in the file, its log or its index."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from gaitedge.errors import InputError
from gaitedge.people import audit, database, enrolment, gallery_session
from gaitedge.people.gallery import Enrolment, Gallery

MODEL = "ab" * 32
RNG = np.random.default_rng(0)
NAMES = [f"person number {number:04d} of the town" for number in RNG.permutation(400)]
WALKS = RNG.standard_normal((400, 4, 8), dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gallery.create(tmp_path / "people", MODEL, 4, 8) as gallery:
        for start in range(0, 400, 50):  # so that pages fill up, split and move
            block = zip(NAMES[start : start + 50], WALKS[start : start + 50], strict=True)
            gallery.enroll_many([Enrolment(name, walk, source=f"of {name}") for name, walk in block])
    Gallery.open(tmp_path / "people").close()
    return tmp_path / "people"


def everything(path: Path) -> bytes:
    """Of the file and of whatever stands beside it."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"*{path.name}*")))


def traces(path: Path, which: list[int]) -> list[str]:
    content = everything(path)
    return [
        NAMES[number]
        for number in which
        if NAMES[number].encode() in content or WALKS[number].tobytes() in content
    ]


@pytest.mark.parametrize("log", [True, False], ids=["log", "rollback journal"])
def test_no_byte_of_who_was_removed_stays(log: bool, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not log:
        monkeypatch.setattr(database, "_lies_on_a_network", lambda path: True)
    which = [3, 77, 250, 399]
    with Gallery.open(path) as gallery:
        assert gallery.stats().journal == ("wal" if log else "delete")
        gallery.enroll("another", WALKS[0])  # so that there is something in the log
        assert len(traces(path, which)) == 4
        for number in which:
            gallery.remove(NAMES[number])
        assert gallery.swept
        assert traces(path, which) == []  # the gallery is open still
    assert traces(path, which) == []
    assert len(traces(path, list(range(400)))) == 396
    with Gallery.open(path) as gallery:
        assert gallery._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_many_removals_in_one_change_are_swept_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps, before = [], path.stat().st_size
    monkeypatch.setattr(
        gallery_session, "sweep", lambda *arguments: sweeps.append(1) or database.sweep(*arguments)
    )
    with Gallery.open(path) as gallery:
        with gallery.all_or_nothing():
            for number in range(100):
                gallery.remove(NAMES[number])
        gallery.threshold = 1.0
    assert sweeps == [1]
    assert path.stat().st_size < before  # the room is given back
    assert traces(path, list(range(100))) == []


def test_a_removal_that_is_taken_back_removes_nothing(path: Path) -> None:
    def change(gallery: Gallery) -> None:
        with gallery.all_or_nothing():
            gallery.remove(NAMES[0])
            raise KeyboardInterrupt

    with Gallery.open(path) as gallery:
        with pytest.raises(KeyboardInterrupt):
            change(gallery)
        assert gallery.swept
        assert gallery.subjects()[NAMES[0]] == 1


Clock = Callable[[datetime], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the clock of the machine."""
    from gaitedge.people import gallery

    def set_clock(moment: datetime) -> None:
        for module in (audit, enrolment, gallery):
            monkeypatch.setattr(module, "utc_now", lambda: moment.isoformat(timespec="seconds"))

    return set_clock


def test_expiry_takes_what_is_old_and_leaves_the_rest(tmp_path: Path, clock: Clock) -> None:
    new_year = datetime(2026, 1, 1, tzinfo=timezone.utc)
    path = tmp_path / "people"
    with Gallery.create(path, MODEL, 4, 8) as gallery:
        for day, name in enumerate(["Ada", "Bob", "Ada", "Eve"]):
            clock(new_year + timedelta(days=day))
            gallery.enroll(name, WALKS[day])
        before = new_year + timedelta(days=2)
        for _ in range(2):
            assert gallery.expire(before, dry_run=True) == {"Ada": 1, "Bob": 1}
        assert gallery.subjects() == {"Ada": 2, "Bob": 1, "Eve": 1}
        written = len(gallery.audit())
        assert gallery.expire(before) == {"Ada": 1, "Bob": 1}
        assert gallery.subjects() == {"Ada": 1, "Eve": 1}
        assert gallery.expire(before) == {}
        assert gallery.swept
        lines = [(line.action, line.name, line.sequences, line.details) for line in gallery.audit()[written:]]
        why = "enrolled before 2026-01-03T00:00:00+00:00"
        assert lines == [("expire", "Ada", 1, why), ("expire", None, 1, why)]
        content = everything(path)
        assert [walk.tobytes() in content for walk in WALKS[:4]] == [False, False, True, True]
        assert b"Bob" not in content


def test_expiry_compares_moments_and_not_texts(tmp_path: Path, clock: Clock) -> None:
    clock(datetime(2026, 1, 1, 11, 30, tzinfo=timezone.utc))
    with Gallery.create(tmp_path / "people", MODEL, 4, 8) as gallery:
        gallery.enroll("Ada", WALKS[0])
        east = timezone(timedelta(hours=9))
        assert gallery.expire(datetime(2026, 1, 1, 20, 30, tzinfo=east)) == {}
        assert gallery.expire(datetime(2026, 1, 1, 20, 31, tzinfo=east), dry_run=True) == {"Ada": 1}
        with pytest.raises(InputError, match="has no time zone"):
            gallery.expire(datetime(2026, 1, 1))
