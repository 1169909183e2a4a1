"""CUDA graphs: work that was recorded from a stream once and is launched again in a single call.

cuda-python records them, for pycuda cannot. Of its two interfaces this is the driver's, which works in the
context that is current, pycuda's; no second CUDA runtime joins the process.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from gaitedge.errors import MachineError, one_line

__all__ = ["Graph", "find_driver", "record"]

_MODULES = ("cuda.bindings.driver", "cuda.cuda")  # since cuda-python 12.6.1, and before


def find_driver() -> tuple[Any, str]:
    """cuda-python's module of the driver, or None and why there is none."""
    reason = "cuda-python is not installed"
    for name in _MODULES:
        try:
            return importlib.import_module(name), ""
        except ImportError as error:  # noqa: PERF203  # of two
            if not isinstance(error, ModuleNotFoundError) or not name.startswith(error.name or name):
                reason = f"cuda-python cannot be imported: {one_line(error)}"
    return None, reason


class Graph:
    """Recorded work. It holds the addresses of the buffers that it was recorded with."""

    def __init__(self, driver: Any, executable: Any) -> None:
        self._driver, self._executable = driver, executable

    def launch(self, stream: int) -> None:
        """Put the work into the queue of the stream with this handle. Raises MachineError."""
        _call(self._driver, "cuGraphLaunch", self._executable, stream)

    def free(self) -> None:
        """Give it back; it cannot be launched any more."""
        # An error here would be that of earlier work, which was told where that was waited for.
        self._driver.cuGraphExecDestroy(self._executable)


def record(driver: Any, stream: int, work: Callable[[], None]) -> Graph:
    """Record what `work` puts into the queue of the stream with this handle; none of it runs.

    driver: what find_driver gave. Raises MachineError where something cannot be recorded, and whatever
    `work` raises.
    """
    # Only this thread must keep from calls that cannot be recorded: others may allocate meanwhile.
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    _call(driver, "cuStreamBeginCapture", stream, mode)
    try:
        work()
    except BaseException:
        # The stream is of no use before its recording has ended; one that was spoiled ends in an error.
        error, *graph = driver.cuStreamEndCapture(stream)
        if error == driver.CUresult.CUDA_SUCCESS:
            _call(driver, "cuGraphDestroy", *graph)
        raise
    (graph,) = _call(driver, "cuStreamEndCapture", stream)
    # Until CUDA 11 cuGraphInstantiate takes other arguments, and from 12 on it is the other's name.
    name = "cuGraphInstantiateWithFlags"
    name = name if hasattr(driver, name) else "cuGraphInstantiate"
    try:
        (executable,) = _call(driver, name, graph, 0)
    finally:
        _call(driver, "cuGraphDestroy", graph)
    return Graph(driver, executable)


def _call(driver: Any, name: str, *arguments: Any) -> list[Any]:
    try:
        error, *results = list(getattr(driver, name)(*arguments))
    except RuntimeError as missing:  # cuda-python is newer than the driver
        raise MachineError(f"the GPU's driver lacks {name}: {missing}") from None
    if error != driver.CUresult.CUDA_SUCCESS:
        raise MachineError(f"the GPU failed: {name} gives {getattr(error, 'name', error)}")
    return results
