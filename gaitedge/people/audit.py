"""The audit table: who changed a gallery, when and how, in an order that no clock decides.

Lines are added, never changed: triggers of the file refuse it. A subject stands in them as a number that is
never given twice, with the name only as long as that is enrolled; so a removal leaves the line and no name.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass

from gaitedge.people.enrolment import utc_now

__all__ = ["SCHEMA", "Entry", "append", "entries"]

SCHEMA = (
    """CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        who TEXT NOT NULL,
        action TEXT NOT NULL,
        subject INTEGER,
        sequences INTEGER,
        details TEXT
    )""",
    "CREATE INDEX audit_of_subject ON audit (subject)",
    *(
        f"""CREATE TRIGGER audit_no_{event.split()[0].lower()} BEFORE {event} ON audit {when}
        BEGIN SELECT RAISE(ABORT, 'the audit table is append-only'); END"""
        for event, when in (
            ("UPDATE", ""),
            ("DELETE", ""),
            # INSERT OR REPLACE deletes without asking the trigger for deletions.
            ("INSERT", "WHEN NEW.number IN (SELECT number FROM audit)"),
        )
    ),
)


@dataclass(frozen=True)
class Entry:
    """One change of a gallery."""

    number: int
    """Order of the changes, whatever the clock said."""
    at: str
    """UTC, ISO 8601, by the clock of the machine."""
    who: str
    """The user whose process it was."""
    action: str
    """create, upgrade, enroll, import, remove, expire, threshold, export, encrypt or decrypt."""
    subject: int | None
    """The subject's number, never given twice in this gallery."""
    name: str | None
    """The subject's name while anything of him or her is enrolled; None afterwards."""
    sequences: int | None
    """How many walks were enrolled, imported, removed, expired, exported, encrypted or decrypted."""
    details: str | None


def append(
    connection: sqlite3.Connection,
    action: str,
    subject: int | None = None,
    sequences: int | None = None,
    details: str | None = None,
) -> None:
    """Add a line, inside the transaction of the change that it tells of. details: never with a name in it."""
    connection.execute(
        "INSERT INTO audit (at, who, action, subject, sequences, details) VALUES (?, ?, ?, ?, ?, ?)",
        (utc_now(), _user(), action, subject, sequences, details),
    )


def entries(connection: sqlite3.Connection) -> list[Entry]:
    """Every line, oldest first; none in a gallery of version 1."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
        return []
    rows = connection.execute(
        "SELECT number, at, who, action, subject, name, sequences, details "
        "FROM audit LEFT JOIN subjects ON subjects.id = audit.subject ORDER BY number"
    )
    return [Entry(*row) for row in rows]


def _user() -> str:
    """The effective user, as the system knows it; what the environment says could be anybody."""
    try:
        import pwd
    except ModuleNotFoundError:  # Windows
        import getpass

        return getpass.getuser()
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container's user need not have a name
        return f"uid {number}"
