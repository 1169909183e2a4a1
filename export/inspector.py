"""What TensorRT's inspector tells of an engine: the precision of each layer, and which ones fell back.

The inspector gives JSON, with an engine that was built with detailed profiling verbosity:

            8.6 and 10.x                             11.x
engine      Layers, Bindings (names)                 Layers, I/O Tensors (objects)
tensor      "Format/Datatype": "Half", or as in      "Format" and "Datatype" apart
            "Channel major FP16 format where …"

8.6 says "N/A due to dynamic shapes" until an execution context with known shapes is given to it. From
10 on what runs together in one kernel has a name of TensorRT's own, and "Metadata" names its nodes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gaitedge.errors import MachineError, one_line

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["Layer", "fell_back", "read_layers"]

# Of TensorRT's and of ONNX' name of a type: ours. Integers other than int8 count, and compute nothing.
_NAMES = {
    "bf16": "bf16",
    "bfloat16": "bf16",
    "float": "fp32",
    "float16": "fp16",
    "float8e4m3fn": "fp8",
    "fp16": "fp16",
    "fp32": "fp32",
    "fp8": "fp8",
    "half": "fp16",
    "int8": "int8",
}
_WORD = re.compile(rf"\b(?:{'|'.join(_NAMES)})\b", re.IGNORECASE)
_BITS = {"int8": 8, "fp8": 8, "fp16": 16, "bf16": 16, "fp32": 32}
_NODE = re.compile(r"\[ONNX Layer: ([^|\]\x1e\x1f]+?)\s*[|\]]")
# They stand between two precisions, so that neither is asked of them.
_BETWEEN = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class Layer:
    """A layer of an engine: a kernel, as a rule, that does the work of one node of the graph or of many."""

    name: str
    precision: str | None
    """"fp32", "fp16" …: of what it reads, or else of what it writes. None where both are indices, or not
    known."""
    nodes: tuple[str, ...]
    """The nodes of the graph that it does the work of, as far as TensorRT says."""


def read_layers(information: str) -> list[Layer]:
    """The layers in the JSON that EngineInspector.get_engine_information gives.

    A name that comes twice gets a number. Raises MachineError where it is something else.
    """
    try:
        # Not strict: TensorRT puts separators between the parts of a name that JSON would have escaped.
        entries = json.loads(information, strict=False)["Layers"]
        layers: list[Layer] = []
        seen: dict[str, int] = {}
        for entry in entries:
            # With less verbosity, a layer is a mere name.
            name = _printable(entry if isinstance(entry, str) else entry["Name"])
            seen[name] = seen.get(name, 0) + 1
            unique = name if seen[name] == 1 else f"{name} ({seen[name]})"
            found = (None, ()) if isinstance(entry, str) else (_precision(entry), _nodes(entry))
            layers.append(Layer(unique, *found))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = one_line(error)
        raise MachineError(f"TensorRT's engine inspector tells of no layers: {said}") from None
    return layers


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


def _precision(entry: dict[str, Any]) -> str | None:
    for tensor in (*entry.get("Inputs", ()), *entry.get("Outputs", ())):
        # The spelling differs between 11's documentation and its output.
        fields = {key.lower(): value for key, value in tensor.items()}
        for key in ("datatype", "format/datatype", "format"):
            if key in fields and (found := _WORD.search(str(fields[key]))) is not None:
                return _NAMES[found[0].lower()]
    return None


def _nodes(entry: dict[str, Any]) -> tuple[str, ...]:
    named = _NODE.findall(entry.get("Metadata", ""))
    # Without metadata: "fconv1.conv + PWN(fconv1.relu)", as 8.6 names what it put together.
    return tuple(named) or tuple(re.findall(r"[^\s+(),\[\]\x1e\x1f]+", entry["Name"]))


def _printable(name: str) -> str:
    return " + ".join(part for part in re.split(r"[\x1e\x1f]", name) if part)


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
        return _NAMES.get(TensorProto.DataType.Name(types.get(source, 0)).lower())

    found = {node.name: of(node) for node in graph.node}
    return {name: precision for name, precision in found.items() if precision is not None}
