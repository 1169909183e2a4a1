"""Reads Linux' one-value files, of which each may be missing or not for this user."""

from __future__ import annotations

from pathlib import Path

__all__ = ["matches", "read_number", "read_text", "why_unreadable"]


def read_text(path: Path) -> str | None:
    """What is in the file, stripped; None where it cannot be read, or is no text."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n\t ")
    except OSError:
        return None  # not there, not for this user, or a sensor that is asleep: all of them are no value


def read_number(path: Path) -> int | None:
    """The whole number in the file, or None."""
    text = read_text(path) or ""
    try:
        return int(text)
    except ValueError:
        return None


def matches(root: Path, pattern: str) -> list[Path]:
    """Paths below the root that a pattern fits, in their natural order: cpu2 before cpu10."""
    try:
        found = list(root.glob(pattern))
    except OSError:
        return []  # a folder that this user may not list
    return sorted(found, key=lambda path: (len(path.name), str(path)))


def why_unreadable(path: Path) -> str | None:
    """Why a file cannot be read, as the system says it; None where it can."""
    try:
        path.read_bytes()
    except OSError as error:
        return (error.strerror or "cannot be read").lower()
    return None
