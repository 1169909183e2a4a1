"""Who is who from one image to the next: blobs assigned to tracks.

Each track predicts its box by constant velocity. SciPy's assignment matches all blobs and tracks at once
by the overlap, the distance and the size. A track that finds no blob coasts for a short time: behind a
pillar, or within a blob that holds several people. Time, not the number of images, decides everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import require
from gaitedge.video.blobs import Blob, Box

__all__ = ["Tracker", "TrackerSettings"]


@dataclass(frozen=True)
class TrackerSettings:
    """How far a person may be from where he or she was expected. Lengths are in heights of the person."""

    confirm: float = 0.15
    """Seconds that something must be followed before it is a track, and...."""
    confirm_images: int = 3
    """...images in which it must be seen."""
    tentative: float = 0.1
    """Seconds that something unconfirmed may be unseen."""
    coast: float = 1.2
    """Seconds that a track may be unseen."""
    reach: float = 0.35
    """Distance of a blob's middle from where it was expected, at most, and..."""
    drift: float = 0.5
    """...by how much that grows with each second unseen."""
    size: float = 2.2
    """Factor by which a blob may be higher or lower than the track's, at most."""
    covered: float = 0.5
    """Share of an expected box that lies in a blob at which the blob may hold that person."""
    wider: float = 1.25
    """Width or area of a blob in comparison with the largest person in it, from which it holds several."""
    comparable: float = 0.25
    """Area in comparison with the largest person in a blob, from which a track is another person, not the
    rest of a shadow or something that is carried."""
    smooth: float = 0.25
    """Seconds over which velocity and size are averaged."""


