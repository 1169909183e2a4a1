"""The rows of a gallery: how walks go in and out, encrypted or not, and what the audit table says of it.

Each function works inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gaitedge.errors import GalleryError
from gaitedge.people import audit
from gaitedge.people.encryption import Cipher, NotAuthentic
from gaitedge.people.enrolment import Enrolment, Record

__all__ = ["add", "delete", "plain", "raw", "recode", "select_records"]

_RECORDS = """
SELECT sequences.id, name, enrolled_at, condition, view, frames, source, {more}
FROM sequences JOIN subjects ON subjects.id = sequences.subject ORDER BY sequences.id
"""
# No number of a subject is ever given twice: the audit table keeps all of them.
_NEW_SUBJECT = """
INSERT INTO subjects (id, name)
SELECT 1 + max((SELECT coalesce(max(id), 0) FROM subjects), (SELECT coalesce(max(subject), 0) FROM audit)), ?1
WHERE NOT EXISTS (SELECT 1 FROM subjects WHERE name = ?1)
"""
_NEW_SEQUENCE = """
INSERT INTO sequences (id, subject, enrolled_at, condition, view, frames, source, embedding)
SELECT ?, id, ?, ?, ?, ?, ?, ? FROM subjects WHERE name = ?
"""


def select_records(connection: sqlite3.Connection) -> list[Record]:
    """Every walk without its embedding, in order of enrolment."""
    return [_record(row) for row in connection.execute(_RECORDS.format(more="NULL"))]


def plain(
    connection: sqlite3.Connection, cipher: Cipher | None, size: int, path: object
) -> Iterator[tuple[Record, bytes]]:
    """Every walk with its embedding's `size` bytes, decrypted. path: the gallery's, to name in a complaint.

    Raises GalleryError where one of them is not of that size, was altered or belongs elsewhere.
    """
    for row in connection.execute(_RECORDS.format(more="embedding")):
        record = _record(row)
        yield record, _unseal(record, row[-1], cipher, size, path)


def raw(walk: Enrolment) -> bytes:
    """Its embedding as it is kept, before encryption."""
    return walk.embedding.astype("<f4", copy=False).tobytes()


def add(
    connection: sqlite3.Connection,
    cipher: Cipher | None,
    action: str,
    walks: Sequence[tuple[Enrolment, str]],
    details: str | None = None,
) -> list[int]:
    """Add walks, each with when it was enrolled; a line for each subject. Returns their numbers."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'sequences'").fetchone()
    first = 1 if row is None else row[0] + 1  # the number is encrypted with the embedding: it must be known
    numbers = [
        insert(connection, cipher, number, walk, enrolled_at)
        for number, (walk, enrolled_at) in enumerate(walks, first)
    ]
    for name, count in Counter(walk.subject for walk, _ in walks).items():
        subject = connection.execute("SELECT id FROM subjects WHERE name = ?", (name,)).fetchone()[0]
        audit.append(connection, action, subject, count, details)
    return numbers


def insert(
    connection: sqlite3.Connection, cipher: Cipher | None, number: int, walk: Enrolment, enrolled_at: str
) -> int:
    """Add one walk under a number that none has had."""
    blob = raw(walk)
    if cipher is not None:
        blob = cipher.seal(blob, number, walk.subject)
    connection.execute(_NEW_SUBJECT, (walk.subject,))
    about = (enrolled_at, walk.condition, walk.view, walk.frames, walk.source)
    connection.execute(_NEW_SEQUENCE, (number, *about, blob, walk.subject))
    return number


def delete(connection: sqlite3.Connection, action: str, subjects: Mapping[int, str | None]) -> dict[int, int]:
    """Delete the walks of subjects, by number, and whoever has none left; a line for each subject.

    subjects: number -> the time before which a walk must have been enrolled to go, or None for all of them.
    Returns number -> how many went.
    """
    gone = {}
    for subject, before in subjects.items():
        gone[subject] = connection.execute(
            "DELETE FROM sequences WHERE subject = ?1 AND (?2 IS NULL OR enrolled_at < ?2)", (subject, before)
        ).rowcount
        connection.execute(
            "DELETE FROM subjects WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM sequences WHERE subject = ?1)",
            (subject,),
        )
        about = None if before is None else f"enrolled before {before}"
        audit.append(connection, action, subject, gone[subject], about)
    return gone


def recode(
    connection: sqlite3.Connection, old: Cipher | None, new: Cipher | None, size: int, path: object
) -> int:
    """Decrypt every embedding with `old` and encrypt it with `new`; None: it is plain. Returns how many."""
    records = select_records(connection)
    for record in records:
        which = (record.id,)
        kept = connection.execute("SELECT embedding FROM sequences WHERE id = ?", which).fetchone()[0]
        blob = _unseal(record, kept, old, size, path)
        if new is not None:
            blob = new.seal(blob, record.id, record.subject)
        connection.execute("UPDATE sequences SET embedding = ? WHERE id = ?", (blob, record.id))
    return len(records)


def _record(row: tuple[Any, ...]) -> Record:
    """A row of _RECORDS. A damaged byte can turn a text into bytes, which SQLite takes as they are."""
    if any(isinstance(value, bytes) for value in row[:-1]):
        raise sqlite3.DatabaseError(f"malformed: sequence {row[0]} holds bytes where text belongs")
    return Record(*row[:-1])


def _unseal(record: Record, blob: object, cipher: Cipher | None, size: int, path: object) -> bytes:
    if cipher is not None and isinstance(blob, bytes):
        try:
            blob = cipher.unseal(blob, record.id, record.subject)
        except NotAuthentic:
            raise GalleryError(
                f"{path} is damaged: sequence {record.id} was altered or put in another one's place"
            ) from None
    if not isinstance(blob, bytes) or len(blob) != size:
        raise GalleryError(f"{path} is damaged: sequence {record.id} is no embedding")
    return blob
