"""One repeat of one row of a sweep, in a process that does nothing else (turns.py)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.engines import Engine, load
from gaitedge.engines.timing import CallTimes
from gaitedge.errors import InputError, MachineError
from gaitedge.machine.clocks import read_clocks
from gaitedge.machine.cpu import usable_cores
from gaitedge.profiling import memory
from gaitedge.profiling.control import control_times
from gaitedge.profiling.document import Energy, Memory
from gaitedge.profiling.energy import measure_energy
from gaitedge.profiling.inputs import make_inputs
from gaitedge.profiling.measuring import Measurement, TimedCall, run, warm_up
from gaitedge.profiling.runtime_errors import runtime_errors

__all__ = ["Loaded", "Repeat", "Settings", "Wanted", "repeat"]

_OF_A_GPU = ("tensorrt", "cuda")
_ENERGY_S = 2.0  # a GPU's counter moves every 20 to 100 ms, so that this is within 5 %


@dataclass(frozen=True)
class Wanted:
    """A row of a sweep as it was asked for."""

    engine: str
    """Or "auto"."""
    precision: str | None
    """None: as exported."""
    plan: str
    batch: int
    frames: int
    threads: int | None
    """None: all cores, of a CPU's engine."""
    streams: int

    def __str__(self) -> str:
        parts = [self.engine, self.precision, None if self.plan == "exported" else self.plan]
        parts += [f"{self.batch}×{self.frames}"]
        parts += [f"{self.threads} threads" if self.threads else None]
        parts += [f"{self.streams} streams" if self.streams > 1 else None]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Settings:
    """How a repeat is measured."""

    seconds: float
    """Of the measured calls."""
    warmup_s: float
    inputs: str | None
    """Where walks are taken from; None draws silhouettes."""
    seed: int
    energy: bool
    """Whether to ask a sensor, in a run of its own after the first repeat of a row."""


@dataclass(frozen=True)
class Loaded:
    """What "auto" and the like came to."""

    engine: str
    precision: str
    threads: int | None
    description: str


@dataclass(frozen=True)
class Repeat:
    """What one repeat found."""

    loaded: Loaded
    load_ms: float
    measurement: Measurement
    memory: Memory
    before: dict[str, Any]
    """The clocks once the engine was warm."""
    after: dict[str, Any]
    """And right after the measured calls."""
    control_ms: float | None
    """Median of the control just before and just after; None on a GPU."""
    energy: Energy | None
    """None where this repeat did not ask for it."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Repeat:
        """From what dataclasses.asdict gave."""
        measured, energy = dict(values.pop("measurement")), values.pop("energy")
        timed = [TimedCall(one["end_to_end_ms"], CallTimes(**one["times"])) for one in measured.pop("timed")]
        return cls(
            loaded=Loaded(**values.pop("loaded")),
            memory=Memory(**values.pop("memory")),
            measurement=Measurement(**measured, timed=timed),
            energy=None if energy is None else Energy(**energy),
            **values,
        )


def repeat(bundle: Path, wanted: Wanted, settings: Settings, number: int) -> Generator[Any, None, None]:
    """Give what was loaded, and then measure: a candidate of turns.Worker.

    number: of the repeat, from 0. Raises what load() and the engine raise, and MachineError where the
    runtime fails, as for want of memory.
    """
    before = memory.resident()
    start = time.perf_counter()
    with runtime_errors():
        engines, load_ms = _load(bundle, wanted, start)
    engine = engines[0]
    of_the_cpu = engine.name not in _OF_A_GPU
    if wanted.threads is not None and not of_the_cpu:
        raise InputError(f"threads are of a CPU's engine, not of {engine.name}: leave them out")
    threads = (wanted.threads or usable_cores()) if of_the_cpu else None
    loaded = Loaded(engine.name, engine.precision, threads, engine.description)
    yield loaded

    controls = control_times() if of_the_cpu else []
    inputs = make_inputs(settings.inputs, wanted.batch, wanted.frames, settings.seed, number)
    with runtime_errors():
        first_run_ms, warmup_runs = warm_up(engines, inputs, settings.warmup_s)
        _check_works(engine, inputs[0])
        device = _device_memory(of_the_cpu)
        clocks = read_clocks()
        rate, times, timed = run(engines, inputs, settings.seconds)
        clocks_after = read_clocks()
        taken = Memory(memory.peak(), before, memory.most(device, _device_memory(of_the_cpu)))
        controls += control_times() if of_the_cpu else []
        energy = None
        if settings.energy and number == 0:
            energy = _energy(engines, inputs, of_the_cpu, max(settings.seconds, _ENERGY_S))
    yield Repeat(
        loaded,
        load_ms,
        Measurement(first_run_ms, warmup_runs, rate, times, timed),
        taken,
        clocks,
        clocks_after,
        statistics.median(controls) if controls else None,
        energy,
    )


def _load(path: Path, wanted: Wanted, start: float) -> tuple[list[Engine], float]:
    """An engine for each stream, the same one where it takes several calls at a time; and how long the first
    took."""
    bundle = Bundle.open(path)

    def one() -> Engine:
        return load(bundle, wanted.engine, wanted.threads, wanted.precision, in_flight=wanted.streams)

    first = one()
    load_ms = (time.perf_counter() - start) * 1e3
    if first.name == "tensorrt":
        return [first] * wanted.streams, load_ms
    return [first, *(one() for _ in range(wanted.streams - 1))], load_ms


def _check_works(engine: Engine, silhouettes: NDArray[np.uint8]) -> None:
    """Raise MachineError where an engine gives something else than embeddings of what it gets: a call that
    ends early, as OpenVINO's did where memory was short, would be taken for a fast one."""
    embeddings, (batch, frames) = engine.embed(silhouettes), silhouettes.shape[:2]
    wanted = (batch, engine.config.parts, engine.config.embedding_dim)
    if embeddings.shape != wanted or not np.isfinite(embeddings).all():
        raise MachineError(
            f"{engine.name} gives no embeddings of {batch} sequences of {frames} frames, and says no reason; "
            "give it less at once, for the memory may not suffice"
        )


def _energy(
    engines: list[Engine], inputs: list[NDArray[np.uint8]], of_the_cpu: bool, seconds: float
) -> Energy:
    def work() -> int:
        _, times, timed = run(engines, inputs, seconds)
        return (len(times) + len(timed)) * len(inputs[0])

    return measure_energy(work, "cpu" if of_the_cpu else "gpu")


def _device_memory(of_the_cpu: bool) -> int | None:
    if of_the_cpu:
        return None
    from gaitedge.engines.cuda_memory import device_memory_used

    return device_memory_used()
