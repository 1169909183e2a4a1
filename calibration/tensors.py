"""Where in a graph the input of each layer is, and what is in it when the graph runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.errors import MissingPackage, require
from gaitedge.export.graph import build_graph
from gaitedge.export.plan import layer_names
from gaitedge.weights import Weights

if TYPE_CHECKING:
    from onnx import GraphProto

__all__ = ["Probe", "layer_inputs", "same_values"]

# What moves values about, and the max-pool: since rounding and clipping keep the order, what comes out of it
# is the same whether they are done before it or after it.
_SAME = frozenset({"Reshape", "Transpose", "Split", "MaxPool"})

_Run = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]


def layer_inputs(graph: GraphProto, config: GaitPartConfig) -> dict[str, list[str]]:
    """Layer -> the tensors that its convolutions and products read, one or several.

    graph: as gaitedge.export.graph.build_graph writes it without scales. A node's name holds its layer's, as
    in "fconv3.strip1" and "part0.mtb1.squeeze".
    """
    inputs: dict[str, list[str]] = {layer: [] for layer in layer_names(config)}
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul"):
            layer = next(name for name in inputs if f".{name}." in f".{node.name}.")
            if node.input[0] not in inputs[layer]:
                inputs[layer].append(node.input[0])
    return inputs


def same_values(graph: GraphProto, tensor: str) -> list[str]:
    """The tensor, and those from which it is made without another number coming up, the nearest first."""
    makers = {output: node for node in graph.node for output in node.output}
    found = [tensor]
    while (maker := makers.get(found[-1])) is not None and maker.op_type in _SAME:
        found.append(maker.input[0])
    return found


class Probe:
    """The portable graph in FP32, run for what its layers read.

    threads: of the runtime, ONNX Runtime where it is installed and else OpenVINO. `runtime` is its name and
    `version` its version. `inputs` says which tensors each layer but the first reads: that one reads the
    silhouettes, 0 to 255 by definition. Raises MissingPackage where neither is installed.
    """

    def __init__(self, config: GaitPartConfig, weights: Weights, threads: int) -> None:
        from onnx import helper

        self.threads = threads
        model = build_graph(config, weights)
        self.inputs = layer_inputs(model.graph, config)
        del self.inputs["fconv1"]
        self._tensors = list(dict.fromkeys(name for names in self.inputs.values() for name in names))
        del model.graph.output[:]
        model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in self._tensors)
        if importlib.util.find_spec("onnxruntime") is not None:
            self.runtime, start = "onnxruntime", _start_onnxruntime
        elif importlib.util.find_spec("openvino") is not None:
            self.runtime, start = "openvino", _start_openvino
        else:
            raise MissingPackage(
                "calibration needs ONNX Runtime or OpenVINO, and neither is installed; "
                "run: pip install 'gaitedge[onnxruntime]' or: pip install 'gaitedge[cpu]'"
            )
        self.version, self._run = start(model.SerializeToString(), threads)

    def run(self, silhouettes: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Tensor -> what is in it for silhouettes [batch, frames, 64, 44]; valid until the next call."""
        return dict(zip(self._tensors, self._run(silhouettes), strict=True))


def _start_onnxruntime(model: bytes, threads: int) -> tuple[str, _Run]:
    """The version, and what runs the model."""
    runtime = require("onnxruntime", "calibration")
    runtime.disable_telemetry_events()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return runtime.__version__, lambda silhouettes: session.run(None, {"silhouettes": silhouettes})


def _start_openvino(model: bytes, threads: int) -> tuple[str, _Run]:
    """The version, and what runs the model."""
    from gaitedge.engines.openvino import import_openvino, shared_core

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    core: Any = shared_core()
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    request = compiled.create_infer_request()

    def run(silhouettes: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        request.infer([silhouettes])
        return [request.get_output_tensor(index).data for index in range(len(compiled.outputs))]

    return import_openvino().__version__.partition("-")[0], run
