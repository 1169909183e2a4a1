"""Which shapes, types and formats the TensorRT plugins take, and what follows for their outputs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from host_build import Host
from plugin_drivers import (
    ATTRIBUTES,
    CHW32,
    CONV,
    FRAME,
    HWC8,
    LINEAR,
    MOTION,
    PACKED,
    POOL,
    Driver,
    interface_name,
    interfaces,
    open_driver,
    tensor,
)

F16, F32, INT8 = np.float16, np.float32, np.int8


@pytest.fixture(scope="module", params=interfaces(), ids=interface_name)
def driver(request: pytest.FixtureRequest, host: Host) -> Driver:
    return open_driver(request.param, host.path)


def test_the_packed_size_is_the_kernels(driver: Driver) -> None:
    if driver.interface == "bare":
        assert driver.library.driver_packed_halves() == PACKED
    plugin = driver.create("GaitEdgeFrameNetwork", **FRAME)
    silhouettes = tensor((1, 2, 64, 44), F16)
    assert plugin.output([silhouettes, tensor((PACKED,), F16)]) is not None
    assert plugin.output([silhouettes, tensor((PACKED - 1,), F16)]) is None
    assert "weights must be the 287616 halves of the packed network, not 287615" in driver.log()
    plugin.destroy()


def test_shapes_follow_from_expressions(driver: Driver) -> None:
    pool = driver.create("GaitEdgePartPool", **POOL)
    out = pool.output([tensor((5, 8, 6, 3), F16, unknown=(0, 2, 3))])
    assert out is not None
    assert (out.shape, out.shown, out.type) == ((5, 4, 8), (-1, 4, 8), 1)

    conv = driver.create("GaitEdgeFocalConv", **CONV)
    inputs = [tensor((5, 3, 9, 7), F32, unknown=(0, 3)), tensor((24, 5, 5, 3)), tensor((24,))]
    out = conv.output(inputs)
    assert out is not None
    assert (out.shape, out.shown, out.type) == ((5, 24, 4, 3), (-1, 24, 4, -1), 0)

    frame = driver.create("GaitEdgeFrameNetwork", **FRAME)
    out = frame.output([tensor((2, 30, 64, 44), F16, unknown=(0, 1)), tensor((PACKED,), F16)])
    assert out is not None
    assert (out.shape, out.shown, out.type) == ((2, 30, 16, 128), (-1, -1, 16, 128), 1)

    weights = [tensor((16, 32, 3, 128), F16), tensor((16, 128, 1, 32), F16)]
    motion = driver.create("GaitEdgeMicroMotion", **(MOTION | {"templates": [1]}))
    x, fc = tensor((2, 30, 16, 128), F16, unknown=(0, 1)), tensor((16, 128, 256), F16)
    out = motion.output([x, *weights, fc])
    assert out is not None
    assert (out.shown, out.type) == ((-1, 16, 256), 0)
    without = driver.create("GaitEdgeMicroMotion", **(MOTION | {"templates": [1], "fc": 0}))
    out = without.output([x, *weights])
    assert out is not None
    assert (out.shown, out.type) == ((-1, 16, 128), 1)


X4, W4 = (2, 8, 6, 4), (16, 3, 3, 8)
X = (2, 30, 16, 128)
SQUEEZE, EXCITE1, EXCITE2, FC = (16, 32, 3, 128), (16, 128, 1, 32), (16, 128, 3, 32), (16, 128, 256)


@pytest.mark.parametrize(
    ("name", "shapes", "message"),
    [
        ("GaitEdgePartPool", [X4, X4], "it takes x alone, not 2 inputs"),
        ("GaitEdgePartPool", [(2, 8, 6)], "x must have 4 axes, not 3"),
        ("GaitEdgePartPool", [(2, 8, 3, 4)], "3 rows of x cannot be pooled into 4 parts"),
        ("GaitEdgePartPool", [(2, 0, 6, 4)], "x has no channels or no columns"),
        ("GaitEdgePartPool", [X4] * 9, "it takes x alone, not 9 inputs"),
        ("GaitEdgeFocalConv", [X4], "it takes x, weight and perhaps bias, not 1 inputs"),
        (
            "GaitEdgeFocalConv",
            [X4, (16, 8, 3, 3)],
            "weight must be [out, k, k, in] with k 1, 3, 5 or 7, not 8 by 3",
        ),
        (
            "GaitEdgeFocalConv",
            [X4, (16, 4, 4, 8)],
            "weight must be [out, k, k, in] with k 1, 3, 5 or 7, not 4 by 4",
        ),
        (
            "GaitEdgeFocalConv",
            [X4, (16, 9, 9, 8)],
            "weight must be [out, k, k, in] with k 1, 3, 5 or 7, not 9 by 9",
        ),
        ("GaitEdgeFocalConv", [X4, (16, 3, 3, 4)], "weight [out, k, k, in] is for 4 channels and x has 8"),
        ("GaitEdgeFocalConv", [(2, 8, 3, 4), W4], "3 rows of x cannot be cut into 4 strips"),
        ("GaitEdgeFocalConv", [(2, 8, 6, 1), W4], "x of 6 by 1 is too small for the max-pool"),
        ("GaitEdgeFocalConv", [X4, W4, (8,)], "bias has 8 numbers for 16 channels"),
        ("GaitEdgeFocalConv", [X4, W4, (16, 1)], "bias must have 1 axes, not 2"),
        ("GaitEdgeFrameNetwork", [(1, 2, 44, 64), (PACKED,)], "silhouettes must be 64 by 44, not 44 by 64"),
        ("GaitEdgeFrameNetwork", [(1, 2, 64, 44)], "it takes silhouettes and weights, not 1 inputs"),
        (
            "GaitEdgeMicroMotion",
            [X, SQUEEZE, EXCITE1, SQUEEZE, EXCITE2],
            "with these attributes it takes 6 inputs, not 5",
        ),
        (
            "GaitEdgeMicroMotion",
            [X, SQUEEZE, EXCITE1, SQUEEZE, EXCITE1, FC],
            "input 3 must be [parts, S, 3, C] and input 4 [parts, C, 3, S] for this x",
        ),
        (
            "GaitEdgeMicroMotion",
            [X, SQUEEZE, EXCITE1, (16, 64, 3, 128), (16, 128, 3, 64), FC],
            "input 3 must be [parts, S, 3, C] and input 4 [parts, C, 3, S] for this x",
        ),
        (
            "GaitEdgeMicroMotion",
            [X, (16, 32, 128, 3), EXCITE1, SQUEEZE, EXCITE2, FC],
            "input 1 must be [parts, S, 3, C] and input 2 [parts, C, 1, S] for this x",
        ),
        (
            "GaitEdgeMicroMotion",
            [X, SQUEEZE, EXCITE1, SQUEEZE, EXCITE2, (16, 256, 128)],
            "fc must be [parts, C, dim] for this x",
        ),
        (
            "GaitEdgeMicroMotion",
            [(2, 0, 16, 128), SQUEEZE, EXCITE1, SQUEEZE, EXCITE2, FC],
            "x has no frames, no parts or no channels",
        ),
    ],
)
def test_impossible_shapes_are_refused_in_one_line(
    driver: Driver, name: str, shapes: list[tuple[int, ...]], message: str
) -> None:
    plugin = driver.create(name, **ATTRIBUTES[name])
    assert plugin.output([tensor(shape) for shape in shapes]) is None
    assert driver.log() == f"{name}: {message}\n"
    plugin.destroy()


def test_types_and_formats(driver: Driver) -> None:
    """All combinations of a node's x and output; the others are linear and of x's type."""

    def taken(name: str, attributes: dict[str, Any], shapes: list[tuple[int, ...]]) -> set[tuple[Any, ...]]:
        plugin, found = driver.create(name, **attributes), set()
        choices = list(itertools.product((F32, F16, INT8), (LINEAR, HWC8, CHW32)))
        for (x, layout), (y, out_layout) in itertools.product(choices, choices):
            between = [tensor(shape, x) for shape in shapes[1:-1]]
            given = [tensor(shapes[0], x, layout), *between, tensor(shapes[-1], y, out_layout)]
            if plugin.supports_all(given):
                found.add((x, layout, y, out_layout))
        plugin.destroy()
        return found

    linear = {(F32, LINEAR, F32, LINEAR), (F16, LINEAR, F16, LINEAR)}
    pooled = linear | {(F16, HWC8, F16, LINEAR)}
    assert taken("GaitEdgePartPool", POOL, [(2, 16, 6, 4), (2, 4, 16)]) == pooled
    assert taken("GaitEdgePartPool", POOL, [(2, 12, 6, 4), (2, 4, 12)]) == linear
    both = linear | {(F16, HWC8, F16, HWC8)}
    plain = CONV | {"pool": 0}
    assert taken("GaitEdgeFocalConv", plain, [(2, 8, 6, 4), (16, 3, 3, 8), (2, 16, 6, 4)]) == both
    assert taken("GaitEdgeFocalConv", plain, [(2, 1, 6, 4), (16, 3, 3, 1), (2, 16, 6, 4)]) == linear
    assert taken("GaitEdgeFocalConv", plain, [(2, 8, 6, 4), (4, 3, 3, 8), (2, 4, 6, 4)]) == linear
    halves = {(F16, LINEAR, F16, LINEAR)}
    assert taken("GaitEdgeFrameNetwork", FRAME, [(1, 2, 64, 44), (PACKED,), (1, 2, 16, 128)]) == halves
    shapes = [X, SQUEEZE, EXCITE1, SQUEEZE, EXCITE2, FC, (2, 16, 256)]
    embedded = {(F32, LINEAR, F32, LINEAR), (F16, LINEAR, F32, LINEAR)}
    assert taken("GaitEdgeMicroMotion", MOTION, shapes) == embedded
    without = MOTION | {"fc": 0}
    assert taken("GaitEdgeMicroMotion", without, [*shapes[:5], (2, 16, 128)]) == linear


@pytest.mark.parametrize(("weight", "bias"), [(F16, F32), (F32, F32), (F16, F16), (INT8, F32)])
def test_weights_are_of_xs_type_and_a_bias_is_float32(driver: Driver, weight: type, bias: type) -> None:
    conv = driver.create("GaitEdgeFocalConv", **CONV)
    given = [tensor(X4, F16), tensor(W4, weight), tensor((16,), bias), tensor((2, 16, 3, 2), F16)]
    assert conv.supports_all(given) == (weight is F16 and bias is F32)
    given[1] = tensor(W4, F16, HWC8)
    given[2] = tensor((16,), F32)
    assert not conv.supports_all(given)
