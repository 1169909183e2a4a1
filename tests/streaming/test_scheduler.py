"""Micro-batches: when one goes, what is in it, what is dropped, and that no stream notices."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from frame_engines import PixelFrames, pixel_network
from hypothesis import given
from hypothesis import strategies as st
from networks import random_silhouettes
from numpy.typing import NDArray

from gaitedge.errors import InputError, SilhouetteError
from gaitedge.streaming.scheduler import Scheduler
from gaitedge.streaming.stream import Gaps, Network, Stream

WALKS = random_silhouettes(4, 40, 0)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def engine() -> PixelFrames:
    return PixelFrames()


@pytest.fixture
def shared_network(engine: PixelFrames) -> Network:
    return pixel_network(engine)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scheduler(shared_network: Network, clock: Clock) -> Scheduler:
    return Scheduler(shared_network, largest=4, latency=0.04, queue=6, clock=clock)


def streams_of(scheduler: Scheduler, count: int) -> list[Stream]:
    return [Stream(scheduler.network) for _ in range(count)]


def saw(stream: Stream, *segments: NDArray[np.uint8]) -> bool:
    """Whether a stream's embedding is that of these segments."""
    features = [stream.network.frames.part_features(segment) for segment in segments]
    expected = stream.network.head.whole(features)
    return bool(np.allclose(stream.embedding(), expected, rtol=0, atol=1e-5))


def test_a_batch_goes_when_it_is_full(scheduler: Scheduler, engine: PixelFrames) -> None:
    first, second = streams_of(scheduler, 2)
    for step in range(2):
        assert scheduler.poll() == []
        assert scheduler.due_in != 0
        scheduler.submit(first, WALKS[0, step])
        scheduler.submit(second, WALKS[1, step])
    assert (scheduler.waiting, scheduler.due_in, engine.calls) == (4, 0, [])
    assert scheduler.poll() == [first, second]
    assert (scheduler.waiting, scheduler.due_in, engine.calls) == (0, None, [4])
    assert saw(first, WALKS[0, :2])
    assert saw(second, WALKS[1, :2])


def test_a_batch_goes_when_its_oldest_has_waited(
    scheduler: Scheduler, engine: PixelFrames, clock: Clock
) -> None:
    first, second = streams_of(scheduler, 2)
    scheduler.submit(first, WALKS[0, 0])
    clock.now += 0.03
    scheduler.submit(second, WALKS[1, 0])
    assert scheduler.due_in == pytest.approx(0.01)
    assert scheduler.poll() == []
    clock.now += 0.0101
    assert scheduler.poll() == [first, second]  # who came later goes along
    assert engine.calls == [2]
    clock.now += 10
    assert scheduler.poll() == []


def test_no_more_than_the_largest_goes_at_once(
    scheduler: Scheduler, engine: PixelFrames, clock: Clock
) -> None:
    streams = streams_of(scheduler, 3)
    for step in range(3):
        for number, stream in enumerate(streams):
            scheduler.submit(stream, WALKS[number, step])
    assert scheduler.poll() == streams
    assert (engine.calls, scheduler.waiting) == ([4, 4], 1)  # the ninth is not due
    clock.now += 1
    assert scheduler.poll() == [streams[2]]
    for number, stream in enumerate(streams):
        assert saw(stream, WALKS[number, :3])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans()), max_size=40),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.05, 1.0]),
)
def test_whatever_goes_together_every_stream_keeps_its_order(
    events: list[tuple[int, int, bool]], largest: int, latency: float
) -> None:
    """events: whose silhouette comes, behind a gap of how many frames, and whether somebody polls then."""
    engine, clock = PixelFrames(), Clock()
    network = pixel_network(engine)
    scheduler = Scheduler(network, largest, latency, queue=40, clock=clock)
    together = [Stream(network, Gaps(frames=2)) for _ in range(4)]
    alone = [Stream(network, Gaps(frames=2)) for _ in range(4)]
    for index, (number, gap, polls) in enumerate(events):
        for _ in range(gap):
            scheduler.gap(together[number], frames=1)
        scheduler.submit(together[number], WALKS[0, index])
        alone[number].gap(frames=gap)
        alone[number].push(WALKS[0, index])
        clock.now += 0.02
        if polls:
            scheduler.poll()
            # What stays was not due: fewer than a batch, and nobody has waited too long.
            assert scheduler.waiting < largest
            assert scheduler.due_in is None or scheduler.due_in > 0
    scheduler.flush()
    assert max(engine.calls, default=1) <= largest
    for stream, expected in zip(together, alone, strict=True):
        assert (stream.frames, stream.segments, stream.dropped) == (expected.frames, expected.segments, 0)
        if expected.frames:
            np.testing.assert_allclose(stream.embedding(), expected.embedding(), rtol=0, atol=1e-5)


