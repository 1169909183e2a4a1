"""HP (Eq. 2) against its plain statement in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from host_build import ORDERS, TYPES, Host, Output, address, aligned
from numpy.typing import NDArray

from gaitedge.config import strip_heights
from gaitedge.cuda import CHANNELS_FIRST, CHANNELS_LAST, PartPool
from gaitedge.errors import InputError

Array = NDArray[Any]


def reference(x: Array, parts: int) -> Array:
    """[count, channels, height, width] → [count, parts, channels], in float64."""
    cuts = np.cumsum(strip_heights(x.shape[2], parts))[:-1]
    strips = np.split(x.astype(np.float64), cuts, axis=2)
    return np.stack([strip.mean(axis=(2, 3)) + strip.max(axis=(2, 3)) for strip in strips], axis=1)


def run(host: Host, x: Array, parts: int, layout: int, order: int = 0) -> Array:
    count, channels, height, width = x.shape
    given = aligned(np.ascontiguousarray(x.transpose(0, 2, 3, 1) if layout == CHANNELS_LAST else x))
    y = Output((count, parts, channels), x.dtype.type)
    sizes = (count, channels, height, width, parts)
    with host.order(order):
        host.launch(PartPool(address(given), address(y.array), TYPES[x.dtype.type], layout, *sizes))
    return y.check()


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("count", "channels", "height", "width", "parts"),
    [
        (1, 128, 16, 11, 16),  # the paper's
        (3, 128, 16, 11, 16),
        (2, 128, 16, 11, 5),  # parts of unequal height
        (1, 7, 5, 3, 2),
        (2, 33, 1, 1, 1),
        (1, 1, 64, 44, 64),
        (1, 3, 130, 70, 1),  # a map larger than a block's tile
        (5, 8, 4, 2, 4),
        (0, 8, 4, 2, 4),
    ],
)
def test_agrees(
    host: Host, layout: int, dtype: type, count: int, channels: int, height: int, width: int, parts: int
) -> None:
    x = np.random.default_rng(0).normal(size=(count, channels, height, width)).astype(dtype)
    expected = reference(x, parts)
    for order in ORDERS:
        found = run(host, x, parts, layout, order)
        np.testing.assert_allclose(found, expected, rtol=2e-6 if dtype is np.float32 else 1e-3, atol=2e-6)


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST])
def test_nan_and_infinity_pass_through(host: Host, layout: int) -> None:
    x = np.zeros((1, 8, 4, 3), np.float16)
    x[0, 1, 0, 2], x[0, 2, 1, 0], x[0, 3, 3, 1] = np.nan, np.inf, -np.inf
    found = run(host, x, 4, layout)
    np.testing.assert_array_equal(found, reference(x, 4))


@pytest.mark.parametrize(("parts", "layout"), [(0, 0), (17, 0), (4, 2)])
def test_impossible_arguments_are_refused(host: Host, parts: int, layout: int) -> None:
    with pytest.raises(InputError, match=f"no kernel of gaitedge_part_pool takes type=0, .*parts={parts}"):
        host.launch(PartPool(None, None, 0, layout, 1, 8, 16, 11, parts))
