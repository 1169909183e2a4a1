"""The TensorRT plugins, by themselves and through TensorRT's own interfaces: creators, plans, launches."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from host_build import Host, Output, aligned
from plugin_drivers import (
    ATTRIBUTES,
    CHAR,
    CHW32,
    DIMS,
    FLOAT32,
    INT32,
    INT64,
    MOTION,
    POOL,
    SLOPE,
    Driver,
    Raw,
    header_folders,
    interface_name,
    interfaces,
    open_driver,
    tensor,
    through_a_plan,
)

from gaitedge.cuda import CHANNELS_FIRST, PartPool

F16, F32, INT8 = np.float16, np.float32, np.int8


@pytest.fixture(scope="module", params=interfaces(), ids=interface_name)
def driver(request: pytest.FixtureRequest, host: Host) -> Driver:
    return open_driver(request.param, host.path)


def test_there_are_headers() -> None:
    """Says, where TensorRT's headers are missing, that its interfaces were not tried."""
    if not header_folders():
        pytest.skip("GAITEDGE_TENSORRT_INCLUDE names no folder of TensorRT's headers")
    assert all((folder / "NvInferRuntime.h").exists() for folder in header_folders())


# Creators --------------------------------------------------------------------------------------------


def test_creators(driver: Driver) -> None:
    assert driver.names == [f"gaitedge {name} 1" for name in ATTRIBUTES]
    assert driver.fields("GaitEdgePartPool") == {"parts": INT32}
    assert driver.fields("GaitEdgeFocalConv") == {"strips": INT32, "slope": FLOAT32, "pool": INT32}
    assert driver.fields("GaitEdgeFrameNetwork") == {"slope": FLOAT32}
    kinds = {"templates": INT32, "attention": INT32, "pooling": CHAR, "slope": FLOAT32, "fc": INT32}
    assert driver.fields("GaitEdgeMicroMotion") == kinds


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_each_attribute_must_be_given_once(driver: Driver, name: str) -> None:
    attributes = list(ATTRIBUTES[name].items())
    for index, (key, value) in enumerate(attributes):
        others = attributes[:index] + attributes[index + 1 :]
        assert driver.try_create(name, others) is None
        assert driver.log() == f"{name}: attribute {key} is missing\n"
        assert driver.try_create(name, [*attributes, (key, value)]) is None
        assert driver.log() == f"{name}: attribute {key} is given twice\n"
    assert driver.try_create(name, [*attributes, ("stride", 2)]) is None
    assert driver.log() == f"{name}: there is no attribute stride\n"
    assert driver.try_create(name, [*attributes, (None, 2)]) is None
    assert driver.log() == f"{name}: field {len(attributes)} has no name\n"


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("GaitEdgePartPool", "parts", 0, "attribute parts must be 1 to 1048576, not 0"),
        ("GaitEdgePartPool", "parts", 2.0, "attribute parts must be of integers"),
        ("GaitEdgePartPool", "parts", "4", "attribute parts must be of integers"),
        ("GaitEdgePartPool", "parts", [1, 2], "attribute parts takes up to 1 integers, not 2"),
        ("GaitEdgePartPool", "parts", Raw(None, INT32, 1), "attribute parts is empty"),
        ("GaitEdgePartPool", "parts", Raw(b"", INT32, 0), "attribute parts is empty"),
        ("GaitEdgePartPool", "parts", Raw(b"", INT32, -1), "attribute parts is empty"),
        ("GaitEdgePartPool", "parts", Raw(b"\1\0\0\0", DIMS, 1), "attribute parts must be of integers"),
        ("GaitEdgeFocalConv", "slope", 1, "attribute slope must be one float"),
        ("GaitEdgeFocalConv", "slope", [0.1, 0.2], "attribute slope must be one float"),
        ("GaitEdgeFocalConv", "slope", float("nan"), "attribute slope must be finite"),
        ("GaitEdgeFocalConv", "slope", np.float64(1e300), "attribute slope must be finite"),
        ("GaitEdgeFocalConv", "pool", 2, "attribute pool must be 0 to 1, not 2"),
        (
            "GaitEdgeMicroMotion",
            "templates",
            [2, 1],
            "templates must be 1, 2 or both, each once, in this order",
        ),
        (
            "GaitEdgeMicroMotion",
            "templates",
            [1, 1],
            "templates must be 1, 2 or both, each once, in this order",
        ),
        ("GaitEdgeMicroMotion", "templates", [1, 3], "attribute templates must be 1 to 2, not 3"),
        ("GaitEdgeMicroMotion", "templates", [1, 2, 2], "attribute templates takes up to 2 integers, not 3"),
        ("GaitEdgeMicroMotion", "pooling", "median", 'attribute pooling cannot be "median"'),
        ("GaitEdgeMicroMotion", "pooling", "ma", 'attribute pooling cannot be "ma"'),
        ("GaitEdgeMicroMotion", "pooling", "maximum", 'attribute pooling cannot be "maximum"'),
        ("GaitEdgeMicroMotion", "pooling", 1, "attribute pooling must be a string"),
        ("GaitEdgeMicroMotion", "fc", -1, "attribute fc must be 0 to 1, not -1"),
    ],
)
def test_a_bad_attribute_is_refused_in_one_line(
    driver: Driver, name: str, key: str, value: Any, message: str
) -> None:
    assert driver.try_create(name, list((ATTRIBUTES[name] | {key: value}).items())) is None
    assert driver.log() == f"{name}: {message}\n"


