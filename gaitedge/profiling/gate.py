"""May a change pass? For a build that is to fail where something became slower, or does not run any more."""

from __future__ import annotations

import math

from gaitedge.errors import InputError
from gaitedge.profiling.comparison import Comparison, Pair
from gaitedge.profiling.document import Configuration, Document

__all__ = ["failed_since", "parse_share", "slower_than"]


def slower_than(comparison: Comparison, share: float) -> list[Pair]:
    """The pairs that are surely slower by more than a share, 0.05 for 5 %.

    Surely: even the smallest slowdown within the 95 % interval (1 over its high end) is beyond 1 + share, and
    so is the one without the control's change. It is of the end-to-end time.
    """
    found = []
    for pair in comparison.pairs:
        high = max(interval.high for interval in (pair.end_to_end, *pair.corrected))
        found += [pair] if 1 / high > 1 + share else []
    return found


def failed_since(before: Document, after: Document, comparison: Comparison) -> list[str]:
    """Why rows of `after` failed that `before` has figures of: they make no pairs, and are no success."""

    def key(configuration: Configuration) -> tuple[object, ...]:
        return tuple(getattr(configuration, name) for name in comparison.paired_by)

    measured = {key(row.configuration) for row in before.rows if row.failed is None}
    return [row.failed for row in after.rows if row.failed is not None and key(row.configuration) in measured]


def parse_share(text: str) -> float:
    """A share as people write it, "5%" or "0.05". Raises InputError on anything else."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or rest or not number.isascii():
        raise InputError(f"a share is written as 5% or 0.05, not {text!r:.80}")
    if percent:
        return value / 100
    if value >= 1:
        raise InputError(
            f"a share of {text.strip()} is {value * 100:g} %: write {value:g}% or {value / 100:g}"
        )
    return value
