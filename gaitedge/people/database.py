"""SQLite as a gallery uses it: opening, whose turn it is, transactions, and its errors in one clear line.

A gallery keeps a write-ahead log: who reads sees the state at which he began and holds no writer up, and a
commit is on the disk before it returns (synchronous=FULL or more). The log needs memory that all processes
share, which a network drive does not give between computers: there the file keeps SQLite's rollback journal,
and whoever writes and whoever reads take turns. Where neither can be had, because the medium is read-only or
full and no log is left over, the file is read as it stands ("frozen").
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gaitedge.errors import GalleryError, MachineError, one_line

__all__ = [
    "Connection",
    "connect",
    "is_stale",
    "is_unfinished",
    "open_file",
    "sqlite_errors",
    "sweep",
    "transaction",
    "use_log",
]

WAIT = 30.0  # seconds that a process waits for another one's transaction
LOG_ROOM = 1 << 16  # bytes that a log and its index need at least
SWEEP_WAIT = 5.0  # seconds that a removal waits for readers of the former state

# File systems whose memory maps are not one memory for all who use them, as Linux names them.
_NETWORK = (
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse.",
    "gfs",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "smb",
    "vboxsf",
)

MOUNTS = Path("/proc/self/mountinfo")

# SQLite's result codes have no attribute before Python 3.11: its messages are matched, in lower case.
_DAMAGED = (
    "not a database",
    "malformed",
    "no such table",
    "no such column",
    "no column named",
    "unsupported file format",
    "could not decode",
)
_FULL = "the disk is full; the gallery is as it was before"
_READ_ONLY = "it is read-only, or its folder is: writing needs both"
_MACHINE = {
    "disk is full": _FULL,
    "is locked": f"another process kept it locked for {WAIT:.0f} s; try again",
    "locking protocol": f"other processes kept it busy for {WAIT:.0f} s; try again",
    "readonly": _READ_ONLY,
    "unable to open": "it cannot be opened: check the permissions of the file and of its folder",
    "disk i/o error": "the disk is full or failing; the gallery is as the last complete change left it",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frozen:
    """Why a file is only read, as it stands, and what it looked like then."""

    reason: str
    signature: tuple[int, ...]


class Connection(sqlite3.Connection):
    """Waits for another process's transaction here and not in SQLite, where Ctrl-C would wait as well."""

    wait: float | None = None
    """Seconds; WAIT where None."""
    frozen: Frozen | None = None
    shares_memory = False
    """Whether the index of a log would be one memory for all who use the file."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        end = time.monotonic() + (WAIT if self.wait is None else self.wait)
        while True:
            try:
                return super().execute(*arguments)
            except sqlite3.OperationalError as error:
                busy = "is locked" in str(error) or "locking protocol" in str(error)
                if not busy or time.monotonic() > end:
                    raise
            time.sleep(0.02)


def connect(path: Path, mode: Literal["rw", "rwc"], more: str = "", alone: bool = False) -> Connection:
    """Open `path`; "rwc" makes an empty file where there is none, "rw" never does.

    A file that the system lets nobody write is opened for reading. more: further options of SQLite's URI.
    alone: keep everybody else out from the first reading on, which needs no shared memory.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}{more}",
        uri=True,
        timeout=0.1,  # of the whole WAIT
        isolation_level=None,
        factory=Connection,
    )
    for setting in (
        f"locking_mode = {'EXCLUSIVE' if alone else 'NORMAL'}",  # first: others read the file
        "synchronous = EXTRA",
        "foreign_keys = ON",
        "secure_delete = ON",  # whoever is removed is gone from the file's free pages too
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {setting}")
    return connection


def open_file(path: Path) -> Connection:
    """Open an existing file for reading, and for writing where that is possible.

    Raises sqlite3.Error where it cannot even be read.
    """
    reason, shared = _probe(path)
    if reason is not None and not is_unfinished(path):
        return _freeze(path, reason)
    if not is_unfinished(path):  # a damaged file is left alone; opened for writing, it would be given a log
        with contextlib.closing(_freeze(path, "")) as look:
            try:
                look.execute("SELECT count(*) FROM sqlite_master")
            except sqlite3.DatabaseError as error:
                # What has to do with the place, and not with the file, shows itself below.
                if not isinstance(error, sqlite3.OperationalError) and not is_stale(path, look):
                    raise
    with contextlib.ExitStack() as on_error:
        connection = connect(path, "rw", alone=not shared)
        on_error.callback(connection.close)
        try:
            if not shared:
                _unshare(path, connection)
            connection.execute("SELECT count(*) FROM sqlite_master")  # finds out whether it can be read
        except sqlite3.OperationalError as error:
            connection.close()
            if "readonly" not in str(error) or is_unfinished(path):
                raise
            return _freeze(path, _READ_ONLY)
        connection.shares_memory = shared
        on_error.pop_all()
    return connection


def use_log(connection: Connection) -> None:
    """Turn a file with a rollback journal into one with a write-ahead log, where that can be done at once."""
    if connection.frozen or not connection.shares_memory:
        return
    connection.wait = 0.0
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        # Somebody writes, or the disk is full: the old journal serves as well, and the next one tries again.
        if not any(words in str(error).lower() for words in _MACHINE):
            raise
    finally:
        connection.wait = None


def is_stale(path: Path, connection: Connection) -> bool:
    """Whether a frozen file has been changed since it was opened."""
    return connection.frozen is not None and (
        is_unfinished(path) or connection.frozen.signature != _signature(path)
    )


def is_unfinished(path: Path) -> bool:
    """Whether changes stand in a log or a journal beside the file."""
    path = path.resolve()
    for end in ("-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            if path.with_name(path.name + end).stat().st_size:
                return True
    return False


def sweep(connection: Connection, wait: float | None = None) -> bool:
    """Wipe what was deleted from the file and from its log, and make the file as small as it can be.

    secure_delete has overwritten what was deleted where it stood; copies of it may stand in the log and in
    pages whose content SQLite has moved, and only writing all of them anew is sure to leave those behind.
    wait: seconds for who still reads the former state, SWEEP_WAIT where None. False where somebody was in the
    way, or the disk too full: the data are whole, and the next sweep does it.
    """
    end = time.monotonic() + (SWEEP_WAIT if wait is None else wait)
    connection.wait = max(0.0, end - time.monotonic())
    try:
        emptied = _empty_log(connection, end)  # first, so that zeros overwrite what is then cut off
        connection.execute("VACUUM")
        return _empty_log(connection, end) and emptied
    except sqlite3.OperationalError as error:
        if not any(words in str(error).lower() for words in _MACHINE):
            raise
        return False
    finally:
        connection.wait = None


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
    except UnicodeDecodeError as error:  # a damaged schema, in SQLite's own words about it
        raise GalleryError(
            f"{path} is damaged or no gallery ({one_line(error)}); restore a copy of it"
        ) from None
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


def _freeze(path: Path, reason: str) -> Connection:
    signature = _signature(path)
    connection = connect(path, "rw", "&immutable=1")
    connection.frozen = Frozen(reason, signature)
    return connection


def _probe(path: Path) -> tuple[str | None, bool]:
    """Why no log can be made beside the file, if that is so; and whether its index would be shared memory.

    SQLite would find out as well, but leave an unusable log behind.
    """
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.W_OK, effective_ids=effective):
        return _READ_ONLY, False  # a log of somebody who may not write would be in the writers' way
    path = path.resolve()
    if path.with_name(f"{path.name}-shm").exists():
        return None, not _lies_on_a_network(path)
    try:
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as file:
            if file.write(bytes(LOG_ROOM)) < LOG_ROOM:
                return _FULL, False
            try:
                mmap.mmap(file.fileno(), LOG_ROOM).close()
            except OSError:
                return None, False
    except OSError as error:
        return (_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else _READ_ONLY), False
    return None, not _lies_on_a_network(path)


def _signature(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _empty_log(connection: Connection, end: float) -> bool:
    while True:
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if not busy or time.monotonic() > end:
            return not busy
        time.sleep(0.02)


def _unshare(path: Path, connection: Connection) -> None:
    """Turn a log back into a rollback journal, and let the others in."""
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        connection.execute("PRAGMA journal_mode = DELETE")
        _log.warning(
            "gaitedge: %s lies where computers share no memory: who writes it and who reads it take turns",
            path,
        )
    connection.execute("PRAGMA locking_mode = NORMAL")
    connection.execute("SELECT count(*) FROM sqlite_master")  # which gives the lock back


def _lies_on_a_network(path: Path) -> bool:
    """Whether other computers may use the file. Known on Linux; elsewhere taken for not so."""
    if not sys.platform.startswith("linux"):
        return False
    target, longest, kind = str(path), -1, ""
    with contextlib.suppress(OSError), MOUNTS.open(errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            place = before.split()[4].replace("\\040", " ").rstrip("/")
            if (target == place or target.startswith(f"{place}/")) and len(place) >= longest:
                longest, kind = len(place), after.split()[0]
    return kind.startswith(_NETWORK)