def test_wide_numbers_and_ended_strings_are_taken(driver: Driver) -> None:
    expected = driver.create("GaitEdgeMicroMotion", **MOTION)
    integers: dict[str, Any] = {"templates": np.array([1, 2]), "fc": np.int64(1)}
    if driver.interface.startswith("8."):
        integers = {}  # has no fields of 64-bit integers
    wide = {"slope": np.float64(SLOPE), "pooling": Raw(b"max\0", CHAR, 4)} | integers
    plugin = driver.create("GaitEdgeMicroMotion", **(MOTION | wide))
    assert plugin.serialize() == expected.serialize()
    if driver.interface.startswith(("10.", "11.", "bare")):
        beyond = Raw(np.int64(1 << 32 | 4).tobytes(), INT64, 1)
        assert driver.try_create("GaitEdgePartPool", [("parts", beyond)]) is None
        assert "parts must be 1 to 1048576, not 4294967300" in driver.log()


def test_what_the_logger_throws_stays_inside(driver: Driver, capfd: pytest.CaptureFixture[str]) -> None:
    if driver.interface == "bare":
        pytest.skip("the logger is TensorRT's")
    driver.library.driver_throwing(1)
    try:
        assert driver.try_create("GaitEdgePartPool", []) is None
    finally:
        driver.library.driver_throwing(0)
    assert capfd.readouterr().err == "GaitEdgePartPool: attribute parts is missing\n"


# Plans -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_a_damaged_plan_is_refused(driver: Driver, name: str) -> None:
    if driver.interface.startswith(("10.", "11.")):
        pytest.skip("TensorRT keeps the fields of an IPluginV3 itself")
    plugin = driver.create(name, **ATTRIBUTES[name])
    data = plugin.serialize()
    assert len(data) % 4 == 0
    for count in range(len(data)):
        assert driver.deserialize(name, data[:count]) is None
        assert "its part of the plan" in driver.log()
    assert driver.deserialize(name, data + b"\0\0\0\0") is None
    assert "4 bytes too long" in driver.log()
    for index, value in itertools.product(range(len(data)), (0x00, 0x7F, 0xFF)):
        read = driver.deserialize(name, data[:index] + bytes([value]) + data[index + 1 :])
        said = driver.log()
        assert (read is None) == bool(said)
        if read is not None:
            assert len(read.serialize()) <= len(data)
            read.destroy()
    plugin.destroy()


