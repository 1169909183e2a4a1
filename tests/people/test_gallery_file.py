"""What the file withstands: other processes, a full disk, read-only places, damage."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gaitedge.errors import GalleryError, MachineError
from gaitedge.people import database
from gaitedge.people.gallery import Enrolment, Gallery
from gaitedge.people.gallery_file import APPLICATION_ID, SCHEMA_VERSION

MODEL = "ab" * 32
PARTS, DIM = 16, 256
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and permissions")

# Stops in the middle of a transaction.
HALTING = """
import sys, time
import numpy as np
from gaitedge.people import gallery_rows
from gaitedge.people.gallery import Enrolment, Gallery

def halting(*arguments, insert=gallery_rows.insert, inserted=[]):
    inserted.append(1)
    if len(inserted) == int(sys.argv[2]):
        print("halted", flush=True)
        time.sleep(float(sys.argv[3]))
    return insert(*arguments)

gallery_rows.insert = halting
embedding = np.full((16, 256), 7, np.float32)
with Gallery.open(sys.argv[1]) as gallery:
    gallery.enroll_many([Enrolment("halting", embedding)] * (int(sys.argv[2]) + 1))
"""


def walk(value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((PARTS, DIM), value, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gallery.create(tmp_path / "people", MODEL, PARTS, DIM) as gallery:
        gallery.enroll_many([Enrolment("Ada", walk(0)), Enrolment("Bob", walk(1))])
    return tmp_path / "people"


@contextlib.contextmanager
def halting(path: Path, after: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HALTING, str(path), str(after), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "halted\n"
        yield process
        process.kill()


def read(path: Path) -> float | None:
    with Gallery.open(path) as gallery:
        gallery.embeddings()
        return gallery.threshold


def holds_ada_and_bob(path: Path) -> bool:
    with Gallery.open(path, MODEL) as gallery:
        array, records = gallery.embeddings()
    names = [record.subject for record in records]
    return names == ["Ada", "Bob"] and np.array_equal(array, np.stack([walk(0), walk(1)]))


def test_a_second_process_waits_for_the_first(path: Path) -> None:
    with halting(path, 3, 1.5) as process, Gallery.open(path) as gallery:
        number = gallery.enroll("Eve", walk(2))
        assert process.wait(timeout=30) == 0
        assert gallery.subjects() == {"Ada": 1, "Bob": 1, "Eve": 1, "halting": 4}
        assert number == 7  # after the first one's four


def test_a_change_that_starts_with_reading_waits_too(path: Path) -> None:
    """With a mere read lock, each would wait for the other, and SQLite would give one up at once."""
    with halting(path, 3, 1.0) as process, Gallery.open(path) as gallery:
        assert gallery.remove("Ada") == 1
        assert process.wait(timeout=30) == 0
        assert gallery.subjects() == {"Bob": 1, "halting": 4}


def test_a_process_that_waits_in_vain_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT", 0.3)
    with halting(path, 3, 60), Gallery.open(path) as gallery:
        with pytest.raises(MachineError, match="another process kept it locked") as caught:
            gallery.enroll("Eve", walk(2))
        assert "\n" not in str(caught.value)
        assert gallery.subjects() == {"Ada": 1, "Bob": 1}  # reading goes on
        assert not gallery._db.in_transaction


def test_processes_that_enrol_at_once_lose_nothing(tmp_path: Path) -> None:
    """Four processes make the same gallery, each enrolling, and one of them removing, walk by walk."""
    code = """
import sys, time
from pathlib import Path
import numpy as np
from gaitedge.people.gallery import Gallery
path, me = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(8):
    with Gallery.open_or_create(path, "ab" * 32, 16, 256) as gallery:
        gallery.enroll(f"person {me}", np.full((16, 256), 100 * me + turn, np.float32), frames=turn + 1)
        gallery.enroll(f"passer-by {me}", np.zeros((16, 256), np.float32))
        assert gallery.remove(f"passer-by {me}") == 1
