"""What the TensorRT plugins compute, against plain statements in NumPy, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from host_build import Host, Output, aligned
from numpy.typing import NDArray
from plugin_drivers import (
    CONV,
    FRAME,
    HWC8,
    LINEAR,
    MOTION,
    PACKED,
    POOL,
    SLOPE,
    Driver,
    interface_name,
    interfaces,
    open_driver,
    tensor,
    through_a_plan,
)

from gaitedge.config import GaitPartConfig, strip_heights

Array = NDArray[Any]
F16, F32 = np.float16, np.float32


@pytest.fixture(scope="module", params=interfaces(), ids=interface_name)
def driver(request: pytest.FixtureRequest, host: Host) -> Driver:
    return open_driver(request.param, host.path)


# References, in float64 ----------------------------------------------------------------------------


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, SLOPE * x)


def focal_conv(x: Array, weight: Array, bias: Array | None, strips: int, pool: int) -> Array:
    """FConv (Sec. 3.2) of x [N, in, H, W] with weight [out, k, k, in]."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    pad, rows = weight.shape[1] // 2, []
    for strip in np.split(x, np.cumsum(strip_heights(x.shape[2], strips))[:-1], axis=2):
        padded = np.pad(strip, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[1:3], axis=(2, 3))
        rows.append(np.einsum("ncyxij,oijc->noyx", windows, weight, optimize=True))
    y = np.concatenate(rows, axis=2)
    y = leaky(y if bias is None else y + bias[:, None, None])
    if pool:
        n, c, h, w = y.shape
        y = y[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
    return y


def part_pool(x: Array, parts: int) -> Array:
    """HP (Eq. 2), [N, C, H, W] → [N, parts, C]."""
    strips = np.split(x.astype(np.float64), np.cumsum(strip_heights(x.shape[2], parts))[:-1], axis=2)
    return np.stack([strip.mean(axis=(2, 3)) + strip.max(axis=(2, 3)) for strip in strips], axis=1)


def micro_motion(x: Array, weights: list[Array], attributes: dict[str, Any]) -> Array:
    """MTBs, TP and FC (Eq. 4 to 12), [b, t, n, C] → [b, n, dim]."""
    x = x.astype(np.float64)
    given = [weight.astype(np.float64) for weight in weights]
    frames, total = x.shape[1], np.zeros_like(x)

    def taps(values: Array, width: int, outside: float = 0.0) -> Array:
        pad = [(0, 0), (width // 2, width // 2), (0, 0), (0, 0)]
        padded = np.pad(values, pad, constant_values=outside)
        return np.stack([padded[:, i : i + frames] for i in range(width)])

    for template in attributes["templates"]:
        window = 2 * template + 1
        motion = taps(x, window).mean(axis=0) + taps(x, window, -np.inf).max(axis=0)
        if attributes["attention"]:
            squeeze, excite = given.pop(0), given.pop(0)
            hidden = leaky(np.einsum("kbtnc,nskc->btns", taps(x, 3), squeeze))
            logits = np.einsum("kbtns,ncks->btnc", taps(hidden, 2 * template - 1), excite)
            motion = motion / (1 + np.exp(-logits))
        total += motion
    pooled = total.max(axis=1) if attributes["pooling"] == "max" else total.mean(axis=1)
    return np.einsum("bnc,ncd->bnd", pooled, given.pop(0)) if attributes["fc"] else pooled


# Running a plugin as an engine does ------------------------------------------------------------------


def run(
    driver: Driver,
    name: str,
    attributes: dict[str, Any],
    arrays: list[Array],
    dtype: type | None = None,
    layout: int = LINEAR,
    out_layout: int = LINEAR,
) -> Array:
    """What the plugin makes of NCHW arrays; layout: of the first one, out_layout: of the result."""
    inputs = [tensor(array.shape, array.dtype.type) for array in arrays]
    inputs[0] = tensor(arrays[0].shape, arrays[0].dtype.type, layout, unknown=(0,))
    asked = driver.create(name, **attributes)
    out = asked.output(inputs)
    assert out is not None, driver.log()
    asked.destroy()
    shape = out.shape
    out_type = [F32, F16][out.type]
    assert out_type is (dtype or arrays[0].dtype.type)
    out = tensor(shape, out_type, out_layout, unknown=(0,))
    plugin = through_a_plan(driver, name, attributes, inputs, out)
    given = [aligned(array) for array in arrays]
    if layout == HWC8:
        given[0] = aligned(np.ascontiguousarray(arrays[0].transpose(0, 2, 3, 1)))
    n, c = shape[0], shape[1]
    result = Output((n, *shape[2:], c) if out_layout == HWC8 else shape, out_type)
    now = [tensor(array.shape, array.dtype.type) for array in arrays]
    now[0].format = layout
    assert plugin.enqueue(now, tensor(shape, out_type, out_layout), given, result.array) == 0, driver.log()
    plugin.destroy()
    assert driver.log() == ""
    found = result.check()
    return found.transpose(0, 3, 1, 2) if out_layout == HWC8 else found


def close(found: Array, expected: Array, dtype: type) -> None:
    error = 2e-5 if dtype is F32 else 4e-3
    np.testing.assert_allclose(found, expected, rtol=error, atol=error * np.abs(expected).max())


@pytest.mark.parametrize(("dtype", "layout"), [(F32, LINEAR), (F16, LINEAR), (F16, HWC8)])
def test_part_pool(driver: Driver, dtype: type, layout: int) -> None:
    x = np.random.default_rng(0).normal(size=(3, 16, 8, 5)).astype(dtype)
    close(run(driver, "GaitEdgePartPool", POOL, [x], layout=layout), part_pool(x, 4), dtype)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    ("dtype", "layout", "channels", "pool"),
    [(F32, LINEAR, 3, 1), (F16, LINEAR, 3, 0), (F16, LINEAR, 16, 1), (F16, HWC8, 16, 0), (F16, HWC8, 16, 1)],
)
def test_focal_conv(driver: Driver, dtype: type, layout: int, channels: int, pool: int, biased: bool) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, channels, 9, 7)).astype(dtype)
    weight = (rng.normal(size=(8, 3, 3, channels)) / 8).astype(dtype)
    bias = rng.normal(size=8).astype(F32) if biased else None
    attributes = CONV | {"pool": pool, "strips": 2}
    arrays = [x, weight, bias] if bias is not None else [x, weight]
    found = run(driver, "GaitEdgeFocalConv", attributes, arrays, layout=layout, out_layout=layout)
    close(found, focal_conv(x, weight, bias, 2, pool), dtype)


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"fc": 0},
        {"templates": [2], "pooling": "mean"},
        {"templates": [1], "fc": 0},
        {"attention": 0, "pooling": "mean"},
        {"attention": 0, "fc": 0, "templates": [2]},
    ],
)
def test_micro_motion(driver: Driver, dtype: type, choice: dict[str, Any]) -> None:
    attributes = MOTION | choice
    rng = np.random.default_rng(2)
    parts, channels, middle, dim = 3, 32, 8, 24
    arrays = [rng.normal(size=(2, 7, parts, channels))]
    for template in attributes["templates"] if attributes["attention"] else []:
        arrays.append(rng.normal(size=(parts, middle, 3, channels)) / 8)
        arrays.append(rng.normal(size=(parts, channels, 2 * template - 1, middle)) / 4)
    if attributes["fc"]:
        arrays.append(rng.normal(size=(parts, channels, dim)) / 8)
    given = [array.astype(dtype) for array in arrays]
    found = run(driver, "GaitEdgeMicroMotion", attributes, given, F32 if attributes["fc"] else dtype)
    close(found, micro_motion(given[0], given[1:], attributes), dtype)


