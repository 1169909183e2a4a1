"""FConv (Sec. 3.2) against its plain statement in NumPy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from host_build import ORDERS, TYPES, Host, Output, address, aligned
from numpy.typing import NDArray

from gaitedge.config import strip_heights
from gaitedge.cuda import CHANNELS32, CHANNELS_FIRST, CHANNELS_LAST, FLOAT16, FLOAT32, INT8, UINT8, FocalConv
from gaitedge.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class Shape:
    count: int = 1
    inputs: int = 16
    out: int = 32
    height: int = 8
    width: int = 11
    kernel: int = 3
    strips: int = 1
    pool: bool = False


SHAPES = [
    # The paper's (Tab. 1).
    Shape(inputs=1, height=64, width=44, kernel=5),
    Shape(inputs=32, height=64, width=44, pool=True),
    Shape(inputs=32, out=64, height=32, width=22, strips=4),
    Shape(inputs=64, out=64, height=32, width=22, strips=4, pool=True),
    Shape(inputs=64, out=128, height=16, strips=8),
    Shape(count=2, inputs=128, out=128, height=16, strips=8),
    # Strips of one row, of unequal height, and one whose edge lies in a pool's window.
    Shape(count=3, height=16, strips=16),
    Shape(count=3, height=16, strips=16, pool=True),
    Shape(count=2, height=16, strips=3, kernel=5),
    Shape(count=2, height=16, strips=5, kernel=5, pool=True),
    Shape(count=2, height=7, strips=2),
    Shape(inputs=3, height=10, strips=4, pool=True),
    # Odd maps, narrow ones, more panels than one.
    Shape(count=3, height=9, width=13, pool=True),
    Shape(count=5, height=3, width=3, pool=True),
    Shape(count=3, inputs=48, out=20, height=5, width=1),
    Shape(count=40, inputs=16, out=8, height=3, width=2, pool=True),
    Shape(height=3, width=70, strips=2),
    Shape(height=5, width=71, pool=True, strips=2),
    Shape(count=2, height=1, width=1),
    Shape(count=2, height=1, width=5, pool=True),  # no window at all
    Shape(count=0),
    # Other kernels.
    Shape(count=2, inputs=80, kernel=1, strips=2),
    Shape(count=2, kernel=7, strips=2),
    Shape(kernel=7, inputs=64, width=8, pool=True),
    Shape(
        inputs=64, height=4, width=44, kernel=7, out=8
    ),  # more shared memory than there is: the direct kernel
    # Channels of all kinds.
    Shape(count=2, inputs=7, out=3, height=6, strips=2),
    Shape(count=2, inputs=24, out=33, height=6, strips=2),
    Shape(inputs=50, out=5, height=4, width=4),
]


def strips_of(x: Array, weight: Array, strips: int) -> Array:
    """Each strip convolved by itself: [N, in, H, W] and [out, k, k, in] → [N, out, H, W], in float64."""
    kernel, pad = weight.shape[1], weight.shape[1] // 2
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    done = []
    for strip in np.split(x, np.cumsum(strip_heights(x.shape[2], strips))[:-1], axis=2):
        around = np.pad(strip, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        rows, columns = strip.shape[2:]
        y = np.zeros((len(x), len(weight), rows, columns))
        for u in range(kernel):
            for v in range(kernel):
                part = around[:, :, u : u + rows, v : v + columns]
                y += np.einsum("nkhw,ok->nohw", part, weight[:, u, v])
        done.append(y)
    return np.concatenate(done, axis=2)


def pooled(y: Array) -> Array:
    """2×2 max-pool of stride 2, rounded down."""
    y = y[:, :, : y.shape[2] // 2 * 2, : y.shape[3] // 2 * 2]
    return np.maximum.reduce([y[:, :, i::2, j::2] for i in range(2) for j in range(2)])


def finish(y: Array, bias: Array | None, slope: float, pool: bool) -> Array:
    """Bias, LeakyReLU and pool."""
    if bias is not None:
        y = y + bias.astype(np.float64)[:, None, None]
    y = np.where(y > 0, y, slope * y)
    return pooled(y) if pool else y


def to_layout(x: Array, layout: int) -> Array:
    """[N, C, H, W] in `layout`; what fills CHW32's last channels must not matter."""
    if layout == CHANNELS_FIRST:
        return np.ascontiguousarray(x)
    if layout == CHANNELS_LAST:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    count, channels, height, width = x.shape
    x = np.pad(x, ((0, 0), (0, -channels % 32), (0, 0), (0, 0)), constant_values=99)
    return np.ascontiguousarray(
        x.reshape(count, x.shape[1] // 32, 32, height, width).transpose(0, 1, 3, 4, 2)
    )


def run(
    host: Host,
    shape: Shape,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    layout: int = CHANNELS_LAST,
    order: int = 0,
    scale: Array | None = None,
    inverse_scale: float = 0.0,
    slope: float = 0.125,
) -> Array:
    """The kernel's y as [N, out, H, W]; for CHW32 with the channels that fill it up."""
    height, width = (shape.height // 2, shape.width // 2) if shape.pool else (shape.height, shape.width)
    channels = -shape.out % 32 + shape.out if layout == CHANNELS32 else shape.out
    dims = {
        CHANNELS_FIRST: (shape.count, channels, height, width),
        CHANNELS_LAST: (shape.count, height, width, channels),
        CHANNELS32: (shape.count, channels // 32, height, width, 32),
    }[layout]
    given = aligned(x if x.dtype == np.uint8 else to_layout(x, layout))
    # What lies after the last channel's number must not matter.
    numbers = [None if part is None else aligned(np.append(part, np.float32(1e9))) for part in (bias, scale)]
    kept = [aligned(weight), *numbers]
    y = Output(dims, weight.dtype.type)
    types = (TYPES[weight.dtype.type], TYPES[x.dtype.type])
    sizes = (shape.count, shape.inputs, shape.out, shape.height, shape.width)
    rest = (slope, inverse_scale, *types, layout, *sizes, shape.kernel, shape.strips, int(shape.pool))
    with host.order(order):
        host.launch(FocalConv(address(given), *map(address, kept), address(y.array), *rest))
    found = y.check()
    if layout == CHANNELS_LAST:
        return found.transpose(0, 3, 1, 2)
    if layout == CHANNELS32:
        return found.transpose(0, 1, 4, 2, 3).reshape(shape.count, channels, height, width)
    return found


def given(shape: Shape, dtype: type, seed: int = 0) -> tuple[Array, Array, Array]:
    """x, weights and bias."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(shape.count, shape.inputs, shape.height, shape.width)).astype(dtype)
    weight = random.normal(size=(shape.out, shape.kernel, shape.kernel, shape.inputs)).astype(dtype)
    return x, weight, random.normal(size=shape.out).astype(np.float32)


def check(
    found: Array, x: Array, weight: Array, bias: Array | None, shape: Shape, divisor: float = 1.0
) -> None:
    """Within FP32's rounding of the sum, and one rounding to y's type."""
    slope = 0.125
    expected = finish(strips_of(x, weight, shape.strips) / divisor, bias, slope, shape.pool)
    sum_of_sizes = strips_of(abs(x), abs(weight), shape.strips) / divisor + 3
    allowed = 2e-6 * (pooled(sum_of_sizes) if shape.pool else sum_of_sizes)
    if weight.dtype == np.float16:
        allowed = allowed + abs(expected) * 2**-11
    assert found.shape == expected.shape
    error = abs(found - expected)
    assert (error <= allowed).all(), (error - allowed).max()


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees(host: Host, shape: Shape, dtype: type, layout: int) -> None:
    x, weight, bias = given(shape, dtype)
    check(run(host, shape, x, weight, bias, layout), x, weight, bias, shape)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (Shape(inputs=80, out=33, height=4, strips=2), np.float16),
        (Shape(inputs=80, out=33, height=4, strips=2, pool=True), np.float16),
        (Shape(inputs=80, kernel=1), np.float16),
        (Shape(inputs=20, strips=4, pool=True), np.float16),
        (Shape(inputs=40, out=33, strips=4), np.float32),
    ],
    ids=str,
)
def test_no_order_of_threads_matters(host: Host, shape: Shape, dtype: type, layout: int, order: int) -> None:
    x, weight, _ = given(shape, dtype)
    check(run(host, shape, x, weight, None, layout, order), x, weight, None, shape)


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("pool", [False, True])
def test_silhouettes_as_they_are(host: Host, pool: bool, dtype: type, layout: int) -> None:
    shape = Shape(count=2, inputs=1, height=9, width=44, kernel=5, strips=2, pool=pool)
    _, weight, bias = given(shape, dtype)
    x = np.random.default_rng(1).integers(0, 256, (2, 1, 9, 44), np.uint8)
    check(run(host, shape, x, weight, bias, layout), x.astype(np.float64), weight, bias, shape, 255.0)


INT8_LAYOUTS = [CHANNELS_FIRST, CHANNELS_LAST, CHANNELS32]


def check_int8(
    found: Array, x: Array, weight: Array, scale: Array, bias: Array, inverse: float, shape: Shape
) -> None:
    """Exactly the rounded reference, but for ties that the rounding of a product decides."""
    sums = strips_of(x, weight, shape.strips) * scale.astype(np.float64)[:, None, None]
    value = np.clip(finish(sums, bias, 0.125, shape.pool) * np.float32(inverse), -127, 127)
    assert (abs(found[:, : shape.out] - value) <= 0.5 + 1e-4).all()
    assert (found[:, shape.out :] == 0).all()  # what fills CHW32 up
    assert found.size == 0 or len(np.unique(found)) > 10  # neither all clipped nor all small


def int8_given(shape: Shape, x_type: type) -> tuple[Array, Array, Array, Array, float]:
    """x, weights, scales, bias and 1 / the scale of y."""
    random = np.random.default_rng(0)
    low = 0 if x_type is np.uint8 else -128
    size = (shape.count, shape.inputs, shape.height, shape.width)
    x = random.integers(low, low + 256, size, x_type)
    weight = random.integers(-127, 128, (shape.out, shape.kernel, shape.kernel, shape.inputs), np.int8)
    scale = random.uniform(1e-3, 2e-3, shape.out).astype(np.float32)
    bias = random.normal(0, 3, shape.out).astype(np.float32)
    return x, weight, scale, bias, 6 / np.sqrt(shape.inputs * shape.kernel**2).item()


@pytest.mark.parametrize("layout", INT8_LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, Shape(inputs=96, out=64, width=5, strips=2)], ids=str)
def test_int8_agrees(host: Host, shape: Shape, layout: int) -> None:
    x, weight, scale, bias, inverse = int8_given(shape, np.int8)
    found = run(host, shape, x, weight, bias, layout, scale=scale, inverse_scale=inverse)
    check_int8(found, x, weight, scale, bias, inverse, shape)


@pytest.mark.parametrize("layout", INT8_LAYOUTS)
@pytest.mark.parametrize("pool", [False, True])
def test_int8_of_silhouettes(host: Host, pool: bool, layout: int) -> None:
    shape = Shape(count=2, inputs=1, height=9, width=44, kernel=5, strips=2, pool=pool)
    x, weight, scale, bias, inverse = int8_given(shape, np.uint8)
    found = run(host, shape, x, weight, bias, layout, scale=scale, inverse_scale=inverse)
    check_int8(found, x, weight, scale, bias, inverse, shape)


@pytest.mark.parametrize("order", ORDERS)
def test_int8_in_any_order_of_threads(host: Host, order: int) -> None:
    shape = Shape(inputs=160, out=40, height=4, strips=2, pool=True)
    x, weight, scale, bias, inverse = int8_given(shape, np.int8)
    for layout in INT8_LAYOUTS:
        found = run(host, shape, x, weight, bias, layout, order, scale, inverse)
        check_int8(found, x, weight, scale, bias, inverse, shape)


def test_int8_sums_are_exact(host: Host) -> None:
    """A difference of one in sums beyond FP32's whole numbers."""
    for inputs in (1056, 1041):  # tensor cores; the direct kernel
        shape = Shape(inputs=inputs, out=8, height=3, width=3)
        x = np.full((1, inputs, 3, 3), 127, np.int8)
        weight = np.full((8, 3, 3, inputs), 127, np.int8)
        weight[:, :, :, inputs // 2 :] = -127
        if inputs % 2:
            weight[:, :, :, -1] = 0
        x[0, 0, 1, 1], weight[:, 1, 1, 0] = 1, 1  # for the middle: 1 - 127·127 beside what cancels
        scale, bias = np.ones(8, np.float32), np.full(8, 127.0 * 127 + 9, np.float32)
        found = run(host, shape, x, weight, bias, scale=scale, inverse_scale=1.0)
        assert (found[0, :, 1, 1] == 10).all()


@pytest.mark.parametrize("strips", [1, 2, 3, 4, 8])
def test_a_strip_sees_nothing_of_another(host: Host, strips: int) -> None:
    shape = Shape(height=8, strips=strips, kernel=5)
    x, weight, _ = given(shape, np.float16)
    before = run(host, shape, x, weight)
    cuts = np.cumsum(strip_heights(8, strips))
    x[:, :, : cuts[0]] = np.nan
    after = run(host, shape, x, weight)
    assert np.isnan(after[:, :, : cuts[0]]).all()
    np.testing.assert_array_equal(after[:, :, cuts[0] :], before[:, :, cuts[0] :])


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("inputs", [16, 5])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_and_infinity_pass_through(host: Host, dtype: type, inputs: int, pool: bool) -> None:
    shape = Shape(count=3, inputs=inputs, out=8, height=11, width=12, strips=2, pool=pool)
    x, weight, _ = given(shape, dtype)
    x[0, 1, 0, 0], x[0, 2, 5, 7], x[1, 0, 10, 11], x[1, 4, 2, 4] = np.nan, np.inf, -np.inf, np.nan
    x[2] *= 0
    weight[3] *= 0  # times infinity: NaN, in the pixels around it alone
    expected = finish(strips_of(x, weight, 2), None, 0.125, pool)
    found = run(host, shape, x, weight)
    assert np.isnan(expected).any()
    assert np.isposinf(expected).any()
    for kind in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(kind(found), kind(expected))


def test_too_large_for_fp16_becomes_infinity(host: Host) -> None:
    shape = Shape(height=2, width=2, out=8)
    x, weight = np.full((1, 16, 2, 2), 300, np.float16), np.full((8, 3, 3, 16), 30, np.float16)
    assert np.isposinf(run(host, shape, x, weight)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"strips": 0},
        {"strips": 9},
        {"kernel": 4},
        {"kernel": 9},
        {"pool": 2},
        {"out": 0},
        {"layout": CHANNELS32},
        {"type": INT8, "x_type": INT8},  # without scales
        {"x_type": FLOAT32},
        {"x_type": UINT8},  # and more than one channel
        {"count": (2**31 - 1) // 8},  # so many rows that the next ones have no number
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(host: Host, wrong: dict[str, int]) -> None:
    sizes = dataclasses.asdict(Shape())
    sizes["in_"] = sizes.pop("inputs")
    good = {"type": FLOAT16, "x_type": FLOAT16, "layout": CHANNELS_LAST, **sizes}
    with pytest.raises(InputError, match="no kernel of gaitedge_focal_conv takes"):
        host.launch(FocalConv(**{**good, **wrong}))
