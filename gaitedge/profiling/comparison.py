"""Is one profile faster than another? Rows in pairs, each with a ratio, its interval and a verdict.

A ratio is before over after: above 1, after is faster, or needs less. gaitedge.profiling.bootstrap says where
the intervals come from.

What the machine itself did meanwhile is told by the control, a fixed piece of work that was timed beside each
repeat (`Row.control_ms`). A verdict must hold three times: for the ratio as measured, for the ratio without
the control's, and without the control's squared, because a busy machine may slow an engine by more than other
work: of two profiles of one engine, one taken beside a busy neighbour, the engine was 1.92 times as fast and
the control 1.62 times. Where the control's interval excludes 1, these are ratios of the times each over the
control of its own repeat, with their own intervals; else the measured interval over the control's ratio. So a
control can take a verdict back; it never makes one.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from gaitedge.errors import InputError
from gaitedge.files import printable
from gaitedge.profiling.bootstrap import ratio_interval, verdict
from gaitedge.profiling.document import Configuration, Document, Energy, Interval, Memory, Row

__all__ = ["Comparison", "Pair", "Unpaired", "compare"]

_ALL = tuple(each.name for each in fields(Configuration))
_WAYS = (_ALL, ("plan", "batch", "frames", "threads", "streams"), ("batch", "frames", "streams"))
"""What two rows have in common: the first way by which any pair is found is taken for all."""
_FEW_CONTROLS = 3  # starts, below which the control has a ratio and no interval
_FEW_FOR_P99 = 100  # runs of a repeat, below which trtexec's p99 is the slowest run
_POWERS = (1, 2)  # of the control's change that an engine's may be
_MANY = 20  # pairs, of which one seems to differ by chance
_SIDES = ("before", "after")


@dataclass(frozen=True)
class Pair:
    """Two rows."""

    before_row: int
    """Its number in the profile, from 0."""
    after_row: int
    before: Configuration
    after: Configuration
    before_ms: float
    """Median of the end-to-end time, of all repeats together."""
    after_ms: float
    end_to_end: Interval
    """Of the typical time: the geometric mean of the repeats' medians."""
    throughput: Interval
    """Of calls a second, after over before, from the mean times: who always has n calls under way makes
    n / mean of them a second."""
    p99: Interval | None
    """None where a side has one start alone, or fewer than 100 runs in a repeat."""
    energy: float | None
    """Of joules a sequence, idle power subtracted. None where a side lacks it, as for the next two."""
    process_memory: float | None
    """Of the peak."""
    device_memory: float | None
    control: Interval | None
    """Of the fixed work, before over after: above 1, the machine itself was faster after. Without an
    interval (low = ratio = high) where it was timed beside fewer than three starts; None where a side has
    none."""
    corrected: list[Interval]
    """end_to_end without what the control did, and without its square; empty where a side has no control."""
    starts_repeated: bool
    """Whether the intervals cover what changes from one start to the next."""
    verdict: str
    """Of the end-to-end time of after: "faster", "slower" or "not distinguishable"."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Unpaired:
    """A row that was not compared."""

    side: str
    """"before" or "after"."""
    row: int
    configuration: Configuration
    why: str


@dataclass(frozen=True)
class Comparison:
    """Two profiles, row by row; dataclasses.asdict makes it JSON."""

    before: str
    """When it was made, and of which bundle."""
    after: str
    paired_by: list[str]
    """The fields of Configuration that the two rows of a pair have in common."""
    pairs: list[Pair]
    unpaired: list[Unpaired]
    notes: list[str]
    """What else is different between the two, and how to read the verdicts."""


def compare(before: Document, after: Document) -> Comparison:
    """Compare two profiles.

    Rows with equal configurations make pairs. Where there is none, as between FP32 and INT8, rows with equal
    plan, batch, frames, threads and streams do; where there is none either, with equal batch, frames and
    streams; each only if it is the one row of its profile that has them. Raises InputError where no pair is
    left to compare.
    """
    _check(before, "before")
    _check(after, "after")
    by, couples, unpaired = _couples(before.rows, after.rows)
    pairs: list[Pair] = []
    for one, other in couples:
        pair, why = _pair(before.rows, after.rows, one, other)
        if pair is None:
            unpaired.append(Unpaired("before", one, before.rows[one].configuration, why))
            unpaired.append(Unpaired("after", other, after.rows[other].configuration, why))
        else:
            pairs.append(pair)
    if not pairs:
        why = next((each.why for each in unpaired), "they have no rows")
        raise InputError(f"no rows of the two profiles can be compared: {why}; measure both in the same way")
    return Comparison(
        f"{before.created}, {before.bundle}",
        f"{after.created}, {after.bundle}",
        list(by),
        pairs,
        sorted(unpaired, key=lambda each: (each.side != "before", each.row)),
        [*_differences(before, after), *_reading(by, pairs)],
    )


def _check(document: Document, name: str) -> None:
    failures = [row.failed for row in document.rows if row.failed is not None]
    if not document.rows:
        raise InputError(f"the profile {name} ({document.created}) has no rows; measure again")
    if len(failures) == len(document.rows):
        raise InputError(f"every row of the profile {name} ({document.created}) failed: {failures[0]}")


def _couples(
    before: Sequence[Row], after: Sequence[Row]
) -> tuple[tuple[str, ...], list[tuple[int, int]], list[Unpaired]]:
    """By what rows pair, the numbers of those that do, and those that do not.

    Failed rows count for what is common: FP32 that failed is not replaced by INT8.
    """
    for by in _WAYS:
        keys = [[_key(row.configuration, by) for row in rows] for rows in (before, after)]
        counts = [Counter(side) for side in keys]
        single = [key for key in keys[0] if counts[0][key] == counts[1][key] == 1]
        if single or by == _WAYS[-1]:
            break
    couples: list[tuple[int, int]] = []
    unpaired: list[Unpaired] = []
    for here, (rows, others) in enumerate(((before, after), (after, before))):
        own, there = keys[here], keys[1 - here]
        for number, (row, key) in enumerate(zip(rows, own, strict=True)):
            partner = there.index(key) if key in single else None
            if partner is None:
                why = _alone(by, key, counts[here][key], counts[1 - here][key])
            elif row.failed is not None:
                why = f"it failed: {row.failed}"
            elif others[partner].failed is not None:
                why = "its partner failed"
            else:
                couples += [(number, partner)] if here == 0 else []
                continue
            unpaired.append(Unpaired(_SIDES[here], number, row.configuration, why))
    return by, couples, unpaired


def _key(configuration: Configuration, by: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(getattr(configuration, name) for name in by)


def _alone(by: tuple[str, ...], key: tuple[Any, ...], here: int, there: int) -> str:
    which = ", ".join(f"{name} {value}" for name, value in zip(by, key, strict=True))
    if not there:
        return f"the other profile has no row with {which}"
    return f"{here} rows here and {there} there have {which}: which belong together is not clear"


def _pair(before: Sequence[Row], after: Sequence[Row], one: int, other: int) -> tuple[Pair | None, str]:
    """Two rows by their numbers, or why they cannot be compared."""
    first, second = before[one], after[other]
    if first.figures is None or second.figures is None:
        return None, "a row has neither figures nor a reason why"
    try:
        typical = ratio_interval(first.samples_ms, second.samples_ms)
        throughput = ratio_interval(first.samples_ms, second.samples_ms, "mean")
        control = _control(first.control_ms, second.control_ms)
        corrected = [] if control is None else _without(first, second, typical.interval, control)
    except InputError as error:
        return None, str(error)
    found = verdict(typical.interval, *corrected)
    pair = Pair(
        one,
        other,
        first.configuration,
        second.configuration,
        first.figures.end_to_end.median_ms,
        second.figures.end_to_end.median_ms,
        end_to_end=typical.interval,
        throughput=throughput.interval,
        p99=_p99(first, second),
        energy=_over(first.energy, second.energy, "joules_a_sequence"),
        process_memory=_over(first.memory, second.memory, "process_peak"),
        device_memory=_over(first.memory, second.memory, "device_peak"),
        control=control,
        corrected=corrected,
        starts_repeated=typical.starts_repeated,
        verdict=found,
        notes=_pair_notes(typical.interval, control, found),
    )
    return pair, ""


def _p99(first: Row, second: Row) -> Interval | None:
    repeats = [*first.samples_ms, *second.samples_ms]
    if min(len(first.samples_ms), len(second.samples_ms)) < 2 or min(map(len, repeats)) < _FEW_FOR_P99:
        return None
    return ratio_interval(first.samples_ms, second.samples_ms, "p99").interval


def _control(before: Sequence[float], after: Sequence[float]) -> Interval | None:
    """Raises InputError where a time is no positive number."""
    if not before or not after:
        return None
    if min(len(before), len(after)) >= _FEW_CONTROLS:
        return ratio_interval([[ms] for ms in before], [[ms] for ms in after]).interval
    if min(*before, *after) <= 0:
        raise InputError(f"the control took {min(*before, *after)} ms, and a time must be above 0")
    ratio = statistics.geometric_mean(before) / statistics.geometric_mean(after)
    return Interval(ratio, ratio, ratio)


def _without(first: Row, second: Row, measured: Interval, control: Interval) -> list[Interval]:
    """The ratio without the control's, and without its square."""
    if not control.low <= 1 <= control.high:
        return [
            ratio_interval(_over_control(first, power), _over_control(second, power)).interval
            for power in _POWERS
        ]
    ratios = [control.ratio**power for power in _POWERS]
    return [Interval(measured.ratio / by, measured.low / by, measured.high / by) for by in ratios]


