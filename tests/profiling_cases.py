"""Repeats of rows as a process would have measured them, made up for tests of what is done with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from gaitedge.engines.timing import CallTimes
from gaitedge.machine.clocks import read_clocks
from gaitedge.profiling.document import Energy, Memory
from gaitedge.profiling.measuring import Measurement, TimedCall
from gaitedge.profiling.repeat import Loaded, Repeat, Settings, Wanted

LOADED = Loaded("openvino", "fp32", 2, "OpenVINO on a processor")
CLOCKS = read_clocks(Path("/nowhere"))
SETTINGS = Settings(0.5, 0.1, None, 0, True)


def wanted(batch: int = 1, **others: object) -> Wanted:
    row = Wanted("openvino", None, "exported", batch, 30, None, 1)
    return dataclasses.replace(row, **others)  # type: ignore[arg-type]


def repeat_of(times: list[float], rate: float = 100.0, **others: object) -> Repeat:
    timed = [TimedCall(2.5, CallTimes(compute=2.0))]
    found = Repeat(
        LOADED,
        load_ms=100.0,
        measurement=Measurement(30.0, 4, rate, times, timed),
        memory=Memory(200, 100),
        before=CLOCKS,
        after=CLOCKS,
        control_ms=5.0,
        energy=Energy(None, "there is no sensor"),
    )
    return dataclasses.replace(found, **others)  # type: ignore[arg-type]


class FakeRunner:
    """Takes 10 ms a sequence; raises for some rows, and keeps what it was asked for."""

    def __init__(self, failing: dict[int, BaseException] | None = None) -> None:
        self.failing = failing or {}
        """By batch."""
        self.asked: list[tuple[int, int]] = []
        """Batch and number of the repeat."""

    def __call__(
        self,
        bundle: Path,
        row: Wanted,
        settings: Settings,
        number: int,
        was_loaded: Callable[[Loaded], None],
    ) -> Repeat:
        self.asked.append((row.batch, number))
        loaded = dataclasses.replace(LOADED, precision=row.precision or "fp32", threads=row.threads or 2)
        if row.batch in self.failing:
            if len(self.asked) > 1:  # the first row fails before that is known
                was_loaded(loaded)
            raise self.failing[row.batch]
        was_loaded(loaded)
        return repeat_of([10.0 * row.batch] * 3, 100 / row.batch, loaded=loaded)
