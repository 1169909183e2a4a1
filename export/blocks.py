"""What a graph of export/graph.py holds, block by block in the paper's order: nodes, MACs, bytes.

A plugin node counts as one node, with the MACs and parameters of what its function computes.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaitedge.errors import BundleError
from gaitedge.export.network import IN_PASSING, MULTIPLYING, VIEWS, Network, Tensor, Values

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["COLUMNS", "Block", "Summary", "examine", "parse", "rows"]

FREE = VIEWS | {"DequantizeLinear"}  # operators that are no more than a way to read


@dataclass(frozen=True)
class Block:
    """The figures of one block, or of the whole graph."""

    name: str
    """As the paper calls it; "total" for the whole graph."""
    strips: int | None
    """p of an FConv: how many strips its convolution sees (Sec. 3.2)."""
    nodes: int
    operators: dict[str, int]
    """Operator -> how many nodes."""
    macs: int
    """Multiply-accumulates of Conv, MatMul and Gemm, those with the zeros of a padding among them."""
    parameters: int
    """Values of the constants that these multiply by; one that several nodes share counts once. Scales
    and zero points of a quantisation are none."""
    parameter_bytes: dict[str, int]
    """Element type -> bytes of these constants, in the narrowest type that they pass through: int8 where
    the graph quantises them."""
    traffic: int
    """Bytes of activations read and written. Every node reads its inputs from memory and writes its
    outputs there, except that an operator of one tensor, value by value (LeakyReLU, sigmoid, casts), is
    done while what comes before it is written, that int8 becomes a number again while it is read, and
    that seeing a tensor as another shape moves nothing. A runtime that fuses more moves less."""
    peak: int
    """Bytes of all activations alive at once, at most, while the block's nodes run in their order."""
    intensity: float
    """MACs a byte of traffic and parameters: below a processor's MACs a second over its bytes a second,
    memory is the limit."""
    outputs: tuple[Values, ...]
    """What other blocks, or the caller, get."""


@dataclass(frozen=True)
class Summary:
    """A graph by block, for one shape of silhouettes."""

    batch: int
    frames: int
    blocks: tuple[Block, ...]
    total: Block


def examine(model: ModelProto, batch: int = 1, frames: int = 30) -> Summary:
    """Nodes, MACs, parameters and bytes of a graph's blocks, for `batch` sequences of `frames` frames.

    Where the graph fixes them, its own numbers hold. Raises InputError as Network does.
    """
    network = Network(model, batch, frames)
    moved, alive = _traffic(network), _alive(network)

    def block(name: str, numbers: list[int], outputs: list[str], fconv: bool = False) -> Block:
        inner = [node for number in numbers for node in network.inside[number]]
        used = {name: weight for node in inner for name, weight in network.weights_of(node).items()}
        macs, traffic = sum(_macs(network, node) for node in inner), sum(moved[number] for number in numbers)
        stored: Counter[str] = Counter()
        for weight in used.values():
            stored[weight.type] += weight.bytes
        return Block(
            name=name,
            strips=_strips(network, inner) if fconv else None,
            nodes=len(numbers),
            operators=dict(Counter(network.nodes[number].op_type for number in numbers).most_common()),
            macs=macs,
            parameters=sum(weight.elements for weight in used.values()),
            parameter_bytes=dict(stored),
            traffic=traffic,
            peak=max(alive[number] for number in numbers),
            intensity=macs / max(1, traffic + stored.total()),
            outputs=network.together(outputs),
        )

    members: dict[str, list[int]] = {}
    for number, node in enumerate(network.nodes):
        members.setdefault(network.block(node), []).append(number)
    blocks = [
        block(name, numbers, network.leaving(name), name.startswith("FConv"))
        for name, numbers in members.items()
    ]
    total = block("total", list(range(len(network.nodes))), network.outputs)
    return Summary(network.batch, network.frames, tuple(blocks), total)


