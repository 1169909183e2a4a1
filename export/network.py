"""A graph of export/graph.py as something to look into: shapes, blocks, what its plugin nodes compute.

All of it is read off the graph, never off the configuration: a node belongs to the block that its
name begins with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaitedge.errors import InputError, one_line

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["IN_PASSING", "MULTIPLYING", "VIEWS", "Network", "Tensor", "Values"]

VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators that only see a tensor as another shape."""
IN_PASSING = frozenset({"LeakyRelu", "Sigmoid", "HardSigmoid", "Cast", "QuantizeLinear"})
"""Operators of one tensor, value by value: runtimes do them while they write what comes before."""
MULTIPLYING = frozenset({"Conv", "MatMul", "Gemm"})
"""Operators that cost multiply-accumulates and have weights."""

# Of ONNX' name of an element type: ours, and bytes.
_TYPES = {
    "FLOAT": ("fp32", 4),
    "FLOAT16": ("fp16", 2),
    "BFLOAT16": ("bf16", 2),
    "FLOAT8E4M3FN": ("fp8", 1),
    "INT8": ("int8", 1),
    "UINT8": ("uint8", 1),
    "INT32": ("int32", 4),
    "INT64": ("int64", 8),
    "BOOL": ("bool", 1),
}
_SIZES = dict(_TYPES.values())
_BLOCK = re.compile(r"(?:part\d+\.)?(frames|pixels|network|fconv\d+|hp|part|mtb\d+|motion|tp|fc)(?:\.|$)")
_MOST = 2**31 - 1  # frames in all: a runtime's limit, and beyond it ONNX' own products overflow
# The names that are not simply written large.
_TITLES = {
    "frames": "Input",
    "pixels": "Input",
    "network": "FPFE + HP",
    "part": "HP",
    "motion": "MTB1 + MTB2",
}


@dataclass(frozen=True)
class Tensor:
    """Element type and shape."""

    type: str
    """"fp32", "fp16", "bf16", "int8", "uint8" …"""
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return self.elements * _SIZES[self.type]


@dataclass(frozen=True)
class Values:
    """Tensors that stand side by side: one, or one for each part or strip."""

    count: int
    type: str
    shape: tuple[int | str, ...]
    """Where they differ, the smallest and the largest, as in "5–6"."""

    def __str__(self) -> str:
        times = f"{self.count} × " if self.count > 1 else ""
        return f"{times}{self.type} [{', '.join(map(str, self.shape))}]"


