"""Which silhouettes are good enough, and which tracks are walks: every rejection has a name.

A frame is judged by its blob alone and by the last ones of its track. A track walks while, over the last
few seconds, the person gets somewhere and the lower half of the silhouette widens and narrows with the
steps: BenAbdelkader et al. (2002) found gait's period in that width.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gaitedge.video.blobs import Blob

__all__ = ["FRAME_FAULTS", "TRACK_FAULTS", "QualitySettings", "TrackQuality", "frame_fault", "step_period"]

FRAME_FAULTS = {
    "merged": "several people in one blob",
    "cut at the border": "the body leaves the image",
    "too small": "too few rows of pixels",
    "not upright": "too wide for its height",
    "partly hidden": "much smaller than a moment before",
    "unusable": "nothing is left of it when it is aligned",
}
"""Why a frame of a track is left out -> what that means."""

TRACK_FAULTS = {
    "too short": "too few usable frames, or too short a time",
    "not moving": "the person gets nowhere",
    "not walking": "the width of the lower body has no period of steps",
}
"""Why a track is no walk -> what that means."""


@dataclass(frozen=True)
class QualitySettings:
    """What a usable frame and a walk are. Lengths are in heights of the person."""

    border: int = 2
    """Pixels from the image's edge within which a blob counts as cut."""
    least_rows: int = 64
    """Pixels that a person is high, at least: as many as the aligned silhouette has rows."""
    upright: float = 1.15
    """Height of a box by its width, at least: a long stride with swinging arms has 1.3."""
    hidden: float = 0.7
    """Area or height in comparison with the track's median, from which a person is partly hidden."""
    memory: float = 2.0
    """Seconds over which that median is taken."""
    least_frames: int = 15
    """Usable frames of a walk, at least (Sec. 3.4 of the paper)."""
    window: float = 4.0
    """Seconds that are looked at for walking, and..."""
    least_time: float = 0.9
    """...at least; a step takes about half a second."""
    gap: float = 0.5
    """Seconds without a usable frame after which the window begins anew: a rhythm needs all its beats."""
    displacement: float = 0.6
    """Way in the window, at least, or else..."""
    approach: float = 0.12
    """...change of the height, as a natural logarithm: towards the camera or away from it."""
    steadiness: float = 0.8
    """Share of the movement (of its variance) that an even pace explains, at least."""
    hold: float = 0.25
    """Seconds in a row for which a track must look like a walk to be one."""
    shortest_step: float = 0.3
    """Seconds of a period of the width, at least, and..."""
    longest_step: float = 1.6
    """...at most: of one step from the side, of two from the front."""
    periodicity: float = 0.35
    """Autocorrelation of the width at that period, at least; 1 is a perfect repetition."""
    swing: float = 0.008
    """Standard deviation of the width, at least: what changes less is noise."""


def frame_fault(blob: Blob, width: int, height: int, settings: QualitySettings) -> str | None:
    """Why a blob in an image of this size gives no usable silhouette; a key of FRAME_FAULTS, or None."""
    box, border = blob.box, settings.border
    if box.left < border or box.top < border or box.right > width - border or box.bottom > height - border:
        return "cut at the border"
    if box.height < settings.least_rows:
        return "too small"
    if box.height < settings.upright * box.width:
        return "not upright"
    return None


class _Sight(NamedTuple):
    time: float
    x: float
    feet: float
    height: float
    width: float  # of the lower half, in heights


