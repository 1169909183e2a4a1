"""What a piece of work costs in energy, by a sensor of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from gaitedge.errors import MachineError

__all__ = ["Device", "Integrated", "Metered", "Sensor", "find_sensor", "meter"]

Device = Literal["cpu", "gpu"]
Result = TypeVar("Result")

SAMPLING_S = 0.05  # between two readings of a power


class Sensor(Protocol):
    """Tells energy."""

    name: str
    """As in "RAPL, package-0"."""
    interval_s: float
    """`joules` must be called at least this often: a counter runs over, a power is to be sampled."""

    def joules(self) -> float:
        """Energy since the first call, which gives 0. Raises MachineError where it cannot be read."""

    def close(self) -> None:
        """Let go of what the sensor holds."""


class Integrated:
    """A sensor that tells power alone: summed up over time by the trapezoid rule."""

    interval_s = SAMPLING_S

    def __init__(
        self,
        name: str,
        watts: Callable[[], float],
        close: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.close = close
        self._watts, self._clock = watts, clock
        self._last: tuple[float, float] | None = None  # when, and how many watts
        self._joules = 0.0

    def joules(self) -> float:
        watts = self._watts()
        now = self._clock()
        if self._last is not None:
            then, before = self._last
            self._joules += (now - then) * (watts + before) / 2
        self._last = (now, watts)
        return self._joules


@dataclass(frozen=True)
class Metered(Generic[Result]):
    """A piece of work and what it cost."""

    result: Result
    joules: float
    seconds: float


def meter(
    sensor: Sensor, work: Callable[[], Result], clock: Callable[[], float] = time.monotonic
) -> Metered[Result]:
    """Run `work` in this thread while another one reads the sensor as often as it wants to be read.

    Raises MachineError where the sensor stops working on the way, and what `work` raises.
    """
    done = threading.Event()
    problems: list[MachineError] = []
    lock = threading.Lock()  # the last reading is this thread's

    def watch() -> None:
        try:
            while not done.wait(sensor.interval_s):
                with lock:
                    sensor.joules()
        except MachineError as problem:
            problems.append(problem)

    before = sensor.joules()
    begin = clock()
    watcher = threading.Thread(target=watch, name="energy", daemon=True)
    watcher.start()
    try:
        result = work()
    finally:
        done.set()
        watcher.join()
    if problems:
        raise problems[0]
    after = sensor.joules()
    return Metered(result, after - before, clock() - begin)


def find_sensor(device: Device, root: Path = Path("/")) -> Sensor:
    """The sensor of what runs on the processor or on the GPU.

    On a Jetson, whose processor and GPU share one supply, that of the whole module; else NVML for a GPU
    and RAPL for a processor. Raises MachineError where there is none that this user may read: why, and
    what to do.
    """
    raise MachineError(f"no energy sensor for the {device} is known at {root}")
