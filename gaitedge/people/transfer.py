"""What a gallery holds as one .npz file with a checksum: the way from one gallery to another.

The file is read without pickle, and nothing of it is believed before the checksum fits. The checksum finds
damage; it is no signature, for whoever changes the file can make a new one.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError, one_line
from gaitedge.files import atomic_write
from gaitedge.people.enrolment import Enrolment, Record, check_enrolment

__all__ = ["Exported", "read_export", "write_export"]

_MEMBERS = {"embeddings", "subjects", "metadata"}
# What zipfile, NumPy and json make of bytes that are not theirs; RuntimeError: a member marked as encrypted.
_DAMAGED = (
    *(ValueError, LookupError, TypeError, ArithmeticError, EOFError, RuntimeError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, eq=False)
class Exported:
    """What a file holds, checked."""

    fingerprint: str
    parts: int
    dim: int
    threshold: float | None
    operating_point: dict[str, Any] | None
    walks: list[tuple[Enrolment, str]]
    """Each with when it was enrolled, UTC, ISO 8601."""
    checksum: str
    """SHA-256 of the contents, hexadecimal."""


def write_export(
    path: Path, about: dict[str, Any], embeddings: NDArray[np.float32], records: list[Record]
) -> str:
    """Write a .npz for `numpy.load(path, allow_pickle=False)`, whole or not at all; returns the checksum.

    about: what the metadata say beside the records. Only this user may read the file.
    """
    metadata = {**about, "sequences": [dataclasses.asdict(record) for record in records]}
    checksum = _checksum(metadata, embeddings)
    text = json.dumps({**metadata, "sha256": checksum}, ensure_ascii=False)
    with atomic_write(path, private=True) as file:
        np.savez(
            file,
            embeddings=embeddings,
            subjects=np.array([record.subject for record in records], dtype=np.str_),
            metadata=np.array(text),
        )
    return checksum


def read_export(path: Path) -> Exported:
    """Read such a file and check all of it.

    Raises GalleryError where it is no export, of a GaitEdge that wrote no checksum, damaged, or holds what no
    gallery takes.
    """
    if not path.is_file():
        raise GalleryError(f"{path} is not a file, so no export of a gallery")
    try:
        metadata, embeddings, subjects = _load(path)
        checksum = metadata.pop("sha256", None)
        if checksum is None:
            raise GalleryError(f"{path} has no checksum: export the gallery again with this GaitEdge")
        if embeddings.dtype != np.float32 or checksum != _checksum(metadata, embeddings):
            raise GalleryError(f"{path} is damaged: its contents do not fit its SHA-256; export it again")
        records = [Record(**values) for values in metadata.pop("sequences")]
        if subjects.tolist() != [record.subject for record in records] or len(embeddings) != len(records):
            raise GalleryError(
                f"{path} is damaged: its embeddings, subjects and records do not fit each other"
            )
        parts, dim = int(metadata["parts"]), int(metadata["dim"])
        if embeddings.shape[1:] != (parts, dim):
            found = list(embeddings.shape[1:])
            raise GalleryError(f"{path} is damaged: its embeddings are {found}, not {[parts, dim]}")
        threshold, point = metadata["threshold"], metadata["operating_point"]
        fits = threshold is None or (isinstance(threshold, float) and 0 <= threshold < math.inf)
        if not (fits and isinstance(point, (dict, type(None)))):
            raise GalleryError(f"{path} is damaged: its threshold is {threshold!r}, found by {point!r}")
        return Exported(
            fingerprint=str(metadata["fingerprint"]),
            parts=parts,
            dim=dim,
            threshold=threshold,
            operating_point=point,
            walks=[
                (_walk(record, embedding, *embeddings.shape[1:]), _utc(record.enrolled_at))
                for record, embedding in zip(records, embeddings, strict=True)
            ],
            checksum=str(checksum),
        )
    except InputError as error:
        raise GalleryError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except _DAMAGED as error:
        raise GalleryError(f"{path} is damaged or no export of a gallery: {one_line(error)}") from None


def _load(path: Path) -> tuple[dict[str, Any], NDArray[Any], NDArray[Any]]:
    with path.open("rb") as stream:  # NumPy would leave a damaged one open
        try:
            if zipfile.is_zipfile(stream):
                _check_sizes(path, stream)
            stream.seek(0)
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile) or set(file.files) != _MEMBERS:
                raise GalleryError(f"{path} is no export of a gallery: gaitedge gallery export makes one")
            with file:
                metadata = json.loads(str(file["metadata"]))
                if not isinstance(metadata, dict):
                    raise GalleryError(f"{path} is no export of a gallery: its metadata are no JSON object")
                return metadata, file["embeddings"], file["subjects"]
        except OSError as error:
            if error.errno != errno.EINVAL:  # a place before the file's beginning, as damage may name it
                raise
            raise GalleryError(f"{path} is damaged: it names places outside of itself") from None


def _check_sizes(path: Path, stream: BinaryIO) -> None:
    """Raise GalleryError where the members are more than the file: an export is not compressed.

    A few kilobytes could unpack to more than the memory holds, and an array's header could claim it.
    """
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise GalleryError(f"{path} is no export of a gallery: {member.filename} is compressed")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0
                shape, _, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
                if math.prod(shape) * dtype.itemsize > member.file_size:
                    raise GalleryError(f"{path} is damaged: {member.filename} is cut off")


def _walk(record: Record, embedding: NDArray[np.float32], parts: int, dim: int) -> Enrolment:
    walk = Enrolment(record.subject, embedding, record.condition, record.view, record.frames, record.source)
    return check_enrolment(walk, parts, dim)


def _utc(text: str) -> str:
    """A time as a gallery keeps it, so that retention can compare it."""
    return datetime.fromisoformat(text).astimezone(timezone.utc).isoformat(timespec="seconds")


def _checksum(metadata: dict[str, Any], embeddings: NDArray[np.float32]) -> str:
    """SHA-256 of metadata and shape as JSON, keys in order, and of the embeddings' little-endian bytes."""
    text = json.dumps([metadata, list(embeddings.shape)], sort_keys=True, ensure_ascii=True)
    digest = hashlib.sha256(text.encode())
    digest.update(np.ascontiguousarray(embeddings, dtype="<f4").data)
    return digest.hexdigest()