def test_a_full_queue_drops_the_oldest_and_counts(scheduler: Scheduler) -> None:
    fast, slow = streams_of(scheduler, 2)
    scheduler.submit(slow, WALKS[1, 0])
    for silhouette in WALKS[0, :9]:
        scheduler.submit(fast, silhouette)
    assert (scheduler.waiting, fast.dropped, slow.dropped) == (7, 3, 0)
    scheduler.flush()
    assert saw(fast, WALKS[0, 3:9])
    assert saw(slow, WALKS[1, :1])
    # What is dropped behind what was seen is a gap there: with a gap of the gate's own, too long a one.
    scheduler.submit(fast, WALKS[0, 9])
    scheduler.gap(fast, frames=1)
    for silhouette in WALKS[0, 10:18]:
        scheduler.submit(fast, silhouette)
    scheduler.flush()
    assert (fast.dropped, fast.segments) == (6, 2)
    assert saw(fast, WALKS[0, 3:9], WALKS[0, 12:18])


def test_an_engines_error_comes_up_once_and_leaves_a_gap(scheduler: Scheduler, engine: PixelFrames) -> None:
    first, second = streams_of(scheduler, 2)
    scheduler.submit(first, WALKS[0, 0])
    scheduler.flush()
    for step in range(1, 6):
        scheduler.submit(first, WALKS[0, step])
    scheduler.submit(second, WALKS[1, 0])
    engine.failures.append(RuntimeError("the GPU fell off"))
    with pytest.raises(RuntimeError, match="the GPU fell off"):
        scheduler.poll()
    assert (first.frames, first.dropped, second.dropped, scheduler.waiting) == (1, 4, 0, 2)
    assert scheduler.flush() == [first, second]
    assert saw(first, WALKS[0, :1], WALKS[0, 5:6])
    assert first.segments == 2


def test_closing_runs_what_waits_and_takes_no_more(scheduler: Scheduler) -> None:
    (stream,) = streams_of(scheduler, 1)
    with scheduler:
        scheduler.submit(stream, WALKS[0, 0])
    assert (stream.frames, scheduler.waiting) == (1, 0)
    assert scheduler.close() == []
    with pytest.raises(InputError, match="this scheduler is closed"):
        scheduler.submit(stream, WALKS[0, 1])
    with pytest.raises(InputError, match="this scheduler is closed"):
        scheduler.gap(stream, frames=1)


def test_an_error_in_its_block_is_not_hidden_by_another(shared_network: Network, engine: PixelFrames) -> None:
    stream, scheduler = Stream(shared_network), Scheduler(shared_network)
    engine.failures.append(RuntimeError("of the engine"))
    scheduler.submit(stream, WALKS[0, 0])
    with pytest.raises(KeyError, match="the camera"), scheduler:
        raise KeyError("the camera")
    assert (engine.calls, stream.frames) == ([], 0)


def test_a_stream_that_is_forgotten_waits_no_more(scheduler: Scheduler) -> None:
    gone, stays = streams_of(scheduler, 2)
    for step in range(2):
        scheduler.submit(gone, WALKS[0, step])
        scheduler.submit(stays, WALKS[1, step])
    assert (scheduler.forget(gone), scheduler.forget(gone)) == (2, 0)
    assert scheduler.flush() == [stays]
    assert (gone.frames, stays.frames) == (0, 2)


def test_nothing_is_kept_of_streams_that_have_ended(scheduler: Scheduler) -> None:
    (stream,) = streams_of(scheduler, 1)
    scheduler.submit(stream, WALKS[0, 0])
    scheduler.gap(stream, frames=1)
    scheduler.flush()
    ended = weakref.ref(stream)
    del stream
    gc.collect()
    assert ended() is None


def test_the_callers_image_may_be_used_again(scheduler: Scheduler) -> None:
    (stream,) = streams_of(scheduler, 1)
    image = WALKS[0, 0].copy()
    scheduler.submit(stream, image)
    image[:] = 0
    scheduler.flush()
    assert saw(stream, WALKS[0, :1])


def test_threads_may_submit_while_another_polls(shared_network: Network) -> None:
    scheduler = Scheduler(shared_network, largest=5, latency=0.0, queue=1000)
    streams = [Stream(shared_network) for _ in range(4)]

    def camera(number: int) -> None:
        for silhouette in WALKS[number]:
            scheduler.submit(streams[number], silhouette)

    threads = [threading.Thread(target=camera, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        scheduler.poll()
    scheduler.flush()
    for number, stream in enumerate(streams):
        assert (stream.frames, stream.dropped, stream.segments) == (40, 0, 1)
        assert saw(stream, WALKS[number])


def test_what_does_not_fit_is_refused_before_it_waits(scheduler: Scheduler, engine: PixelFrames) -> None:
    (stream,) = streams_of(scheduler, 1)
    foreign = Stream(Network(engine, scheduler.network.head))
    with pytest.raises(SilhouetteError, match=r"must be uint8 \[64, 44\]"):
        scheduler.submit(stream, WALKS[0])
    with pytest.raises(InputError, match="must have the same network"):
        scheduler.submit(foreign, WALKS[0, 0])
    with pytest.raises(InputError, match="a gap is 0 or more frames"):
        scheduler.gap(stream, frames=-1)
    assert scheduler.waiting == 0


@pytest.mark.parametrize(
    "wrong", [{"largest": 0}, {"queue": 0}, {"latency": -1.0}, {"latency": float("nan")}]
)
def test_impossible_settings_are_refused(shared_network: Network, wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="a scheduler needs batches and queues of 1 or more"):
        Scheduler(shared_network, **wrong)  # type: ignore[arg-type]
