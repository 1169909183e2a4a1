"""One person's walk as it happens: silhouettes in, one by one, and the embedding of all so far at any time.

Gaps. A camera's track has frames without a usable silhouette. Where few are missing in a row, the frames
on either side count as neighbours: so have the data sets it, from which such frames are simply left out.
Where more are missing, the pose has gone on too far for that: the segment before the gap ends and the next
frame begins another. A segment has padding at both ends, as a whole walk has, and TP (Eq. 9 or 11) runs over
the micro-motions of all segments. No frame is made up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig
from gaitedge.engines.frames import FrameEngine, load_frames
from gaitedge.errors import InputError, SilhouetteError
from gaitedge.streaming.head import TemporalHead

__all__ = ["Gaps", "Network", "Stream", "check_gap", "check_silhouette", "push_each", "take_features"]


@dataclass(frozen=True)
class Gaps:
    """The longest gaps that a stream bridges; a longer one, by either measure, ends the segment."""

    frames: int = 3
    """Frames in a row that are missing. Of synthetic walkers at 25 a second, longer gaps do less harm as the
    end of a segment than bridged (docs/streaming.md)."""
    seconds: float = 0.14
    """The same for whoever goes by the clock: 3 missing frames at 25 a second are 0.12 s, 4 are 0.16 s."""

    def __post_init__(self) -> None:
        if self.frames < 0:
            raise InputError(f"a gap to bridge is 0 frames or more, not {self.frames}")
        if not self.seconds >= 0:
            raise InputError(f"a gap to bridge is 0 seconds or more, not {self.seconds}")


@dataclass(frozen=True)
class Network:
    """A bundle's network in its two halves: the engine of the frames, and the head over time."""

    frames: FrameEngine
    head: TemporalHead

    @classmethod
    def load(
        cls,
        bundle: Bundle | Path | str,
        engine: str = "auto",
        threads: int | None = None,
        precision: str | None = None,
    ) -> Network:
        """Get a bundle ready for streams; arguments and errors are those of gaitedge.engines.frames."""
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
        engine_of_frames = load_frames(bundle, engine, threads, precision)
        return cls(engine_of_frames, TemporalHead(bundle.config, bundle.weights()))

    @property
    def config(self) -> GaitPartConfig:
        """The network's configuration."""
        return self.head.config

    @property
    def fingerprint(self) -> str:
        """The model's identity: only a gallery of the same one can be compared with."""
        return self.frames.fingerprint


class Stream:
    """A walk that is under way. Its embedding is exactly, within rounding, that of the whole walk so far.

    A push costs one frame of the frame network and a constant, and memory does not grow. For one thread
    at a time: the one that pushes, or polls the scheduler.
    """

    def __init__(self, network: Network, gaps: Gaps | None = None) -> None:
        self.network = network
        self.gaps = gaps or Gaps()
        self.segments = 0
        """Segments that hold a frame."""
        self.dropped = 0
        """Frames that the scheduler's full queue dropped or a failing engine lost."""
        self._state = network.head.begin()
        self._missing_frames, self._missing_seconds = 0, 0.0

    @property
    def frames(self) -> int:
        """Silhouettes that the embedding is made of."""
        return self._state.frames

    def push(self, silhouette: NDArray[np.uint8]) -> None:
        """Take the next silhouette, aligned, uint8 [64, 44].

        Raises SilhouetteError on another type or shape; whatever is raised, the stream is as before.
        """
        push_each([self], [silhouette])

    def gap(self, *, frames: int = 0, seconds: float = 0.0) -> None:
        """Tell that frames are missing between the last silhouette and the next.

        frames: how many; seconds: how long; either, or both. Several gaps in a row add up. Raises
        InputError on negative numbers.
        """
        check_gap(frames, seconds)
        self._missing_frames += frames
        self._missing_seconds += seconds

    def embedding(self) -> NDArray[np.float32]:
        """The embedding [parts, dim] of all silhouettes so far. Raises InputError before the first."""
        return np.asarray(self.network.head.embeddings([self._state])[0])

    def _begin_frame(self) -> None:
        too_long = self._missing_frames > self.gaps.frames or self._missing_seconds > self.gaps.seconds
        if self.frames and too_long:
            self.network.head.end_segment(self._state)
        self.segments += not self._state.held
        self._missing_frames, self._missing_seconds = 0, 0.0


def push_each(streams: Sequence[Stream], silhouettes: Sequence[NDArray[np.uint8]]) -> None:
    """Push a silhouette, uint8 [64, 44], into each of several streams of one network: one call of its engine.

    Raises as Stream.push, and InputError where there is not one silhouette a stream, or a stream is named
    twice or is of another network; then no stream has changed.
    """
    if len(streams) != len(silhouettes):
        raise InputError(f"{len(streams)} streams need as many silhouettes, not {len(silhouettes)}")
    if len(set(map(id, streams))) != len(streams):
        raise InputError("a stream takes one silhouette of a call; give its next one in another")
    if any(stream.network is not streams[0].network for stream in streams):
        raise InputError("streams of different networks do not run together")
    for silhouette in silhouettes:
        check_silhouette(silhouette)
    if streams:
        take_features(streams, streams[0].network.frames.part_features(np.stack(silhouettes)))


def take_features(streams: Sequence[Stream], features: NDArray[np.float32]) -> None:
    """The second half of push_each, of part features [s, parts, C] that the engine has made already."""
    for stream in streams:
        stream._begin_frame()
    streams[0].network.head.push([stream._state for stream in streams], features)


def check_silhouette(silhouette: NDArray[np.uint8]) -> None:
    """Raise SilhouetteError unless this is an aligned silhouette, uint8 [64, 44]."""
    dtype, shape = getattr(silhouette, "dtype", None), getattr(silhouette, "shape", None)
    if dtype is None or shape is None:
        raise SilhouetteError(f"a silhouette must be a NumPy array, not {type(silhouette).__name__}")
    if dtype != np.uint8 or shape != (HEIGHT, WIDTH):
        raise SilhouetteError(
            f"an aligned silhouette must be uint8 [{HEIGHT}, {WIDTH}], not {dtype} {list(shape)}"
        )


def check_gap(frames: int, seconds: float) -> None:
    """Raise InputError unless a gap is 0 or more frames and 0 or more seconds."""
    if frames < 0 or not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"a gap is 0 or more frames and seconds, not {frames} frames, {seconds} s")
