"""Two commands at one gallery: nobody is lost, who changes it waits, who reads it does not."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import apart, contents, remains, succeed
from processes import ENVIRONMENT, check_interrupted, finish, linux, press, start

from gaitedge.people.gallery import Gallery

pytestmark = linux


@contextlib.contextmanager
def locked(gallery: Path) -> Iterator[None]:
    """Another process's change of a gallery that takes its time."""
    connection = sqlite3.connect(gallery, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@pytest.mark.parametrize("anew", [False, True])
def test_processes_that_enrol_at_once(
    anew: bool, bundle: Path, people: Path, raw: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "new.db" if anew else people
    names = ["Ada", "Bob", "Eve"]
    with contextlib.nullcontext() if anew else locked(gallery):
        processes = [
            start("enroll", bundle, gallery, raw / "001" / "nm-01" / "090", "--id", name) for name in names
        ]
        if not anew:
            time.sleep(1.5)
            assert [process.poll() for process in processes] == [None] * 3  # they wait for their turn
    for process, name in zip(processes, names, strict=True):
        done = finish(process)
        assert (done.status, done.stderr) == (0, "")
        assert f"of {name} into" in done.stdout
    with Gallery.open(gallery) as opened:
        assert dict.fromkeys(names, 1).items() <= opened.subjects().items()
    assert remains(tmp_path) == []


def test_another_process_makes_the_gallery_first(
    bundle: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, path = os.link, tmp_path / "new.db"

    def late(source: Path, target: Path) -> None:
        monkeypatch.undo()
        succeed("enroll", bundle, path, f"{store}:001/nm-01")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    succeed("enroll", bundle, path, f"{store}:002/nm-01")
    with Gallery.open(path) as opened:
        assert opened.subjects() == {"001": 2, "002": 2}
    assert list(contents(tmp_path)) == ["new.db"]


def test_a_disk_without_hard_links(
    bundle: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(source), None, str(target))

    monkeypatch.setattr(os, "link", refuse)
    succeed("enroll", bundle, tmp_path / "new.db", f"{store}:002/nm-01")
    succeed("enroll", bundle, tmp_path / "new.db", f"{store}:001/nm-01")
    assert list(contents(tmp_path)) == ["new.db"]
    assert succeed("gallery", "list", tmp_path / "new.db", "--json").json == {"001": 2, "002": 2}


def test_who_waits_for_a_gallery_can_be_interrupted(bundle: Path, people: Path, raw: Path) -> None:
    with locked(people):
        process = start("enroll", bundle, people, raw / "001" / "nm-01" / "090", "--id", "Ada")
        time.sleep(2)
        assert process.poll() is None
        assert check_interrupted(press(process))  # while the lock is held
    with Gallery.open(people) as opened:
        assert "Ada" not in opened.subjects()


def test_identifying_does_not_wait_for_who_enrols(bundle: Path, people: Path, store: Path) -> None:
    with locked(people):
        done = apart("identify", bundle, people, f"{store}:001/nm-01/090", env=ENVIRONMENT)
    assert (done.status, done.stderr) == (0, "")
    assert "001" in done.stdout
