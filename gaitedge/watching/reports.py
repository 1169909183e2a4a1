"""What a watch says: one object for every decision on a person, and for whatever happens to the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Notice", "PersonReport", "Report", "Status"]


@dataclass(frozen=True)
class PersonReport:
    """A change of what is known of one person."""

    time: float
    """Seconds since the first frame, by a clock that never goes back; of a file, of the film."""
    utc: str
    """When it was said, as the wall clock then stood: ISO 8601."""
    track: int
    """Never used again in this watch."""
    state: Literal["settled", "revised", "final", "rejected"]
    subject: str | None
    """Who it is; None where that is not known: then `unknown` says why."""
    unknown: bool
    """Whether it is nobody enrolled. False without a subject: too little was seen to say."""
    distance: float | None
    """Of the nearest person, whoever that is."""
    margin: float | None
    """By how much the second one is farther."""
    threshold: float | None
    frames: int
    """Silhouettes that it is made of."""
    reason: str | None = None
    """Of a rejected track: why it was no walk, a key of gaitedge.video.quality.TRACK_FAULTS."""


@dataclass(frozen=True)
class Notice:
    """Something that happened to the source, the gallery or the engine; the watch goes on."""

    time: float
    utc: str
    event: str
    """In a few fixed words: docs/watch.md lists them."""
    message: str
    """In one line, for people."""


@dataclass(frozen=True)
class Status:
    """How a watch is doing."""

    frames: int
    """That were looked at."""
    rate: float
    """Frames a second, of the last second or so; at the end, of all."""
    people: int
    """That are followed now."""
    tracks: int
    """That ended."""
    walks: int
    """Of these, walks that got a final decision; the others were rejected."""
    dropped: int
    """Frames that the watch was too slow for."""
    reconnects: int
    lost: bool
    """Whether the source gives nothing at present."""


Report = PersonReport | Notice