class Network:
    """A graph with every shape known, every plugin node looked into and every node in its block.

    batch, frames: taken where the graph leaves them open. Raises InputError where a shape cannot be
    told: a plugin node without a function, a graph that is none of ours.
    """

    def __init__(self, model: ModelProto, batch: int = 1, frames: int = 30) -> None:
        from onnx import inliner, shape_inference

        if batch < 1 or frames < 1:
            raise InputError(f"a graph needs 1 sequence and 1 frame or more, not {batch} and {frames}")
        if batch * frames > _MOST:
            raise InputError(f"{batch} sequences of {frames} frames are more than {_MOST} frames; give fewer")
        if [value.name for value in model.graph.input] != ["silhouettes"] or not model.graph.output:
            raise InputError("the graph is none of GaitPart: its one input is not called silhouettes")
        self.nodes: list[NodeProto] = list(model.graph.node)
        functions = {(function.domain, function.name) for function in model.functions}
        for node in self.nodes:
            if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
                raise InputError(
                    f"the graph does not say what its node {node.name!r}, {node.op_type}, computes"
                )
        whole = inliner.inline_local_functions(model)
        for value in (*whole.graph.input, *whole.graph.output):
            for size in value.type.tensor_type.shape.dim:
                if size.dim_param in ("batch", "frames"):
                    size.dim_value = batch if size.dim_param == "batch" else frames
        del whole.graph.value_info[:]
        try:
            whole = shape_inference.infer_shapes(whole, strict_mode=True, data_prop=True)
        except shape_inference.InferenceError as error:
            raise InputError(f"the graph's shapes cannot be told: {one_line(error)}") from None

        self.inputs = [value.name for value in whole.graph.input]
        self.outputs = [value.name for value in whole.graph.output]
        self.values = {
            weight.name: _tensor(weight.name, weight.data_type, tuple(weight.dims))
            for weight in whole.graph.initializer
        }
        self.constants = set(self.values)
        for value in (*whole.graph.input, *whole.graph.output, *whole.graph.value_info):
            kind = value.type.tensor_type
            if all(size.HasField("dim_value") for size in kind.shape.dim):
                sizes = tuple(int(size.dim_value) for size in kind.shape.dim)
                self.values[value.name] = _tensor(value.name, kind.elem_type, sizes)
        self.makers = {name: node for node in self.nodes for name in node.output}
        for name in (*self.inputs, *(name for node in whole.graph.node for name in node.output)):
            if name not in self.values:
                raise InputError(f"the graph does not say which shape its tensor {name!r} has")
        for node in whole.graph.node:
            for name in node.output:
                self.makers.setdefault(name, node)  # a plugin node rather than what its function ends with
            if all(name in self.constants for name in node.input if name):
                self.constants.update(node.output)
        self.inside = _inside(self.nodes, list(whole.graph.node))
        self.batch, self.frames = self.values["silhouettes"].shape[:2]
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            sized = node.op_type == "Shape"  # which reads no values
            for name in dict.fromkeys(filter(None, () if sized else node.input)):
                self.readers.setdefault(name, []).append(node)
        self._blocks = self._find_blocks()

    def flows(self, name: str) -> bool:
        """Whether a tensor is made of the silhouettes' values: no constant, no shape arithmetic."""
        return bool(name) and name not in self.constants and self.values[name].type != "int64"

    def together(self, names: Iterable[str]) -> tuple[Values, ...]:
        """Tensors by type and number of axes."""
        kinds: dict[tuple[str, int], list[Tensor]] = {}
        for tensor in map(self.values.__getitem__, names):
            kinds.setdefault((tensor.type, len(tensor.shape)), []).append(tensor)
        return tuple(
            Values(len(tensors), kind, tuple(map(_span, zip(*(t.shape for t in tensors), strict=True))))
            for (kind, _), tensors in kinds.items()
        )

    def weights_of(self, node: NodeProto) -> dict[str, Tensor]:
        """The constants that a node multiplies by, found through what only converts or turns them; of one
        that holds several the piece that is cut out of it.

        Name -> shape, and the narrowest type that it passes through on the way: int8 where it is quantised.
        """
        if node.op_type not in MULTIPLYING:
            return {}
        found: dict[str, Tensor] = {}
        waiting = [(name, self.values[name].type) for name in node.input if name in self.constants]
        while waiting:
            name, kind = waiting.pop()
            kind = min(kind, self.values[name].type, key=_SIZES.__getitem__)
            maker = self.makers.get(name)
            if maker is not None and maker.op_type not in ("Constant", "Slice"):
                scaled = maker.op_type in ("QuantizeLinear", "DequantizeLinear")
                sources = maker.input[:1] if scaled else maker.input
                waiting += [(source, kind) for source in sources if self.values[source].type != "int64"]
            else:
                found[name] = Tensor(kind, self.values[name].shape)
        return found

    def leaving(self, block: str) -> list[str]:
        """The tensors that other blocks, or the caller, get from a block."""
        made = [name for node in self.nodes if self.block(node) == block for name in node.output]
        return [
            name
            for name in made
            if self.flows(name)
            and (name in self.outputs or {self.block(each) for each in self.readers.get(name, [])} - {block})
        ]

    def block(self, node: NodeProto) -> str:
        """The block of one of the graph's own nodes."""
        return self._blocks[node.output[0]]

    def _find_blocks(self) -> dict[str, str]:
        """First output of every node -> its block.

        That is told by the node's name; where it tells none, by what reads the node, else by what the node
        reads. Nor does a node belong to a later block than what reads it: an input of the next block that
        becomes int8 before this block's max-pool does so in this block.
        """
        names = {node.output[0]: _title(node) for node in self.nodes}
        found = {output: name for output, name in names.items() if name is not None}
        order = {name: number for number, name in enumerate(dict.fromkeys(found.values()))}
        for node in reversed(self.nodes):
            reading = [reader.output[0] for name in node.output for reader in self.readers.get(name, [])]
            near = {found[output] for output in (node.output[0], *reading) if output in found}
            if near:
                found[node.output[0]] = min(near, key=order.__getitem__)
        for node in self.nodes:
            for maker in (self.makers[name] for name in node.input if name in self.makers):
                found.setdefault(node.output[0], found[maker.output[0]])
            found.setdefault(node.output[0], "Other")
        # What only turns the result of one block for the next one is no block of its own.
        busy = {found[node.output[0]] for node in self.nodes if node.op_type not in {*VIEWS, "Transpose"}}
        for node in reversed(self.nodes):
            for reader in self.readers.get(node.output[0], []):
                if found[node.output[0]] not in busy:
                    found[node.output[0]] = found[reader.output[0]]
        return found


def _title(node: NodeProto) -> str | None:
    """The block that a node's name tells, as the paper calls it."""
    match = _BLOCK.match(node.name)
    if match is None:
        return None
    name = match[1]
    if name == "motion" and node.domain:  # one plugin for the MTBs, their sum and TP, and FC perhaps
        return "TFA + FC" if any(each.name == "fc" and each.i for each in node.attribute) else "TFA"
    return _TITLES.get(name) or (name.replace("fconv", "FConv") if name.startswith("fconv") else name.upper())


def _tensor(name: str, kind: int, shape: tuple[int, ...]) -> Tensor:
    from onnx import TensorProto

    known = TensorProto.DataType.Name(kind)
    if known not in _TYPES:
        raise InputError(f"the graph's tensor {name!r} is of the type {known.lower()}, which no plan has")
    return Tensor(_TYPES[known][0], shape)


def _span(sizes: tuple[int, ...]) -> int | str:
    return sizes[0] if len(set(sizes)) == 1 else f"{min(sizes)}–{max(sizes)}"


def _inside(outer: list[NodeProto], inner: list[NodeProto]) -> list[list[NodeProto]]:
    """What each outer node stands for: itself, or the nodes that its function was replaced by.

    Inlining keeps the names of the outer nodes' outputs, and only the nodes of one function read what
    is made inside it.
    """
    owner = {name: number for number, node in enumerate(outer) for name in node.output if name}
    found: list[list[NodeProto]] = [[] for _ in outer]
    for node in reversed(inner):
        numbers = [owner[name] for name in node.output if name in owner]
        if numbers:
            found[numbers[0]].insert(0, node)
            for name in node.input:
                owner.setdefault(name, numbers[0])
    return found
