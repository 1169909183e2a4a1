"""The temporal head one frame at a time against the plain statement over all frames so far."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from host_build import ORDERS, Host, Output, address, aligned
from micro_motion_heads import Head, draw, pack, reference
from numpy.typing import NDArray

from gaitedge.cuda import FLOAT16, FLOAT32, MicroMotion, MicroMotionStream
from gaitedge.errors import InputError

Array = NDArray[Any]


class Streams:
    """States of some streams, which begin as bytes of 0xff: NaN, but for `seen`."""

    def __init__(self, host: Host, head: Head, streams: int, in_place: bool = True) -> None:
        self.host, self.head, self.streams, self.in_place = host, head, streams, in_place
        self.packed = pack(head)
        self.shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "history": ((streams, head.parts, 4, head.channels), head.dtype),
            "pooled": ((streams, head.parts, head.channels), np.float32),
            "seen": ((streams, head.parts), np.int32),
        }
        self.state = {name: Output(*shape) for name, shape in self.shapes.items()}
        self.begin(range(streams))

    def begin(self, streams: Any) -> None:
        """Let these streams' next frame be a walk's first. The rest of their state stays what it is."""
        for stream in streams:
            self.state["seen"].array[stream] = 0

    def step(self, frames: Array, order: int = 0, y_type: int = FLOAT32) -> Array:
        """frames: [streams, parts, C], the new ones → [streams, parts, dim]."""
        after = self.state
        if not self.in_place:
            after = {name: Output(*shape) for name, shape in self.shapes.items()}
        head, given = self.head, aligned(frames)
        width = head.channels if head.fc is None else head.fc.shape[2]
        y = Output((self.streams, head.parts, width), np.float16 if y_type == FLOAT16 else np.float32)
        kept = {name: output.array.tobytes() for name, output in self.state.items()}
        with self.host.order(order):
            self.host.launch(
                MicroMotionStream(
                    self.packed.weights,
                    address(given),
                    *(address(self.state[name].array) for name in self.shapes),
                    *(address(after[name].array) for name in self.shapes),
                    *(address(y.array), y_type, self.streams),
                )
            )
        for name in self.shapes:
            assert self.in_place or self.state[name].array.tobytes() == kept[name]
            after[name].check()
        self.state = after
        return y.check()


def whole(host: Host, head: Head, features: Array) -> Array:
    """MicroMotion of one sequence, [frames, parts, C] → [parts, dim]."""
    packed, given = pack(head), aligned(features)
    width = head.channels if head.fc is None else head.fc.shape[2]
    y = Output((head.parts, width), np.float32)
    host.launch(
        MicroMotion(packed.weights, address(given), None, address(y.array), FLOAT32, 1, len(features))
    )
    return y.check()


def tolerance(head: Head) -> dict[str, float]:
    return {"rtol": 1e-5, "atol": 1e-5} if head.dtype is np.float32 else {"rtol": 1e-3, "atol": 1e-3}


def features_of(head: Head, frames: int, streams: int = 1) -> Array:
    """[frames, streams, parts, C]."""
    shape = (frames, streams, head.parts, head.channels)
    return np.random.default_rng(frames).normal(size=shape).astype(head.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("squeezed", [16, 5])  # for the tensor cores, and not
def test_every_frame_gives_what_all_so_far_give(
    host: Host, dtype: type, pooling: str, in_place: bool, squeezed: int
) -> None:
    head = draw(dtype, parts=2, channels=16, squeezed=squeezed, dim=8, pooling=pooling)
    walk = features_of(head, 40)
    streams = Streams(host, head, 1, in_place)
    for t in range(40):
        found = streams.step(walk[t])
        np.testing.assert_allclose(found[0], whole(host, head, walk[: t + 1, 0]), rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(found[0], reference(head, walk[: t + 1, 0]), **tolerance(head))
        assert (streams.state["seen"].array == t + 1).all()
        latest = walk[max(t - 3, 0) : t + 1, 0].swapaxes(0, 1)
        history = streams.state["history"].array[0]
        np.testing.assert_array_equal(history[:, 4 - latest.shape[1] :], latest)
        assert not history[:, : 4 - latest.shape[1]].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("templates", "attention"), [((1,), True), ((2,), True), ((1, 2), False)])
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_agrees_for_any_head(
    host: Host, dtype: type, templates: tuple[int, ...], attention: bool, pooling: str
) -> None:
    for squeezed, dim in ((16, 10), (6, None)):
        head = draw(
            dtype,
            parts=3,
            channels=32,
            squeezed=squeezed,
            dim=dim,
            templates=templates,
            attention=attention,
            pooling=pooling,
        )
        walk = features_of(head, 8)
        streams = Streams(host, head, 1)
        for t in range(8):
            found = streams.step(walk[t])
            np.testing.assert_allclose(found[0], reference(head, walk[: t + 1, 0]), **tolerance(head))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("streams", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("squeezed", [16, 3])
def test_streams_that_began_at_different_times_share_a_launch(
    host: Host, dtype: type, streams: int, squeezed: int
) -> None:
    head = draw(dtype, parts=3, channels=16, squeezed=squeezed, dim=24)
    walks = features_of(head, 9, streams)
    states = Streams(host, head, streams)
    begun = [0] * streams
    for t in range(9):
        again = [stream for stream in range(streams) if t % (stream + 2) == 0]
        states.begin(again)
        begun = [t if stream in again else before for stream, before in enumerate(begun)]
        found = states.step(walks[t], ORDERS[t % len(ORDERS)])
        for stream, first in enumerate(begun):
            expected = reference(head, walks[first : t + 1, stream])
            np.testing.assert_allclose(found[stream], expected, **tolerance(head))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("in_place", [True, False])
def test_agrees_in_any_order_of_the_threads(host: Host, dtype: type, order: int, in_place: bool) -> None:
    for squeezed in (16, 3):
        head = draw(dtype, parts=2, channels=48, squeezed=squeezed, dim=300)
        walk = features_of(head, 7, 2)
        streams = Streams(host, head, 2, in_place)
        for t in range(7):
            found = streams.step(walk[t], order)
            for stream in range(2):
                expected = reference(head, walk[: t + 1, stream])
                np.testing.assert_allclose(found[stream], expected, **tolerance(head))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    "sizes",
    [
        {"parts": 16, "channels": 128, "squeezed": 32, "dim": 256},  # the paper's
        {"parts": 1, "channels": 256, "squeezed": 64, "dim": 256},  # OU-MVLP's
        {"parts": 3, "channels": 10, "squeezed": 7, "dim": 5},
        {"parts": 1, "channels": 1, "squeezed": 1, "dim": None},
    ],
)
def test_agrees_for_any_size(host: Host, dtype: type, sizes: dict[str, Any]) -> None:
    head = draw(dtype, **sizes)
    walk = features_of(head, 4, 2)
    streams = Streams(host, head, 2)
    for t in range(4):
        found = streams.step(walk[t])
    for stream in range(2):
        np.testing.assert_allclose(found[stream], reference(head, walk[:, stream]), **tolerance(head))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_nan_and_infinity_pass_through(host: Host, dtype: type, bad: float, pooling: str) -> None:
    """A walk's bad frame is seen in what follows as in the whole walk; the next walk forgets it."""
    for attention, squeezed in ((True, 16), (True, 3), (False, 16)):
        kind: dict[str, Any] = {"dim": None, "attention": attention, "pooling": pooling}
        head = draw(dtype, parts=2, channels=16, squeezed=squeezed, **kind)
        walk = features_of(head, 12)
        walk[3, 0, 1, 5] = bad
        streams = Streams(host, head, 1)
        for t in range(12):
            found = streams.step(walk[t])
            with np.errstate(invalid="ignore"):
                expected = reference(head, walk[: t + 1, 0])
            assert np.isfinite(expected[1]).all() == (t < 3)
            np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(expected))
            np.testing.assert_allclose(found[0], expected, **tolerance(head))
        streams.begin([0])
        for t in range(4, 9):
            found = streams.step(walk[t])
            np.testing.assert_allclose(found[0], reference(head, walk[4 : t + 1, 0]), **tolerance(head))


def test_features_may_come_out_as_fp16(host: Host) -> None:
    head = draw(np.float16, parts=2, channels=16, squeezed=16, dim=None)
    walk = features_of(head, 3, 5)
    single, half = Streams(host, head, 5), Streams(host, head, 5)
    for frames in walk:
        expected, found = single.step(frames), half.step(frames, y_type=FLOAT16)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, expected.astype(np.float16))


def test_no_streams_are_done_at_once(host: Host) -> None:
    head = draw(np.float32, parts=2, channels=4, squeezed=2, dim=3)
    assert Streams(host, head, 0).step(features_of(head, 1, 0)[0]).shape == (0, 2, 3)


def test_impossible_arguments_are_refused(host: Host) -> None:
    weights = pack(draw(np.float32, parts=2, channels=4, squeezed=2, dim=3)).weights
    for y_type, streams in ((FLOAT16, 1), (FLOAT32, -1), (FLOAT32, 2**30)):
        with pytest.raises(InputError, match="no kernel of gaitedge_micro_motion_stream takes"):
            host.launch(MicroMotionStream(weights, *[None] * 8, y_type, streams))
