"""What a gallery takes and keeps: an enrolment, the rules that it must meet, and its record."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError
from gaitedge.files import printable

__all__ = ["Enrolment", "Record", "check_enrolment", "normal_name", "utc_now"]

NAME_LENGTH = 200  # characters


@dataclass(frozen=True, eq=False)
class Enrolment:
    """One walk to enrol."""

    subject: str
    """Name: 1 to 200 printable characters, no blank at either end; kept in Unicode's NFC form."""
    embedding: NDArray[np.float32]
    """[parts, dim], finite."""
    condition: str | None = None
    """Such as "nm-01"; the same rules as a name."""
    view: str | None = None
    """Such as "090", in degrees; the same rules as a name."""
    frames: int | None = None
    """Frames of the walk that the embedding is made of."""
    source: str | None = None
    """Where the walk came from, for people to read; unprintable characters are escaped."""


@dataclass(frozen=True)
class Record:
    """One enrolled walk, without its embedding."""

    id: int
    """Number in this gallery; never given twice."""
    subject: str
    enrolled_at: str
    """UTC, ISO 8601."""
    condition: str | None
    view: str | None
    frames: int | None
    source: str | None


def check_enrolment(enrolment: Enrolment, parts: int, dim: int) -> Enrolment:
    """The enrolment as it is kept, for a gallery of embeddings [parts, dim].

    Raises GalleryError for an unfit embedding and InputError for an unfit text or count.
    """
    embedding = np.asarray(enrolment.embedding)
    if embedding.dtype != np.float32 or embedding.shape != (parts, dim):
        found = f"{embedding.dtype}{list(embedding.shape)}"
        raise GalleryError(
            f"the embedding of {enrolment.subject!r} is {found}, this gallery takes float32{[parts, dim]}"
        )
    if not np.isfinite(embedding).all():
        raise GalleryError(f"the embedding of {enrolment.subject!r} holds NaN or infinite values")
    condition, view = enrolment.condition, enrolment.view
    frames, source = enrolment.frames, enrolment.source
    if frames is not None and not 1 <= frames < 1 << 63:  # what SQLite can keep
        raise InputError(f"a walk has 1 frame or more, not {frames}")
    return Enrolment(
        subject=_name("name", enrolment.subject),
        embedding=embedding,
        condition=None if condition is None else _name("condition", condition),
        view=None if view is None else _name("view", view),
        frames=None if frames is None else int(frames),  # SQLite would keep a NumPy integer as bytes
        source=None if source is None else printable(source),
    )


def normal_name(text: str) -> str:
    """The one spelling of a name: "é" as one character or as "e" and an accent is the same person."""
    return unicodedata.normalize("NFC", text)


def utc_now() -> str:
    """The machine's clock as a gallery keeps it: UTC, ISO 8601, whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _name(what: str, text: str) -> str:
    name = normal_name(text)
    if not name or name != name.strip() or len(name) > NAME_LENGTH or not name.isprintable():
        shown = name if len(name) <= 40 else f"{name[:40]}…"
        raise InputError(
            f"the {what} {shown!r} must be 1 to {NAME_LENGTH} printable characters without a blank at "
            "either end"
        )
    return name
