"""Execution contexts of TensorRT whose memory is ours: where its versions differ.

A CUDA graph wants a context of its own, for it is valid only while the context keeps its shapes. All
contexts of a slot run one after the other and share one piece of memory for their activations. That also
makes it no larger than the shapes that came, where TensorRT by itself takes what its profile's largest
shape needs, and running out of it an error that can be told.

                    8.6, and its compatible plans in 10.x           10.x and 11.x
contexts            create_execution_context_without_device_memory  USER_MANAGED
their memory        for the largest shape of the profile            for the shapes that are set
giving it           device_memory, an address                       set_device_memory, with its size
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaitedge.machine.tensorrt import version

if TYPE_CHECKING:
    from types import ModuleType

    import tensorrt as trt

__all__ = ["Contexts", "contexts"]


class Contexts:
    """How contexts are made and given memory; contexts() gives those of the TensorRT that is installed."""

    def make(self, engine: trt.ICudaEngine) -> trt.IExecutionContext | None:
        """A context without memory for its activations; None where TensorRT could not make one."""
        raise NotImplementedError

    def needs(self, engine: trt.ICudaEngine, context: trt.IExecutionContext) -> int:
        """Bytes that the context needs for its activations, now that its shapes are set."""
        raise NotImplementedError

    def give(self, context: trt.IExecutionContext, address: int, size: int) -> None:
        """Give it memory on the GPU, after `needs` and before it runs."""
        raise NotImplementedError


class _EightTen(Contexts):
    """8.6; and 10.x with a plan of 8.6, which brings that one's runtime."""

    def make(self, engine: trt.ICudaEngine) -> trt.IExecutionContext | None:
        return engine.create_execution_context_without_device_memory()

    def needs(self, engine: trt.ICudaEngine, context: trt.IExecutionContext) -> int:  # noqa: ARG002
        return int(engine.device_memory_size)

    def give(self, context: trt.IExecutionContext, address: int, size: int) -> None:  # noqa: ARG002
        context.device_memory = address


class _TenEleven(Contexts):
    """10.x and 11.x."""

    def make(self, engine: trt.ICudaEngine) -> trt.IExecutionContext | None:
        import tensorrt as trt

        return engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    def needs(self, engine: trt.ICudaEngine, context: trt.IExecutionContext) -> int:  # noqa: ARG002
        return int(context.update_device_memory_size_for_shapes())

    def give(self, context: trt.IExecutionContext, address: int, size: int) -> None:
        context.set_device_memory(address, size)


def contexts(module: ModuleType, built: str) -> Contexts:
    """Those that both the TensorRT that is installed and the one that built the plan know.

    A version-compatible plan brings the runtime that it was built with, and what that one does not know
    cannot be asked of it. built: the version, as in "8.6.1".
    """
    return _EightTen() if version(module)[0] == 8 or built.startswith("8.") else _TenEleven()