"""
    path = tmp_path / "people"
    command = [sys.executable, "-c", code, str(path)]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for me in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(timeout=60) for process in processes] == [0] * 4
    with Gallery.open(path) as gallery:
        array, records = gallery.embeddings()
        assert gallery.subjects() == {f"person {me}": 8 for me in range(4)}
    for embedding, record in zip(array, records, strict=True):
        assert record.frames is not None
        expected = 100 * int(record.subject.split()[1]) + record.frames - 1
        assert np.array_equal(embedding, walk(expected))
    assert [file.name for file in tmp_path.iterdir()] == ["people"]


def test_a_full_disk_leaves_the_gallery_as_it_was(path: Path) -> None:
    before = path.read_bytes()
    with Gallery.open(path) as gallery:
        pages = gallery._db.execute("PRAGMA page_count").fetchone()[0]
        gallery._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        for attempt in ([walk(2)], [walk(2)] * 500):
            with pytest.raises(MachineError, match="the disk is full") as caught:
                gallery.enroll_many([Enrolment("Eve", embedding) for embedding in attempt])
            assert "\n" not in str(caught.value)
            assert gallery.subjects() == {"Ada": 1, "Bob": 1}
        gallery._db.execute(f"PRAGMA max_page_count = {pages + 100}")
        gallery.enroll("Eve", walk(2))  # there is room again
        gallery.remove("Eve")
    assert holds_ada_and_bob(path)
    assert len(before) <= path.stat().st_size


def test_a_full_disk_at_the_creation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def tiny(*arguments: object, **keywords: object) -> sqlite3.Connection:
        connection = connect(*arguments, **keywords)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 2")
        return connection  # type: ignore[no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", tiny)
        with pytest.raises(MachineError, match="the disk is full"):
            Gallery.create(tmp_path / "people", MODEL, PARTS, DIM)
    Gallery.create(tmp_path / "people", MODEL, PARTS, DIM).close()  # what was left is no hindrance


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a gallery in it, in which this process has only the rights that the mode gives."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    with Gallery.create(folder / "people", MODEL, PARTS, DIM) as gallery:
        gallery.enroll_many([Enrolment("Ada", walk(0)), Enrolment("Bob", walk(1))])
    root = sys.platform != "win32" and os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may write anywhere
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o777)
        shutil.rmtree(folder)


def protect(file: Path, mode: int) -> None:
    """chmod by the owner, whoever this process is just now."""
    user = os.geteuid()
    if file.stat().st_uid != user:
        os.seteuid(file.stat().st_uid)
    file.chmod(mode)
    os.seteuid(user)


@posix
@pytest.mark.parametrize(
    ("file", "folder"),
    [(0o444, 0o777), (0o666, 0o555), (0o444, 0o555)],
    ids=["file", "folder", "both"],
)
def test_a_read_only_gallery_can_be_read(place: Path, file: int, folder: int) -> None:
    protect(place / "people", file)
    protect(place, folder)
    with Gallery.open(place / "people") as gallery:
        for change in (
            lambda: gallery.enroll("Eve", walk(2)),
            lambda: gallery.remove("Ada"),
            lambda: setattr(gallery, "threshold", 1.0),
        ):
            with pytest.raises(MachineError, match="read-only, or its folder is") as caught:
                change()
            assert "\n" not in str(caught.value)
    assert holds_ada_and_bob(place / "people")


@posix
def test_an_unreadable_gallery(place: Path) -> None:
    protect(place / "people", 0)
    with pytest.raises(MachineError, match="cannot be opened"):
        Gallery.open(place / "people")


@posix
def test_no_gallery_can_be_made_in_a_read_only_folder(place: Path) -> None:
    protect(place, 0o555)
    with pytest.raises(MachineError, match="cannot be opened"):
        Gallery.create(place / "more", MODEL, PARTS, DIM)
    assert [file.name for file in place.iterdir()] == ["people"]


@pytest.mark.parametrize("left", [1, 15, 16, 99, 100, 511, 512, 4095, 4096, 4097, 0.5, 0.9, -4096, -1])
def test_a_truncated_gallery_is_refused(path: Path, left: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.raises(GalleryError, match="damaged") as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"no gallery\n" * 100, b"\x89PNG\r\n\x1a\n" + bytes(5000), bytes(8192)])
def test_another_file_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for attempt in (lambda: Gallery.open(path), lambda: Gallery.open_or_create(path, MODEL, PARTS, DIM)):
        with pytest.raises(GalleryError, match="damaged or no gallery"):
            attempt()
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["people"]


def test_another_database_is_refused_and_left_alone(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE subjects (name)")
    before = path.read_bytes()
    for attempt in (lambda: Gallery.open(path), lambda: Gallery.open_or_create(path, MODEL, PARTS, DIM)):
        with pytest.raises(GalleryError, match="is no gallery: another program's database"):
            attempt()
    assert path.read_bytes() == before


def test_a_newer_gallery_is_refused(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(GalleryError, match="is a gallery of version 3, this GaitEdge reads up to 2"):
        Gallery.open(path)


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE meta",
        "DELETE FROM meta WHERE key = 'fingerprint'",
        "DELETE FROM meta WHERE key = 'created'",
        "UPDATE meta SET value = 'many' WHERE key = 'parts'",
        "UPDATE meta SET value = 0 WHERE key = 'dim'",
        "PRAGMA user_version = 0",
        "INSERT INTO meta VALUES ('threshold', 'low')",
        "UPDATE sequences SET embedding = substr(embedding, 5) WHERE id = 1",
        "UPDATE sequences SET embedding = 'text' WHERE id = 1",
        "UPDATE sequences SET embedding = x'0000c07f' || substr(embedding, 5) WHERE id = 2",
        "DELETE FROM subjects WHERE name = 'Ada'",
        "UPDATE subjects SET name = CAST(x'ff' AS TEXT)",
        "UPDATE subjects SET name = x'ff'",
        "UPDATE sequences SET enrolled_at = x'00'",
        "DROP TABLE sequences",
    ],
)
def test_a_gallery_that_was_tampered_with(path: Path, change: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # Both Ada's and Bob's name cannot become the same one: one name is enough.
        connection.execute(change + (" WHERE name = 'Ada'" if change.startswith("UPDATE subjects") else ""))
        connection.commit()
    with pytest.raises(GalleryError, match="damaged") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"), [(b"TABLE sequences", b"TA\xffLE sequences"), (b"condition TEXT", b"conditiom TEXT")]
)
def test_a_damaged_schema(old: bytes, new: bytes, path: Path) -> None:
    """Python cannot even decode what SQLite says of the first."""
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    with pytest.raises(GalleryError, match="damaged"), Gallery.open(path) as gallery:
        gallery.enroll("Eve", walk(0.0))


def test_the_file_says_what_it_is(path: Path) -> None:
    assert path.read_bytes()[68:72] == b"GAIT" == APPLICATION_ID.to_bytes(4, "big")
    with Gallery.open(path) as gallery:
        assert gallery.stats().journal == "wal"
        assert gallery._db.execute("PRAGMA synchronous").fetchone()[0] == 3  # EXTRA
        assert gallery._db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_fault_of_ours_keeps_its_traceback(path: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(sqlite3.OperationalError, match="syntax error"),
        database.sqlite_errors(path),
    ):
        connection.execute("SELEC 1")
