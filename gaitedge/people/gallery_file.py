"""The gallery's file: its schema, opening it, transactions, and SQLite's errors in one clear line.

The rollback journal (journal_mode=DELETE, synchronous=EXTRA) rather than the write-ahead log,
because a gallery lives on cheap SD cards and network drives. The log needs memory that every
process shares, which a network drive does not give; and the newest embeddings would stand in a
second file, which is lost by whoever copies only the first. With the rollback journal the file
alone is the gallery whenever nobody writes, a commit is on the disk before it returns, and what a
kill or a power cut leaves behind is undone by the next process that opens the file.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from gaitedge.errors import GalleryError, MachineError

__all__ = ["check_format", "connect", "make_schema", "sqlite_errors", "transaction"]

APPLICATION_ID = 0x47414954  # "GAIT", at byte 68 of the file
SCHEMA_VERSION = 1
WAIT = 30.0  # seconds that a process waits for another one's transaction

# The embedding comes last: a row's other columns are then read without its overflow pages.
# AUTOINCREMENT: the number of a removed sequence is not given to another one.
_SCHEMA = (
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
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

# SQLite's result codes have no attribute before Python 3.11: its messages are matched, in lower case.
_DAMAGED = (
    "not a database",
    "malformed",
    "no such table",
    "no such column",
    "unsupported file format",
    "could not decode",
)
_MACHINE = {
    "disk is full": "the disk is full; the gallery is as it was before",
    "is locked": f"another process kept it locked for {WAIT:.0f} s; try again",
    "readonly": "it is read-only, or its folder is: writing needs both",
    "unable to open": "it cannot be opened: check the permissions of the file and of its folder",
    "disk i/o error": "the disk failed to read or write; the gallery is as the last complete change left it",
}


class _Connection(sqlite3.Connection):
    """Waits for another process's transaction here and not in SQLite, where Ctrl-C would wait as well."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        end = time.monotonic() + WAIT
        while True:
            try:
                return super().execute(*arguments)
            except sqlite3.OperationalError as error:
                if "is locked" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(0.02)


def connect(path: Path, mode: Literal["rw", "rwc"]) -> sqlite3.Connection:
    """Open `path`; "rwc" makes an empty file where there is none, "rw" never does.

    A file that the system lets nobody write is opened for reading.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=0.1,  # of the whole WAIT
        isolation_level=None,
        factory=_Connection,
    )
    for setting in (
        "synchronous = EXTRA",
        "foreign_keys = ON",
        "secure_delete = ON",  # whoever is removed is gone from the file's free pages too
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {setting}")
    return connection


def make_schema(connection: sqlite3.Connection, meta: dict[str, str | int]) -> bool:
    """Turn an empty file into an empty gallery, whole or not at all.

    False where it is not empty any more: another process was first.
    """
    with transaction(connection):
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return False
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        return True


def check_format(path: Path, connection: sqlite3.Connection) -> None:
    """Raise GalleryError unless the file is a whole gallery of a version that this code reads."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise GalleryError(f"{path} is no gallery: another program's database, or a damaged one")
    with transaction(connection, "DEFERRED"):
        # Reading the count takes the lock under which nobody changes the size. SQLite misses whole
        # pages by itself, but reads a last page that was cut off as one that ends with zeros.
        size = connection.execute(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        ).fetchone()[0]
        if path.stat().st_size < size:
            raise GalleryError(f"{path} is damaged: it is cut off before its end; restore a copy of it")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise GalleryError(
            f"{path} is a gallery of version {version}, this GaitEdge reads up to {SCHEMA_VERSION}: "
            "update it with pip install --upgrade gaitedge"
        )
    if version < 1:
        raise GalleryError(f"{path} is a damaged gallery: version {version}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """All or nothing: committed at the end, rolled back on any exception, Ctrl-C included.

    Inside another transaction it is a part of that one.
    IMMEDIATE takes the write lock at once, waiting for it, so that no two writers can each hold
    a read lock that the other one waits for. DEFERRED is a snapshot for reading.
    """
    if connection.in_transaction:
        yield
        return
    try:
        connection.execute(f"BEGIN {kind}")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back by itself where the disk was full
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a file or a machine into GalleryError or MachineError.

    Anything else that it says is a bug and passes.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        message = str(error).lower()
        for words, meaning in _MACHINE.items():
            if words in message:
                raise MachineError(f"{path}: {meaning}") from None
        if any(words in message for words in _DAMAGED):
            raise GalleryError(
                f"{path} is damaged or no gallery (SQLite: {error}); restore a copy of it"
            ) from None
        raise