def _over_control(row: Row, power: int) -> list[list[float]]:
    """Times over a power of the control beside them; of its typical time where it is not one a repeat."""
    controls = row.control_ms
    if len(controls) != len(row.samples_ms):
        controls = [statistics.geometric_mean(controls)] * len(row.samples_ms)
    return [
        [ms / control**power for ms in repeat]
        for repeat, control in zip(row.samples_ms, controls, strict=True)
    ]


def _over(before: Energy | Memory | None, after: Energy | Memory | None, name: str) -> float | None:
    """The ratio of one of their values, where both are there and above 0."""
    one, other = getattr(before, name, None), getattr(after, name, None)
    return one / other if one and other and one > 0 and other > 0 else None


def _pair_notes(measured: Interval, control: Interval | None, found: str) -> list[str]:
    if control is None:
        return []
    taken_back = found != verdict(measured)
    changed = control.low > 1 or control.high < 1
    timed_often = control.low < control.high
    if not taken_back and not (changed and timed_often):
        return []
    interval = f" [{control.low:.3f}, {control.high:.3f}]" if timed_often else ", too seldom for an interval"
    line = (
        f"the machine itself was {abs(control.ratio - 1):.1%} {'faster' if control.ratio > 1 else 'slower'} "
        f"after: a fixed piece of work, timed beside the row, has the ratio {control.ratio:.3f}{interval}"
    )
    if taken_back:
        line += f"; with that taken off, the row is not surely {verdict(measured)} any more"
    return [line]


