"""The machine under the kernels' host build: what CUDA promises holds there, and what it forbids shows."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_build import COMPILER, KERNELS, ORDERS, Host, address, aligned, run
from numpy.typing import NDArray

from gaitedge.config import strip_heights

Array = NDArray[Any]
FAILED = -2
SOURCE = Path(__file__).with_name("shim.cpp")


class Shim:
    """The kernels of shim.cpp, linked with the host build's machine."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.gaitedge_host_failure.restype = ctypes.c_char_p

    def __call__(
        self,
        kernel: str,
        given: Array,
        out: Array,
        number: int = 0,
        blocks: int = 1,
        threads: int = 32,
        shared: int = 0,
    ) -> int:
        pointers = [ctypes.c_void_p(address(array)) for array in (given, out)]
        return int(getattr(self.library, kernel)(*pointers, number, blocks, threads, shared))

    def failure(self) -> str:
        return str(self.library.gaitedge_host_failure().decode())


@pytest.fixture(scope="module")
def shim(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Shim:
    folder = tmp_path_factory.mktemp("shim")
    include = [f"-I{KERNELS / 'include'}", f"-I{KERNELS / 'host'}"]
    library = folder / "libshim.so"
    machine = host.path.with_name("host.o")
    run([*COMPILER, *include, "-shared", str(SOURCE), str(machine), "-o", str(library)])
    return Shim(library)


def in_order(shim: Shim, order: int, *arguments: Any, **more: Any) -> int:
    shim.library.gaitedge_host_order(order)
    status = shim(*arguments, **more)
    shim.library.gaitedge_host_order(0)
    return status


NOTHING = np.zeros(64, np.uint8)


@pytest.mark.parametrize("threads", [32, 96, 1024])
def test_a_barrier_is_waited_for_and_a_missing_one_shows(shim: Shim, threads: int) -> None:
    expected = np.tile(np.arange(threads)[::-1], 3)
    wrong = 0
    for order in ORDERS:
        out = np.zeros(3 * threads, np.int32)
        assert in_order(shim, order, "reversed", NOTHING, out, 1, 3, threads, 4 * threads) == 0
        np.testing.assert_array_equal(out, expected)
        in_order(shim, order, "reversed", NOTHING, out, 0, 3, threads, 4 * threads)
        wrong += not np.array_equal(out, expected)
    assert wrong == len(ORDERS)


def test_threads_run_in_the_order_asked_for(shim: Shim) -> None:
    found = []
    for order in (*ORDERS, 3):
        out = np.zeros(97, np.int32)
        assert in_order(shim, order, "numbered", NOTHING, out, threads=96) == 0
        assert sorted(out[:96]) == list(range(96))
        found.append(out[:96].tolist())
    assert found[0] == list(range(96))
    assert found[1] == found[0][::-1]
    assert len({tuple(order) for order in found}) == 4


def test_shared_memory_is_not_zero_at_first(shim: Shim) -> None:
    out = np.zeros(32, np.float32)
    assert shim("unwritten", NOTHING, out, shared=128) == 0
    assert np.isnan(out).all()


@pytest.mark.parametrize(
    ("kernel", "number", "threads", "message"),
    [
        ("written_past", 1, 64, "shared memory was written past its end (block 0,0,0)"),
        ("written_past", 192, 64, "shared memory was written past its end (block 0,0,0)"),
        ("waits_in_part", 32, 64, "threads returned while others wait at a barrier (block 0,0,0)"),
        ("waits_in_part", 7, 32, "threads returned while others wait at a barrier (block 0,0,0)"),
        ("votes_in_part", 31, 32, "a warp function was not reached by all 32 lanes of a warp (block 0,0,0)"),
        ("votes_or_shuffles", 9, 32, "lanes of a warp called different warp functions at once (block 0,0,0)"),
        ("copied_crookedly", 0, 32, "an asynchronous copy's address is no multiple of 16 (block 0,0,0)"),
        ("written_past", 0, 33, "a block must be 32 to 1024 threads, a multiple of 32"),
        ("written_past", 0, 1056, "a block must be 32 to 1024 threads, a multiple of 32"),
    ],
)
def test_what_cuda_forbids_is_named(shim: Shim, kernel: str, number: int, threads: int, message: str) -> None:
    for order in ORDERS:
        assert in_order(shim, order, kernel, NOTHING, NOTHING, number, 1, threads, 64) == FAILED
        assert shim.failure().startswith(message)
    assert shim("written_past", NOTHING, NOTHING, 0, 2, 64, 64) == 0  # and the next launch is a new one
    assert shim.failure() == ""


def test_lanes_hand_numbers_to_each_other(shim: Shim) -> None:
    x = np.random.default_rng(0).permutation(64).astype(np.int32)
    lane = np.arange(32)
    for order in ORDERS:
        out = np.full((64, 9), -7, np.int32)
        assert in_order(shim, order, "shuffled", x, out, threads=64) == 0
        for own, found in zip(x.reshape(2, 32), out.reshape(2, 32, 9), strict=True):
            np.testing.assert_array_equal(found[:, 0], own[lane ^ 5])
            np.testing.assert_array_equal(found[:, 1], own[np.where(lane + 3 < 32, lane + 3, lane)])
            np.testing.assert_array_equal(found[:, 2], own[np.where(lane - 3 >= 0, lane - 3, lane)])
            np.testing.assert_array_equal(found[:, 3], own[7])
            np.testing.assert_array_equal(found[:, 4], own[(lane * 3 + 1) % 32])
            ballot = sum(1 << int(bit) for bit in lane[own % 3 == 0])
            np.testing.assert_array_equal(found[:, 5].view(np.uint32), ballot)
            np.testing.assert_array_equal(found[:, 6], 11 in own)
            np.testing.assert_array_equal(found[:, 7], 1)
            np.testing.assert_array_equal(found[:, 8], own[lane ^ 1])


@pytest.mark.parametrize(
    ("kernel", "of_a", "of_b", "of_c"),
    [
        ("products_of_halves", np.float16, np.float16, np.float32),
        ("products_of_int8", np.int8, np.int8, np.int32),
        ("products_of_uint8", np.uint8, np.int8, np.int32),
    ],
)
def test_matrix_products(shim: Shim, kernel: str, of_a: type, of_b: type, of_c: type) -> None:
    rng = np.random.default_rng(0)

    def draw(rows: int, dtype: type) -> Array:
        if dtype is np.float16:
            return rng.normal(size=(rows, 16)).astype(dtype)
        bounds = np.iinfo(dtype)
        return rng.integers(bounds.min, bounds.max + 1, size=(rows, 32), dtype=dtype)

    a, b = draw(16, of_a), draw(8, of_b)
    c = rng.integers(-99, 99, size=(16, 8)).astype(of_c)
    given = np.concatenate([a.view(np.uint8).ravel(), b.view(np.uint8).ravel()])
    expected = c + a.astype(np.float64) @ b.T.astype(np.float64)
    for order in ORDERS:
        out = c.copy()
        assert in_order(shim, order, kernel, given, out) == 0
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5 if of_c is np.float32 else 0)


