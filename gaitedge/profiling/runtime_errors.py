"""What runtimes raise where they fail, as one line of ours."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from gaitedge.errors import MachineError, one_line

__all__ = ["runtime_errors"]


@contextlib.contextmanager
def runtime_errors(who: str = "the runtime") -> Iterator[None]:
    """Make a MachineError of what a runtime raises for a failure. who: the first words of its line.

    OpenVINO and PyTorch raise RuntimeError alone, for want of memory too; ONNX Runtime has kinds of its own.
    """
    try:
        yield
    except _kinds() as error:
        raise MachineError(f"{who} failed: {one_line(error)}") from error


def _kinds() -> tuple[type[Exception], ...]:
    """What runtimes raise. Called when something is raised, with all loaded that will be."""
    state = sys.modules.get("onnxruntime.capi.onnxruntime_pybind11_state")
    onnxruntime = () if state is None else (state.EPFail, state.Fail, state.RuntimeException)
    return (RuntimeError, *onnxruntime)
