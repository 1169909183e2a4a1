"""Several streams share one frame engine: their silhouettes wait a little and go through it together.

Several frames of one call cost less than as many calls, and a box follows several people. A batch goes when
`largest` silhouettes wait, or when the oldest has waited for `latency` seconds; the result is each
stream's own, whatever it shared a batch with.

It is driven by its caller, who calls poll(); there is no thread in it. The loop that reads the camera has a
turn every frame anyway, errors of the engine come up where somebody can act upon them, an embedding is not
changed while it is read, and the order of events follows from the calls alone. Whoever wants a thread
gives it a loop of poll() and a wait of `due_in` seconds; submit() may be called from any other.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError
from gaitedge.streaming.stream import Network, Stream, check_gap, check_silhouette, take_features

__all__ = ["Scheduler"]


@dataclass(eq=False)
class _Waiting:
    """A silhouette in the queue, and the gap before it."""

    stream: Stream
    silhouette: NDArray[np.uint8]
    since: float
    missing_frames: int = 0
    missing_seconds: float = 0.0


class Scheduler:
    """Micro-batches over the streams of one network.

    largest: silhouettes of a batch at most; latency: seconds that one waits at most, as long as poll() is
    called in time; queue: silhouettes of one stream that wait at most. Where another comes the oldest is
    dropped, counted in Stream.dropped, and leaves a gap. clock: seconds that never go back.

    submit() and gap() may be called from any thread. poll(), flush() and whatever is asked of a stream
    belong to one at a time. Raises InputError where a number is out of range.
    """

    def __init__(
        self,
        network: Network,
        largest: int = 8,
        latency: float = 0.04,
        queue: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if largest < 1 or queue < 1 or not latency >= 0:
            raise InputError(
                f"a scheduler needs batches and queues of 1 or more and a latency of 0 s or more, "
                f"not largest={largest}, queue={queue}, latency={latency}"
            )
        self.network, self.largest, self.latency, self.queue = network, largest, latency, queue
        self._clock = clock
        self._lock = threading.Lock()  # of what follows; never held while the engine runs
        self._closed = False
        self._waiting: deque[_Waiting] = deque()  # of all streams, the oldest first
        self._counts: Counter[Stream] = Counter()  # of each stream's in the queue
        # Of each stream, before the silhouette to come; of one that has ended none will.
        self._gaps: WeakKeyDictionary[Stream, tuple[int, float]] = WeakKeyDictionary()

    def submit(self, stream: Stream, silhouette: NDArray[np.uint8]) -> None:
        """Queue a stream's next silhouette, uint8 [64, 44], a copy of it.

        Raises SilhouetteError on another type or shape, InputError where the stream is of another network
        or the scheduler is closed.
        """
        check_silhouette(silhouette)
        with self._lock:
            self._check(stream)
            entry = _Waiting(stream, silhouette.copy(), self._clock(), *self._gaps.pop(stream, (0, 0.0)))
            self._waiting.append(entry)
            self._counts[stream] += 1
            if self._counts[stream] > self.queue:
                self._drop_oldest(stream)

    def gap(self, stream: Stream, *, frames: int = 0, seconds: float = 0.0) -> None:
        """Tell of a gap behind the stream's last silhouette, one that still waits too; see Stream.gap."""
        check_gap(frames, seconds)
        with self._lock:
            self._check(stream)
            before = self._gaps.get(stream, (0, 0.0))
            self._gaps[stream] = (before[0] + frames, before[1] + seconds)

    @property
    def waiting(self) -> int:
        """Silhouettes in the queue."""
        return len(self._waiting)

    @property
    def due_in(self) -> float | None:
        """Seconds until poll() has something to do, 0 where it has now; None while nothing waits."""
        with self._lock:
            if not self._waiting:
                return None
            if len(self._waiting) >= self.largest:
                return 0.0
            return max(0.0, self._waiting[0].since + self.latency - self._clock())

    def poll(self) -> list[Stream]:
        """Run the batches that are due, of what waits now.

        Returns the streams that have new frames, each once.
        What the engine raises comes out of here, once: the silhouettes of that batch are lost, counted in
        Stream.dropped and leave a gap; the next poll() goes on with the others.
        """
        return self._run(only_due=True)

    def flush(self) -> list[Stream]:
        """Run all that waits now, due or not: at the end of a track, before its last embedding.

        Returns and raises as poll().
        """
        return self._run(only_due=False)

    def forget(self, stream: Stream) -> int:
        """Take what waits of a stream out of the queue, unseen; returns how many silhouettes that were."""
        with self._lock:
            self._waiting = deque(entry for entry in self._waiting if entry.stream is not stream)
            self._gaps.pop(stream, None)
            return self._counts.pop(stream, 0)

    def close(self) -> list[Stream]:
        """Take no more silhouettes, and run all that waits. Returns and raises as flush()."""
        with self._lock:
            self._closed = True
        return self.flush()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        self._closed = True  # after an error nothing runs that could hide it with another

    def _run(self, *, only_due: bool) -> list[Stream]:
        advanced: dict[Stream, None] = {}
        left = self.waiting
        while left > 0 and self.waiting and not (only_due and self.due_in != 0):
            batch = self._take()
            left -= len(batch)
            try:
                features = self.network.frames.part_features(np.stack([entry.silhouette for entry in batch]))
            except BaseException:
                with self._lock:
                    for entry in batch:
                        entry.stream.gap(frames=entry.missing_frames + 1, seconds=entry.missing_seconds)
                        entry.stream.dropped += 1
                raise
            self._hand_out(batch, features)
            advanced.update(dict.fromkeys(entry.stream for entry in batch))
        return list(advanced)

    def _take(self) -> list[_Waiting]:
        """The oldest silhouettes, up to `largest`."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(self.largest, len(self._waiting)))]
            for entry in batch:
                self._count_down(entry.stream)
            return batch

    def _hand_out(self, batch: list[_Waiting], features: NDArray[np.float32]) -> None:
        """Every stream its frames in their order: first the first one of each, then the second."""
        rounds: dict[int, list[int]] = {}
        turns: Counter[Stream] = Counter()
        for index, entry in enumerate(batch):
            rounds.setdefault(turns[entry.stream], []).append(index)
            turns[entry.stream] += 1
        for indices in rounds.values():
            for index in indices:
                entry = batch[index]
                entry.stream.gap(frames=entry.missing_frames, seconds=entry.missing_seconds)
            take_features([batch[index].stream for index in indices], features[indices])

    def _drop_oldest(self, stream: Stream) -> None:
        """Make room in a stream's queue; what is missing then is a gap before its next silhouette."""
        first, following = [entry for entry in self._waiting if entry.stream is stream][:2]
        following.missing_frames += first.missing_frames + 1
        following.missing_seconds += first.missing_seconds
        self._waiting.remove(first)
        self._count_down(stream)
        stream.dropped += 1

    def _count_down(self, stream: Stream) -> None:
        self._counts[stream] -= 1
        if not self._counts[stream]:
            del self._counts[stream]  # a box that runs all day sees many streams end

    def _check(self, stream: Stream) -> None:
        if self._closed:
            raise InputError("this scheduler is closed and takes no more silhouettes")
        if stream.network is not self.network:
            raise InputError("a stream and its scheduler must have the same network")