def _differences(before: Document, after: Document) -> list[str]:
    """What the profiles were made with, where that differs."""
    notes = []
    if before.fingerprint != after.fingerprint:
        notes.append("the weights differ: times may be compared, embeddings may not")
    both = (("", before.environment, after.environment), ("setting ", before.settings, after.settings))
    for name, one, other in both:
        first, second = _flat(one), _flat(other)
        notes += [
            printable(f"{name}{key} differs: {first.get(key)!s:.80} before, {second.get(key)!s:.80} after")
            for key in dict.fromkeys([*first, *second])
            if first.get(key) != second.get(key)
        ]
    return notes


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested ones by "a.b"."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _reading(by: Sequence[str], pairs: Sequence[Pair]) -> list[str]:
    """How to take the verdicts."""
    notes = []
    if tuple(by) != _ALL:
        differ = ", ".join(name for name in _ALL if name not in by)
        notes.append(f"no configurations are equal: rows are paired by {', '.join(by)}, whatever {differ}")
    if not all(pair.starts_repeated for pair in pairs):
        notes.append(
            "starts were not repeated on both sides: the intervals leave out what changes from one start to "
            "the next, often 1 % and more; measure with 5 repeats"
        )
    if len(pairs) >= _MANY:
        notes.append(
            f"of {len(pairs)} pairs that do not differ, about {len(pairs) // _MANY} seem to: by chance"
        )
    return notes
