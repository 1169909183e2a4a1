"""Every row of a sweep, several times over, each time in a process of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gaitedge.errors import GaitEdgeError, one_line
from gaitedge.files import printable
from gaitedge.profiling.document import Best, Row
from gaitedge.profiling.repeat import Loaded, Repeat, Settings, Wanted, repeat
from gaitedge.profiling.row import failed_row, make_row
from gaitedge.profiling.turns import Worker
from gaitedge.profiling.unfinished import UnfinishedSweep
from gaitedge.profiling.variants import Variants

__all__ = ["Progress", "Runner", "axes", "best", "run_apart", "sweep"]

Progress = Callable[[int, int, str], None]
"""Called with the number of repeats done, of all, and what comes next."""
Runner = Callable[[Path, Wanted, Settings, int, Callable[[Loaded], None]], Repeat]
"""Measures one repeat; called with the bundle, the row, the settings, the number of the repeat, and a
function that wants to know what was loaded."""


def axes(
    engine: str,
    batches: Sequence[int],
    frames: Sequence[int],
    precisions: Sequence[str | None],
    plans: Sequence[str],
    threads: Sequence[int | None],
    streams: Sequence[int],
) -> list[Wanted]:
    """All rows: the last axis varies first. A value that stands twice counts once."""
    return list(
        dict.fromkeys(
            Wanted(engine, precision, plan, batch, length, number, at_once)
            for batch in batches
            for length in frames
            for precision in precisions
            for plan in plans
            for number in threads
            for at_once in streams
        )
    )


def sweep(
    variants: Variants,
    rows: Sequence[Wanted],
    settings: Settings,
    repeats: int,
    saved: UnfinishedSweep | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> list[Row]:
    """Measure every row `repeats` times: each once, then each once more, so that a slow minute meets all.

    saved: keeps what was measured, and has what need not be measured again. A row that fails is not tried
    again, and the others go on. runner: run_apart, unless told otherwise. Raises InputError where the bundle
    is replaced meanwhile: rows of two would stand beside each other.
    """
    measure = runner or run_apart
    found: list[list[Repeat]] = [[] for _ in rows]
    loaded: list[Loaded | None] = [None] * len(rows)
    failed: list[str | None] = [None] * len(rows)

    def keep(number: int, result: Repeat | str) -> None:
        if isinstance(result, str):
            failed[number] = result
        else:
            found[number].append(result)
            loaded[number] = result.loaded

    for entry in saved.entries if saved else []:
        known = entry["loaded"]
        loaded[entry["row"]] = None if known is None else Loaded(**known)
        keep(entry["row"], entry["failed"] or Repeat.from_json(entry["repeat"]))
    turns = ((number, row, wanted) for number in range(repeats) for row, wanted in enumerate(rows))
    for number, row, wanted in turns:
        if progress is not None:
            progress(number * len(rows) + row, repeats * len(rows), str(wanted))
        if failed[row] is not None or len(found[row]) > number:
            continue

        def was_loaded(what: Loaded, row: int = row) -> None:
            loaded[row] = what

        result = _one(variants, wanted, settings, number, measure, was_loaded)
        variants.check_unchanged()
        keep(row, result)
        if saved:
            saved.add(_entry(row, loaded[row], result))
    if progress is not None:
        progress(repeats * len(rows), repeats * len(rows), "")
    return [
        make_row(wanted, done) if why is None else failed_row(wanted, _known(row, rows, loaded), why)
        for row, (wanted, done, why) in enumerate(zip(rows, found, failed, strict=True))
    ]


def run_apart(
    bundle: Path, wanted: Wanted, settings: Settings, number: int, was_loaded: Callable[[Loaded], None]
) -> Repeat:
    """Measure one repeat in a process of its own. Raises what Worker does."""
    with Worker(repeat, bundle, wanted, settings, number) as worker:
        was_loaded(worker.ready)
        done: Repeat = worker.turn()
        return done


def best(rows: Sequence[Row], bound_ms: float | None = None) -> Best:
    """Which rows to take, by their numbers. bound_ms: of the p99 of the end-to-end time.

    Throughput is in frames, for the sequences of a sweep may differ in length.
    """
    rates = {number: row.frames_per_second or 0.0 for number, row in enumerate(rows) if row.figures}
    latencies = {number: row.figures.end_to_end.p99_ms for number, row in enumerate(rows) if row.figures}
    within = [number for number in rates if bound_ms is not None and latencies[number] <= bound_ms]
    return Best(
        throughput=max(rates, key=rates.__getitem__, default=None),
        latency=min(latencies, key=latencies.__getitem__, default=None),
        bound_ms=bound_ms,
        within_bound=max(within, key=rates.__getitem__, default=None),
    )


def _one(
    variants: Variants,
    wanted: Wanted,
    settings: Settings,
    number: int,
    measure: Runner,
    was_loaded: Callable[[Loaded], None],
) -> Repeat | str:
    """What a repeat found, or why there is nothing."""
    try:
        path, engine, precision = variants.find(wanted.plan, wanted.engine, wanted.precision)
        row = dataclasses.replace(wanted, engine=engine, precision=precision)
        return measure(path, row, settings, number, was_loaded)
    except GaitEdgeError as error:
        return printable(one_line(error))
    except MemoryError as error:
        return f"this machine has not enough memory: {one_line(error)}; give it less at once"


def _entry(row: int, loaded: Loaded | None, result: Repeat | str) -> dict[str, Any]:
    """A line of the file; sweep reads it."""
    return {
        "row": row,
        "loaded": None if loaded is None else dataclasses.asdict(loaded),
        "failed": result if isinstance(result, str) else None,
        "repeat": None if isinstance(result, str) else dataclasses.asdict(result),
    }


def _known(row: int, rows: Sequence[Wanted], loaded: Sequence[Loaded | None]) -> Loaded | None:
    """What a row that failed was loaded as, or another one like it would have been."""
    if loaded[row] is not None:
        return loaded[row]
    wanted = rows[row]
    like = (
        other
        for number, other in enumerate(loaded)
        if other is not None
        and (rows[number].engine, rows[number].precision, rows[number].plan, rows[number].threads)
        == (wanted.engine, wanted.precision, wanted.plan, wanted.threads)
    )
    return next(like, None)