def test_matrices_are_loaded_as_the_products_want_them(shim: Shim) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 16, 16)).astype(np.float16)
    for order in ORDERS:
        out = np.zeros((16, 16), np.float32)
        assert in_order(shim, order, "loaded", aligned(np.stack([a, b])), out, shared=32 * 48) == 0
        np.testing.assert_allclose(out, a.astype(np.float64) @ b.T.astype(np.float64), atol=1e-5)
    for crooked in (4, 32 * 48):  # not a multiple of 16; past the end
        assert shim("loaded", aligned(np.stack([a, b])), out, crooked, shared=32 * 48) == FAILED
        assert "load_matrices: an address is no multiple of 16 in shared memory" in shim.failure()


@pytest.mark.parametrize("pending", [0, 1, 2, 3])
def test_copies_arrive_when_they_are_waited_for_and_no_sooner(shim: Shim, pending: int) -> None:
    x = np.random.default_rng(2).integers(0, 255, size=(64, 16), dtype=np.uint8)
    out = np.zeros((64, 3, 16), np.uint8)
    assert shim("copied", aligned(x), out, pending, threads=64, shared=64 * 48) == 0
    arrived = np.stack([x, x, np.zeros_like(x)], axis=1)
    np.testing.assert_array_equal(out[:, : 3 - pending], arrived[:, : 3 - pending])
    assert (out[:, 3 - pending :] == 0xFF).all()


def test_strips_are_cut_as_the_configuration_cuts_them(shim: Shim) -> None:
    for height in (1, 2, 5, 16, 23):
        found = np.zeros((height, height, 2), np.int32)
        assert shim("strips", NOTHING, found, height) == 0
        for strips in range(1, height + 1):
            heights = strip_heights(height, strips)
            strip = np.repeat(np.arange(strips), heights)
            np.testing.assert_array_equal(found[strips - 1, :, 0], strip)
            np.testing.assert_array_equal(found[strips - 1, :, 1], np.cumsum([0, *heights])[strip])


def test_numbers_are_rounded_and_compared_as_numpy_does(shim: Shim) -> None:
    x = np.linspace(-4, 4, 32, dtype=np.float32)
    x[:12] = [0.25, 0.75, -0.25, -0.75, 1e9, -1e9, np.nan, np.inf, -np.inf, -63.9, -0.0, 0.5]
    out = np.zeros((32, 4), np.float32)
    assert shim("numbers", x, out) == 0
    rounded = np.clip(np.rint(x * 2), -127, 127)
    np.testing.assert_array_equal(out[:, 0], np.where(np.isnan(x), 0, rounded))
    np.testing.assert_array_equal(out[:, 1], np.maximum(x, 0.5))
    np.testing.assert_array_equal(out[:, 2], np.maximum(x, 0.5))
    np.testing.assert_array_equal(out[:, 3], np.where(x > 0, x, x * np.float32(0.25)))
