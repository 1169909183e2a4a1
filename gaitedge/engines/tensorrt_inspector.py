"""What TensorRT's inspector tells of an engine: the kind, precision and nodes of each layer.

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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gaitedge.errors import MachineError, one_line

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["TYPES", "Layer", "inspect", "names", "nodes_in", "read_layers"]

# Of TensorRT's and of ONNX' name of a type: ours. Integers other than int8 count, and compute nothing.
TYPES = {
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
_WORD = re.compile(rf"\b(?:{'|'.join(TYPES)})\b", re.IGNORECASE)
_NODE = re.compile(r"\[ONNX Layer: ([^|\]\x1e\x1f]+?)\s*[|\]]")


@dataclass(frozen=True)
class Layer:
    """A layer of an engine: a kernel, as a rule, that does the work of one node of the graph or of many."""

    name: str
    precision: str | None
    """"fp32", "fp16" …: of what it reads, or else of what it writes. None where both are indices, or not
    known."""
    nodes: tuple[str, ...]
    """The nodes of the graph that it does the work of, as far as TensorRT says."""
    kind: str = "unknown"
    """TensorRT's name of what it does, as in "CaskConvolution"."""


def inspect(engine: trt.ICudaEngine, context: trt.IExecutionContext | None) -> str:
    """What the inspector says of an engine, for read_layers.

    context: one with known shapes, without which 8.6 tells no types.
    """
    import tensorrt as trt

    inspector: trt.EngineInspector | None = engine.create_engine_inspector()
    if inspector is None:
        return '{"Layers": []}'
    if context is not None:
        inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def read_layers(information: str) -> list[Layer]:
    """The layers in the JSON that EngineInspector.get_engine_information gives.

    A name that comes twice gets a number. Raises MachineError where it is something else.
    """
    try:
        # Not strict: TensorRT puts separators between the parts of a name that JSON would have escaped.
        entries = json.loads(information, strict=False)["Layers"]
        # With less verbosity, a layer is a mere name.
        named = names(entry if isinstance(entry, str) else entry["Name"] for entry in entries)
        return [
            Layer(name, None, ())
            if isinstance(entry, str)
            else Layer(name, _precision(entry), _nodes(entry), str(entry.get("LayerType", "unknown")))
            for name, entry in zip(named, entries, strict=True)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = one_line(error)
        raise MachineError(f"TensorRT's engine inspector tells of no layers: {said}") from None


def names(found: Iterable[str]) -> list[str]:
    """The names of an engine's layers, made printable; one that comes twice gets a number."""
    unique: list[str] = []
    seen: dict[str, int] = {}
    for raw in found:
        name = _printable(raw)
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def nodes_in(name: str) -> tuple[str, ...]:
    """The nodes in a layer's name: "fconv1.conv + PWN(fconv1.relu)", as 8.6 names what it put together."""
    return tuple(re.findall(r"[^\s+(),\[\]\x1e\x1f]+", name))


def _precision(entry: dict[str, Any]) -> str | None:
    for tensor in (*entry.get("Inputs", ()), *entry.get("Outputs", ())):
        # The spelling differs between 11's documentation and its output.
        fields = {key.lower(): value for key, value in tensor.items()}
        for key in ("datatype", "format/datatype", "format"):
            if key in fields and (found := _WORD.search(str(fields[key]))) is not None:
                return TYPES[found[0].lower()]
    return None


def _nodes(entry: dict[str, Any]) -> tuple[str, ...]:
    named = _NODE.findall(entry.get("Metadata", ""))
    return tuple(named) or nodes_in(entry["Name"])


def _printable(name: str) -> str:
    return " + ".join(part for part in re.split(r"[\x1e\x1f]", name) if part)
