"""The control is timed a few times, without the run that wakes the threads."""

from __future__ import annotations

import itertools

from gaitedge.profiling.control import control_times


def test_times_without_the_first() -> None:
    readings = itertools.accumulate([0, 9, 1, 2, 1, 3, 1, 4], lambda at, ms: at + ms * 1_000_000)
    assert control_times(lambda: next(readings)) == [2.0, 3.0, 4.0]


def test_by_the_real_clock() -> None:
    times = control_times()
    assert len(times) == 3
    assert min(times) > 0