# Launches --------------------------------------------------------------------------------------------


def test_a_launch_that_was_not_agreed_is_refused(driver: Driver) -> None:
    x = aligned(np.zeros((2, 16, 6, 4), F16))
    good, out = tensor(x.shape, F16), tensor((2, 4, 16), F16)
    plugin = through_a_plan(driver, "GaitEdgePartPool", POOL, [good], out)
    result = Output((2, 4, 16), F16)
    bad = [
        ([good], tensor((2, 4, 15), F16), "the output is not of the shape that follows from the inputs"),
        ([good], tensor((2, 4, 16), F32), "tensor 1 has a type or format that was not agreed"),
        ([tensor(x.shape, F16, CHW32)], out, "tensor 0 has a type or format that was not agreed"),
        ([tensor(x.shape, INT8)], out, "tensor 0 has a type or format that was not agreed"),
        ([tensor((2, 16, 3, 4), F16)], out, "3 rows of x cannot be pooled into 4 parts"),
        ([tensor((2, 16, 1 << 31, 4), F16)], out, "axis 2 of x cannot be 2147483648 long"),
    ]
    for inputs, output, message in bad:
        if driver.interface.startswith("8.") and max(inputs[0].size) > np.iinfo(np.int32).max:
            continue  # sizes have 32 bits there
        assert plugin.enqueue(inputs, output, [x], result.array) != 0
        assert driver.log() == f"GaitEdgePartPool: {message}\n"
    assert plugin.enqueue([good], out, [x], result.array) == 0
    assert not result.check().any()
    plugin.destroy()


def test_no_frames_and_no_batch_are_nothing_to_do(driver: Driver) -> None:
    plugin = driver.create("GaitEdgePartPool", **POOL)
    x, out = tensor((0, 16, 6, 4), F16), tensor((0, 4, 16), F16)
    assert plugin.output([x]) is not None
    result = Output((1,), F16)
    assert plugin.enqueue([x], out, [result.array], result.array) == 0
    assert result.check().view(np.uint16) == 0xFFFF
    plugin.destroy()


def test_a_launch_allocates_nothing(driver: Driver, host: Host) -> None:
    plugin = driver.create("GaitEdgePartPool", **POOL)
    before = driver.library.driver_allocated()
    clone = plugin.clone()
    assert driver.library.driver_allocated() > before, "the count does not count"
    x = aligned(np.zeros((2, 16, 6, 4), F16))
    out = tensor((2, 4, 16), F16)
    result = Output((2, 4, 16), F16)
    sizes = (2, 16, 6, 4, 4)
    host.launch(PartPool(x.ctypes.data, result.array.ctypes.data, 1, CHANNELS_FIRST, *sizes))
    assert clone.output([tensor(x.shape, F16)]) is not None
    assert clone.enqueue([tensor(x.shape, F16)], out, [x], result.array, times=20) == 0
    assert driver.library.driver_allocations() == 0
    clone.destroy()
    plugin.destroy()


# The library -----------------------------------------------------------------------------------------


def test_what_the_library_exports_and_needs(driver: Driver) -> None:
    if driver.interface == "bare":
        pytest.skip("there is no library without TensorRT's headers")
    if shutil.which("nm") is None:
        pytest.skip("there is no nm to list symbols with")

    def symbols(kind: str) -> set[str]:
        listed = subprocess.run(["nm", "-D", kind, driver.path], capture_output=True, text=True, check=True)
        return {line.split()[-1].split("@")[0] for line in listed.stdout.splitlines()}

    creators = "getPluginCreators" if driver.interface.startswith("8.") else "getCreators"
    assert symbols("--defined-only") == {creators, "setLoggerFinder"}
    needed = symbols("--undefined-only")
    assert not [name for name in needed if "nvinfer" in name.lower() or name.startswith("get")]
    assert "gaitedge_part_pool" in needed, "this is not the list of what the library needs"
