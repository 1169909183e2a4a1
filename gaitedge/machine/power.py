"""What a piece of work costs in energy, by a sensor of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from gaitedge.errors import MachineError, MissingPackage
from gaitedge.machine.ina import find_rails, whole
from gaitedge.machine.jetson import find_jetson
from gaitedge.machine.nvml import GpuEnergy, GpuPower
from gaitedge.machine.rapl import find_rapl
from gaitedge.machine.tegrastats import Tegrastats

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

    def watch() -> None:
        try:
            while not done.wait(sensor.interval_s):
                sensor.joules()
        except MachineError as problem:
            problems.append(problem)

    before = sensor.joules()  # this and the last reading are this thread's, the other one not running
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
    if find_jetson(root) is not None:
        return _jetson(root)
    if device == "cpu":
        return find_rapl(root)
    try:
        return GpuEnergy()
    except MissingPackage:
        raise
    except MachineError:  # a device before Volta counts no energy, and may tell its power
        power = GpuPower()
        return Integrated(power.name, power.watts, power.close)


def _jetson(root: Path) -> Sensor:
    rails = find_rails(root)
    try:
        wanted = [rails[name] for name in whole(rails)]
    except MachineError as problem:
        try:
            stats = Tegrastats()
        except MachineError as other:
            raise MachineError(f"{problem}, and {other}") from None
        return Integrated("tegrastats, " + " + ".join(stats.rails), stats.watts, stats.close)
    chips = ", ".join(sorted({rail.monitor for rail in wanted}))
    return Integrated(
        f"{chips}, {' + '.join(rail.name for rail in wanted)}",
        lambda: sum(rail.watts() for rail in wanted),
    )
