"""Where TensorRT's versions differ, from 8.6 to 11.4: each one's way is a class that bears its name.

The rest of TensorRT is the same in all of them, for what we use of it.

                    8.6                          10.x                       11.x
network flags       EXPLICIT_BATCH               STRONGLY_TYPED             none, and always strongly typed
precision           flags of the builder, and    in the graph alone         in the graph alone; its flags
                    layers that prefer FP16                                 are gone
precisions          fp32 fp16 int8               fp32 fp16 bf16 fp8 int8    fp32 fp16 bf16 fp8 int8
shared profiles     PROFILE_SHARING_0806         always                     always; that name is gone
progress            not reported                 IProgressMonitor           IProgressMonitor
plugin look-up      get_plugin_creator           get_creator                get_creator, the other is gone
parser's errors     a node's number              and its name and operator  and its name and operator
hardware levels     none, ampere+                10.3 like 8.6, 10.16 also same-compute-capability, so 11
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, SupportsInt

from gaitedge.machine.cuda_driver import CudaDevice
from gaitedge.machine.tensorrt import describe, version

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Dialect", "dialect"]

# Compute capability from which on a GPU has a precision; the others are everywhere.
_ARRIVED = {"bf16": (8, 0), "fp8": (8, 9)}


class Dialect:
    """What TensorRT's versions do in their own way; dialect() gives the one that is installed."""

    precisions: tuple[str, ...] = ("fp32", "fp16", "bf16", "fp8", "int8")
    stoppable = True
    """Whether a build reports its progress, and ends early where it is told to."""

    def refusal(self, precision: str, device: CudaDevice) -> str | None:
        """Why an engine cannot be built in this precision; None where it can."""
        if precision not in self.precisions:
            return f"this TensorRT has {', '.join(self.precisions)}; take fp16 or update TensorRT"
        since = _ARRIVED.get(precision, (0, 0))
        if device.compute_capability < since:
            needs = f"it needs compute capability {since[0]}.{since[1]}"
            return f"{needs}, and this is {describe(device.name, device.compute_capability)}; take fp16"
        return None

    def network_flags(self) -> int:
        """What Builder.create_network takes."""
        return 0

    def settle(self, config: trt.IBuilderConfig, network: trt.INetworkDefinition, precision: str) -> None:
        """Set what makes this version compute in the precision that the graph asks for."""

    def watch(
        self,
        config: trt.IBuilderConfig,
        report: Callable[[str, int, int], None],
        stopped: Callable[[], bool],
    ) -> object | None:
        """Have each phase of a build reported: name, steps done, steps in all.

        The build ends at the next step once `stopped` is true. Both are called from TensorRT's threads
        and must not raise: there is nobody above them who could catch it. Returns what is to be kept
        until the build is over, or None where nothing will be reported and nothing can be stopped.
        """
        raise NotImplementedError

    def level(self, compatibility: str) -> trt.HardwareCompatibilityLevel | None:
        """The hardware compatibility "none", "ampere+" or "same-compute-capability"; None where unknown."""
        import tensorrt as trt

        levels = {
            "none": trt.HardwareCompatibilityLevel.NONE,
            "ampere+": trt.HardwareCompatibilityLevel.AMPERE_PLUS,
        }
        return levels.get(compatibility)

    def has_plugin(self, registry: trt.IPluginRegistry, name: str, version: str, namespace: str) -> bool:
        """Whether a plugin is registered."""
        raise NotImplementedError

    def place(self, error: trt.ParserError) -> str:
        """Which node an error of the ONNX parser is about."""
        raise NotImplementedError


class _Eight(Dialect):
    """8.6: weakly typed. Flags allow a precision, and the heavy layers of an FP16 graph prefer that."""

    precisions = ("fp32", "fp16", "int8")
    stoppable = False

    def network_flags(self) -> int:
        import tensorrt as trt

        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)

    def settle(self, config: trt.IBuilderConfig, network: trt.INetworkDefinition, precision: str) -> None:
        import tensorrt as trt

        # Several contexts of one engine, for sequences in flight, share its only profile.
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
        if precision == "fp32":
            return
        config.set_flag(trt.BuilderFlag.FP16)
        if precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)  # which layers, Q/DQ nodes say
            return
        # Not OBEY, which fails where one layer has no such kernel: that one falls back, and is listed.
        config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
        heavy = (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
        for index in range(network.num_layers):
            layer: trt.ILayer = network.get_layer(index)
            if layer.type in heavy:  # of a graph whose every layer is FP16
                layer.precision = trt.DataType.HALF

    def watch(
        self,
        config: trt.IBuilderConfig,  # noqa: ARG002
        report: Callable[[str, int, int], None],  # noqa: ARG002
        stopped: Callable[[], bool],  # noqa: ARG002
    ) -> None:
        return None

    def has_plugin(self, registry: trt.IPluginRegistry, name: str, version: str, namespace: str) -> bool:
        return registry.get_plugin_creator(name, version, namespace) is not None

    def place(self, error: trt.ParserError) -> str:
        return f"node {error.node()}"


class _TenEleven(Dialect):
    """What 10 brought and 11 kept."""

    def watch(
        self,
        config: trt.IBuilderConfig,
        report: Callable[[str, int, int], None],
        stopped: Callable[[], bool],
    ) -> object | None:
        import tensorrt as trt

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # a class once TensorRT is there
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)
                self.steps: dict[str, int] = {}

            def phase_start(
                self,
                phase_name: str,
                parent_phase: str | None,  # noqa: ARG002
                num_steps: SupportsInt,
            ) -> None:
                self.steps[phase_name] = int(num_steps)
                report(phase_name, 0, int(num_steps))

            def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
                report(phase_name, int(step) + 1, self.steps.get(phase_name, 0))
                return not stopped()

            def phase_finish(self, phase_name: str) -> None:
                steps = self.steps.pop(phase_name, 0)
                report(phase_name, steps, steps)

        config.progress_monitor = monitor = Monitor()
        return monitor

    def level(self, compatibility: str) -> trt.HardwareCompatibilityLevel | None:
        import tensorrt as trt

        if (
            compatibility == "same-compute-capability"
            and "SAME_COMPUTE_CAPABILITY" in trt.HardwareCompatibilityLevel.__members__
        ):
            return _same_compute_capability_from_10_16()
        return super().level(compatibility)

    def has_plugin(self, registry: trt.IPluginRegistry, name: str, version: str, namespace: str) -> bool:
        return registry.get_creator(name, version, namespace) is not None

    def place(self, error: trt.ParserError) -> str:
        return f"node {error.node_name() or error.node()} ({error.node_operator()})"


def _same_compute_capability_from_10_16() -> trt.HardwareCompatibilityLevel:
    import tensorrt as trt

    return trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY


class _Ten(_TenEleven):
    """10.x: strongly typed where it is asked for. Precision is in the graph."""

    def network_flags(self) -> int:
        import tensorrt as trt

        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


class _Eleven(_TenEleven):
    """11.x: strongly typed always. The flags of precision, and many another name, are gone."""


def dialect(module: ModuleType) -> Dialect:
    """The dialect of the TensorRT that is installed."""
    return {8: _Eight, 10: _Ten, 11: _Eleven}[version(module)[0]]()
