"""The gallery: people and the embeddings of their enrolled walks, in one SQLite file."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError
from gaitedge.people import audit
from gaitedge.people import gallery_rows as rows
from gaitedge.people.encryption import Cipher
from gaitedge.people.enrolment import Enrolment, Record, check_enrolment, normal_name, utc_now
from gaitedge.people.gallery_session import GallerySession
from gaitedge.people.stats import Stats, count
from gaitedge.people.transfer import Exported, read_export, write_export

__all__ = ["Enrolment", "Gallery", "Imported", "Record", "Stats", "import_file"]


@dataclass(frozen=True)
class Imported:
    """What became of a file's walks."""

    added: int
    skipped: int
    """Walks that the gallery held already: the same subject's, with the same embedding bit by bit."""


class Gallery(GallerySession):
    """A gallery file, open for reading and writing; a context manager.

    Made by Gallery.create, open or open_or_create; an object belongs to the thread that made it.
    Every change is one transaction: whole and on the disk, or not there at all, with a line in the audit
    table. Processes that write at once wait for each other, up to 30 s; readers are neither waited for nor
    do they wait (`stats().journal` says where they do). Every method raises GalleryError where the file is
    damaged and MachineError where the disk is full, the file is read-only or stays locked.
    """

    _cache: tuple[tuple[sqlite3.Connection, int, int], NDArray[np.float32], list[Record]] | None = None

    def close(self) -> None:
        """Close the file. Closing twice does no harm."""
        super().close()
        self._cache = None

    @property
    def threshold(self) -> float | None:
        """The distance beyond which a walk's best match is nobody known; None until it is set.

        Setting it forgets the operating point.
        """
        with self._reading():
            value = self._meta("threshold")
        if value is not None and not isinstance(value, float):
            raise GalleryError(f"{self.path} is a damaged gallery: its threshold is {value!r}")
        return value

    @threshold.setter
    def threshold(self, value: float | None) -> None:
        self._set_threshold(value, None)

    @property
    def operating_point(self) -> dict[str, Any] | None:
        """What set_operating_point was told of the threshold; None where only the threshold was set."""
        with self._reading():
            text = self._meta("operating_point")
        if text is None:
            return None
        try:
            details = json.loads(text if isinstance(text, str) else "")
        except ValueError:
            details = None
        if not isinstance(details, dict):
            raise GalleryError(f"{self.path} is a damaged gallery: its operating point is {text!r}")
        return details

    def set_operating_point(self, distance: float, details: Mapping[str, Any]) -> None:
        """Set the threshold to `distance` and keep, as JSON, how it was found, both or neither.

        Raises InputError where the distance is none, or the details are no JSON.
        """
        try:
            text = json.dumps(dict(details), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"an operating point's details must be JSON: {error}") from None
        self._set_threshold(distance, text)

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
        with self._changing():
            return rows.add(
                self._db, self._cipher(), "enroll", [(enrolment, utc_now()) for enrolment in checked]
            )

    def remove(self, subject: str) -> int:
        """Remove a subject with all its sequences and return how many those were.

        No byte of them stays in the file or its log, but for what `swept` says. Raises GalleryError, naming
        near matches, where there is no such subject.
        """
        with self._changing():
            number = self.subject_number(subject)
            removed = rows.delete(self._db, "remove", {number: None})[number]
            self._leave_unswept()
        return removed

    def expire(self, before: datetime, dry_run: bool = False) -> dict[str, int]:
        """Remove every walk that was enrolled before a moment, and subjects of whom none is left.

        before: with a time zone. Returns name -> how many; dry_run: without removing them.
        """
        if before.tzinfo is None:
            raise InputError(f"{before} has no time zone")
        moment = before.astimezone(timezone.utc).isoformat(timespec="seconds")
        found = (
            "SELECT name, subjects.id, count(*) FROM sequences "
            "JOIN subjects ON subjects.id = sequences.subject "
            "WHERE enrolled_at < ? GROUP BY name ORDER BY name"
        )
        with self._reading() if dry_run else self._changing():
            old = self._db.execute(found, (moment,)).fetchall()
            if old and not dry_run:
                rows.delete(self._db, "expire", {number: moment for _, number, _ in old})
                self._leave_unswept()
        return {name: walks for name, _, walks in old}

    def subject_number(self, subject: str) -> int:
        """The number that stands for a subject in the audit table.

        Raises GalleryError, naming near matches, where there is no such subject.
        """
        name = normal_name(subject)
        with self._reading():
            numbers: dict[str, int] = dict(self._db.execute("SELECT name, id FROM subjects ORDER BY name"))
        if name not in numbers:
            near = difflib.get_close_matches(name, numbers)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise GalleryError(f"nobody called {name!r} in {self.path}{hint}")
        return numbers[name]

    def subjects(self) -> dict[str, int]:
        """Name -> how many sequences are enrolled, in order of name."""
        with self._reading():
            return dict(
                self._db.execute(
                    "SELECT name, count(*) FROM sequences JOIN subjects ON subjects.id = sequences.subject "
                    "GROUP BY name ORDER BY name"
                )
            )

    def records(self) -> list[Record]:
        """Every enrolled walk without its embedding, in order of enrolment."""
        with self._reading():
            return rows.select_records(self._db)

    def audit(self) -> list[audit.Entry]:
        """Every change of the gallery, oldest first."""
        with self._reading():
            return audit.entries(self._db)

    def stats(self) -> Stats:
        """Count what the gallery holds."""
        with self._reading():
            records = self.records()
            return Stats(
                subjects=len({record.subject for record in records}),
                sequences=len(records),
                by_condition=count(record.condition for record in records),
                by_view=count(record.view for record in records),
                created=self.created,
                size=self._db.execute(
                    "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
                ).fetchone()[0],
                fingerprint=self.fingerprint,
                parts=self.parts,
                dim=self.dim,
                threshold=self.threshold,
                operating_point=self.operating_point,
                encrypted=self.encrypted,
                journal=self._db.execute("PRAGMA journal_mode").fetchone()[0],
            )

    def embeddings(self) -> tuple[NDArray[np.float32], list[Record]]:
        """Every embedding [n, parts, dim] and, in the same order, its record.

        The array is read-only and kept until this or another process changes the gallery, so that
        identifying walk after walk reads the file once.
        """
        with self._reading():
            number = self._db.execute("SELECT count(*) FROM sequences").fetchone()[0]
            version = (
                self._db,
                self._db.execute("PRAGMA data_version").fetchone()[0],
                self._db.total_changes,
            )
            if self._cache is not None and self._cache[0] == version:
                return self._cache[1], list(self._cache[2])
            self._cache = None  # before the allocation: both would be twice the memory
            embeddings = np.empty((number, self.parts, self.dim), np.float32)
            records: list[Record] = []
            for record, plain in self._walks():
                if len(records) < number:
                    embeddings[len(records)] = np.frombuffer(plain, "<f4").reshape(self.parts, self.dim)
                    if not np.isfinite(embeddings[len(records)]).all():
                        raise GalleryError(f"{self.path} is damaged: sequence {record.id} is not finite")
                records.append(record)
        if len(records) != number:
            raise GalleryError(f"{self.path} is damaged: {number - len(records)} sequences belong to nobody")
        embeddings.setflags(write=False)
        if not self._db.in_transaction:  # what is not committed may be undone
            self._cache = (version, embeddings, records)
        return embeddings, list(records)

    def export(self, path: Path, plain: bool = False) -> None:
        """Write everything to a .npz for `numpy.load(path, allow_pickle=False)`, whole or not at all.

        Arrays: `embeddings` float32 [n, parts, dim]; `subjects` [n], text; `metadata`, one JSON text with
        the gallery's fingerprint, parts, dim, threshold, operating point and creation, under "sequences" its
        records, and under "sha256" the checksum of all that. The file is not encrypted: of an encrypted
        gallery it is written only with `plain`, and GalleryError raised without.
        """
        path, own = Path(path), self.path.resolve()
        logs = [own.with_name(own.name + end) for end in ("-wal", "-shm", "-journal")]
        if (path.exists() and path.samefile(own)) or path.resolve() in logs:
            raise GalleryError(f"{path} is the gallery itself; export to another file")
        with self._reading():
            if self.encrypted and not plain:
                raise GalleryError(f"{self.path} is encrypted and an export is not: say --plain to write one")
            embeddings, records = self.embeddings()
            about = {
                "fingerprint": self.fingerprint,
                "parts": self.parts,
                "dim": self.dim,
                "threshold": self.threshold,
                "operating_point": self.operating_point,
                "created": self.created,
            }
        checksum = write_export(path, about, embeddings, records)
        if self._db.frozen is None:  # who can only read can copy the file as well, and leaves no trace either
            with self._changing():
                audit.append(self._db, "export", sequences=len(records), details=f"sha256 {checksum}")

    def merge(self, exported: Exported) -> Imported:
        """Add the walks of an exported gallery, all in one transaction, but for those that are here already.

        They keep the time of their enrolment. The threshold stays what it is here. Raises GalleryError where
        they are another model's.
        """
        theirs, ours = exported.fingerprint, self.fingerprint
        if theirs != ours or (exported.parts, exported.dim) != (self.parts, self.dim):
            raise GalleryError(
                f"the exported embeddings are of model {theirs[:12]}, {self.path} is of {ours[:12]}: "
                "import them into a gallery of their own model"
            )
        with self._changing():
            here = {(record.subject, hashlib.sha256(plain).digest()) for record, plain in self._walks()}
            new = [
                (walk, enrolled_at)
                for walk, enrolled_at in exported.walks
                if (walk.subject, hashlib.sha256(rows.raw(walk)).digest()) not in here
            ]
            rows.add(self._db, self._cipher(), "import", new, f"sha256 {exported.checksum}")
        return Imported(len(new), len(exported.walks) - len(new))

    def encrypt(self, key: bytes) -> None:
        """Encrypt every embedding, in one transaction; nothing of the plain ones stays in the file.

        Raises GalleryError where it is encrypted already.
        """
        cipher = Cipher(key, self.fingerprint)
        with self._changing():
            if self.encrypted:
                raise GalleryError(
                    f"{self.path} is encrypted already; decrypt it first to give it another key"
                )
            self._recode("encrypt", None, cipher)
            self._db.execute("INSERT INTO meta VALUES ('key_check', ?)", (cipher.make_check(),))
        self._key = key

    def decrypt(self) -> None:
        """Turn it back into a gallery without a key, in one transaction.

        Raises GalleryError where it is not encrypted, or was opened without its key.
        """
        with self._changing():
            cipher = self._cipher()
            if cipher is None:
                raise GalleryError(f"{self.path} is not encrypted")
            self._recode("decrypt", cipher, None)
            self._db.execute("DELETE FROM meta WHERE key = 'key_check'")
        self._key = None

    def _walks(self) -> Iterator[tuple[Record, bytes]]:
        return rows.plain(self._db, self._cipher(), 4 * self.parts * self.dim, self.path)

    def _recode(self, action: str, old: Cipher | None, new: Cipher | None) -> None:
        walks = rows.recode(self._db, old, new, 4 * self.parts * self.dim, self.path)
        audit.append(self._db, action, sequences=walks)
        self._leave_unswept()

    def _set_threshold(self, value: float | None, details: str | None) -> None:
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise InputError(f"a threshold is a distance of 0 or more, not {value}")
        with self._changing():
            self._db.execute("DELETE FROM meta WHERE key IN ('threshold', 'operating_point')")
            if value is not None:
                self._db.execute("INSERT INTO meta VALUES ('threshold', ?)", (float(value),))
            if details is not None:
                self._db.execute("INSERT INTO meta VALUES ('operating_point', ?)", (details,))
            audit.append(self._db, "threshold", details="none" if value is None else f"{float(value)}")


def import_file(path: Path, file: Path, key: bytes | None = None) -> Imported:
    """Import what Gallery.export wrote into the gallery at `path`; where there is none, it is made.

    A gallery made so takes the threshold over; one that is there keeps its own. Raises GalleryError as
    gaitedge.people.transfer.read_export and Gallery.merge do, before anything is changed.
    """
    path, exported = Path(path), read_export(Path(file))
    with (
        Gallery.open_or_create(path, exported.fingerprint, exported.parts, exported.dim, key) as gallery,
        gallery.all_or_nothing(),
    ):
        anew = [line.action for line in gallery.audit()] == ["create"]  # now, or by an import that was killed
        imported = gallery.merge(exported)
        if anew and exported.operating_point is not None and exported.threshold is not None:
            gallery.set_operating_point(exported.threshold, exported.operating_point)
        elif anew and exported.threshold is not None:
            gallery.threshold = exported.threshold
    return imported
