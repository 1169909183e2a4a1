"""Files that are either there whole or not there: atomic replacement and fingerprints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_write", "naming", "printable", "sha256", "sync_folder", "unfinished", "user_cache"]


@contextlib.contextmanager
def atomic_write(path: Path, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file beside `path` for writing; it takes the name `path` only once it is complete.

    On any exception, Ctrl-C included, the unfinished file is removed and whatever stood at `path`
    before stays as it was. The data are on the disk before the name changes, so that a power cut
    cannot leave an empty file under it. private: only this user may ever open it, whatever the umask.
    """
    path = Path(path)
    mode = 0o600 if private else 0o666  # from the start: who has opened a file keeps it open
    if path.exists() and not path.is_file() and not path.is_dir():  # to replace /dev/null takes it from all
        raise OSError(errno.EINVAL, "a device or a pipe cannot be replaced by a file", str(path))
    with unfinished(path) as part, naming(path, part):
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` for what is to become `path`; removed at the end if it is still there.

    The name is chosen before anything is made under it: there is no moment at which Ctrl-C could
    leave something behind. Raises IsADirectoryError where `path` can only name a folder, as "." does.
    """
    if path.name in ("", ".."):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield part
    finally:
        try:
            part.unlink()
        except OSError as error:
            never_was_there = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EROFS)
            if error.errno not in never_was_there:
                raise


@contextlib.contextmanager
def naming(path: Path | str, *aliases: Path) -> Iterator[None]:
    """Let an OSError that names no file, as of a full disk, or one of the aliases, name `path`.

    One that names a file in an alias names the same file in `path`.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename in map(str, aliases):
            error.filename = str(path)
        for alias in aliases:
            if str(error.filename).startswith(f"{alias}{os.sep}"):
                error.filename = f"{path}{str(error.filename)[len(str(alias)) :]}"
        raise


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can: no power cut takes a new one back."""
    with contextlib.suppress(OSError):  # Windows opens no folder, some network drives sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def user_cache(name: str) -> Path | None:
    """This user's cache folder for `name`, which need not be there; None for a user without a home.

    $XDG_CACHE_HOME or ~/.cache, as the XDG Base Directory Specification says.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "gaitedge" / name
    except RuntimeError:
        return None


def printable(text: str) -> str:
    """A name that may hold line breaks, or bytes that are no text, in characters that can be shown."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def sha256(data: bytes | memoryview) -> str:
    """SHA-256 of the data as lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
