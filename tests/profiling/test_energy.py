from __future__ import annotations

import pytest

from gaitedge.errors import InputError, MachineError
from gaitedge.profiling.document import Energy
from gaitedge.profiling.energy import measure_energy


class Machine:
    """Draws 10 W, and 40 W while it works; time passes only where something is done."""

    name = "RAPL, package-0"
    interval_s = 60.0

    def __init__(self, works_at: float = 40.0, breaks_at: float = 1e9) -> None:
        self.works_at, self.breaks_at = works_at, breaks_at
        self.now = self.used = 0.0
        self.closed = False

    def find(self, device: str) -> Machine:
        assert device == "cpu"
        return self

    def pause(self, seconds: float) -> None:
        self.pass_time(seconds, 10.0)

    def work(self) -> int:
        self.pass_time(5.0, self.works_at)
        return 100

    def pass_time(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.used += seconds * watts

    def clock(self) -> float:
        return self.now

    def joules(self) -> float:
        if self.now >= self.breaks_at:
            raise MachineError("energy_uj cannot be read any more")
        return self.used

    def close(self) -> None:
        self.closed = True


def measured(machine: Machine, idle_s: float = 2.0) -> Energy:
    return measure_energy(machine.work, "cpu", idle_s, machine.find, machine.pause, machine.clock)


def test_idle_is_measured_just_before_and_subtracted() -> None:
    machine = Machine()
    assert measured(machine) == Energy(
        sensor="RAPL, package-0",
        absent=None,
        seconds=5.0,
        average_watts=40.0,
        idle_watts=10.0,
        joules_a_sequence=1.5,
        joules_a_sequence_whole=2.0,
    )
    assert machine.now == 7.0
    assert machine.closed


def test_without_a_sensor_nothing_is_run() -> None:
    def find(device: str) -> Machine:
        raise MachineError(f"no sensor of the {device}; run as root")

    energy = measure_energy(lambda: pytest.fail("it was run"), "gpu", find=find, pause=pytest.fail)
    assert energy == Energy(sensor=None, absent="no sensor of the gpu; run as root")


def test_work_that_draws_no_more_than_idleness_has_no_figure() -> None:
    energy = measured(Machine(works_at=9.0))
    assert (energy.sensor, energy.joules_a_sequence) == ("RAPL, package-0", None)
    assert (energy.average_watts, energy.idle_watts, energy.joules_a_sequence_whole) == (9.0, 10.0, 0.45)
    assert energy.absent is not None
    assert "no more at work than idle" in energy.absent


def test_a_sensor_that_stops_on_the_way() -> None:
    machine = Machine(breaks_at=7.0)
    energy = measured(machine)
    assert energy == Energy(sensor=None, absent="RAPL, package-0 stopped: energy_uj cannot be read any more")
    assert machine.closed


def test_no_sequence_at_all() -> None:
    machine = Machine()
    energy = measure_energy(lambda: 0, "cpu", 1.0, machine.find, machine.pause, machine.clock)
    assert energy == Energy(sensor=None, absent="RAPL, package-0: no sequence was done while it was read")


def test_what_the_work_raises_passes_and_the_sensor_is_closed() -> None:
    machine = Machine()

    def fail() -> int:
        raise MemoryError("a batch too large")

    with pytest.raises(MemoryError, match="a batch too large"):
        measure_energy(fail, "cpu", 1.0, machine.find, machine.pause, machine.clock)
    assert machine.closed


@pytest.mark.parametrize("idle_s", [0.0, -1.0, float("nan")])
def test_a_time_that_is_none(idle_s: float) -> None:
    with pytest.raises(InputError, match="idle power must be above 0 s"):
        measured(Machine(), idle_s)
