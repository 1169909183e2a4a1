"""Which nodes of a graph each layer does that a runtime really runs.

Runtimes fuse nodes, rename them and add their own. What a layer is of is told by the names that it kept, by
the weights that it reads, and by what stands around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from gaitedge.bundle import Bundle

__all__ = [
    "FLOAT_OPS",
    "INT8_OPS",
    "OPENVINO_PRODUCTS",
    "TYPES",
    "Executed",
    "Share",
    "in_onnxruntime",
    "in_openvino",
    "named",
    "parsed",
    "shares",
]

OPENVINO_PRODUCTS = ("Convolution", "FullyConnected", "MatMul")
"""What OpenVINO calls layers of multiply-accumulates."""
INT8_OPS = ("QLinearConv", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger")
"""ONNX Runtime's in int8."""
FLOAT_OPS = ("Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm")
"""ONNX Runtime's in floating point."""
TYPES = {"i8": "int8", "u8": "int8", "bf16": "bf16", "f16": "fp16", "f32": "fp32", "i32": "int32"}
"""OpenVINO's name of a type -> ours."""
_MULTIPLYING = ("Conv", "MatMul", "Gemm")  # of ONNX
# What runtimes add to a name, as in "fconv1.relu_nchwc", "fconv1_token_78", "fc.by_part/transpose_b".
_ADDED = re.compile(r"(_nchwc|_nhwc|_token_\d+|/.*)+$")


@dataclass(frozen=True)
class Executed:
    """A node of the graph that a runtime runs."""

    name: str
    kind: str
    names: tuple[str, ...]
    """Of the nodes that it says it was made of, as the runtime wrote them down."""
    operands: tuple[str, ...]
    """Names of its second operand and of what that is made of: of a product its weights."""
    reads: tuple[str, ...]
    """Names of the executed nodes whose results it reads."""
    precision: str | None = None
    product: bool = False
    """Whether it multiplies and accumulates."""


@dataclass(frozen=True)
class Share:
    """What of a graph an executed node does."""

    nodes: tuple[str, ...]
    """In the graph's order; none where the runtime added it by itself."""
    feeds: tuple[str, ...]
    """Where there are none: the nodes of what reads it."""


def parsed(bundle: Bundle, member: str) -> ModelProto:
    """A graph of a bundle that a runtime has read."""
    import onnx

    return onnx.load_model_from_string(bundle.read(member))


def shares(model: ModelProto, executed: Sequence[Executed]) -> dict[str, Share]:
    """Name of an executed node -> what of the model's graph it does.

    Each node of the graph is of one executed node at most. One that no executed node names was fused with
    what reads it or, failing that, with what it reads; one that multiplies, only with such a one.
    """
    graph = [node for node in model.graph.node if node.name]
    owner = _by_name(graph, executed)
    products = {one.name for one in executed if one.product}
    _by_weight(graph, executed, owner)
    _by_neighbours(graph, owner, products)
    nodes: dict[str, list[str]] = {}
    for node in graph:
        if node.name in owner:
            nodes.setdefault(owner[node.name], []).append(node.name)
    readers: dict[str, list[str]] = {}
    for one in executed:
        for name in dict.fromkeys(one.reads):
            readers.setdefault(name, []).append(one.name)
    found = {}
    for one in executed:
        own = tuple(nodes.get(one.name, ()))
        found[one.name] = Share(own, () if own else _fed(one.name, readers, nodes))
    return found


def named(names: Iterable[str], products: Iterable[str]) -> list[str]:
    """The products that names are of: "fconv1/WithoutBiases" is of fconv1, and so is what is made of its
    weight, such as "fconv1.weight.quantize"; strips of an FConv share that."""
    names = list(names)
    own = {name.partition("/")[0] for name in names}
    weights = {match[1] for name in names if (match := re.match(r"(.+?)\.weight(\.|_|$)", name))}
    return [one for one in products if one in own or re.sub(r"\.(strip\d+|by_part)$", "", one) in weights]


def in_openvino(compiled: Any) -> list[Executed]:
    """The nodes of OpenVINO's execution graph, in its order; constants are none."""
    nodes = compiled.get_runtime_model().get_ordered_ops()
    constant = {node.get_friendly_name() for node in nodes if _told(node, "layerType") == "Const"}
    found = []
    for node in nodes:
        name = node.get_friendly_name()
        if name in constant:
            continue
        sources = [port.get_source_output().get_node().get_friendly_name() for port in node.inputs()]
        kind = _told(node, "layerType")
        found.append(
            Executed(
                name=name,
                kind=kind,
                names=(name, *filter(None, _told(node, "originalLayersNames").split(","))),
                operands=tuple(_second_operand(node)),
                reads=tuple(source for source in sources if source not in constant),
                precision=TYPES.get(_told(node, "runtimePrecision")),
                product=kind in OPENVINO_PRODUCTS,
            )
        )
    return found


