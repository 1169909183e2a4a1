"""An opened gallery file: its model, its key, and what happens around each reading and change."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from gaitedge.errors import GalleryError, MachineError
from gaitedge.people.database import Connection, is_stale, sqlite_errors, sweep, transaction, use_log
from gaitedge.people.encryption import ENVIRONMENT, Cipher, check_key
from gaitedge.people.enrolment import utc_now
from gaitedge.people.gallery_file import is_empty, make_file, open_gallery_file, upgrade

__all__ = ["GallerySession"]

_G = TypeVar("_G", bound="GallerySession")


class GallerySession:
    """What Gallery stands on: opening, closing, transactions, the key."""

    # Nothing here may open the file but SQLite: closing a second descriptor of it in this process
    # would drop SQLite's POSIX locks.

    _new = False
    """Whether it was just made: without a log until it is closed."""

    def __init__(self, path: Path, connection: Connection, key: bytes | None) -> None:
        """For the class methods below, which see to the format and to errors."""
        self.path = path
        self._db = connection
        self._key = key if key is None else check_key(key)
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        fingerprint, created = meta.get("fingerprint"), meta.get("created")
        parts, dim = meta.get("parts"), meta.get("dim")
        if not (isinstance(fingerprint, str) and isinstance(created, str)):
            raise GalleryError(f"{path} is a damaged gallery: it does not say which model it belongs to")
        if not (isinstance(parts, int) and isinstance(dim, int) and parts >= 1 and dim >= 1):
            raise GalleryError(f"{path} is a damaged gallery: its embeddings are [{parts!r}, {dim!r}]")
        self.fingerprint, self.created, self.parts, self.dim = fingerprint, created, parts, dim

    @classmethod
    def create(
        cls: type[_G], path: Path, fingerprint: str, parts: int, dim: int, key: bytes | None = None
    ) -> _G:
        """Make an empty gallery for the embeddings [parts, dim] of one model; only this user may read it.

        key: 32 bytes to encrypt the embeddings with. Raises GalleryError where anything but an empty file
        stands at `path` already.
        """
        path = Path(path)
        if path.exists() and not is_empty(path):
            raise GalleryError(f"{path} exists already; remove it first or choose another name")
        if not fingerprint or parts < 1 or dim < 1:
            raise GalleryError(f"no gallery for model {fingerprint!r} with embeddings [{parts}, {dim}]")
        if not path.parent.is_dir():
            raise GalleryError(f"no folder {path.parent} to make the gallery {path.name} in")
        meta: dict[str, str | int | bytes] = {
            "fingerprint": fingerprint,
            "parts": parts,
            "dim": dim,
            "created": utc_now(),
        }
        if key is not None:
            meta["key_check"] = Cipher(key, fingerprint).make_check()
        if not make_file(path, meta):
            raise GalleryError(f"{path} was made by another process just now")
        gallery = cls._open(path, fingerprint, key, log=False)
        gallery._new = True
        return gallery

    @classmethod
    def open(cls: type[_G], path: Path, fingerprint: str | None = None, key: bytes | None = None) -> _G:
        """Open a gallery that exists.

        fingerprint: of the model about to be used; a gallery of another model is refused. key: of an
        encrypted gallery; without it all can be done that needs no embedding, and with a fingerprint, which
        means that embeddings will be needed, its lack is refused. Raises GalleryError where the file is
        missing, no gallery, damaged, or of a newer GaitEdge, and where the key does not fit.
        """
        return cls._open(Path(path), fingerprint, key)

    @classmethod
    def open_or_create(
        cls: type[_G], path: Path, fingerprint: str, parts: int, dim: int, key: bytes | None = None
    ) -> _G:
        """Open the gallery of this model, or make it where there is none or an empty file.

        Raises GalleryError as `open` and `create` do, and where its embeddings are not [parts, dim].
        """
        path = Path(path)
        try:
            gallery = cls.open(path, fingerprint, key)
        except GalleryError:
            # Opening undoes a creation that was killed, so that the file can be empty only now.
            if path.exists() and not is_empty(path):
                raise
            try:
                gallery = cls.create(path, fingerprint, parts, dim, key)
            except GalleryError:
                if not path.exists() or is_empty(path):
                    raise
                gallery = cls.open(path, fingerprint, key)  # another process was first
        if (gallery.parts, gallery.dim) != (parts, dim):
            gallery.close()
            found = [gallery.parts, gallery.dim]
            raise GalleryError(f"{path} holds embeddings {found}, not {[parts, dim]}")
        return gallery

    @classmethod
    def _open(cls: type[_G], path: Path, fingerprint: str | None, key: bytes | None, log: bool = True) -> _G:
        with contextlib.ExitStack() as on_error:
            connection = open_gallery_file(path)
            on_error.callback(connection.close)
            with sqlite_errors(path):
                gallery = cls(path, connection, key)
                if fingerprint is not None and fingerprint != gallery.fingerprint:
                    raise GalleryError(
                        f"{path} holds embeddings of model {gallery.fingerprint[:12]}, not of "
                        f"{fingerprint[:12]}, and distances between two models mean nothing: use the model "
                        "that it was made with, or enrol again into a new gallery"
                    )
                if fingerprint is not None or key is not None:
                    gallery._cipher()
                if log:
                    use_log(connection)
                gallery._sweep(0.0)  # what a killed removal, or one that readers held up, left to do
            on_error.pop_all()
        return gallery

    def close(self) -> None:
        """Close the file. Closing twice does no harm."""
        if self._new:
            self._new = False
            use_log(self._db)
        self._db.close()

    def __enter__(self: _G) -> _G:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def encrypted(self) -> bool:
        """Whether the embeddings are."""
        with self._reading():
            return self._meta("key_check") is not None

    @property
    def swept(self) -> bool:
        """Whether no byte of what was removed is left in the file or in its log.

        False where a removal found somebody who was still reading the former state; the next change, or the
        next opening, does it then.
        """
        with self._reading():
            return self._meta("unswept") is None

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """All the changes that are made inside are made together at its end, or none of them is."""
        with self._changing():
            yield

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """One state of the gallery, whatever others do meanwhile."""
        with sqlite_errors(self.path):
            if is_stale(self.path, self._db):
                self._reopen()
            with transaction(self._db, "DEFERRED"):
                yield
            if is_stale(self.path, self._db):
                raise MachineError(f"{self.path}: it was changed while it was read as it stands; try again")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """A change: whole and on the disk, or not there at all. Inside another one, a part of that."""
        with sqlite_errors(self.path):
            if self._db.in_transaction:
                yield
                return
            if self._db.frozen:
                self._reopen()
            if self._db.frozen:
                raise MachineError(f"{self.path}: {self._db.frozen.reason}")
            with transaction(self._db):
                upgrade(self._db)
                yield
            self._sweep()

    def _reopen(self) -> None:
        opened = type(self)._open(self.path, self.fingerprint, self._key)
        self._db.close()
        self._db = opened._db

    def _sweep(self, wait: float | None = None) -> None:
        if self._db.frozen or self._meta("unswept") is None:
            return
        if sweep(self._db, wait):
            with contextlib.suppress(sqlite3.OperationalError):  # then it is swept once more
                self._db.execute("DELETE FROM meta WHERE key = 'unswept'")

    def _leave_unswept(self) -> None:
        """Say, inside a change, that it leaves behind what has to be wiped."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('unswept', 1)")

    def _meta(self, key: str) -> object:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _cipher(self) -> Cipher | None:
        """What encrypts this gallery now; another process may have changed that since it was opened."""
        check = self._meta("key_check")
        if check is None:
            if self._key is None:
                return None
            raise GalleryError(
                f"{self.path} is not encrypted, but a key was given: encrypt it with "
                f"gaitedge gallery encrypt, or leave out --key-file and {ENVIRONMENT}"
            )
        if self._key is None:
            raise GalleryError(
                f"{self.path} is encrypted: give its key with --key-file FILE or in {ENVIRONMENT}"
            )
        cipher = Cipher(self._key, self.fingerprint)
        if not cipher.fits(check):
            raise GalleryError(f"{self.path} is encrypted with another key than the one given")
        return cipher
