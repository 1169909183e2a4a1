"""The GPU as an engine uses it, through pycuda: the primary context, and buffers that grow.

Everything runs in the device's primary context, the one that PyTorch, CuPy and TensorRT use too, so that
several engines and other libraries live in one process. It is pushed around every use and popped again:
whatever context a calling thread had, it has afterwards.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import MachineError, require

__all__ = ["DeviceBuffer", "Staging", "device_memory_used", "drain", "gpu", "make_stream"]

_WHY = "the TensorRT engine"
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING of cuda.h, for which pycuda has no name
_SMALLEST = 4096  # bytes of a buffer


@contextmanager
def gpu(way_out: str) -> Iterator[None]:
    """Make the primary context this thread's for a while.

    way_out: what to do where the GPU's memory does not suffice. Raises MachineError where it does not,
    and where a CUDA call fails, which may be one that an earlier kernel spoiled.
    """
    cuda = require("pycuda.driver", _WHY)
    try:
        context = _primary_context()
        context.push()
        try:
            yield
        finally:
            context.pop()
    except cuda.MemoryError as error:
        raise MachineError(f"the GPU's memory does not suffice ({error}): {way_out}") from None
    except cuda.Error as error:
        raise MachineError(f"the GPU failed: {error}; if that persists, start the program again") from None


@functools.cache
def _primary_context() -> Any:
    """The first device's primary context, retained once in this process and given up when it exits.

    Sooner would free nothing, for TensorRT's own CUDA runtime keeps it too, and pycuda would leave it
    current in the thread that gives it up. Left to pycuda at the exit, it is given up by a call that is
    for other contexts, with a warning.
    """
    cuda = require("pycuda.driver", _WHY)
    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    weakref.finalize(context, context.detach)  # after what was made later, such as an engine
    return context


def device_memory_used() -> int | None:
    """Bytes of the GPU's memory that are taken now, by all that runs on it; of a Jetson, which shares it with
    the processor, by everything.

    None in a process of which no engine has used the GPU: to ask would take memory there. Raises MachineError
    where the GPU fails.
    """
    if not _primary_context.cache_info().currsize:
        return None
    with gpu("end other programs that use it"):
        free, total = require("pycuda.driver", _WHY).mem_get_info()
        return int(total) - int(free)


def make_stream() -> Any:
    """A stream that does not wait for the default one, on which other libraries work: that one must not
    touch a stream which records a CUDA graph."""
    return require("pycuda.driver", _WHY).Stream(_NON_BLOCKING)


def drain(stream: Any) -> None:
    """Wait for what an error left in a stream's queue, before anything that it uses is given up.

    A GPU that failed has nothing left to wait for; the error that led here tells of it.
    """
    cuda = require("pycuda.driver", _WHY)
    with suppress(cuda.Error):
        stream.synchronize()


class DeviceBuffer:
    """Memory on the GPU that is allocated anew where more is needed; its contents are lost then.

    Its methods need the context.
    """

    def __init__(self) -> None:
        self._allocation: Any = None
        self.size = 0
        """In bytes."""

    @property
    def address(self) -> int:
        """For TensorRT; a multiple of 256. 0 while nothing is allocated."""
        return 0 if self._allocation is None else int(self._allocation)

    def grow(self, size: int) -> None:
        """Have `size` bytes or more. Whoever knows the address must ask for it again."""
        if size > self.size:
            self.free()  # first: both at once may not fit
            self._allocation = require("pycuda.driver", _WHY).mem_alloc(size)
            self.size = size

    def free(self) -> None:
        """Give the memory back; it may be allocated again."""
        if self._allocation is not None:
            allocation, self._allocation, self.size = self._allocation, None, 0
            allocation.free()


class Staging:
    """A tensor's bytes on the GPU, and in pinned memory on the host from where and to where they travel.

    Its methods need the context.
    """

    def __init__(self) -> None:
        self.device = DeviceBuffer()
        self._host: NDArray[np.uint8] | None = None

    def fits(self, size: int) -> bool:
        """Whether there are `size` bytes on both sides."""
        return size <= self.device.size

    def grow(self, size: int) -> None:
        """Have `size` bytes or more on both sides. Whoever knows the address must ask for it again."""
        if not self.fits(size):
            # In powers of two: walks of ever more frames come one after the other.
            size = max(_SMALLEST, 1 << (size - 1).bit_length())
            self.free()
            self._host = require("pycuda.driver", _WHY).pagelocked_empty(size, np.uint8)
            self.device.grow(size)

    def host(self, size: int) -> NDArray[np.uint8]:
        """The first `size` bytes on the host: a view."""
        if self._host is None:
            raise ValueError("nothing was allocated yet")
        return self._host[:size]

    def upload(self, size: int, stream: Any) -> None:
        """Put the copy to the GPU into the stream's queue."""
        require("pycuda.driver", _WHY).memcpy_htod_async(self.device.address, self.host(size), stream)

    def download(self, size: int, stream: Any) -> None:
        """Put the copy to the host into the stream's queue."""
        require("pycuda.driver", _WHY).memcpy_dtoh_async(self.host(size), self.device.address, stream)

    def free(self) -> None:
        """Give the memory of both sides back; it may be allocated again."""
        if self._host is not None:
            allocation, self._host = self._host.base, None
            allocation.free()  # type: ignore[union-attr]  # of pycuda, what the array lies in
        self.device.free()
