"""Joules a sequence, by a sensor of this machine, with what it draws when idle told apart."""

from __future__ import annotations

import time
from collections.abc import Callable

from gaitedge.errors import InputError, MachineError
from gaitedge.machine.power import Device, Sensor, find_sensor, meter
from gaitedge.profiling.document import Energy

__all__ = ["measure_energy"]


def measure_energy(
    run: Callable[[], int],
    device: Device,
    idle_s: float = 1.0,
    find: Callable[[Device], Sensor] = find_sensor,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Energy:
    """What a sequence costs on the processor or on the GPU.

    run: does work for some seconds, since sensors are slow (a GPU's counter moves every 20 to 100 ms), and
    returns how many sequences it did. The machine is idle for `idle_s` just before, with the engine loaded
    and a GPU perhaps still at the clocks of its last work; what it draws then is subtracted, and stated.
    A sensor sees all that runs on its device: nothing else should.

    Without a sensor `run` is not run at all: the times come from elsewhere. `absent` says why then, and
    what to do. It also does where the work drew no more than idleness, and so has no energy of its own.
    Raises InputError where `idle_s` is not positive, and what `run` raises.
    """
    if not idle_s > 0:
        raise InputError(f"the time to measure idle power must be above 0 s, not {idle_s}")
    try:
        sensor = find(device)
    except MachineError as problem:
        return Energy(sensor=None, absent=str(problem))
    try:
        idle = meter(sensor, lambda: pause(idle_s), clock)
        work = meter(sensor, run, clock)
    except MachineError as problem:
        return Energy(sensor=None, absent=f"{sensor.name} stopped: {problem}")
    finally:
        sensor.close()
    if work.result < 1:
        return Energy(sensor=None, absent=f"{sensor.name}: no sequence was done while it was read")
    idle_watts = idle.joules / idle.seconds
    own = work.joules - idle_watts * work.seconds
    return Energy(
        sensor=sensor.name,
        absent=None
        if own > 0
        else "the machine drew no more at work than idle: something else ran, or too little",
        seconds=work.seconds,
        average_watts=work.joules / work.seconds,
        idle_watts=idle_watts,
        joules_a_sequence=own / work.result if own > 0 else None,
        joules_a_sequence_whole=work.joules / work.result,
    )
