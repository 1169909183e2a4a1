"""A profile of a bundle: one call that measures all of a sweep."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from gaitedge.bundle import Bundle
from gaitedge.destinations import check_destination
from gaitedge.engines import EngineName, check_options
from gaitedge.errors import InputError
from gaitedge.files import printable, sha256
from gaitedge.machine.environment import environment
from gaitedge.profiling.document import Document
from gaitedge.profiling.inputs import describe
from gaitedge.profiling.measuring import MINIMUM_RUNS, TIMED_EVERY
from gaitedge.profiling.repeat import Settings
from gaitedge.profiling.sweep import Progress, Runner, axes, best, sweep
from gaitedge.profiling.unfinished import UnfinishedSweep, unfinished
from gaitedge.profiling.variants import Variants, check_plan

__all__ = ["profile"]

_MOST_AT_ONCE = 1024  # threads, or streams, of an engine: far more than any processor has
_LONGEST_S = 1e6  # eleven days
_MOST_REPEATS = 1000


def profile(
    bundle: Path,
    *,
    engine: str = "auto",
    batches: Sequence[int] = (1,),
    frames: Sequence[int] = (30,),
    precisions: Sequence[str | None] = (None,),
    plans: Sequence[str] = ("exported",),
    threads: Sequence[int | None] = (None,),
    streams: Sequence[int] = (1,),
    seconds: float = 3.0,
    warmup_s: float = 0.2,
    repeats: int = 5,
    inputs: str | None = None,
    seed: int = 0,
    bound_ms: float | None = None,
    energy: bool = True,
    out: Path | None = None,
    command: str = "",
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> Document:
    """Measure a bundle's engine at every combination of these.

    engine, precisions, threads: as gaitedge.engines.load takes them. plans: "exported", "naive", "fused" or
    "plugin" (variants.py). streams: calls at the same time. seconds: to measure each row for, split over
    its repeats, each of which begins anew in a process of its own and warms up for `warmup_s`. inputs: walks,
    as in STORE or STORE:007/nm-01; None draws silhouettes. bound_ms: of the p99 that `best` is to keep
    within. energy: whether to ask a sensor. out: where the caller will write the document: what was measured
    lies beside it meanwhile, in unfinished(out), and the same call goes on from there; the caller removes it.
    progress: see sweep. runner: what measures a repeat, for tests.

    A row that is not to be had says why, and the others are measured. Raises InputError on a value out of
    range, before anything is done, and what Bundle.open and gaitedge.data.sources.open_sources raise.
    """
    _check(engine, batches, frames, precisions, plans, threads, streams)
    _check_how(seconds, warmup_s, repeats, seed, bound_ms)
    if out is not None:
        out = check_destination(Path(out), ".json")
    opened = Bundle.open(bundle)
    settings = Settings(seconds / repeats, warmup_s, inputs, seed, energy)
    described: dict[str, Any] = {
        "engine": engine,
        "seconds": seconds,
        "repeats": repeats,
        "warmup_s": warmup_s,
        "minimum_runs": MINIMUM_RUNS,
        "timed_every": TIMED_EVERY,
        "inputs": printable(describe(inputs, frames)),
        "seed": seed,
        "energy": energy,
    }
    rows = axes(engine, batches, frames, precisions, plans, threads, streams)
    machine = environment()
    saved, warnings = None, []
    if out is not None:
        members = {name: member.sha256 for name, member in opened.manifest.members.items()}
        facts = [opened.fingerprint, members, machine, described]
        key = sha256(json.dumps([facts, [list(vars(row).values()) for row in rows]]).encode())
        saved = UnfinishedSweep(unfinished(out), key)
        if saved.replaced:
            warnings.append(
                f"{printable(str(unfinished(out)))} was of other settings, another model or another machine: "
                "begun anew"
            )
        if saved.entries:
            earlier = f"{len(saved.entries)} of {repeats * len(rows)} repeats"
            warnings.append(f"{earlier} are of an earlier run that was interrupted")
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    with Variants(opened) as variants, saved or contextlib.nullcontext():
        found = sweep(variants, rows, settings, repeats, saved, progress, runner)
    return Document(
        created=created,
        command=printable(command),  # a path may hold line breaks, and bytes that are no text
        bundle=printable(str(bundle)),
        fingerprint=opened.fingerprint,
        environment=machine,
        settings=described,
        rows=found,
        best=best(found, bound_ms),
        warnings=warnings,
    )


def _check(
    engine: str,
    batches: Sequence[int],
    frames: Sequence[int],
    precisions: Sequence[str | None],
    plans: Sequence[str],
    threads: Sequence[int | None],
    streams: Sequence[int],
) -> None:
    """Raise InputError unless each axis has values, all of them possible."""
    for name, numbers in (("batches", batches), ("frames", frames), ("streams", streams)):
        if not numbers or min(numbers) < 1:
            raise InputError(f"{name} must be one or more numbers from 1 up, not {list(numbers)}")
    for name, values in (("precisions", precisions), ("plans", plans), ("threads", threads)):
        if not values:
            raise InputError(f"{name} must be one or more, not none")
    for name, numbers in (("streams", streams), ("threads", [each or 1 for each in threads])):
        if max(numbers) > _MOST_AT_ONCE:
            raise InputError(f"{name} may be {_MOST_AT_ONCE} at most, not {max(numbers):.6g}")
    for plan in plans:
        check_plan(plan)
    for precision in precisions:
        for number in threads:
            check_options(engine, get_args(EngineName), number, precision)


def _check_how(seconds: float, warmup_s: float, repeats: int, seed: int, bound_ms: float | None) -> None:
    """Raise InputError unless it can be measured like this."""
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds to measure a row for must be above 0, not {seconds}")
    if not 0 <= warmup_s < math.inf:
        raise InputError(f"seconds to warm up must be 0 or more, not {warmup_s}")
    if max(seconds, warmup_s) > _LONGEST_S:
        raise InputError(f"seconds may be {_LONGEST_S:,.0f} at most, not {max(seconds, warmup_s)}")
    if repeats < 1:
        raise InputError(f"a row needs 1 repeat or more, not {repeats}")
    if repeats > _MOST_REPEATS:
        raise InputError(f"a row has {_MOST_REPEATS} repeats at most, not {repeats}")
    if seed < 0:
        raise InputError(f"the seed must be 0 or more, not {seed}")
    if bound_ms is not None and not 0 < bound_ms < math.inf:
        raise InputError(f"a bound of the latency must be above 0 ms, not {bound_ms}")
