"""The gallery: people and the embeddings of their enrolled walks, in one SQLite file."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError
from gaitedge.files import atomic_write
from gaitedge.people.enrolment import Enrolment, Record, check_enrolment, normal_name
from gaitedge.people.gallery_file import check_format, connect, make_schema, sqlite_errors, transaction

__all__ = ["Enrolment", "Gallery", "Record", "Stats"]

_RECORDS = """
SELECT sequences.id, name, enrolled_at, condition, view, frames, source, {more}
FROM sequences JOIN subjects ON subjects.id = sequences.subject ORDER BY sequences.id
"""


@dataclass(frozen=True)
class Stats:
    """What a gallery holds."""

    subjects: int
    sequences: int
    by_condition: dict[str, int]
    """Condition -> sequences; those enrolled without one are counted under "not given"."""
    by_view: dict[str, int]
    """View -> sequences; likewise."""
    created: str
    """UTC, ISO 8601."""
    size: int
    """Of the file, in bytes."""
    fingerprint: str
    """The model that made the embeddings (`gaitedge.weights.fingerprint`)."""
    parts: int
    dim: int
    threshold: float | None


class Gallery:
    """A gallery file, open for reading and writing; a context manager.

    Made by Gallery.create, open or open_or_create; an object belongs to the thread that made it.
    Every change is one transaction: whole and on the disk, or not there at all. Processes that write
    at once wait for each other, up to 30 s. Every method raises GalleryError where the file is damaged
    and MachineError where the disk is full, the file is read-only or stays locked.
    """

    # Nothing here may open the file but SQLite: closing a second descriptor of it in this process
    # would drop SQLite's POSIX locks.

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """For the class methods below, which see to the format and to errors."""
        self.path = path
        self._db = connection
        self._cache: tuple[tuple[int, int], NDArray[np.float32], list[Record]] | None = None
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        fingerprint, created = meta.get("fingerprint"), meta.get("created")
        parts, dim = meta.get("parts"), meta.get("dim")
        if not (isinstance(fingerprint, str) and isinstance(created, str)):
            raise GalleryError(f"{path} is a damaged gallery: it does not say which model it belongs to")
        if not (isinstance(parts, int) and isinstance(dim, int) and parts >= 1 and dim >= 1):
            raise GalleryError(f"{path} is a damaged gallery: its embeddings are [{parts!r}, {dim!r}]")
        self.fingerprint, self.created, self.parts, self.dim = fingerprint, created, parts, dim

    @classmethod
    def create(cls, path: Path, fingerprint: str, parts: int, dim: int) -> Gallery:
        """Make an empty gallery for the embeddings [parts, dim] of one model.

        Raises GalleryError where anything but an empty file stands at `path` already.
        """
        path = Path(path)
        if path.exists() and not _is_empty(path):
            raise GalleryError(f"{path} exists already; remove it first or choose another name")
        if not fingerprint or parts < 1 or dim < 1:
            raise GalleryError(f"no gallery for model {fingerprint!r} with embeddings [{parts}, {dim}]")
        if not path.parent.is_dir():
            raise GalleryError(f"no folder {path.parent} to make the gallery {path.name} in")
        meta: dict[str, str | int] = {
            "fingerprint": fingerprint,
            "parts": parts,
            "dim": dim,
            "created": _now(),
        }
        with sqlite_errors(path), contextlib.closing(connect(path, "rwc")) as connection:
            if not make_schema(connection, meta):
                raise GalleryError(f"{path} was made by another process just now")
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, fingerprint: str | None = None) -> Gallery:
        """Open a gallery that exists.

        fingerprint: of the model about to be used; a gallery of another model is refused. Raises
        GalleryError where the file is missing, no gallery, damaged, or of a newer GaitEdge.
        """
        path = Path(path)
        if not path.exists():
            raise GalleryError(f"no gallery at {path}; enrolling somebody makes one")
        if not path.is_file():
            raise GalleryError(f"{path} is not a file, so no gallery")
        if _is_empty(path):
            raise GalleryError(f"{path} is empty: nobody was enrolled; enrolling somebody makes it a gallery")
        with sqlite_errors(path), contextlib.ExitStack() as on_error:
            connection = connect(path, "rw")
            on_error.callback(connection.close)
            check_format(path, connection)
            gallery = cls(path, connection)
            if fingerprint is not None and fingerprint != gallery.fingerprint:
                raise GalleryError(
                    f"{path} holds embeddings of model {gallery.fingerprint[:12]}, not of "
                    f"{fingerprint[:12]}, and distances between two models mean nothing: use the model "
                    "that it was made with, or enrol again into a new gallery"
                )
            on_error.pop_all()
        return gallery

    @classmethod
    def open_or_create(cls, path: Path, fingerprint: str, parts: int, dim: int) -> Gallery:
        """Open the gallery of this model, or make it where there is none or an empty file.

        Raises GalleryError as `open` and `create` do, and where its embeddings are not [parts, dim].
        """
        path = Path(path)
        try:
            gallery = cls.open(path, fingerprint)
        except GalleryError:
            # Opening undoes a creation that was killed, so that the file can be empty only now.
            if path.exists() and not _is_empty(path):
                raise
            try:
                gallery = cls.create(path, fingerprint, parts, dim)
            except GalleryError:
                if not path.exists() or _is_empty(path):
                    raise
                gallery = cls.open(path, fingerprint)  # another process was first
        if (gallery.parts, gallery.dim) != (parts, dim):
            gallery.close()
            found = [gallery.parts, gallery.dim]
            raise GalleryError(f"{path} holds embeddings {found}, not {[parts, dim]}")
        return gallery

    def close(self) -> None:
        """Close the file. Closing twice does no harm."""
        self._db.close()
        self._cache = None

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def threshold(self) -> float | None:
        """The distance beyond which a walk's best match is nobody known; None until it is set."""
        with sqlite_errors(self.path):
            row = self._db.execute("SELECT value FROM meta WHERE key = 'threshold'").fetchone()
        if row is None:
            return None
        if not isinstance(row[0], float):
            raise GalleryError(f"{self.path} is a damaged gallery: its threshold is {row[0]!r}")
        return row[0]

    @threshold.setter
    def threshold(self, value: float | None) -> None:
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise InputError(f"a threshold is a distance of 0 or more, not {value}")
        with sqlite_errors(self.path), transaction(self._db):
            self._db.execute("DELETE FROM meta WHERE key = 'threshold'")
            if value is not None:
                self._db.execute("INSERT INTO meta VALUES ('threshold', ?)", (float(value),))

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """All the changes that are made inside are made together at its end, or none of them is."""
        try:
            with sqlite_errors(self.path), transaction(self._db):
                yield
        except BaseException:
            self._cache = None  # may hold what is undone
            raise

    def enroll(
        self,
        subject: str,
        embedding: NDArray[np.float32],
        *,
        condition: str | None = None,
        view: str | None = None,
        frames: int | None = None,
        source: str | None = None,
    ) -> int:
        """Add one walk and return its number; Enrolment says what each value may be."""
        return self.enroll_many([Enrolment(subject, embedding, condition, view, frames, source)])[0]

    def enroll_many(self, enrolments: Iterable[Enrolment]) -> list[int]:
        """Add walks in one transaction, all or none, and return their numbers.

        All of them are taken and checked before the file is locked, so that a slow source of
        embeddings keeps no other process waiting. Raises InputError where one of them is unfit.
        """
        checked = [check_enrolment(enrolment, self.parts, self.dim) for enrolment in enrolments]
        with sqlite_errors(self.path), transaction(self._db):
            return [self._insert(enrolment) for enrolment in checked]

    def remove(self, subject: str) -> int:
        """Remove a subject with all its sequences and return how many those were.

        Their bytes in the file are overwritten with zeros. Raises GalleryError, naming near
        matches, where there is no such subject.
        """
        name = normal_name(subject)
        with sqlite_errors(self.path), transaction(self._db):
            names = [row[0] for row in self._db.execute("SELECT name FROM subjects ORDER BY name")]
            if name not in names:
                near = difflib.get_close_matches(name, names)
                hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
                raise GalleryError(f"nobody called {name!r} in {self.path}{hint}")
            removed = self._db.execute(
                "DELETE FROM sequences WHERE subject = (SELECT id FROM subjects WHERE name = ?)", (name,)
            ).rowcount
            self._db.execute("DELETE FROM subjects WHERE name = ?", (name,))
        return removed

    def subjects(self) -> dict[str, int]:
        """Name -> how many sequences are enrolled, in order of name."""
        with sqlite_errors(self.path):
            return dict(
                self._db.execute(
                    "SELECT name, count(*) FROM sequences JOIN subjects ON subjects.id = sequences.subject "
                    "GROUP BY name ORDER BY name"
                )
            )

    def records(self) -> list[Record]:
        """Every enrolled walk without its embedding, in order of enrolment."""
        with sqlite_errors(self.path):
            return [Record(*row[:-1]) for row in self._db.execute(_RECORDS.format(more="NULL"))]

    def stats(self) -> Stats:
        """Count what the gallery holds."""
        records = self.records()
        with sqlite_errors(self.path):
            size = self._db.execute(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            ).fetchone()[0]
        return Stats(
            subjects=len({record.subject for record in records}),
            sequences=len(records),
            by_condition=_count(record.condition for record in records),
            by_view=_count(record.view for record in records),
            created=self.created,
            size=size,
            fingerprint=self.fingerprint,
            parts=self.parts,
            dim=self.dim,
            threshold=self.threshold,
        )

    def embeddings(self) -> tuple[NDArray[np.float32], list[Record]]:
        """Every embedding [n, parts, dim] and, in the same order, its record.

        The array is read-only and kept until this or another process changes the gallery, so that
        identifying walk after walk reads the file once.
        """
        with sqlite_errors(self.path), transaction(self._db, "DEFERRED"):
            count = self._db.execute("SELECT count(*) FROM sequences").fetchone()[0]
            version = (self._db.execute("PRAGMA data_version").fetchone()[0], self._db.total_changes)
            if self._cache is not None and self._cache[0] == version:
                return self._cache[1], list(self._cache[2])
            self._cache = None  # before the allocation: both would be twice the memory
            embeddings = np.empty((count, self.parts, self.dim), np.float32)
            records = []
            for index, row in enumerate(self._db.execute(_RECORDS.format(more="embedding"))):
                if (
                    index >= count
                    or not isinstance(row[-1], bytes)
                    or len(row[-1]) != embeddings[index].nbytes
                ):
                    raise GalleryError(f"{self.path} is damaged: sequence {row[0]} is no embedding")
                embeddings[index] = np.frombuffer(row[-1], "<f4").reshape(self.parts, self.dim)
                if not np.isfinite(embeddings[index]).all():
                    raise GalleryError(f"{self.path} is damaged: sequence {row[0]} is not finite")
                records.append(Record(*row[:-1]))
        if len(records) != count:
            raise GalleryError(f"{self.path} is damaged: {count - len(records)} sequences belong to nobody")
        embeddings.setflags(write=False)
        self._cache = (version, embeddings, records)
        return embeddings, list(records)

    def export(self, path: Path) -> None:
        """Write everything to a .npz for `numpy.load(path, allow_pickle=False)`, whole or not at all.

        Arrays: `embeddings` float32 [n, parts, dim]; `subjects` [n], text; `metadata`, one JSON text with
        the gallery's fingerprint, parts, dim, threshold and creation, and under "sequences" its records.
        """
        path = Path(path)
        if path.exists() and path.samefile(self.path):
            raise GalleryError(f"{path} is the gallery itself; export to another file")
        embeddings, records = self.embeddings()
        metadata = {
            "fingerprint": self.fingerprint,
            "parts": self.parts,
            "dim": self.dim,
            "threshold": self.threshold,
            "created": self.created,
            "sequences": [dataclasses.asdict(record) for record in records],
        }
        with atomic_write(path) as file:
            np.savez(
                file,
                embeddings=embeddings,
                subjects=np.array([record.subject for record in records], dtype=np.str_),
                metadata=np.array(json.dumps(metadata, ensure_ascii=False)),
            )

    def _insert(self, new: Enrolment) -> int:
        self._db.execute("INSERT OR IGNORE INTO subjects (name) VALUES (?)", (new.subject,))
        blob = new.embedding.astype("<f4", copy=False).tobytes()
        number = self._db.execute(
            "INSERT INTO sequences (subject, enrolled_at, condition, view, frames, source, embedding) "
            "SELECT id, ?, ?, ?, ?, ?, ? FROM subjects WHERE name = ?",
            (_now(), new.condition, new.view, new.frames, new.source, blob, new.subject),
        ).lastrowid
        if number is None:
            raise sqlite3.InternalError("an insertion gave no number")
        return number


def _count(values: Iterable[str | None]) -> dict[str, int]:
    named = ["not given" if value is None else value for value in values]
    return {value: named.count(value) for value in sorted(set(named))}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0
