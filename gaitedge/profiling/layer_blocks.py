"""Whose time is it? What a runtime's layers take, mapped to the blocks of the paper that they compute."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gaitedge.bundle import Bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import graph_for
from gaitedge.engines.timing import LayerTime
from gaitedge.errors import InputError
from gaitedge.export.blocks import Block as Counted
from gaitedge.export.blocks import examine, parse
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.network import MULTIPLYING, VIEWS, Network
from gaitedge.profiling.document import Block, Layer, Roofline

if TYPE_CHECKING:
    from onnx import ModelProto

    from gaitedge.export.plan import FConvForm, GraphPrecision, MicroMotionForm

__all__ = ["OTHER", "graph_of", "in_bf16", "tells_bytes", "to_blocks", "to_layers"]

OTHER = "other"
"""The block of what is of none."""
_LIGHT = VIEWS | {"Cast", "QuantizeLinear", "DequantizeLinear"}


def graph_of(bundle: Bundle, engine: str, precision: str, nodes: Iterable[str]) -> ModelProto:
    """The graph that an engine was made from, as it computes it.

    nodes: those that its layers name: the CUDA kernels are made from no graph, and theirs tell which of our
    plugins' graphs they would be. Raises BundleError where the bundle holds none, InputError for an engine
    of another name.
    """
    if engine in ("openvino", "onnxruntime"):
        member, _ = graph_for(bundle, engine, precision)
        graph = parse(bundle.read(member), str(bundle.path))
        if engine == "openvino" and precision != "fp32":
            from gaitedge.engines.openvino import has_bf16

            return in_bf16(graph) if has_bf16() else graph
        return graph
    if engine == "cuda":
        form: FConvForm = "network" if "network" in nodes else "plugin"
        return _with_plugins(bundle, form, "plugin", "fp32" if precision == "fp32" else "fp16")
    if engine != "tensorrt":
        raise InputError(f"no layers are known of the engine {engine!r}")
    target = bundle.manifest.target("tensorrt", precision)
    if target is None or target.build is None:
        raise InputError(f"{bundle.path} holds no TensorRT engine in {precision}")
    graph = parse(bundle.read(target.build.graph), str(bundle.path))
    plugins = {node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")}
    if not plugins:
        return graph
    # The graph that TensorRT is given does not say what its plugins compute.
    one, each = "GaitEdgeFrameNetwork" in plugins, "GaitEdgeFocalConv" in plugins
    return _with_plugins(
        bundle,
        "network" if one else "plugin" if each else "fold",
        "plugin" if "GaitEdgeMicroMotion" in plugins else "grouped",
        "fp32" if precision == "fp32" else "fp16",
    )


def tells_bytes(graph: ModelProto, precision: str) -> bool:
    """Whether graph_of's tensors have the types in which the engine moves them.

    Our kernels' graphs are written in floating point alone, and they keep in int8 what it has in FP16.
    """
    return precision not in ("int8", "fp8") or all(
        node.domain in ("", "ai.onnx") for node in graph.graph.node
    )


def _with_plugins(
    bundle: Bundle, fconv: FConvForm, micro_motion: MicroMotionForm, precision: GraphPrecision
) -> ModelProto:
    return build_graph(bundle.config, bundle.weights(), Plan(fconv, micro_motion, precision))


def in_bf16(graph: ModelProto) -> ModelProto:
    """The graph as OpenVINO runs it in BF16: two bytes where it has float32. Weights lose their values."""
    from onnx import ModelProto, TensorProto, helper

    short = ModelProto()
    short.CopyFrom(graph)
    for weight in short.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            weight.CopyFrom(TensorProto(name=weight.name, dims=weight.dims, data_type=TensorProto.BFLOAT16))
    for value in short.graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    del short.graph.value_info[:]
    for node in short.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.BFLOAT16
    opset = Plan(precision="bf16").opset
    del short.opset_import[:]
    short.opset_import.append(helper.make_opsetid("", opset))
    return short


def to_layers(
    network: Network, config: GaitPartConfig, times: Sequence[LayerTime], calls: int
) -> list[Layer]:
    """Each layer with its block and its time of a call. times: summed over `calls`."""
    numbers = {node.name: number for number, node in enumerate(network.nodes)}

    def block(time: LayerTime) -> str:
        known = sorted(numbers[name] for name in time.nodes or time.feeds if name in numbers)
        # What it multiplies for is what takes the time; what is no work at all tells the least.
        heavy = [number for number in known if _multiplies(network, number)]
        busy = [number for number in known if network.nodes[number].op_type not in _LIGHT]
        titles = [network.block(network.nodes[number]) for number in heavy or busy or known]
        return _joined(config, titles) if titles else OTHER

    return [
        Layer(time.name, time.kind, block(time), time.precision, max(time.ms, 0.0) / calls if calls else 0.0)
        for time in times
    ]


def to_blocks(
    model: ModelProto,
    network: Network,
    config: GaitPartConfig,
    layers: Sequence[Layer],
    times: Sequence[LayerTime],
    roofline: Roofline | None,
    bytes_told: bool = True,
) -> list[Block]:
    """The layers of each block summed up, in the order of the paper, with what it computes and moves.

    Blocks that one layer multiplies for together are one. A block of the graph that no layer is of, for its
    work is done in passing by others, has no time. bytes_told: whether the model's tensors are as wide as
    those that are moved; else no bytes are told, and no share of the roofline.
    """
    counted = {block.name: block for block in examine(model, network.batch, network.frames).blocks}
    group = _groups(network, config, layers, times, counted)
    whole = sum(layer.ms for layer in layers)
    blocks = []
    whose = [group.get(layer.block, layer.block) for layer in layers]
    for name in dict.fromkeys([*group.values(), *whose]):
        mine = [number for number, one in enumerate(whose) if one == name]
        parts = [block for title, block in counted.items() if group[_joined(config, [title])] == name]
        ms = sum((layers[number].ms for number in mine), 0.0)
        macs = sum(part.macs for part in parts) if parts else None
        moved = None
        if parts and bytes_told:
            moved = sum(part.traffic + sum(part.parameter_bytes.values()) for part in parts)
        products = {layers[number].precision for number in mine if _has_product(network, times[number])}
        share, bound = _of_roofline(ms, macs, moved, products, roofline)
        blocks.append(Block(name, ms, ms / whole if whole else 0.0, macs, moved, share, bound))
    return blocks


def _groups(
    network: Network,
    config: GaitPartConfig,
    layers: Sequence[Layer],
    times: Sequence[LayerTime],
    counted: dict[str, Counted],
) -> dict[str, str]:
    """Block of the graph, or of a layer -> the block of the profile that it is in."""
    owner = {name: layer.block for layer, time in zip(layers, times, strict=True) for name in time.nodes}
    sets: list[set[str]] = []
    for title, block in counted.items():
        together = {_joined(config, [title])}
        if block.macs:
            nodes = [node for node in network.nodes if network.block(node) == title]
            multiplying = [node for node in nodes if _multiplies(network, network.nodes.index(node))]
            together |= {owner[node.name] for node in multiplying if node.name in owner}
        for other in [one for one in sets if one & together]:
            sets.remove(other)
            together |= other
        sets.append(together)
    order = [_joined(config, [title]) for title in counted]
    found = {}
    for title in order:
        (together,) = (one for one in sets if title in one)
        found[title] = _joined(config, [*(one for one in order if one in together), *sorted(together)])
    for together in sets:
        whole = next(found[title] for title in order if title in together)
        found |= dict.fromkeys(together, whole)
    return found


def _joined(config: GaitPartConfig, titles: Iterable[str]) -> str:
    """Blocks' names as one, each once, in the order of the paper."""
    order = [
        "Input",
        *(f"FConv{layer + 1}" for layer in range(len(config.strips))),
        "HP",
        "MTB1",
        "MTB2",
        "TP",
        "FC",
    ]
    whole = {
        "FPFE": [name for name in order if name.startswith("FConv")],
        "TFA": [*(f"MTB{template}" for template in config.templates), "TP"],
    }
    names = {one for title in titles for part in title.split(" + ") for one in whole.get(part, [part])}
    return " + ".join([*(name for name in order if name in names), *sorted(names.difference(order))])


def _multiplies(network: Network, number: int) -> bool:
    return any(node.op_type in MULTIPLYING for node in network.inside[number])


def _has_product(network: Network, time: LayerTime) -> bool:
    named = set(time.nodes)
    return any(
        node.name in named and _multiplies(network, number) for number, node in enumerate(network.nodes)
    )


def _of_roofline(
    ms: float,
    macs: int | None,
    moved: int | None,
    products: set[str | None],
    roofline: Roofline | None,
) -> tuple[float | None, str | None]:
    """The share of the roofline that a block reaches, and which part of it that is.

    None where there is nothing to compare, or it multiplies in another type than the roofline's.
    """
    if roofline is None or ms <= 0 or macs is None or not moved:
        return None, None
    by_memory = moved / roofline.bytes_per_second * 1e3
    if macs and products != {roofline.precision}:
        return None, None
    by_arithmetic = macs / roofline.macs_per_second * 1e3
    return max(by_memory, by_arithmetic) / ms, "compute" if by_arithmetic >= by_memory else "memory"
