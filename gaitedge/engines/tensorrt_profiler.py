"""TensorRT's profiler: the time of each layer, by events that TensorRT itself puts between them.

A context with a profiler runs asynchronously like any other once it is told not to report by itself; then
a run is reported when the stream has been waited for. The same in 8.6, 10.x and 11.x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsFloat

from gaitedge.engines.tensorrt_inspector import Layer, names, nodes_in
from gaitedge.engines.tensorrt_plan import demand
from gaitedge.engines.timing import LayerTime
from gaitedge.errors import MachineError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Profiler"]


class Profiler:
    """Sums up what contexts report. It must outlive those that it is attached to."""

    def __init__(self) -> None:
        import tensorrt as trt

        self._run: list[tuple[str, float]] = []
        """Name and milliseconds of each layer of the run that is being reported."""
        self._sums: dict[str, float] = {}
        report = self._run.append

        class Reporter(trt.IProfiler):  # type: ignore[misc]  # a class once TensorRT is there
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)  # not super(): the bindings need their own

            # TensorRT does not survive an error in here.
            def report_layer_time(self, layer_name: str, ms: SupportsFloat) -> None:
                report((layer_name, float(ms)))

        self._reporter: trt.IProfiler = Reporter()

    def attach(self, context: trt.IExecutionContext) -> None:
        """Have a context measure its layers from now on."""
        context.profiler = self._reporter
        context.enqueue_emits_profile = False

    def count(self, context: trt.IExecutionContext) -> None:
        """Add the last run of a context, whose stream was waited for. Raises MachineError."""
        self._run.clear()
        demand(context.report_to_profiler(), "tell the time of its layers")
        for name, (_, ms) in zip(names(name for name, _ in self._run), self._run, strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + ms

    def sums(self, layers: Sequence[Layer]) -> list[LayerTime]:
        """Each layer's time over all runs, in the order in which they ran.

        layers: what the inspector tells of them. Raises MachineError where none was reported.
        """
        if not self._sums:
            raise MachineError("TensorRT's profiler reports no layers of this engine")
        known = {layer.name: layer for layer in layers}
        found = []
        for name, ms in self._sums.items():
            # What the inspector does not list has at least the nodes in its name.
            layer = known.get(name) or Layer(name, None, nodes_in(name))
            nodes, feeds = (layer.nodes, ()) if not _reformats(layer) else ((), layer.nodes)
            found.append(LayerTime(name, layer.kind, nodes, layer.precision, ms, feeds))
        return found


def _reformats(layer: Layer) -> bool:
    """Whether TensorRT added it by itself, to bring a tensor into the form that the next layer reads."""
    return layer.kind == "Reformat" or layer.name.startswith("Reformatting CopyNode")
