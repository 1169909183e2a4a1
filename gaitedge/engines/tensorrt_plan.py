"""A loaded TensorRT plan: what all of an engine's calls have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gaitedge.engines.cuda_graphs import find_driver
from gaitedge.engines.tensorrt_contexts import Contexts
from gaitedge.errors import MachineError
from gaitedge.machine.tensorrt import log

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["INPUT", "OUTPUT", "Plan", "complaint", "demand"]

INPUT, OUTPUT = "silhouettes", "embeddings"


def complaint() -> str:
    """What TensorRT said of what went wrong, on one line; it is forgotten then."""
    said = "; ".join(dict.fromkeys(log().errors))
    log().clear()
    return said or "it did not say why"


class Plan:
    """A loaded plan: what all slots have in common.

    way_out: what to do where the GPU's memory does not suffice. size: parts and dim of an embedding.
    """

    def __init__(
        self,
        runtime: trt.Runtime,
        engine: trt.ICudaEngine,
        contexts: Contexts,
        size: tuple[int, int],
        way_out: str,
    ) -> None:
        self.runtime, self.engine, self.contexts = runtime, engine, contexts
        self.size, self.way_out = size, way_out
        self.driver, self.why_no_graphs = find_driver()

    def free(self) -> None:
        """Give the engine back, then the runtime that it came from; no slot may be left."""
        del self.engine
        del self.runtime

    def give_up_graphs(self, reason: str) -> None:
        """Launch everything piece by piece from now on."""
        self.driver, self.why_no_graphs = None, reason

    def make_context(self, stream: Any) -> trt.IExecutionContext:
        """A new context, in the only profile. Raises MachineError."""
        context = self.contexts.make(self.engine)
        if context is None:
            raise MachineError(f"TensorRT cannot make an execution context: {complaint()}; {self.way_out}")
        # 8.6 gives the profile to the first context alone, though the others may share it.
        if context.active_optimization_profile != 0:
            demand(context.set_optimization_profile_async(0, int(stream.handle)), "set its profile")
            stream.synchronize()
        return context


def demand(success: bool, what: str) -> None:
    """Raise MachineError, with what TensorRT said, unless it could do it."""
    if not success:
        raise MachineError(f"TensorRT cannot {what}: {complaint()}")
