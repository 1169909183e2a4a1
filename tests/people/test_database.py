"""Who waits for whom, which journal a file keeps, and what is read where nothing can be written."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import MachineError
from gaitedge.people import database
from gaitedge.people.gallery import Gallery

MODEL = "ab" * 32
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file systems as Linux tells of them")


def walk(value: float) -> NDArray[np.float32]:
    return np.full((4, 8), value, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gallery.create(tmp_path / "people", MODEL, 4, 8) as gallery:
        gallery.enroll("Ada", walk(0))
    Gallery.open(tmp_path / "people").close()
    return tmp_path / "people"


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody who has begun to read and takes his time."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sequences").fetchone()
    yield connection
    connection.close()


def journal(path: Path) -> str:
    with Gallery.open(path) as gallery:
        return gallery.stats().journal


def test_a_reader_holds_no_writer_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT", 0.0)
    with Gallery.open(path) as gallery, reading(path) as reader:
        gallery.enroll("Bob", walk(1))
        gallery.threshold = 1.0
        assert reader.execute("SELECT count(*) FROM sequences").fetchone() == (1,)  # one state, until he ends
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM sequences").fetchone() == (2,)


def test_a_writer_holds_no_reader_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT", 0.0)
    with Gallery.open(path) as writer, Gallery.open(path) as reader:
        with writer.all_or_nothing():
            writer.enroll("Bob", walk(1))
            assert len(reader.embeddings()[0]) == 1
            with pytest.raises(MachineError, match="kept it locked"):
                reader.enroll("Eve", walk(2))
        assert len(reader.embeddings()[0]) == 2


def test_a_removal_that_a_reader_holds_up_is_finished_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SWEEP_WAIT", 0.0)
    with Gallery.open(path) as gallery:
        gallery.enroll("Bob", walk(1))
        with reading(path) as reader:
            assert gallery.remove("Bob") == 1
            assert gallery.subjects() == {"Ada": 1}
            assert not gallery.swept
            with Gallery.open(path) as other:  # does not wait for the reader either
                assert not other.swept
            reader.execute("COMMIT")
            gallery.threshold = 1.0
            assert gallery.swept
        assert walk(1).tobytes() not in path.read_bytes()


def test_a_gallery_in_the_old_journal_is_converted_when_nobody_is_in_the_way(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        connection.execute("BEGIN IMMEDIATE")
        with Gallery.open(path) as gallery:  # at once, although somebody is in the way
            assert gallery.subjects() == {"Ada": 1}
            assert gallery.stats().journal == "delete"
        connection.execute("ROLLBACK")
        assert journal(path) == "wal"


def without_shared_memory(connect: Callable[..., Any]) -> Callable[..., Any]:
    """sqlite3.connect with a file layer that gives no shared memory."""
    return lambda address, /, **options: connect(f"{address}&vfs=unix-dotfile", **options)


@linux
@pytest.mark.parametrize("real", [True, False], ids=["network", "no shared memory at all"])
def test_where_computers_share_no_memory(
    real: bool, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mounts = path.with_name("mounts")
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:1 / {path.parent} rw,relatime shared:1 - nfs4 server:/people rw\n"
        f"3 1 0:1 / {path.parent}x rw - ext4 /dev/sdb rw\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(database, "MOUNTS", mounts)
        if not real:
            patch.setattr(sqlite3, "connect", without_shared_memory(sqlite3.connect))
        with caplog.at_level(logging.WARNING):
            assert journal(path) == "delete"
            assert [record.getMessage().split(" lies ")[0] for record in caplog.records] == [
                f"gaitedge: {path}"
            ]
            assert journal(path) == "delete"
            assert len(caplog.records) == 1  # said once
        with Gallery.open(path) as one, Gallery.open(path) as two:
            one.enroll("Bob", walk(1))
            assert two.subjects() == {"Ada": 1, "Bob": 1}
            assert two.remove("Bob") == 1
            assert not path.with_name("people-shm").exists()
    assert journal(path) == "wal"  # back on a disk of its own


def frozen(path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """A gallery opened by somebody who may not write."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_, **__: False)
        return Gallery.open(path)


def test_a_frozen_gallery_leaves_no_trace_and_sees_changes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    with frozen(path, monkeypatch) as reader:
        assert reader.subjects() == {"Ada": 1}
        assert [file.name for file in path.parent.iterdir()] == ["people"]
        assert path.read_bytes() == before
        assert len(reader.embeddings()[0]) == 1
        with Gallery.open(path) as writer:
            writer.enroll("Bob", walk(1))
            assert len(reader.embeddings()[0]) == 2  # although it stands in the log only
        assert reader.subjects() == {"Ada": 1, "Bob": 1}


def test_a_frozen_gallery_that_changes_under_a_reading_is_no_result(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with frozen(path, monkeypatch) as reader:
        with (
            pytest.raises(MachineError, match="changed while it was read"),
            reader._reading(),
            Gallery.open(path) as writer,
        ):
            writer.enroll("Bob", walk(1))
        assert len(reader.embeddings()[0]) == 2


def test_a_log_beside_a_file_that_may_not_be_written_is_not_left_out(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest enrolments stand in the log: to read the file as it stands would lose them."""
    copy = tmp_path / "copy"
    copy.mkdir()
    with Gallery.open(path) as gallery:
        gallery.enroll("Bob", walk(1))
        for name in ("people", "people-wal"):
            shutil.copy(tmp_path / name, copy / name)
    with frozen(copy / "people", monkeypatch) as gallery:
        assert gallery.subjects() == {"Ada": 1, "Bob": 1}
