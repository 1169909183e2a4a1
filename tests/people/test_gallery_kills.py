"""kill -9 at any instant: what was committed stays, what was not is not there, and nothing is half done."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.people.gallery import Enrolment, Gallery

MODEL = "ab" * 32
PARTS, DIM = 16, 256
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def walk(value: float) -> NDArray[np.float32]:
    return np.full((PARTS, DIM), value, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gallery.create(tmp_path / "people", MODEL, PARTS, DIM) as gallery:
        gallery.enroll_many([Enrolment("Ada", walk(0)), Enrolment("Bob", walk(1))])
    Gallery.open(tmp_path / "people").close()
    return tmp_path / "people"


def holds_ada_and_bob(path: Path, key: bytes | None = None) -> bool:
    with Gallery.open(path, MODEL, key) as gallery:
        array, records = gallery.embeddings()
    names = [record.subject for record in records]
    return names == ["Ada", "Bob"] and np.array_equal(array, np.stack([walk(0), walk(1)]))


# Says "halted" in the middle of a transaction that has outgrown SQLite's cache, and waits to be killed.
HALTING = """
import sys
import numpy as np
from gaitedge.people import gallery_rows
from gaitedge.people.gallery import Enrolment, Gallery

def halting(*arguments, insert=gallery_rows.insert, inserted=[]):
    inserted.append(1)
    if len(inserted) == 400:
        print("halted", flush=True)
        sys.stdin.read()
    return insert(*arguments)

gallery_rows.insert = halting
with Gallery.open(sys.argv[1]) as gallery:
    gallery.enroll_many([Enrolment("halting", np.full((16, 256), 7, np.float32))] * 500)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_in_mid_transaction_leaves_the_former_content(path: Path, number: signal.Signals) -> None:
    log = path.with_name("people-wal")
    command = [sys.executable, "-c", HALTING, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "halted\n"
        assert log.stat().st_size > 1_000_000  # half of it stands in the log
        process.send_signal(number)
        process.wait(timeout=30)
    assert log.exists() is (number != signal.SIGINT)  # Ctrl-C cleans up by itself
    assert holds_ada_and_bob(path)
    assert not log.exists()
    with Gallery.open(path) as gallery:
        assert gallery.enroll("Eve", walk(2)) == 3


ENROLLING = """
import sys
import numpy as np
from gaitedge.people.gallery import Gallery
with Gallery.open(sys.argv[1]) as gallery:
    for turn in range(1000):
        gallery.enroll(f"person {turn}", np.full((16, 256), turn, np.float32), frames=turn + 1)
        print(turn, flush=True)
"""


@pytest.mark.parametrize("turns", [1, 2, 7, 40])
def test_a_kill_at_full_speed_loses_no_enrolment_that_was_told_of(path: Path, turns: int) -> None:
    command = [sys.executable, "-c", ENROLLING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(turns)]
        process.kill()
        told += [int(line) for line in process.stdout.read().splitlines()]
    with Gallery.open(path, MODEL) as gallery:
        array, records = gallery.embeddings()
        lines = [entry for entry in gallery.audit() if entry.name not in {"Ada", "Bob"}]
    found = [(record.frames or 0) - 1 for record in records[2:]]
    assert found in (told, [*told, len(told)])  # the last one may not have been told of
    assert [(line.action, line.name) for line in lines] == [
        ("create", None),
        *(("enroll", f"person {turn}") for turn in found),
    ]
    assert all(np.array_equal(array[2 + turn], walk(turn)) for turn in found)


def test_a_log_cut_off_at_any_byte_holds_every_commit_before_it(path: Path, tmp_path: Path) -> None:
    """What a kill or a power cut in the middle of writing leaves behind, byte by byte."""
    copy, log = tmp_path / "copy", tmp_path / "people-wal"
    copy.mkdir()
    ends = []
    with Gallery.open(path) as gallery:
        for turn in range(5):
            gallery.enroll(f"person {turn}", walk(turn))
            ends.append(log.stat().st_size)
        shutil.copy(path, copy / "without")
        content = log.read_bytes()
    assert sorted(set(ends)) == ends  # each made the log longer
    lengths = {length for end in ends for length in (end - 4121, end - 4097, end - 24, end - 1, end, end + 1)}
    for length in sorted({0, 1, 31, 32, 33, *range(0, ends[-1], 9973)} | lengths):
        shutil.copy(copy / "without", copy / "people")
        (copy / "people-wal").write_bytes(content[:length])
        with Gallery.open(copy / "people") as gallery:
            expected = sum(end <= length for end in ends)
            assert list(gallery.subjects()) == ["Ada", "Bob", *(f"person {turn}" for turn in range(expected))]
            assert len(gallery.audit()) == 3 + expected


# Kills itself at a given step of SQLite's.
DYING = """
import os, signal, sys
from gaitedge.people.gallery import Gallery
gallery = Gallery.open(sys.argv[1])
steps = []
def step():
    steps.append(1)
    if len(steps) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
gallery._db.set_progress_handler(step, 20)
{change}
gallery.close()
"""


def dies(change: str, path: Path, step: int) -> bool:
    command = [sys.executable, "-c", DYING.format(change=change), str(path), str(step)]
    status = subprocess.run(command, check=False, timeout=60).returncode
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("change", ["gallery.encrypt(bytes(32))", "gallery.remove('Eve')"])
def test_a_kill_at_any_step_of_a_change_leaves_it_whole_or_undone(
    path: Path, tmp_path: Path, change: str
) -> None:
    with Gallery.open(path) as gallery:
        gallery.enroll("Eve", walk(3))
    for step in (1, 2, 3, 5, 8, 12, 18, 26, 40, 70):
        copy = Path(shutil.copy(path, tmp_path / "copy"))
        died = dies(change, copy, step)
        with Gallery.open(copy) as gallery:  # finishes what it finds begun
            done = gallery.encrypted or "Eve" not in gallery.subjects()
            assert gallery.swept
        assert done or died
        assert (walk(3).tobytes()[:2000] in copy.read_bytes()) is not done
        if "remove" in change:
            with Gallery.open(copy) as gallery:
                assert len(gallery.embeddings()[0]) == 3 - done
        else:
            with Gallery.open(copy, MODEL, bytes(32) if done else None) as gallery:
                assert np.array_equal(gallery.embeddings()[0], np.stack([walk(0), walk(1), walk(3)]))
        if step == 1:
            assert died
    assert done


def test_a_kill_during_the_creation(tmp_path: Path) -> None:
    """The file is there, half written: opening undoes it, and the gallery is made anew."""
    code = """
import os, signal, sys
from pathlib import Path
from gaitedge.people import database, gallery_file
connection = database.connect(Path(sys.argv[1]), "rwc")
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
for statement in gallery_file._SCHEMA:
    connection.execute(statement)
connection.executemany("INSERT INTO meta VALUES (?, ?)", [(i, "x" * 2000) for i in range(100)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "people"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.stat().st_size > 0
    with Gallery.open_or_create(path, MODEL, PARTS, DIM) as gallery:
        gallery.enroll("Ada", walk(0))
        assert gallery.subjects() == {"Ada": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["people"]