def parse(data: bytes, where: str) -> ModelProto:
    """Read a serialised graph. where: what it was read from, for the message of a BundleError."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load_model_from_string(data)
    except DecodeError as error:
        raise BundleError(f"the graph in {where} is no ONNX model: {error}; export it again") from None


COLUMNS = ("block", "nodes", "MMAC", "parameters", "kB", "MB moved", "MB at once", "MAC/byte", "output")
"""What rows gives of each block; see Block. kB: of its parameters."""


def rows(summary: Summary) -> list[list[object]]:
    """A table of the figures, a row a block and one for all; None where a block has none."""
    return [
        [
            block.name + (f", p = {block.strips}" if block.strips else ""),
            block.nodes,
            f"{block.macs / 1e6:,.2f}" if block.macs else None,
            f"{block.parameters:,}" if block.parameters else None,
            f"{sum(block.parameter_bytes.values()) / 1e3:,.1f}" if block.parameters else None,
            f"{block.traffic / 1e6:,.2f}",
            f"{block.peak / 1e6:,.2f}",
            f"{block.intensity:.1f}" if block.macs else None,
            ", ".join(map(str, block.outputs)),
        ]
        for block in (*summary.blocks, summary.total)
    ]


def _macs(network: Network, node: NodeProto) -> int:
    if node.op_type not in MULTIPLYING:
        return 0
    made, weight = network.values[node.output[0]], network.values[node.input[1]].shape
    if node.op_type == "Conv":
        return made.elements * math.prod(weight[1:])
    by_row = any(each.name == "transB" and each.i for each in node.attribute)
    return made.elements * weight[-1 if by_row else -2 if len(weight) > 1 else 0]


def _strips(network: Network, nodes: list[NodeProto]) -> int:
    """How many strips of each frame a block's convolutions see, in the batch or one after the other."""
    seen = sum(network.values[node.output[0]].shape[0] for node in nodes if node.op_type == "Conv")
    return seen // (network.batch * network.frames)


def _in_passing(network: Network, node: NodeProto) -> bool:
    """Whether a node is done while its input is written, which nobody else then needs."""
    maker: NodeProto | None = node
    while maker is not None and maker.op_type in (VIEWS if maker is not node else IN_PASSING):
        source = maker.input[0]
        if not network.flows(source) or source in network.outputs or len(network.readers[source]) > 1:
            return False
        maker = network.makers.get(source)
    return maker is not None and maker is not node and maker.op_type not in FREE


def _stored(network: Network, name: str) -> Tensor:
    """What lies in memory of a tensor: of one that was int8, the int8."""
    maker = network.makers.get(name)
    if maker is not None and maker.op_type in FREE:
        return _stored(network, maker.input[0])
    return network.values[name]


def _traffic(network: Network) -> list[int]:
    """Bytes of activations that each node reads and writes; see Block.traffic."""
    moved = []
    for node in network.nodes:
        free = node.op_type in FREE or _in_passing(network, node) or not network.flows(node.output[0])
        read = [] if free else [name for name in dict.fromkeys(node.input) if network.flows(name)]
        written = [] if free else [_as_written(network, name) for name in node.output]
        tensors = [*(_stored(network, name) for name in read), *map(network.values.__getitem__, written)]
        moved.append(sum(tensor.bytes for tensor in tensors))
    return moved


def _as_written(network: Network, name: str) -> str:
    """What becomes of a tensor in passing, before it is written."""
    readers = network.readers.get(name, [])
    if len(readers) != 1 or name in network.outputs:
        return name
    on = readers[0].op_type in VIEWS or _in_passing(network, readers[0])
    return _as_written(network, readers[0].output[0]) if on else name


def _alive(network: Network) -> list[int]:
    """Bytes of the activations alive while each node runs; another shape of a tensor takes none."""
    place = {name: name for name in network.inputs}
    size = {name: network.values[name].bytes for name in network.inputs}
    first, last = dict.fromkeys(network.inputs, 0), dict.fromkeys(network.inputs, 0)
    for number, node in enumerate(network.nodes):
        if not network.flows(node.output[0]):
            continue
        for name in filter(network.flows, node.input):
            last[place[name]] = number
        passing = _in_passing(network, node)
        for name in filter(network.flows, node.output):
            where = place[name] = place[node.input[0]] if passing or node.op_type in FREE else name
            if node.op_type not in FREE:
                size[where] = network.values[name].bytes
            first.setdefault(where, number)
            last[where] = len(network.nodes) if name in network.outputs else number
    return [
        sum(size[where] for where in size if first[where] <= number <= last[where])
        for number in range(len(network.nodes))
    ]
