"""A graph's blocks as a picture in text, from the silhouettes down to the embeddings.

Every line is read off the graph: what its nodes compute, and what they give to the next ones.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaitedge.export.blocks import Block, examine
from gaitedge.export.network import IN_PASSING, VIEWS, Network

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["WIDTH", "draw"]

WIDTH = 96  # of the picture
GAP = 2  # between boxes side by side

_NUMBERED = re.compile(r"^part\d+\.|(?<=strip)\d+|(?<=part)\d+")
_WORDS = {"LeakyRelu": "LeakyReLU", "Sigmoid": "sigmoid", "Mul": "multiply", "Div": "divide", "Add": "add"}
_REDUCTIONS = {"ReduceMax": "maximum", "ReduceMean": "mean"}
_MOVES = frozenset({*VIEWS, "Transpose", "Split", "Concat", "Slice", "Gather", "Cast", "Constant", "Shape"})


@dataclass(frozen=True)
class _Box:
    """A block as it is drawn."""

    title: str
    figures: str
    lines: Sequence[tuple[str, str]]
    """What is done, and what comes of it."""


def draw(model: ModelProto, batch: int = 1, frames: int = 30) -> list[str]:
    """The picture, as lines of at most 96 columns.

    A box is a block: what is computed, and at the right what comes of it, such as fp32 [120, 64, 8, 22]
    for 30 frames in 4 strips. "16 × …" are tensors side by side, one a part or a strip. Raises InputError
    as Network does.
    """
    network = Network(model, batch, frames)
    sources = _sources(network)
    levels = _levels(sources)
    boxes = {block.name: _box(network, block) for block in examine(model, batch, frames).blocks}
    middle = WIDTH // 2
    lines = [*(_ending(network, name) for name in network.inputs), _put("│", middle)]
    above, before = [middle], set[str]()
    for names in levels:
        width = (WIDTH - GAP * (len(names) - 1)) // len(names)
        middles = [number * (width + GAP) + width // 2 for number in range(len(names))]
        if len(above) > 1 or len(middles) > 1:
            lines.append(_branches(above, middles))
        filled = []
        for name in names:
            # Blocks that follow each other are joined by a line; what comes from elsewhere is said.
            others = sources[name] != before and before | sources[name]
            note = [(f"reads {', '.join(sorted(sources[name]))}", "")] if others else []
            filled.append(_filled(boxes[name], note, width))
        height = max(map(len, filled))
        drawn = [
            _framed(boxes[name], text + [""] * (height - len(text)), width)
            for name, text in zip(names, filled, strict=True)
        ]
        lines += [(" " * GAP).join(row) for row in zip(*drawn, strict=True)]
        above, before = middles, set(names)
    if len(above) > 1:
        lines.append(_branches(above, [middle]))
    return [*lines, _put("│", middle), *(_ending(network, name) for name in network.outputs)]


# What there is to draw ----------------------------------------------------------------------------


def _sources(network: Network) -> dict[str, set[str]]:
    """Block -> the blocks that it reads."""
    found: dict[str, set[str]] = {}
    for node in network.nodes:
        own = found.setdefault(network.block(node), set())
        for name in filter(network.flows, node.input if network.flows(node.output[0]) else ()):
            own |= {network.block(network.makers[name])} if name in network.makers else set()
    return {name: blocks - {name} for name, blocks in found.items()}


def _levels(sources: dict[str, set[str]]) -> list[list[str]]:
    """Blocks by how many are above them. Two stand side by side, more would be too narrow."""
    level = dict.fromkeys(sources, 0)
    for _ in sources:
        for name, blocks in sources.items():
            level[name] = min(max((level[block] + 1 for block in blocks), default=0), len(sources))
    rows = [[name for name in sources if level[name] == each] for each in sorted(set(level.values()))]
    return [row for names in rows for row in ([names] if len(names) < 3 else [[name] for name in names])]


def _box(network: Network, block: Block) -> _Box:
    figures = [_short(block.macs) + " MAC"] if block.macs else []
    figures += [f"{block.parameters:,} parameters"] if block.parameters else []
    title = block.name + (f" · p = {block.strips}" if block.strips else "")
    lines: list[tuple[list[str], str]] = []
    nodes = [
        node for node in network.nodes if network.block(node) == block.name and network.flows(node.output[0])
    ]
    for text, along, outputs in _steps(network, nodes):
        shape = ", ".join(map(str, network.together(outputs)))
        if lines and lines[-1][1] == shape and along:
            lines[-1][0].append(text)
        else:
            lines.append(([text], shape))
    return _Box(title, " · ".join(figures), [(" · ".join(texts), shape) for texts, shape in lines])


def _steps(network: Network, nodes: Sequence[NodeProto]) -> list[tuple[str, bool, list[str]]]:
    """What is done, whether that is value by value, and the tensors that come of it.

    What is done alike to every part or strip is one step.
    """
    alike: dict[tuple[str, str], list[NodeProto]] = {}
    for node in nodes:
        alike.setdefault((node.op_type, _NUMBERED.sub("", node.name)), []).append(node)
    sums = _sums(network, nodes)
    hidden = {name for made in sums.values() for name in made}
    steps = []
    for same in alike.values():
        first, outputs = same[0], [name for node in same for name in node.output]
        readers = {reader.op_type for reader in network.readers.get(first.output[0], [])}
        if first.op_type == "QuantizeLinear" and readers == {"DequantizeLinear"}:
            hidden.add(first.output[0])
        if first.op_type in VIEWS or first.output[0] in hidden:
            continue
        if first.op_type == "Transpose":
            outputs = [_seen_as(network, name) for name in outputs]
        summed = first.output[0] in sums
        along = first.op_type in (*IN_PASSING, *_WORDS, "DequantizeLinear") and not summed
        steps.append((_words(network, first, summed), along, outputs))
    return steps


def _sums(network: Network, nodes: Iterable[NodeProto]) -> dict[str, list[str]]:
    """Average plus maximum: output of the addition -> outputs of the two pools."""
    found = {}
    for node in nodes:
        makers = [network.makers[name] for name in node.input if name in network.makers]
        if node.op_type == "Add" and {maker.op_type for maker in makers} == {"AveragePool", "MaxPool"}:
            found[node.output[0]] = [*node.input]
    return found


def _words(network: Network, node: NodeProto, sums: bool = False, strips: int = 1) -> str:
    """What a node does. sums: whether it adds an average to a maximum; strips: in how many a convolution."""
    op = node.op_type
    taken = network.values[node.input[0]]
    made = network.values[node.output[0]]
    if sums:
        return f"average + maximum of {_window(network.makers[node.input[0]])}"
    if op == "Conv":
        weight = network.values[node.input[1]].shape
        groups = taken.shape[1] // weight[1]
        stored = {each.type for each in network.weights_of(node).values()} - {made.type}
        text = f"Conv {weight[2]}×{weight[3]}, {taken.shape[1]} → {weight[0]}"
        text += f", {groups} groups" if groups > 1 else ""
        text += f", {strips} strips" if strips > 1 else ""
        return text + "".join(f", {kind} weights" for kind in sorted(stored))
    if op in ("MatMul", "Gemm"):
        return f"MatMul {taken.shape[-1]} → {made.shape[-1]}"
    if op in ("MaxPool", "AveragePool"):
        return f"{op} {_window(node)}"
    if op in _REDUCTIONS:
        many = taken.elements // made.elements
        return f"{_REDUCTIONS[op]} over {many} frame{'s' if many > 1 else ''}"
    if op == "DequantizeLinear":
        return f"through {taken.type}"
    if op in ("Cast", "QuantizeLinear"):
        return f"to {made.type}"
    if op == "Concat":
        return f"join {len(node.input)}"
    if op == "Split":
        axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
        rows = " rows" if axis == 2 else " channels" if axis == 1 else ""
        return f"cut into {len(node.output)} of {network.together(node.output)[0].shape[axis]}{rows}"
    if op == "Transpose":
        return _move(network, node)
    if node.domain:
        return f"{op} plugin: " + ", ".join(_inside(network, node))
    return _WORDS.get(op, op)


def _inside(network: Network, node: NodeProto) -> list[str]:
    """What a plugin computes, without how its function moves data about."""
    nodes = network.inside[network.nodes.index(node)]
    sums = _sums(network, nodes)
    hidden = {name for made in sums.values() for name in made}
    # Of one FConv the block's title tells the strips.
    images = network.batch * network.frames if not network.block(node).startswith("FConv") else 0
    words = [
        _words(network, each, each.output[0] in sums, _strips(network, each, images))
        for each in nodes
        if each.op_type not in _MOVES and network.flows(each.output[0]) and each.output[0] not in hidden
    ]
    return [word for word, _ in itertools.groupby(words)]


def _strips(network: Network, node: NodeProto, images: int) -> int:
    """In how many strips of each image a convolution has its input in the batch; 1 of no images."""
    return network.values[node.output[0]].shape[0] // images if images and node.op_type == "Conv" else 1


def _move(network: Network, node: NodeProto) -> str:
    """A transposition between two reshapes moves strips or frames into the batch or out of it."""
    maker = network.makers.get(node.input[0])
    source = maker.input[0] if maker is not None and maker.op_type in VIEWS else node.input[0]
    before, after = network.values[source].shape, network.values[_seen_as(network, node.output[0])].shape
    images = network.batch * network.frames
    have, want = before[0] // images, after[0] // images
    if len(before) == len(after) == 4 and before[1] == after[1] and have != want and have * want:
        return f"{'fold' if want > have else 'unfold'} {have} → {want} strips in the batch"
    if before[0] % images == 0 and (after[0], after[-1]) == (network.batch, network.frames):
        return "frames from the batch to the end"
    permutation = next((list(each.ints) for each in node.attribute if each.name == "perm"), [])
    return f"transpose {permutation}"


def _seen_as(network: Network, name: str) -> str:
    """The shape in which the next node reads a tensor."""
    readers = network.readers.get(name, [])
    return readers[0].output[0] if len(readers) == 1 and readers[0].op_type in VIEWS else name


def _window(node: NodeProto) -> str:
    sizes = next(each.ints for each in node.attribute if each.name == "kernel_shape")
    return "×".join(map(str, sizes))


def _short(count: float) -> str:
    for unit in ("", " k", " M"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:,.2f} G"


# Lines --------------------------------------------------------------------------------------------


def _filled(box: _Box, note: list[tuple[str, str]], width: int) -> list[str]:
    """The lines within a box: what is done at the left, what comes of it at the right."""
    inner = width - 4
    figures = [] if _fits(box, width) or not box.figures else [("", box.figures)]
    filled = []
    for text, right in (*note, *box.lines, *figures):
        lines = textwrap.wrap(text, inner) or [""]
        if len(lines[-1]) + 2 + len(right) > inner:
            lines.append("")
        lines[-1] = lines[-1].ljust(inner - len(right)) + right
        filled += lines
    return filled


def _fits(box: _Box, width: int) -> bool:
    """Whether the figures stand beside the title and leave the middle free."""
    return max(len(box.title), len(box.figures)) + 6 < width // 2


def _framed(box: _Box, filled: list[str], width: int) -> list[str]:
    """A box of lines, with the way in above and the way out below."""
    top = list("┌" + "─" * (width - 2) + "┐")
    top[2 : 4 + len(box.title)] = f" {box.title} "
    if box.figures and _fits(box, width):
        top[-4 - len(box.figures) : -2] = f" {box.figures} "
    top[width // 2] = "┴"
    bottom = "└" + "─" * (width // 2 - 1) + "┬" + "─" * (width - width // 2 - 2) + "┘"
    return ["".join(top), *(f"│ {line.ljust(width - 4)} │" for line in filled), bottom]


def _branches(above: Sequence[int], below: Sequence[int]) -> str:
    """A line from the boxes above, by their middles, to those below."""
    places = {*above, *below}
    first, last = min(places), max(places)
    signs = {(True, False): "┴", (False, True): "┬", (True, True): "┼", (False, False): "─"}
    line = [" "] * first + [signs[place in above, place in below] for place in range(first, last + 1)]
    line[first] = {"┴": "└", "┬": "┌", "┼": "├"}[line[first]]
    line[last] = {"┴": "┘", "┬": "┐", "┼": "┤"}[line[last]]
    return "".join(line)


def _ending(network: Network, name: str) -> str:
    text = f"{name}  {network.together([name])[0]}"
    return _put(text, (WIDTH - len(text)) // 2)


def _put(text: str, column: int) -> str:
    return " " * column + text
