"""What one engine takes for calls of one shape, in this process.

A call's end-to-end time is the host's: from silhouettes to embeddings, both in its memory. Where an engine
tells what a call's time went into, every eighth call of a stream is made that way, and is in none of the
end-to-end figures and in no throughput, for on a GPU it is another way to make it.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaitedge.engines import Embedder
from gaitedge.engines.timing import CallTimes, TimedEmbedder
from gaitedge.errors import InputError
from gaitedge.profiling.document import Figures
from gaitedge.profiling.figures import Distribution, summarize

__all__ = [
    "MINIMUM_RUNS",
    "TIMED_EVERY",
    "Measurement",
    "TimedCall",
    "figures",
    "measure",
    "run",
    "warm_up",
]

MINIMUM_RUNS = 3
"""Plain calls of each stream, whatever time they take."""
TIMED_EVERY = 8

Inputs = Sequence[NDArray[np.uint8]]
Clock = Callable[[], int]
"""Nanoseconds."""


@dataclass(frozen=True)
class TimedCall:
    """A call of which the engine told what its time went into."""

    end_to_end_ms: float
    times: CallTimes


@dataclass(frozen=True)
class Measurement:
    """What a clock said of calls of one shape."""

    first_run_ms: float
    """The first call at this shape, which allocates; in none of the others."""
    warmup_runs: int
    """Calls between that one and the measured ones, of all streams."""
    calls_per_second: float
    """Of all streams together."""
    end_to_end_ms: list[float]
    """Of each plain call; in their order, stream after stream."""
    timed: list[TimedCall]


@dataclass(frozen=True)
class _Stream:
    """The calls of one thread."""

    times_ns: list[int]
    timed: list[TimedCall]
    wall_ns: int
    """From its first call to the end of its last, without the timed ones."""


def measure(
    engines: Sequence[Embedder],
    inputs: Inputs,
    seconds: float = 1.0,
    warmup_s: float = 0.2,
    minimum_runs: int = MINIMUM_RUNS,
    clock: Clock = time.perf_counter_ns,
) -> Measurement:
    """Measure calls of one shape: a first one, some to warm up, and then what counts.

    engines: one for each stream, which calls it from a thread of its own; an engine that takes several calls
    at a time may stand there several times. inputs: silhouettes [batch, frames, 64, 44], which the calls
    take in turn. seconds: to measure for, at least `minimum_runs` calls of each stream. Raises InputError
    where a value is out of range, and what the engines raise.
    """
    if not (warmup_s >= 0 and seconds >= 0 and minimum_runs >= 1 and engines and inputs):
        raise InputError(
            "a measurement needs an engine, inputs, no negative times and 1 run or more, "
            f"not warmup_s={warmup_s}, seconds={seconds}, minimum_runs={minimum_runs}"
        )
    first_run_ms, warmup_runs = warm_up(engines, inputs, warmup_s, clock)
    rate, times, timed = run(engines, inputs, seconds, minimum_runs, clock)
    return Measurement(first_run_ms, warmup_runs, rate, times, timed)


def warm_up(
    engines: Sequence[Embedder], inputs: Inputs, seconds: float, clock: Clock = time.perf_counter_ns
) -> tuple[float, int]:
    """Make the first call, and more for so many seconds, at least one in each stream.

    Returns the milliseconds of the first, and how many followed it.
    """
    before = clock()
    engines[0].embed(inputs[0])
    first_run_ms = (clock() - before) / 1e6
    streams = _all_streams(engines, inputs, seconds, 1, clock)
    return first_run_ms, sum(len(stream.times_ns) + len(stream.timed) for stream in streams)


def run(
    engines: Sequence[Embedder],
    inputs: Inputs,
    seconds: float,
    minimum_runs: int = MINIMUM_RUNS,
    clock: Clock = time.perf_counter_ns,
) -> tuple[float, list[float], list[TimedCall]]:
    """Calls a second of all streams together, milliseconds of each plain call, and the timed calls.

    As measure, of engines that are warm.
    """
    streams = _all_streams(engines, inputs, seconds, minimum_runs, clock)
    return (
        sum(len(stream.times_ns) / max(stream.wall_ns, 1) for stream in streams) * 1e9,
        [time_ns / 1e6 for stream in streams for time_ns in stream.times_ns],
        [call for stream in streams for call in stream.timed],
    )


def figures(end_to_end_ms: Sequence[float], timed: Sequence[TimedCall]) -> Figures:
    """Sum up the times of calls. Raises InputError where there is none."""
    return Figures(
        end_to_end=summarize(end_to_end_ms),
        host_to_device=_known(call.times.host_to_device for call in timed),
        compute=_known(call.times.compute for call in timed),
        device_to_host=_known(call.times.device_to_host for call in timed),
        enqueue=_known(call.times.enqueue for call in timed),
        host=_known(map(_host, timed)),
    )


def _host(call: TimedCall) -> float | None:
    """What is left of a call without its copies and the network."""
    times = call.times
    if times.compute is None:
        return None
    return call.end_to_end_ms - times.compute - (times.host_to_device or 0) - (times.device_to_host or 0)


def _known(values: Iterator[float | None]) -> Distribution | None:
    known = [value for value in values if value is not None]
    return summarize(known) if known else None


def _all_streams(
    engines: Sequence[Embedder], inputs: Inputs, seconds: float, minimum_runs: int, clock: Clock
) -> list[_Stream]:
    with _no_collection():
        if len(engines) == 1:
            return [_stream(engines[0], inputs, 0, seconds, minimum_runs, clock)]
        start = threading.Barrier(len(engines))

        def stream(number: int) -> _Stream:
            start.wait()
            return _stream(engines[number], inputs, number, seconds, minimum_runs, clock)

        with ThreadPoolExecutor(len(engines)) as pool:
            return list(pool.map(stream, range(len(engines))))


def _stream(
    engine: Embedder, inputs: Inputs, first: int, seconds: float, minimum_runs: int, clock: Clock
) -> _Stream:
    """Call an engine again and again. benchmarks/profiler.py shows what this costs beside bare calls."""
    embed, count, times, timed = engine.embed, len(inputs), list[int](), list[TimedCall]()
    embed_timed = engine.embed_timed if isinstance(engine, TimedEmbedder) else None
    calls = timed_ns = 0
    begin = now = clock()
    end = begin + int(seconds * 1e9)
    while now < end or len(times) < minimum_runs:
        if embed_timed is not None and calls % TIMED_EVERY == 0:
            silhouettes = inputs[(first + len(timed)) % count]
            before = clock()
            _, parts = embed_timed(silhouettes)
            now = clock()
            timed.append(TimedCall((now - before) / 1e6, parts))
            timed_ns += now - before
        else:
            silhouettes = inputs[(first + len(times)) % count]
            before = clock()
            embed(silhouettes)
            now = clock()
            times.append(now - before)
        calls += 1
    return _Stream(times, timed, now - begin - timed_ns)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Python's collector would stop a call now and then for what others left behind."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