class TrackQuality:
    """One track's frames judged as they come; its memory is bounded by the window, not the track."""

    def __init__(self, settings: QualitySettings | None = None) -> None:
        self.settings = settings or QualitySettings()
        self.frames = 0
        """Usable frames."""
        self.rejected: Counter[str] = Counter()
        """Fault -> frames."""
        self.walked = False
        """Whether the track was a walk at any time."""
        self.period: float | None = None
        """Seconds of a step as last seen."""
        self._sights: deque[_Sight] = deque(maxlen=1024)
        self._sizes: deque[tuple[float, int, int]] = deque(maxlen=1024)
        self._walking_since: float | None = None

    def judge(self, blob: Blob, time: float, width: int, height: int) -> str | None:
        """Take a blob of the track in, of an image of this size: its fault, or None where it is usable."""
        if self._sights and not 0 <= time - self._sights[-1].time <= self.settings.gap:
            self._sights.clear()  # too long ago, or the clock was put back
            self._walking_since = None
        fault = frame_fault(blob, width, height, self.settings)
        if fault is None:
            if self._hidden(blob):
                fault = "partly hidden"
            self._sizes.append((time, blob.area, blob.box.height))  # what stays smaller is small
            while not 0 <= time - self._sizes[0][0] <= self.settings.memory:
                self._sizes.popleft()
        if fault is not None:
            self.rejected[fault] += 1
            return fault
        self.frames += 1
        self._sights.append(_sight(blob, time))
        while time - self._sights[0].time > self.settings.window:
            self._sights.popleft()
        return None

    def reject(self, fault: str, usable: bool = False) -> None:
        """Count a frame that was rejected elsewhere; usable: it had been counted as usable."""
        self.rejected[fault] += 1
        self.frames -= usable

    def walking(self) -> str | None:
        """Why the last seconds show no walk, a key of TRACK_FAULTS, or None where they do."""
        fault = self._walking()
        if fault is not None:
            self._walking_since = None
            return fault
        now = self._sights[-1].time
        self._walking_since = now if self._walking_since is None else self._walking_since
        self.walked = self.walked or now - self._walking_since >= self.settings.hold
        return None

    def verdict(self) -> str | None:
        """Why the track as a whole is no walk, a key of TRACK_FAULTS, or None where it is one."""
        if self.frames < self.settings.least_frames:
            return "too short"
        if self.walked:
            return None
        return self._walking() or "not walking"

    def _hidden(self, blob: Blob) -> bool:
        if len(self._sizes) < 5:
            return False
        _, area, height = np.median(self._sizes, axis=0)
        return bool(min(blob.area / area, blob.box.height / height) < self.settings.hidden)

    def _walking(self) -> str | None:
        settings, sights = self.settings, self._sights
        if len(sights) < settings.least_frames or sights[-1].time - sights[0].time < settings.least_time:
            return "too short"
        times = np.array([sight.time for sight in sights])
        heights = np.array([sight.height for sight in sights])
        places = np.array([[sight.x, sight.feet] for sight in sights]) / np.median(heights)
        way = math.hypot(*(_pace(times, place, settings.steadiness) for place in places.T))
        if way < settings.displacement:
            approach = _pace(times, np.log(heights), settings.steadiness)
            if abs(approach) < settings.approach:
                return "not moving"
        period = step_period(times, np.array([sight.width for sight in sights]), settings)
        self.period = period or self.period
        return "not walking" if period is None else None


def _pace(times: NDArray[np.float64], values: NDArray[np.float64], steadiness: float) -> float:
    """By how much values change over their time at an even pace; 0 where that explains too little."""
    times = times - times.mean()
    values = values - values.mean()
    slope = float(np.dot(times, values) / max(float(np.dot(times, times)), 1e-9))
    rest = values - slope * times
    if float(np.dot(rest, rest)) > (1 - steadiness) * float(np.dot(values, values)):
        return 0.0
    return slope * float(times[-1] - times[0])


def step_period(
    times: NDArray[np.float64], widths: NDArray[np.float64], settings: QualitySettings | None = None
) -> float | None:
    """The period at which a width repeats itself, in seconds; None where there is none.

    times, widths: [n], times rising, at any spacing; widths in heights of the person. It is the lag of the
    first high peak in the autocorrelation of what a slow trend does not explain.
    """
    settings = settings or QualitySettings()
    rate = 30.0
    times = times - times[0]
    even = np.arange(0.0, float(times[-1]), 1 / rate)
    if len(even) < 8:
        return None
    # Where frames are missing nothing is known: what would be drawn between them has no rhythm.
    after = np.clip(np.searchsorted(times, even), 1, len(times) - 1)
    known = times[after] - times[after - 1] <= 3 * float(np.median(np.diff(times)))
    signal = np.interp(even, times, widths)
    signal = np.convolve(np.pad(signal, 2, mode="edge"), np.full(5, 0.2), "valid")
    # A turn or a way towards the camera changes the width slowly: take off a parabola.
    signal = signal - np.polynomial.Polynomial.fit(even[known], signal[known], 2)(even)
    if float(signal[known].std()) < settings.swing:
        return None
    signal = np.where(known, signal, 0.0)
    longest = min(int(settings.longest_step * rate), int(len(signal) / 1.5))
    lags = np.arange(1, longest + 1)
    strength = np.array([_likeness(signal[lag:], signal[:-lag], known[lag:] & known[:-lag]) for lag in lags])
    peaks = (strength[1:-1] >= strength[:-2]) & (strength[1:-1] > strength[2:])
    peaks &= (strength[1:-1] >= settings.periodicity) & (lags[1:-1] >= settings.shortest_step * rate)
    found = np.flatnonzero(peaks) + 1
    if not found.size:
        return None
    # Two steps repeat themselves as well as one does, or a little better: the arms differ.
    first = found[strength[found] >= 0.6 * strength[found].max()][0]
    return float(lags[first] / rate)


def _likeness(a: NDArray[np.float64], b: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """The correlation of two stretches where both are known."""
    both = float(np.dot(a[known], a[known]) * np.dot(b[known], b[known]))
    return float(np.dot(a[known], b[known])) / max(math.sqrt(both), 1e-9)


def _sight(blob: Blob, time: float) -> _Sight:
    box = blob.box
    lower = blob.mask[box.height // 2 :]
    columns = np.flatnonzero(lower.any(axis=0))
    width = float(columns[-1] - columns[0] + 1) if columns.size else 0.0
    return _Sight(time, (box.left + box.right) / 2, box.bottom, box.height, width / box.height)
