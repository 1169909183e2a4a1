"""A call's times are what a clock says, apart from the first, the warm-up and those that tell more."""

from __future__ import annotations

import gc
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from clocked_engines import FakeClock, FakeEngine, FakeTimedEngine
from numpy.typing import NDArray

from gaitedge.engines.timing import CallTimes
from gaitedge.errors import InputError
from gaitedge.profiling.measuring import TIMED_EVERY, TimedCall, figures, measure

INPUTS = [np.full((2, 3, 64, 44), number, np.uint8) for number in range(3)]


def numbers(calls: list[NDArray[np.uint8]]) -> list[int]:
    return [int(one[0, 0, 0, 0]) for one in calls]


def test_first_warm_up_and_measured_calls_are_apart() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)
    found = measure([engine], INPUTS, seconds=0.02, warmup_s=0.01, clock=clock)
    assert found.first_run_ms == 50
    assert found.warmup_runs == 5
    assert found.end_to_end_ms == [2.0] * 10
    assert found.calls_per_second == pytest.approx(500)
    assert found.timed == []
    assert len(engine.seen) == 1 + 5 + 10


def test_inputs_are_taken_in_turn() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)
    measure([engine], INPUTS, seconds=0.014, warmup_s=0, clock=clock)
    assert numbers(engine.seen) == [0, 0, 0, 1, 2, 0, 1, 2, 0]  # the first, one to warm up, and seven


def test_so_many_calls_however_long_they_take() -> None:
    clock = FakeClock()
    found = measure([FakeEngine(clock, 4000.0)], INPUTS, 0.01, warmup_s=0, minimum_runs=5, clock=clock)
    assert found.end_to_end_ms == [4000.0] * 5


def test_timed_calls_come_in_between_and_count_nowhere_else() -> None:
    clock = FakeClock()
    engine = FakeTimedEngine(clock, CallTimes(0.5, 1.0, 0.25, 0.1))
    found = measure([engine], INPUTS, seconds=0.09, warmup_s=0, clock=clock)
    assert set(found.end_to_end_ms) == {2.0}
    assert found.calls_per_second == pytest.approx(500)  # not slower for the others
    assert len(found.timed) == -(-(len(found.end_to_end_ms) + len(found.timed)) // TIMED_EVERY) > 1
    assert found.timed[0] == TimedCall(4.0, CallTimes(0.5, 1.0, 0.25, 0.1))
    assert set(numbers(engine.timed[1:])) == {0, 1, 2}  # of all inputs, as the plain ones


def test_figures_of_a_gpu() -> None:
    calls = [
        TimedCall(4.0, CallTimes(0.5, 1.0, 0.25, 0.125)),
        TimedCall(5.0, CallTimes(0.5, 2.0, 0.25, 0.125)),
    ]
    found = figures([2.0, 4.0], calls)
    assert found.end_to_end.mean_ms == 3.0
    assert found.compute is not None
    assert found.host is not None
    assert (found.compute.min_ms, found.compute.max_ms) == (1.0, 2.0)
    assert (found.host.min_ms, found.host.max_ms) == (2.25, 2.25)
    medians = [one.median_ms for one in (found.host_to_device, found.device_to_host, found.enqueue) if one]
    assert medians == [0.5, 0.25, 0.125]


def test_what_an_engine_does_not_tell_is_none() -> None:
    found = figures([2.0], [TimedCall(3.0, CallTimes(compute=2.0))])
    assert (found.host_to_device, found.device_to_host, found.enqueue) == (None, None, None)
    assert found.host is not None
    assert found.host.median_ms == 1.0
    plain = figures([2.0], [])
    assert (plain.compute, plain.host) == (None, None)


def test_streams_call_at_the_same_time() -> None:
    """Each waits in its call until the others are in theirs: one after the other it would not end."""
    together = threading.Barrier(3)

    class Meeting(FakeEngine):
        def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
            if self.seen or self is not engines[0]:  # the first run of all is alone
                together.wait(timeout=60)
            return super().embed(silhouettes)

    engines = [Meeting(FakeClock()) for _ in range(3)]
    found = measure(engines, INPUTS, seconds=0, warmup_s=0, minimum_runs=4)
    assert len(found.end_to_end_ms) == 12
    assert [len(engine.seen) for engine in engines] == [6, 5, 5]
    assert numbers([engine.seen[-1] for engine in engines]) == [0, 1, 2]  # nor all with the same input
    assert found.calls_per_second > 0


def test_what_a_stream_raises_is_raised() -> None:
    class Broken(FakeEngine):
        def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise MemoryError("no room")

    clock = FakeClock()
    with pytest.raises(MemoryError, match="no room"):
        measure([FakeEngine(clock), Broken(clock)], INPUTS, 0.01, clock=clock)


@pytest.mark.parametrize("enabled", [True, False])
def test_pythons_collector_rests_meanwhile(enabled: bool) -> None:
    seen = []
    engine = SimpleNamespace(embed=lambda _: seen.append(gc.isenabled()))
    (gc.enable if enabled else gc.disable)()
    try:
        measure([engine], INPUTS, 0, warmup_s=0)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert seen[1:] == [False] * 4


@pytest.mark.parametrize(
    "bad", [{"seconds": -1.0}, {"warmup_s": -0.1}, {"minimum_runs": 0}, {"seconds": float("nan")}]
)
def test_impossible_measurements_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        measure([FakeEngine(FakeClock())], INPUTS, **bad)  # type: ignore[arg-type]
