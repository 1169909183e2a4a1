"""One turn a frame: what a watch does between a frame and the next, and when none comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import GaitEdgeError, MachineError, one_line
from gaitedge.streaming.decision import Decider, Decision, DecisionSettings
from gaitedge.streaming.scheduler import Scheduler
from gaitedge.streaming.stream import Gaps, Network, Stream
from gaitedge.video.blobs import Blob, Box
from gaitedge.video.capture import Frame
from gaitedge.video.live import LiveStatistics
from gaitedge.video.segmentation import Segmenter
from gaitedge.video.walks import (
    Event,
    Rejected,
    TrackEnded,
    WalkSettings,
    WalkSilhouette,
    align_blob,
    walks,
)
from gaitedge.watching.annotation import AnnotatedVideo, Mark
from gaitedge.watching.parts import People, Source
from gaitedge.watching.reports import Notice, PersonReport, Report, Status
from gaitedge.watching.tracing import StageName, Trace, TracedSegmenter

__all__ = ["WatchSettings", "Watcher"]

_WAIT_S = 0.1  # for a frame, before it is asked whether to stop
_STATUS_S = 1.0
_USUAL_FPS = 25.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class WatchSettings:
    """How a watch goes about it."""

    walks: WalkSettings = field(default_factory=WalkSettings)
    decision: DecisionSettings = field(default_factory=DecisionSettings)
    gaps: Gaps = field(default_factory=Gaps)
    every: int = 3
    """Silhouettes of a person from one identification to the next."""
    latency: float = 0.04
    """Seconds that a silhouette waits for others to share a run of the engine with, at most."""
    failures: int = 10
    """Failures of the engine in a row after which it is given up."""


@dataclass(eq=False)
class _Person:
    """What is kept of somebody while he or she is followed."""

    stream: Stream
    decider: Decider
    box: Box | None = None  # in the frame that is at hand
    submitted: int = 0
    last: float | None = None  # time of the last silhouette
    decision: Decision | None = None


class Watcher:
    """The loop over one source. For one run, in one thread.

    report, annotated, progress, trace: as gaitedge.watching.watch.watch takes them. clock: seconds that
    never go back; now: the wall clock.
    """

    def __init__(
        self,
        network: Network,
        enrolled: People,
        segmenter: Segmenter,
        report: Callable[[Report], None],
        settings: WatchSettings | None = None,
        annotated: AnnotatedVideo | None = None,
        progress: Callable[[Status], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        trace: Trace | None = None,
    ) -> None:
        self.settings = settings or WatchSettings()
        self._network, self._enrolled = network, enrolled
        self._segmenter = segmenter if trace is None else TracedSegmenter(segmenter, trace)
        self._report, self._annotated, self._progress = report, annotated, progress
        self._clock, self._now, self._trace = clock, now, trace
        self._scheduler = Scheduler(network, latency=self.settings.latency, clock=clock)
        self._people: dict[int, _Person] = {}
        self._due: list[tuple[int, _Person]] = []
        self._base = self._highest = 0  # track numbers of former trackers
        self._frame: Frame | None = None
        self._held: Frame | None = None
        self._shape: tuple[int, ...] | None = None
        self._first: float | None = None
        self._time = 0.0  # seconds of the newest frame
        self._came = self._begun = self._counted_at = 0.0  # by the clock
        self._frames = self._counted = self._tracks = self._walks = 0
        self._failures = self._reconnects = 0
        self._lost = self._over = False
        self._error: GaitEdgeError | None = None

    def run(self, video: Source, seconds: float | None = None, stop: Callable[[], bool] = bool) -> Status:
        """Watch until the source ends, so many seconds are over, or `stop` says so. Returns the counts.

        Raises what the source raises, after every track's last decision.
        """
        self._begun = self._came = self._counted_at = self._clock()
        if self._progress is not None:
            self._progress(self._status(video))
        if self._enrolled.threshold is None:
            self._notice("no threshold", "the gallery has no threshold: nobody will be unknown")
        try:
            while not self._over:
                # Whoever is followed is followed from here to the next break: another tracker, new numbers.
                self._base = self._highest
                frames = self._frames_of(video, seconds, stop)
                for event in walks(frames, self._segmenter, self.settings.walks, self._align):
                    self._take(event, 1 / (video.fps or _USUAL_FPS))
        except GaitEdgeError:
            for track in list(self._people):
                self._end(track, None)
            raise
        if self._error is not None:
            raise self._error
        return self._status(video, whole=True)

    def _frames_of(self, video: Source, seconds: float | None, stop: Callable[[], bool]) -> Iterator[Frame]:
        """Frames until all that is followed must end."""
        while True:
            self._finish(video)
            frame = self._next(video, seconds, stop)
            if frame is None:
                return
            if self._first is None:
                self._first = frame.time
            if seconds is not None and frame.time - self._first >= seconds:
                self._over = True
                return
            if self._shape not in (None, frame.image.shape):
                self._notice("other size", "the source has frames of another size; people are found anew")
                self._shape, self._held = frame.image.shape, frame
                return
            self._shape = frame.image.shape
            self._frame, self._time = frame, frame.time - self._first
            self._frames += 1
            yield frame

    def _next(self, video: Source, seconds: float | None, stop: Callable[[], bool]) -> Frame | None:
        """The next frame; None where all tracks must end, for ever if `_over`."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        while True:
            if stop():
                self._over = True
                return None
            before = video.statistics
            due = self._scheduler.due_in
            try:
                frame = self._await(video, _WAIT_S if due is None else min(due, _WAIT_S))
            except GaitEdgeError as error:
                self._over, self._error = True, error
                return None
            now = self._clock()
            if frame is not None:
                self._came = now
                self._found(video.statistics)
                return frame
            if video.ended:
                self._over = True
                after = video.statistics
                if after.last_error is not None and not after.reconnects:  # of a file that was cut off
                    self._notice("source ended early", after.last_error)
                return None
            if not (before.connected or self._lost):
                self._lost = True
                self._notice("lost", before.last_error or "the source gives no frames")
            if self._lost and seconds is not None and now - self._begun >= seconds:
                self._over = True
                return None
            if now - self._came > self.settings.walks.tracker.coast and self._people:
                return None  # nobody is where he or she was
            self._finish(video)

    def _await(self, video: Source, seconds: float) -> Frame | None:
        if self._trace is None:
            return video.get(seconds)
        return self._trace.wait(lambda: video.get(seconds), lambda frame: frame.index if frame else None)

    def _step(self, stage: StageName, function: Callable[[], Result]) -> Result:
        return function() if self._trace is None else self._trace.call(stage, function)

    def _align(self, blob: Blob) -> NDArray[np.uint8]:
        return self._step("align", lambda: align_blob(blob))

    def _found(self, statistics: LiveStatistics) -> None:
        """Say so where a source came back, and where it was away between two looks."""
        if statistics.reconnects > self._reconnects:
            if not self._lost:
                self._notice("lost", statistics.last_error or "the source gave no frames")
            self._notice("regained", f"frames come again, after {statistics.reconnects} reconnects in all")
        self._lost, self._reconnects = False, statistics.reconnects

    def _take(self, event: Event, interval: float) -> None:
        track = self._base + event.track
        self._highest = max(self._highest, track)
        if isinstance(event, TrackEnded):
            self._tracks += 1
            self._end(track, event.fault)
            return
        person = self._people.get(track)
        if person is None:
            person = _Person(Stream(self._network, self.settings.gaps), Decider(self.settings.decision))
            self._people[track] = person
        person.box = event.box
        if isinstance(event, Rejected) or event.fault == "not moving":
            return  # it shows as time that is missing
        self._push(track, person, event, interval)

    def _push(self, track: int, person: _Person, event: WalkSilhouette, interval: float) -> None:
        missing = 0.0 if person.last is None else event.time - person.last - interval
        if missing > interval / 2:
            self._scheduler.gap(person.stream, seconds=missing)
        person.last = event.time
        self._scheduler.submit(person.stream, event.silhouette)
        person.submitted += 1
        enough = person.submitted >= self.settings.decision.frames
        if enough and event.fault is None and person.submitted % self.settings.every == 0:
            self._due.append((track, person))

    def _finish(self, video: Source) -> None:
        """What is to be done once a frame has been taken in, or while none comes."""
        due, self._due = self._due, []
        self._compute(self._scheduler.flush if due else self._scheduler.poll)
        for track, person in due:
            before, now = person.decision, self._look(person)
            if now is not None and now.state == "settled":
                if before is None or before.state != "settled":
                    self._say(track, "settled", now)
                elif now.revisions > before.revisions:
                    self._say(track, "revised", now)
        for event, message in self._enrolled.news():
            self._notice(event, message)
        frame, self._frame = self._frame, None
        if frame is not None and self._annotated is not None:
            marks = [_mark(track, person) for track, person in self._people.items() if person.box]
            write, fps = self._annotated.write, video.fps or _USUAL_FPS
            self._step("annotate", lambda: write(frame, marks, fps))
        for person in self._people.values():
            person.box = None if frame is not None else person.box
        if self._progress is not None and self._clock() - self._counted_at >= _STATUS_S:
            self._progress(self._status(video))

    def _look(self, person: _Person) -> Decision | None:
        """Identify somebody by all silhouettes so far; None where that cannot be."""
        if not person.stream.frames:
            return None
        probe = self._step("embed", person.stream.embedding)
        found = self._step("match", lambda: self._enrolled.identify(probe))
        if found is not None:
            person.decision = person.decider.look(found, person.stream.frames)
        return person.decision

    def _end(self, track: int, fault: str | None) -> None:
        """Say the last of a track, and forget all of it."""
        person = self._people.pop(track, None)
        if person is None:
            return
        if fault is not None:
            self._scheduler.forget(person.stream)
            self._say(track, "rejected", None, person.stream.frames, fault)
            return
        self._compute(self._scheduler.flush)
        self._scheduler.forget(person.stream)
        self._look(person)
        self._walks += 1
        self._say(track, "final", person.decider.end())

    def _compute(self, step: Callable[[], list[Stream]]) -> None:
        """Let the engine work. Where it fails, that batch is lost, and the next one may do better."""
        try:
            if self._step("embed", step):
                self._failures = 0
        except (GaitEdgeError, RuntimeError, MemoryError) as error:
            self._failures += 1
            if self._failures >= self.settings.failures:
                raise MachineError(
                    f"the engine failed {self._failures} times in a row: {one_line(error)}"
                ) from error
            self._notice("engine failed", one_line(error))

    def _say(
        self,
        track: int,
        state: Literal["settled", "revised", "final", "rejected"],
        decision: Decision | None,
        frames: int = 0,
        reason: str | None = None,
    ) -> None:
        self._report(
            PersonReport(
                time=round(self._time, 3),
                utc=self._utc(),
                track=track,
                state=state,
                subject=decision.subject if decision else None,
                unknown=decision is not None and decision.verdict == "unknown",
                distance=decision.distance if decision else None,
                margin=decision.margin if decision else None,
                threshold=decision.threshold if decision else None,
                frames=decision.frames if decision else frames,
                reason=reason,
            )
        )

    def _notice(self, event: str, message: str) -> None:
        self._report(Notice(round(self._time, 3), self._utc(), event, message))

    def _utc(self) -> str:
        return self._now().astimezone(timezone.utc).isoformat(timespec="milliseconds")

    def _status(self, video: Source, whole: bool = False) -> Status:
        now, counts = self._clock(), video.statistics
        since, frames = (self._begun, 0) if whole else (self._counted_at, self._counted)
        rate = (self._frames - frames) / max(now - since, 1e-9)
        self._counted, self._counted_at = self._frames, now
        return Status(
            frames=self._frames,
            rate=rate,
            people=len(self._people),
            tracks=self._tracks,
            walks=self._walks,
            dropped=counts.dropped,
            reconnects=counts.reconnects,
            lost=self._lost,
        )


def _mark(track: int, person: _Person) -> Mark:
    decision = person.decision
    if person.box is None or decision is None or decision.state == "pending":
        return Mark(person.box or Box(0, 0, 0, 0), f"{track}", "undecided")
    name = decision.subject or decision.verdict
    return Mark(person.box, f"{track} {name} {decision.distance or 0:.2f}", decision.verdict)
