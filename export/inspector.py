"""Which layers of a TensorRT engine fell back: compute in a higher precision than the graph asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaitedge.engines.tensorrt_inspector import TYPES, Layer

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["fell_back"]

_BITS = {"int8": 8, "fp8": 8, "fp16": 16, "bf16": 16, "fp32": 32}
# They stand between two precisions, so that neither is asked of them.
_BETWEEN = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear"})


def fell_back(layers: list[Layer], graph: bytes) -> tuple[str, ...]:
    """The layers that compute in a higher precision than the graph asks of any of their nodes.

    graph: the ONNX model that the engine was built from. A node is asked to compute in the type of what
    it reads, in int8 where that was just dequantised. Casts, and layers of TensorRT's own, are not judged.
    """
    import onnx

    asked = _asked(onnx.shape_inference.infer_shapes(onnx.load_from_string(graph)))
    fallen = []
    for layer in layers:
        wanted = [_BITS[asked[node]] for node in layer.nodes if node in asked]
        if wanted and layer.precision is not None and _BITS[layer.precision] > min(wanted):
            fallen.append(layer.name)
    return tuple(fallen)


def _asked(model: ModelProto) -> dict[str, str]:
    """Node -> the precision that it is asked to compute in, as far as the graph says."""
    from onnx import TensorProto

    graph = model.graph
    types = {info.name: info.type.tensor_type.elem_type for info in (*graph.input, *graph.value_info)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}

    def of(node: NodeProto) -> str | None:
        if node.op_type in _BETWEEN or not node.input:
            return None
        source = node.input[0]
        if source in makers and makers[source].op_type == "DequantizeLinear":
            return "int8"
        return TYPES.get(TensorProto.DataType.Name(types.get(source, 0)).lower())

    found = {node.name: of(node) for node in graph.node}
    return {name: precision for name, precision in found.items() if precision is not None}
