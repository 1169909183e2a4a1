"""A source that runs all day: read by a thread, never waited for, opened again when it is lost."""

from __future__ import annotations

import atexit
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from gaitedge.errors import GaitEdgeError, InputError, VideoError, one_line
from gaitedge.video.capture import Frame, Video, open_video
from gaitedge.video.sources import shown

__all__ = ["LiveStatistics", "LiveVideo"]

_POLL_S = 0.1  # a waiting consumer looks this often for a stop and for a reader that hangs
_JOIN_S = 0.8  # a reader that is inside OpenCV for longer is left behind; it lets go of the source itself
_GRACE_S = 5.0  # what OpenCV, and the question why a URL does not open, may take beyond the limits
_MOST_HANGING = 2  # readers that hang; no further one is started until one of them comes back


@dataclass(frozen=True)
class LiveStatistics:
    """What a LiveVideo went through so far."""

    read: int
    """Frames that came from the source."""
    dropped: int
    """Of these, frames that the consumer was too slow for."""
    reconnects: int
    """How often the source was lost and found again."""
    connected: bool
    """Whether frames come at present, as far as is known."""
    last_error: str | None
    """The last thing that went wrong, in one line."""


class LiveVideo:
    """Frames of a source as they come: a context manager and an iterator, for one consumer.

    A thread reads. It keeps the newest `queue` frames; the oldest is dropped and counted where the
    consumer falls behind. A live source that stops, hangs, refuses or sends broken frames is opened
    again, for ever, after 0.5 s, 1 s, 2 s … up to `most_delay`, each shortened by chance by up to a half
    so that several boxes do not knock at once. A connection that lasted longer than the last such wait
    starts them anew.

    source: as open_video takes it. Of a file every frame is given, the thread waits for the consumer;
    with `paced` it plays at its own speed as a camera would, frames dropped; with `loop` it starts again
    at its end. must_open: whether a source that does not open at the start is an error; else it is
    waited for. open_timeout, read_timeout: seconds without an answer and without a frame after which a
    source counts as lost; a reader that hangs in a driver for longer is left behind.
    opener, clock, sleep, chance: open_video, seconds that never go back, a wait that stop() should cut
    short, a draw from 0 to 1. reading: called by the thread that reads, with what gives the next frame, in
    its place: for whoever wants to time that.

    Frame.index counts all frames read, those dropped and those of earlier connections too. Frame.time
    never goes back; of a live or paced source it is the clock's when the frame came. After a reconnect
    the frames may be of another size.

    Iterating raises VideoError where the source cannot be opened at the start or a file breaks, and
    MachineError where OpenCV lacks what it needs. It ends where a file does and after stop().
    """

    def __init__(
        self,
        source: str | Path,
        *,
        queue: int = 8,
        paced: bool = False,
        loop: bool = False,
        must_open: bool = True,
        open_timeout: float = 10.0,
        read_timeout: float = 5.0,
        first_delay: float = 0.5,
        most_delay: float = 30.0,
        opener: Callable[[], Video] | None = None,
        reading: Callable[[Callable[[], Frame | None]], Frame | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if queue < 1:
            raise InputError(f"a queue holds 1 frame or more, not {queue}")
        if not 0 < first_delay <= most_delay:
            raise InputError(f"the delays must be 0 < first ≤ most, not {first_delay:g} and {most_delay:g}")
        self.name = shown(str(source))
        self.fps: float | None = None
        self.size: tuple[int, int] | None = None
        self._opener = opener or (
            lambda: open_video(source, open_timeout=open_timeout, read_timeout=read_timeout, clock=clock)
        )
        self._limits = (open_timeout + _GRACE_S, read_timeout + _GRACE_S)
        self._delays = (first_delay, most_delay)
        self._reading = reading or (lambda read: read())
        self._paced, self._loop, self._must_open = paced, loop, must_open
        self._clock, self._chance = clock, chance
        self._stopped = False
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait

        # Below: changed under the lock only, by the consumer and by the reader of this generation.
        self._changed = threading.Condition()  # over an RLock: a signal's handler may come in between
        self._frames: deque[Frame] = deque()
        self._queue = queue
        self._reader: threading.Thread | None = None
        self._hanging: list[threading.Thread] = []
        self._generation = 0
        self._deadline: float | None = None  # by when the reader should be back from OpenCV
        self._index, self._time = 0, 0.0
        self._dropped = self._reconnects = self._failures = 0
        self._opened = self._recorded = False
        self._connected: float | None = None  # since when
        self._last_error: str | None = None
        self._outcome: GaitEdgeError | bool = False  # True: ended well

    @property
    def statistics(self) -> LiveStatistics:
        """The counts so far. May be asked for by any thread."""
        with self._changed:
            return LiveStatistics(
                self._index, self._dropped, self._reconnects, self._connected is not None, self._last_error
            )

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more."""
        with self._changed:
            return self._stopped or (bool(self._outcome) and not self._frames)

    def __enter__(self) -> LiveVideo:
        """Start reading. With must_open, return once the source is open, or raise what it raised."""
        if self._reader is not None:
            raise ValueError(f"{self.name}: a LiveVideo is entered once")
        atexit.register(self.close)  # OpenCV must not be in the middle of a frame when Python ends
        try:
            with self._changed:
                self._start()
                while self._must_open and not (self._opened or self._outcome or self._stopped):
                    self._wait(_POLL_S)
                if isinstance(self._outcome, GaitEdgeError) and not self._opened:
                    raise self._outcome
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        while (frame := self.get(_POLL_S)) is None:
            if self.ended:
                raise StopIteration
        return frame

    def get(self, timeout: float = 0.0) -> Frame | None:
        """The oldest frame that waits, or the next within `timeout` seconds, or None; see `ended`.

        Raises as iterating does."""
        with self._changed:
            if self._reader is None:
                raise ValueError(f"{self.name}: enter the LiveVideo before you read from it")
            if not (self._frames or self._outcome or self._stopped):
                self._wait(timeout)
            if self._stopped:
                return None
            if self._frames:
                frame = self._frames.popleft()
                self._changed.notify_all()
                return frame
            if isinstance(self._outcome, GaitEdgeError):
                raise self._outcome
            return None

    def stop(self) -> None:
        """Let iterating end, at once. For any thread and for the handler of a signal; waits for nothing."""
        if not self._stopped:  # a second signal in the middle of set() must not call it again
            self._stopped = True
            self._stopping.set()

    def close(self) -> None:
        """Stop, and let go of the source: within a second, or when OpenCV comes back if it hangs."""
        self.stop()
        reader = self._reader
        if reader is not None and reader is not threading.current_thread():
            reader.join(_JOIN_S)
        with self._changed:
            self._frames.clear()
            self._connected = None
        atexit.unregister(self.close)

    # The consumer's side, under the lock.

    def _wait(self, seconds: float) -> None:
        """Wait for a change, a part of it at a time: a signal's handler may stop us before we wait."""
        end = time.monotonic() + seconds
        while not (self._frames or self._outcome or self._stopped):
            self._look_after_the_reader()
            left = end - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(min(left, _POLL_S))

    def _look_after_the_reader(self) -> None:
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if self._reader is not None and not self._reader.is_alive() and not self._outcome:
            raise RuntimeError(f"{self.name}: the thread that reads it died of a bug")
        late = self._deadline is not None and self._clock() > self._deadline
        if not late or len(self._hanging) >= _MOST_HANGING or self._reader is None:
            return
        error = VideoError(f"{self.name} hangs: OpenCV gave no answer")
        if self._recorded or (self._must_open and not self._opened):
            self._generation += 1  # what the reader still finds is not wanted
            self._outcome = error
            return
        self._hanging.append(self._reader)
        self._lose(error)
        self._start()

    def _start(self) -> None:
        self._generation += 1
        self._deadline = None
        self._reader = threading.Thread(
            target=self._run, args=(self._generation,), name=f"reader of {self.name}", daemon=True
        )
        self._reader.start()

    def _lose(self, error: GaitEdgeError) -> None:
        if self._connected is not None and self._clock() - self._connected > self._delay(self._failures):
            self._failures = 0
        self._failures += 1
        self._connected = None
        self._last_error = one_line(error)

    # The reader's side.

    def _run(self, generation: int) -> None:
        while self._wanted(generation):
            try:
                again = self._connect(generation)
            except GaitEdgeError as error:
                again = self._failed(error, generation)
            if not again:
                return

    def _wanted(self, generation: int) -> bool:
        """Whether to go on; first waits where the last connection failed."""
        with self._changed:
            failures, mine = self._failures, generation == self._generation
        if mine and failures and not self._stopped:
            self._sleep(self._delay(failures) * (1 - self._chance() / 2))
        return not self._stopped and generation == self._generation

    def _delay(self, failures: int) -> float:
        first, most = self._delays
        return min(most, first * 2.0 ** min(max(failures - 1, 0), 60))

    def _failed(self, error: GaitEdgeError, generation: int) -> bool:
        """Note why a connection failed; whether to try again."""
        with self._changed:
            if generation != self._generation:
                return False
            self._lose(error)
            heals = isinstance(error, VideoError) and not self._recorded
            again = heals and (self._opened or not self._must_open)
            if not again:
                self._outcome = error
            self._changed.notify_all()
            return again

    def _connect(self, generation: int) -> bool:
        """Open the source and hand its frames on until it ends; whether to open it again."""
        self._expect_back(generation, self._limits[0])
        with self._opener() as video:
            with self._changed:
                if generation != self._generation:
                    return False
                self._deadline = None
                self._reconnects += self._opened and not self._recorded
                self._opened, self._connected = True, self._clock()
                self._recorded = not video.live
                self.fps, self.size = video.fps, video.size
                offset = self._time + 1 / (video.fps or 25.0) if self._index else 0.0
                self._changed.notify_all()
            start, shown_at = self._clock(), 0.0
            while not self._stopped:
                self._expect_back(generation, self._limits[1])
                frame = self._reading(lambda: next(video, None))
                self._expect_back(generation, None)
                if frame is None:
                    return self._ended(video, generation)
                if self._paced and self._recorded:
                    # No longer than between two frames, whatever became of the clock meanwhile.
                    self._pause(min(start + frame.time - self._clock(), frame.time - shown_at))
                    shown_at = frame.time
                by_clock = self._paced or not self._recorded
                if not self._hand_on(frame, self._clock() if by_clock else offset + frame.time, generation):
                    return False
        return False

    def _ended(self, video: Video, generation: int) -> bool:
        with self._changed:
            if generation != self._generation:
                return False
            if video.ended_early:
                self._last_error = video.ending
            if not self._loop:
                self._connected = None
                self._outcome = True
            self._changed.notify_all()
            return self._loop

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)

    def _expect_back(self, generation: int, seconds: float | None) -> None:
        """Let the consumer know by when the call of OpenCV that follows should be over."""
        with self._changed:
            if generation == self._generation:
                self._deadline = None if seconds is None else self._clock() + seconds

    def _hand_on(self, frame: Frame, seconds: float, generation: int) -> bool:
        """Queue a frame; whether more are wanted."""
        with self._changed:
            while self._recorded and not self._paced and len(self._frames) >= self._queue:
                if self._stopped or generation != self._generation:
                    return False
                self._changed.wait(_POLL_S)
            if self._stopped or generation != self._generation:
                return False
            if len(self._frames) >= self._queue:
                self._frames.popleft()
                self._dropped += 1
            self._time = max(self._time, seconds) if self._index else seconds
            self._frames.append(Frame(self._index, self._time, frame.image))
            self._index += 1
            self._changed.notify_all()
            return True