def test_frame_network(driver: Driver) -> None:
    from gaitedge.export.packing import pack_frame_network

    config, rng = GaitPartConfig(), np.random.default_rng(3)
    shapes = config.shapes()
    weights = {
        name: (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(F16).astype(F32)
        for name, shape in shapes.items()
    }
    packed = pack_frame_network(config, weights, "fp16").view(F16)
    assert packed.shape == (PACKED,)
    silhouettes = rng.integers(0, 256, (1, 2, 64, 44)).astype(F16)
    found = run(driver, "GaitEdgeFrameNetwork", FRAME, [silhouettes, packed])
    x = silhouettes.reshape(2, 1, 64, 44).astype(np.float64) / 255
    for layer, strips in enumerate(config.strips):
        weight = weights[f"frame.{layer}"].transpose(0, 2, 3, 1)
        x = focal_conv(x, weight, None, strips, int(config.pooled_after(layer)))
    close(found, part_pool(x, 16).reshape(1, 2, 16, 128), F16)


def test_clones_keep_their_own_attributes(driver: Driver) -> None:
    first = driver.create("GaitEdgePartPool", parts=2)
    clone, second = first.clone(), driver.create("GaitEdgePartPool", parts=6)
    first.destroy()
    x = np.random.default_rng(4).normal(size=(1, 8, 6, 3)).astype(F32)
    for plugin, parts in ((second, 6), (clone, 2)):
        given, result = tensor(x.shape), Output((1, parts, 8), F32)
        assert plugin.output([given]) is not None
        assert plugin.enqueue([given], tensor((1, parts, 8)), [aligned(x)], result.array) == 0
        close(result.check(), part_pool(x, parts), F32)
        plugin.destroy()
