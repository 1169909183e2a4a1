"""The gallery's file: its schema, how an empty one is made, what is checked in one that exists."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gaitedge.errors import GalleryError
from gaitedge.people import audit
from gaitedge.people.database import (
    Connection,
    connect,
    is_unfinished,
    open_file,
    sqlite_errors,
    transaction,
)

__all__ = ["is_empty", "make_file", "open_gallery_file", "upgrade"]

APPLICATION_ID = 0x47414954  # "GAIT", at byte 68 of the file
SCHEMA_VERSION = 2
"""1: galleries before the audit table. 2: with it; an embedding may be encrypted."""

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
    *audit.SCHEMA,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def make_file(path: Path, meta: dict[str, str | int | bytes]) -> bool:
    """Make an empty gallery that only this user may read and write, whole or not at all.

    `path` is free or an empty file. False where it is not empty any more: another process was first.
    It keeps a rollback journal as long as its maker has it open, so that the file alone is the gallery, and
    can be given its name by a link once somebody is enrolled in it.
    """
    _make_private(path)
    with sqlite_errors(path), contextlib.closing(connect(path, "rwc")) as connection, transaction(connection):
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return False
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        audit.append(connection, "create")
        return True


def open_gallery_file(path: Path) -> Connection:
    """Open a gallery that exists and check its format.

    Raises GalleryError where the file is missing, no gallery, damaged, or of a newer GaitEdge.
    """
    if not path.exists():
        raise GalleryError(f"no gallery at {path}; enrolling somebody makes one")
    if not path.is_file():
        raise GalleryError(f"{path} is not a file, so no gallery")
    if is_empty(path):
        raise GalleryError(f"{path} is empty: nobody was enrolled; enrolling somebody makes it a gallery")
    with sqlite_errors(path), contextlib.ExitStack() as on_error:
        connection = open_file(path)
        on_error.callback(connection.close)
        _check_format(path, connection)
        on_error.pop_all()
    return connection


def upgrade(connection: Connection) -> None:
    """Bring a gallery of an older version to this one, inside the transaction that is about to change it."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
        for statement in audit.SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        audit.append(connection, "upgrade", details=f"version 1 to {SCHEMA_VERSION}")


def is_empty(path: Path) -> bool:
    """Whether it is a file without a byte."""
    return path.is_file() and path.stat().st_size == 0


def _check_format(path: Path, connection: Connection) -> None:
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
        if path.stat().st_size < size and not is_unfinished(path):  # else the rest may stand in the log
            raise GalleryError(f"{path} is damaged: it is cut off before its end; restore a copy of it")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise GalleryError(
            f"{path} is a gallery of version {version}, this GaitEdge reads up to {SCHEMA_VERSION}: "
            "update it with pip install --upgrade gaitedge"
        )
    if version < 1:
        raise GalleryError(f"{path} is a damaged gallery: version {version}")


def _make_private(path: Path) -> None:
    """Make the empty file with mode 0600, whatever the umask; SQLite gives the same to its log and its index.

    What cannot be made is told by SQLite, which tries next.
    """
    with contextlib.suppress(OSError):
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        path.chmod(0o600)  # nothing is in it yet; another user's file keeps its mode
