"""What a gallery holds, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Stats", "count"]


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
    operating_point: dict[str, Any] | None
    """How the threshold was found, where that is known."""
    encrypted: bool
    """Whether the embeddings are; names and the rest of the records never are."""
    journal: str
    """"wal": readers and a writer do not wait for each other; "delete": they take turns."""


def count(values: Iterable[str | None]) -> dict[str, int]:
    """Value -> how often, in order of the values; None is "not given"."""
    return dict(sorted(Counter("not given" if value is None else value for value in values).items()))
