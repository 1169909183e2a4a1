"""Engines whose calls take a stated time on a clock of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.engines.timing import CallTimes


class FakeClock:
    """Nanoseconds that pass only when somebody works."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def work(self, milliseconds: float) -> None:
        self.now += round(milliseconds * 1e6)


class FakeEngine:
    """Takes `ms` a call, more at its first one, and keeps what it was given."""

    largest_batch = None
    config = GaitPartConfig()

    def __init__(self, clock: FakeClock, ms: float = 2.0, first_ms: float = 50.0) -> None:
        self.clock, self.ms, self.first_ms = clock, ms, first_ms
        self.seen: list[NDArray[np.uint8]] = []

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.clock.work(self.ms if self.seen else self.first_ms)
        self.seen.append(silhouettes)
        return np.zeros((len(silhouettes), 16, 256), np.float32)


class FakeTimedEngine(FakeEngine):
    """One that tells its times; a call of that kind takes twice as long."""

    def __init__(self, clock: FakeClock, times: CallTimes, ms: float = 2.0) -> None:
        super().__init__(clock, ms)
        self.times = times
        self.timed: list[NDArray[np.uint8]] = []

    def embed_timed(self, silhouettes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], CallTimes]:
        self.clock.work(2 * self.ms)
        self.timed.append(silhouettes)
        return np.zeros((len(silhouettes), 16, 256), np.float32), self.times
