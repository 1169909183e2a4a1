"""What a Watcher is put together from, as far as it knows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gaitedge.people.identification import Identification
from gaitedge.video.capture import Frame
from gaitedge.video.live import LiveStatistics

__all__ = ["People", "Source"]


class Source(Protocol):
    """What is needed of a LiveVideo."""

    fps: float | None

    @property
    def statistics(self) -> LiveStatistics: ...
    @property
    def ended(self) -> bool: ...
    def get(self, timeout: float = 0.0) -> Frame | None: ...


class People(Protocol):
    """What is needed of Enrolled."""

    @property
    def threshold(self) -> float | None: ...
    def identify(self, probe: NDArray[np.float32]) -> Identification | None: ...
    def news(self) -> list[tuple[str, str]]: ...
