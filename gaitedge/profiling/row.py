"""A row of a profile from its repeats: figures of all of them together, and what there is to warn of."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gaitedge.machine.clocks import changes
from gaitedge.profiling.document import Configuration, Figures, Memory, Row
from gaitedge.profiling.measuring import figures
from gaitedge.profiling.memory import most
from gaitedge.profiling.repeat import Loaded, Repeat, Wanted

__all__ = ["failed_row", "find_warnings", "make_row"]

_SAMPLES = 1000
"""End-to-end times that are kept of a repeat."""
_ENQUEUE = 0.8
"""Of compute; as trtexec's."""
_VARIATION = 0.025


def failed_row(wanted: Wanted, loaded: Loaded | None, why: str) -> Row:
    """A row that is not to be had. loaded: what is known of it."""
    description = "" if loaded is None else loaded.description
    return Row(_configuration(wanted, loaded), failed=why, description=description)


def make_row(wanted: Wanted, repeats: Sequence[Repeat]) -> Row:
    """One or more repeats as a row."""
    measured = [one.measurement for one in repeats]
    found = figures(
        [ms for one in measured for ms in one.end_to_end_ms],
        [call for one in measured for call in one.timed],
    )
    calls = [len(one.end_to_end_ms) for one in measured]
    seconds = [count / one.calls_per_second for count, one in zip(calls, measured, strict=True)]
    rate = sum(calls) / sum(seconds)
    return Row(
        _configuration(wanted, repeats[0].loaded),
        description=repeats[0].loaded.description,
        figures=found,
        load_ms=statistics.median(one.load_ms for one in repeats),
        first_run_ms=statistics.median(one.first_run_ms for one in measured),
        warmup_runs=sum(one.warmup_runs for one in measured),
        calls_per_second=rate,
        sequences_per_second=rate * wanted.batch,
        frames_per_second=rate * wanted.batch * wanted.frames,
        memory=Memory(
            process_peak=most(*(one.memory.process_peak for one in repeats)),
            process_before=most(*(one.memory.process_before for one in repeats)),
            device_peak=most(*(one.memory.device_peak for one in repeats)),
        ),
        energy=next((one.energy for one in repeats if one.energy is not None), None),
        clocks={"before": repeats[0].before, "after": repeats[-1].after},
        samples_ms=[_thin(one.end_to_end_ms) for one in measured],
        control_ms=[one.control_ms for one in repeats if one.control_ms is not None],
        warnings=[*find_warnings(found), *_clock_warnings(repeats)],
    )


def find_warnings(found: Figures) -> list[str]:
    """What the figures say against themselves, a line each with what to do about it; after trtexec's."""
    warnings = []
    compute, enqueue = found.compute, found.enqueue
    if compute is not None and enqueue is not None and enqueue.median_ms > _ENQUEUE * compute.median_ms:
        warnings.append(
            f"enqueue takes {enqueue.median_ms:.3g} ms, more than {_ENQUEUE} of compute's "
            f"{compute.median_ms:.3g} ms: the GPU waits for the host; take more streams, a larger batch, or "
            "an engine with CUDA graphs"
        )
    copies = [copy.median_ms for copy in (found.host_to_device, found.device_to_host) if copy is not None]
    if compute is not None and sum(copies) > compute.median_ms:
        warnings.append(
            f"copies take {sum(copies):.3g} ms, more than compute's {compute.median_ms:.3g} ms: they bound "
            "the throughput; take more streams, which copy while others compute"
        )
    name, times = ("end-to-end", found.end_to_end) if compute is None else ("compute", compute)
    if times.variation > _VARIATION:
        warnings.append(
            f"the {name} time varies by {times.variation:.1%} (coefficient of variation), more than "
            f"{_VARIATION:.1%}: end other programs, lock the clocks, or measure for longer"
        )
    return warnings


def _clock_warnings(repeats: Sequence[Repeat]) -> list[str]:
    """What moved between the two readings of a repeat, once for each kind of message."""
    lines = [line for one in repeats for line in changes(one.before, one.after)]
    if not lines:
        return []
    more = f", and {len(lines) - 1} more such in {len(repeats)} repeats" if len(lines) > 1 else ""
    return [f"{lines[0]}{more}: lock the clocks, cool the machine or end other programs, and measure again"]


def _configuration(wanted: Wanted, loaded: Loaded | None) -> Configuration:
    return Configuration(
        engine=wanted.engine if loaded is None else loaded.engine,
        precision=(wanted.precision or "as exported") if loaded is None else loaded.precision,
        plan=wanted.plan,
        batch=wanted.batch,
        frames=wanted.frames,
        threads=wanted.threads if loaded is None else loaded.threads,
        streams=wanted.streams,
    )


def _thin(times: Sequence[float]) -> list[float]:
    """At most so many of them, evenly, in their order."""
    count = min(len(times), _SAMPLES)
    return [times[number * len(times) // count] for number in range(count)]
