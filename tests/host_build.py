"""The kernels' own sources, compiled for the CPU over kernels/host, and called with NumPy arrays."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaitedge.cuda import FLOAT16, FLOAT32, INT8, UINT8, Library

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
COMPILER = [
    *("g++", "-std=c++17", "-O2", "-march=native", "-fPIC", "-fvisibility=hidden"),
    *("-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Werror"),
    *("-Wno-unknown-pragmas", "-Wno-maybe-uninitialized"),
]
TYPES = {np.float32: FLOAT32, np.float16: FLOAT16, np.int8: INT8, np.uint8: UINT8}
ORDERS = (0, 1, 2)
"""Orders of the threads that a test tries: as numbered, backwards, shuffled."""


def build(folder: Path, kernels: Path = KERNELS) -> Path:
    """Compile a library once; returns its path. Processes that want the same one wait."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libgaitedge_host.so"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            sources = [kernels / "host" / "host.cpp", *sorted((kernels / "library").glob("*.cu"))]
            include = [f"-I{kernels / 'include'}", f"-I{kernels / 'host'}"]

            def compile_one(source: Path) -> Path:
                made = folder / f"{source.stem}.o"
                run([*COMPILER, *include, "-x", "c++", "-c", str(source), "-o", str(made)])
                return made

            with ThreadPoolExecutor(2) as pool:
                objects = list(pool.map(compile_one, sources))
            part = folder / "unfinished.so"
            run(["g++", "-shared", *map(str, objects), "-o", str(part)])
            part.replace(library)
    return library


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def address(array: NDArray[np.generic] | None) -> int | None:
    return None if array is None else array.ctypes.data


def aligned(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """A copy that begins at a multiple of 256 bytes, as what CUDA allocates does."""
    memory = np.empty(array.nbytes + 256, np.uint8)
    start = -memory.ctypes.data % 256
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Output:
    """Memory for a result: poisoned, so that what was not written shows, and guarded on both sides."""

    def __init__(self, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._memory = np.full(size + 1024, 0xA5, np.uint8)
        start = 256 + -self._memory.ctypes.data % 256
        self._size, self._start = size, start
        self._memory[start : start + size] = 0xFF  # NaN
        self.array = self._memory[start : start + size].view(dtype).reshape(shape)

    def check(self) -> NDArray[np.generic]:
        """The result. Fails where memory beside it was written."""
        before, after = self._memory[: self._start], self._memory[self._start + self._size :]
        assert (before == 0xA5).all(), "memory before the result was written"
        assert (after == 0xA5).all(), "memory after the result was written"
        return self.array


class Host(Library):
    """The host build: pointers are NumPy's, and a kernel is done when launch returns."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._library.gaitedge_host_failure.restype = ctypes.c_char_p

    @contextlib.contextmanager
    def order(self, seed: int) -> Iterator[None]:
        """Let warps and lanes run in another order: one of ORDERS, or any larger number."""
        self._library.gaitedge_host_order(seed)
        yield
        self._library.gaitedge_host_order(0)

    def _explain(self, status: int) -> str:
        return str(self._library.gaitedge_host_failure().decode())