class Tracker:
    """Follows people through the blobs of a video. Its memory is that of the tracks that live."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self.merged: dict[int, Blob] = {}
        """Confirmed tracks that the last image shows in one blob with others, and that blob."""
        self.ended: list[int] = []
        """Confirmed tracks that the last image ended."""
        self._assign = require("scipy.optimize", "following people").linear_sum_assignment
        self._tracks: list[_Track] = []
        self._time: float | None = None
        self._next = 1

    @property
    def active(self) -> list[int]:
        """Confirmed tracks that live, seen or not, by age."""
        return [track.id for track in self._tracks if track.confirmed]

    def update(self, blobs: Sequence[Blob], time: float) -> list[tuple[int, Blob]]:
        """Take the blobs of the next image in; time: of the image, in seconds.

        Returns the confirmed tracks that are seen alone, with their blobs. A clock that goes backwards
        counts as one that stands.
        """
        step = 0.0 if self._time is None else max(0.0, time - self._time)
        self._time = time
        for track in self._tracks:
            track.predict(step)
        self.ended = []
        self._drop([track for track in self._tracks if track.confirmed and self._lost(track)])
        merged = self._merged(blobs)
        covered = {id(track) for group in merged.values() for track in group}
        tracks = [track for track in self._tracks if id(track) not in covered]
        free = [blob for number, blob in enumerate(blobs) if number not in merged]
        # People who were known come first: a flicker beside them takes nobody's blob.
        pairs: list[tuple[_Track, Blob]] = []
        for chosen in (True, False):
            group = [track for track in tracks if track.confirmed is chosen]
            found = self._match(group, free)
            pairs += [(group[row], free[column]) for row, column in found]
            taken = {column for _, column in found}
            free = [blob for column, blob in enumerate(free) if column not in taken]
        self.merged = {
            track.id: blobs[number] for number, group in merged.items() for track in group if track.confirmed
        }
        for track in self._tracks:
            track.in_merged = id(track) in covered
        for track, blob in pairs:
            track.correct(blob, self.settings)
        self._tracks += [_Track(blob.box) for blob in free]
        self._drop([track for track in self._tracks if self._lost(track)])
        for track in self._tracks:
            enough = track.age >= self.settings.confirm and track.images >= self.settings.confirm_images
            if not track.confirmed and enough and track.unseen == 0:
                track.id, self._next = self._next, self._next + 1
        return [(track.id, blob) for track, blob in pairs if track.confirmed]

    def _lost(self, track: _Track) -> bool:
        return track.unseen > (self.settings.coast if track.confirmed else self.settings.tentative)

    def _drop(self, lost: list[_Track]) -> None:
        self.ended += [track.id for track in lost if track.confirmed]
        self._tracks = [track for track in self._tracks if track not in lost]

    def _match(self, tracks: list[_Track], blobs: list[Blob]) -> list[tuple[int, int]]:
        """Rows of `tracks` and columns of `blobs` that belong together."""
        if not tracks or not blobs:
            return []
        cost = np.array([[self._cost(track, blob.box) for blob in blobs] for track in tracks])
        possible = np.isfinite(cost)
        rows, columns = self._assign(np.where(possible, cost, 1e6))
        return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if possible[r, c]]

    def _cost(self, track: _Track, box: Box) -> float:
        """How badly a box fits a track; infinite where it cannot be the same person."""
        settings = self.settings
        expected = track.box()
        height = max(track.height, 1.0)
        distance = math.hypot(*(_middle(box) - track.middle)) / height
        growth = abs(math.log(box.height / height))
        if distance > settings.reach + settings.drift * track.unseen or growth > math.log(settings.size):
            return math.inf
        return 1 - _overlap(expected, box) + distance + growth

    def _merged(self, blobs: Sequence[Blob]) -> dict[int, list[_Track]]:
        """Blobs that hold several people: their numbers, and the tracks in each.

        Several boxes are expected in such a blob, none of them has a blob of its own, and it is larger
        than each person alone, or was so in the last image.
        """
        settings, found = self.settings, {}
        for number, blob in enumerate(blobs):
            inside = []
            for track in self._tracks:
                expected = track.box()
                own = max(
                    (_overlap(expected, other.box) for other in blobs if other is not blob), default=0.0
                )
                if track.confirmed and own < 0.3 and _inside(expected, blob.box) >= settings.covered:
                    inside.append(track)
            area = max((track.area for track in inside), default=0.0)
            inside = [track for track in inside if track.area >= settings.comparable * area]
            if len(inside) < 2:
                continue
            width = max(track.width for track in inside)
            larger = blob.box.width > settings.wider * width or blob.area > settings.wider * area
            if larger or sum(track.in_merged for track in inside) > 1:
                found[number] = inside
        return found


class _Track:
    """One person's box, its motion, and how long it has been followed."""

    def __init__(self, box: Box) -> None:
        self.id = 0  # until it is confirmed
        self.middle = _middle(box)
        self.velocity = np.zeros(2)
        self.width, self.height = float(box.width), float(box.height)
        self.area = 0.0
        self.age = 0.0
        self.images = 1
        self.unseen = 0.0
        self.in_merged = False
        self._seen_at = self.middle

    @property
    def confirmed(self) -> bool:
        return self.id > 0

    def box(self) -> tuple[float, float, float, float]:
        x, y = self.middle
        return x - self.width / 2, y - self.height / 2, x + self.width / 2, y + self.height / 2

    def predict(self, step: float) -> None:
        self.middle = self.middle + self.velocity * step
        self.age += step
        self.unseen += step

    def correct(self, blob: Blob, settings: TrackerSettings) -> None:
        middle, elapsed = _middle(blob.box), self.unseen
        # Young tracks learn at once, old ones slowly; over a gap it is the mean velocity that counts.
        share = max(elapsed / (elapsed + settings.smooth), 1 / (self.images + 1))
        if elapsed > 0:
            velocity = (middle - self._seen_at) / elapsed
            self.velocity = (
                velocity if self.images == 1 else self.velocity + share * (velocity - self.velocity)
            )
        self.width += share * (blob.box.width - self.width)
        self.height += share * (blob.box.height - self.height)
        self.area = blob.area if self.area == 0 else self.area + share * (blob.area - self.area)
        self.middle = self._seen_at = middle
        self.images += 1
        self.unseen = 0.0


def _middle(box: Box) -> NDArray[np.float64]:
    return np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])


def _common(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _size(a: Sequence[float]) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union."""
    common = _common(a, b)
    return common / max(_size(a) + _size(b) - common, 1e-9)


def _inside(a: Sequence[float], b: Sequence[float]) -> float:
    """The share of `a` that lies in `b`."""
    return _common(a, b) / max(_size(a), 1e-9)