def in_onnxruntime(optimised: ModelProto) -> list[Executed]:
    """The nodes of a graph as ONNX Runtime has optimised it, in its order."""
    makers = {name: node.name for node in optimised.graph.node for name in node.output if name}
    return [
        Executed(
            name=node.name,
            kind=node.op_type,
            names=(node.name,),
            operands=tuple(filter(None, node.input)),
            reads=tuple(makers[name] for name in node.input if name in makers),
            precision="int8" if node.op_type in INT8_OPS else None,
            product=node.op_type in (*INT8_OPS, *FLOAT_OPS),
        )
        for node in optimised.graph.node
    ]


def _by_name(graph: Sequence[NodeProto], executed: Sequence[Executed]) -> dict[str, str]:
    """Node of the graph -> the executed one that bears its name."""
    multiplying = {node.name: node.op_type in _MULTIPLYING for node in graph}
    # OpenVINO calls the last node as its result is called.
    called = {name: node.name for node in graph for name in (*node.output, node.name)}
    owner: dict[str, str] = {}
    for one in executed:
        for name in one.names:
            node = called.get(name) or called.get(_ADDED.sub("", name))
            if node is not None and (one.product or not multiplying[node]):
                owner.setdefault(node, one.name)
    return owner


def _by_weight(graph: Sequence[NodeProto], executed: Sequence[Executed], owner: dict[str, str]) -> None:
    """Give products that lost their names the nodes whose weights they read."""
    left = [node.name for node in graph if node.op_type in _MULTIPLYING and node.name not in owner]
    busy = {owner[node.name] for node in graph if node.op_type in _MULTIPLYING and node.name in owner}
    for one in executed:
        if one.product and one.name not in busy:
            owner.update(dict.fromkeys(named(one.operands, left), one.name))


def _by_neighbours(graph: Sequence[NodeProto], owner: dict[str, str], products: set[str]) -> None:
    """Give what no executed node names to that of a neighbour."""
    readers: dict[str, list[str]] = {}
    makers: dict[str, str] = {}
    for node in graph:
        makers.update(dict.fromkeys(node.output, node.name))
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    kinds = {node.name: node.op_type for node in graph}

    def settle(name: str, neighbours: Iterable[str]) -> None:
        for neighbour in neighbours:
            found = owner.get(neighbour)
            if found is not None and (kinds[name] not in _MULTIPLYING or found in products):
                owner.setdefault(name, found)

    flowing = _flowing(graph)
    for node in reversed(graph):
        if node.name in flowing:
            settle(node.name, (reader for output in node.output for reader in readers.get(output, [])))
    for node in graph:
        if node.name in flowing:
            settle(node.name, (makers[name] for name in node.input if name in makers))


def _flowing(graph: Sequence[NodeProto]) -> set[str]:
    """Names of the nodes that are made of the input, constants left out."""
    alive, flowing = {"silhouettes"}, set()
    for node in graph:
        if alive.intersection(node.input):
            alive.update(node.output)
            flowing.add(node.name)
    return flowing


def _fed(name: str, readers: dict[str, list[str]], nodes: dict[str, list[str]]) -> tuple[str, ...]:
    """The nodes of what reads an executed node, through others that are of none."""
    found: dict[str, None] = {}
    waiting, seen = [name], {name}
    while waiting:
        for reader in readers.get(waiting.pop(), []):
            if reader in nodes:
                found.update(dict.fromkeys(nodes[reader]))
            elif reader not in seen:
                seen.add(reader)
                waiting.append(reader)
    return tuple(found)


def _told(node: Any, key: str) -> str:
    about = node.get_rt_info()
    return str(about[key].astype(str)) if key in about else ""


def _second_operand(node: Any) -> list[str]:
    """Names of what it is made from: some products in int8 have lost their own."""
    names: list[str] = []
    operand = 1
    while len(node.inputs()) > operand:
        node, operand = node.input(operand).get_source_output().get_node(), 0
        names += [node.get_friendly_name(), *_told(node, "originalLayersNames").split(",")]
    return names
