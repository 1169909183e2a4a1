"""The temporal head (Eq. 4 to 12) of whole sequences against its plain statement in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from host_build import ORDERS, TYPES, Host, Output, address, aligned
from micro_motion_heads import SLOPE, Head, draw, pack, reference
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.cuda import FLOAT16, FLOAT32, INT8, MicroMotion, MicroMotionWeights
from gaitedge.errors import InputError

Array = NDArray[Any]


def run(
    host: Host,
    head: Head,
    features: Array,
    lengths: list[int] | None = None,
    order: int = 0,
    y_type: int = FLOAT32,
) -> Array:
    """features: [batch, frames, parts, C], or with lengths [all frames, parts, C] → [batch, parts, dim]."""
    packed = pack(head)
    given = aligned(features)
    batch, frames = features.shape[:2] if lengths is None else (len(lengths), 0)
    offsets = None if lengths is None else np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    parts, channels = features.shape[-2:]
    width = channels if head.fc is None else head.fc.shape[2]
    y = Output((batch, parts, width), np.float16 if y_type == FLOAT16 else np.float32)
    with host.order(order):
        host.launch(
            MicroMotion(
                packed.weights, address(given), address(offsets), address(y.array), y_type, batch, frames
            )
        )
    return y.check()


def tolerance(head: Head) -> dict[str, float]:
    # FP16: of values up to about 4 the hidden activations' rounding leaves some 1e-4 after the sigmoid.
    return {"rtol": 1e-5, "atol": 1e-5} if head.dtype is np.float32 else {"rtol": 1e-3, "atol": 1e-3}


def check(host: Host, head: Head, batch: int, frames: int, order: int = 0) -> None:
    features = np.random.default_rng(frames).normal(size=(batch, frames, head.parts, head.channels))
    features = features.astype(head.dtype)
    expected = np.stack([reference(head, sequence) for sequence in features])
    np.testing.assert_allclose(run(host, head, features, order=order), expected, **tolerance(head))


PAPER = {"parts": 16, "channels": 128, "squeezed": 32, "dim": 256}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 29, 30, 31, 32, 60, 61, 200])
def test_agrees_for_any_length(host: Host, dtype: type, frames: int) -> None:
    for squeezed in (16, 5):  # for the tensor cores, and not
        check(host, draw(dtype, parts=3, channels=16, squeezed=squeezed, dim=8), 2, frames)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("frames", [3, 32])
def test_agrees_in_any_order_of_the_threads(host: Host, dtype: type, order: int, frames: int) -> None:
    for squeezed, channels in ((16, 32), (3, 10)):
        head = draw(dtype, parts=2, channels=channels, squeezed=squeezed, dim=24)
        check(host, head, 1, frames, order)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    "sizes",
    [
        PAPER,
        {**PAPER, "parts": 3, "dim": 128},
        {**PAPER, "parts": 5, "dim": None},
        {"parts": 1, "channels": 256, "squeezed": 64, "dim": 300},  # OU-MVLP's width
        {"parts": 1, "channels": 144, "squeezed": 48, "dim": 10},
        {"parts": 3, "channels": 16, "squeezed": 160, "dim": 3},  # more columns than a block has at once
        {"parts": 2, "channels": 130, "squeezed": 33, "dim": 520},
        {"parts": 5, "channels": 8, "squeezed": 2, "dim": 10},
        {"parts": 3, "channels": 1, "squeezed": 1, "dim": 1},
        {"parts": 2, "channels": 7, "squeezed": 5, "dim": None},
    ],
)
def test_agrees_for_any_size(host: Host, dtype: type, sizes: dict[str, Any]) -> None:
    check(host, draw(dtype, **sizes), 1, 33 if sizes["parts"] < 16 else 30)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("templates", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("dim", [10, 256, None])
def test_agrees_for_any_head(
    host: Host, dtype: type, templates: tuple[int, ...], attention: bool, pooling: str, dim: int | None
) -> None:
    for squeezed in (16, 6):
        head = draw(
            dtype,
            parts=3,
            channels=16,
            squeezed=squeezed,
            dim=dim,
            templates=templates,
            attention=attention,
            pooling=pooling,
        )
        check(host, head, 3, 35)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_sequences_of_different_lengths_share_a_launch(host: Host, dtype: type, pooling: str) -> None:
    lengths = [1, 30, 7, 64, 2, 31]
    for squeezed in (16, 4):
        head = draw(dtype, parts=3, channels=32, squeezed=squeezed, dim=16, pooling=pooling)
        features = np.random.default_rng(1).normal(size=(sum(lengths), 3, 32)).astype(dtype)
        pieces = np.split(features, np.cumsum(lengths)[:-1])
        expected = np.stack([reference(head, piece) for piece in pieces])
        for order in ORDERS:
            found = run(host, head, features, lengths, order)
            np.testing.assert_allclose(found, expected, **tolerance(head))


def test_a_neighbour_of_nothing_but_nan_is_not_seen(host: Host) -> None:
    for dtype in (np.float32, np.float16):
        head = draw(dtype, parts=2, channels=16, squeezed=16, dim=8)
        features = np.random.default_rng(2).normal(size=(3, 31, 2, 16)).astype(dtype)
        alone = run(host, head, features[1:2])
        features[[0, 2]] = np.nan
        np.testing.assert_array_equal(run(host, head, features)[1:2], alone)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("frame", [0, 14, 29, 30, 32, 44])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_pass_through(host: Host, dtype: type, frame: int, bad: float) -> None:
    for attention, squeezed in ((True, 16), (True, 3), (False, 16)):
        head = draw(dtype, parts=2, channels=16, squeezed=squeezed, dim=None, attention=attention)
        features = np.random.default_rng(3).normal(size=(1, 45, 2, 16)).astype(dtype)
        features[0, frame, 1, 5] = bad
        with np.errstate(invalid="ignore"):
            expected = reference(head, features[0])[None]
        assert np.isfinite(expected[0, 0]).all()
        assert not np.isfinite(expected[0, 1]).all() or bad < 0
        found = run(host, head, features)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_allclose(found, expected, **tolerance(head))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_passes_through_the_fc(host: Host, bad: float) -> None:
    for dtype in (np.float32, np.float16):
        head = draw(dtype, parts=2, channels=16, squeezed=16, dim=40, attention=False)
        features = np.random.default_rng(4).normal(size=(1, 4, 2, 16)).astype(dtype)
        features[0, 2, 0, 7] = bad
        np.testing.assert_allclose(
            run(host, head, features), reference(head, features[0])[None], **tolerance(head)
        )


def test_features_may_come_out_as_fp16(host: Host) -> None:
    for dtype in (np.float32, np.float16):
        head = draw(dtype, parts=2, channels=16, squeezed=16, dim=None)
        features = np.random.default_rng(5).normal(size=(2, 9, 2, 16)).astype(dtype)
        found = run(host, head, features, y_type=FLOAT16)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, run(host, head, features).astype(np.float16))


def test_fp16_is_no_worse_than_plain_fp16_arithmetic(host: Host) -> None:
    head = draw(np.float16, **PAPER)
    features = np.random.default_rng(6).normal(size=(1, 30, 16, 128)).astype(np.float16)
    expected = reference(head, features[0])
    plain = reference(head, features[0], np.float16)
    error = np.abs(run(host, head, features)[0] - expected).max()
    assert error < np.abs(plain - expected).max() / 2


def test_the_reference_is_the_model(host: Host) -> None:
    """The statement in NumPy that all of this rests on, and the kernel, against gaitedge.model."""
    torch = pytest.importorskip("torch")
    from gaitedge.model import GaitPart

    config = GaitPartConfig()
    model = GaitPart(config)
    head = Head.of_model(config, model.weights())
    features = np.random.default_rng(7).normal(size=(1, 31, 16, 128)).astype(np.float32)
    with torch.no_grad():
        expected = model.double().temporal_head(torch.from_numpy(features).double(), letter=True).numpy()
    np.testing.assert_allclose(reference(head, features[0])[None], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(run(host, head, features), expected, rtol=1e-5, atol=1e-5)


def test_an_empty_batch_is_done_at_once(host: Host) -> None:
    head = draw(np.float32, parts=2, channels=4, squeezed=2, dim=3)
    assert run(host, head, np.zeros((0, 5, 2, 4), np.float32)).shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", INT8),
        ("parts", 0),
        ("channels", 0),
        ("squeezed", 0),
        ("templates", 0),
        ("templates", 4),
        ("attention", 2),
        ("pooling", 2),
        ("dim", 0),
    ],
)
def test_impossible_heads_are_refused(host: Host, field: str, value: int) -> None:
    packed = pack(draw(np.float32, parts=2, channels=4, squeezed=2, dim=3))
    setattr(packed.weights, field, value)
    with pytest.raises(InputError, match="no kernel of gaitedge_micro_motion takes"):
        host.launch(MicroMotion(packed.weights, None, None, None, FLOAT32, 1, 5))


def test_impossible_arguments_are_refused(host: Host) -> None:
    packed = pack(draw(np.float32, parts=2, channels=4, squeezed=2, dim=3))
    incomplete = MicroMotionWeights.from_buffer_copy(packed.weights)
    incomplete.excite[1] = None
    for arguments in (
        MicroMotion(packed.weights, None, None, None, FLOAT16, 1, 5),  # FC's result is FP32
        MicroMotion(packed.weights, None, None, None, FLOAT32, -1, 5),
        MicroMotion(packed.weights, None, None, None, FLOAT32, 1, 0),
        MicroMotion(packed.weights, None, None, None, FLOAT32, 2**30, 5),
        MicroMotion(incomplete, None, None, None, FLOAT32, 1, 5),
    ):
        with pytest.raises(InputError, match="no kernel of gaitedge_micro_motion takes"):
            host.launch(arguments)


def test_types_and_slope_are_those_of_the_model() -> None:
    pytest.importorskip("torch")
    import gaitedge.model

    assert gaitedge.model.SLOPE == SLOPE
    assert TYPES[np.float16] == FLOAT16
