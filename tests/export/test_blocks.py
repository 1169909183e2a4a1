from __future__ import annotations

import math
import re

import numpy as np
import onnx
import pytest
from graphs import in_every_precision
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_weights
from onnx import TensorProto, helper, numpy_helper

from gaitedge.config import GaitPartConfig
from gaitedge.errors import BundleError, InputError
from gaitedge.export.blocks import COLUMNS, Block, Summary, examine, parse, rows
from gaitedge.export.graph import LETTER, Plan, build_frame_graph, build_graph, without_functions
from gaitedge.export.plan import layer_names
from gaitedge.weights import Weights

PAPER = GaitPartConfig()
PLANS = [
    Plan(fconv, micro_motion)
    for fconv in ("fold", "split", "plugin")
    for micro_motion in ("grouped", "per_part", "plugin")
]
NETWORKS = [Plan("network", head, "fp16") for head in ("grouped", "per_part", "plugin")]  # type: ignore[arg-type]
FRAME_NETWORK = [f"FConv{number}" for number in range(1, 7)]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights(PAPER, 0)


def by_name(summary: Summary) -> dict[str, Block]:
    return {block.name: block for block in summary.blocks}


def test_the_paper_s_network_in_figures(weights: Weights) -> None:
    """Table 1 and 2 by hand: 64x44 pixels, two max-pools; every weight of a Conv1d once a frame."""
    found = by_name(examine(build_graph(PAPER, weights)))
    assert list(found) == ["Input", *FRAME_NETWORK, "HP", "MTB1", "MTB2", "MTB1 + MTB2", "TP", "FC"]
    assert [str(value) for value in found["Input"].outputs] == ["fp32 [30, 1, 64, 44]"]
    pixels = [64 * 44, 64 * 44, 32 * 22, 32 * 22, 16 * 11, 16 * 11]
    kernels = [25 * 32, 9 * 32 * 32, 9 * 32 * 64, 9 * 64 * 64, 9 * 64 * 128, 9 * 128 * 128]
    assert [found[name].parameters for name in FRAME_NETWORK] == kernels
    assert [found[name].macs for name in FRAME_NETWORK] == [
        30 * size * kernel for size, kernel in zip(pixels, kernels, strict=True)
    ]
    assert sum(found[name].macs for name in FRAME_NETWORK) / 30 == pytest.approx(106e6, rel=1e-3)
    assert sum(found[name].parameters for name in FRAME_NETWORK) == 286_496
    head = (found["MTB1"], found["MTB2"])
    assert sum(block.parameters for block in head) == 655_360
    assert sum(block.macs for block in head) / 30 == 655_360  # 0.66 M a frame
    assert (found["FC"].parameters, found["FC"].macs) == (524_288, 524_288)
    assert [found[name].strips for name in FRAME_NETWORK] == [1, 1, 4, 4, 8, 8]


@pytest.mark.parametrize("plan", [*in_every_precision(PLANS), *NETWORKS], ids=str)
def test_every_plan_computes_as_much_and_in_all(plan: Plan, weights: Weights) -> None:
    graph = build_graph(PAPER, weights, plan)
    summary = examine(graph)
    total = summary.total
    assert total.macs == 3_202_039_808
    assert total.parameters == 1_466_144
    assert total.parameter_bytes == {plan.precision: 1_466_144 * (4 if plan.precision == "fp32" else 2)}
    for name in ("macs", "parameters", "traffic", "nodes"):
        assert sum(getattr(block, name) for block in summary.blocks) == getattr(total, name)
    assert max(block.peak for block in summary.blocks) == total.peak
    assert sum(total.operators.values()) == total.nodes == len(graph.graph.node)


def stated(config: GaitPartConfig, batch: int, frames: int) -> dict[str, tuple[int, int]]:
    """Block -> MACs and parameters, from the sizes of Tables 1 and 2."""
    found = {}
    for name, shape in config.shapes().items():
        block, size = name.partition(".")[0].upper(), math.prod(shape)
        if block == "FRAME":
            layer = int(name.partition(".")[2])
            macs = size * config.height(layer) * config.width(layer) * batch * frames
            found[f"FConv{layer + 1}"] = (macs, size)
        else:
            before = found.get(block, (0, 0))
            times = batch if block == "FC" else batch * frames
            found[block] = (before[0] + size * times, before[1] + size)
    return found


@settings(max_examples=30)
@given(configs(), st.sampled_from(PLANS), st.integers(1, 3), st.integers(1, 9))
def test_any_network_by_block(config: GaitPartConfig, plan: Plan, batch: int, frames: int) -> None:
    summary = examine(build_graph(config, random_weights(config, 0), plan), batch, frames)
    expected = stated(config, batch, frames)
    if plan.micro_motion == "plugin":  # MTBs, their sum, TP and FC in one
        head = [expected.pop(name) for name in ("MTB1", "MTB2", "FC") if name in expected]
        expected["TFA + FC"] = (sum(macs for macs, _ in head), sum(size for _, size in head))
    found = by_name(summary)
    assert {name: (b.macs, b.parameters) for name, b in found.items() if b.macs} == {
        name: figures for name, figures in expected.items() if figures[0]
    }
    assert [block.strips for name, block in found.items() if "FConv" in name] == list(config.strips)
    assert (summary.batch, summary.frames) == (batch, frames)
    assert [(v.count, v.type, v.shape) for v in summary.total.outputs] == [
        (1, "fp32", (batch, config.parts, config.embedding_dim))
    ]


def test_weights_that_are_quantised_are_int8(weights: Weights) -> None:
    names = layer_names(PAPER)
    scales = tuple((name, 0.5) for name in names if name != "mtb2.excite")
    summary = examine(build_graph(PAPER, weights, Plan(precision="fp16", scales=scales)))
    assert summary.total.parameter_bytes == {"int8": 1_466_144 - 196_608, "fp16": 2 * 196_608}
    assert by_name(summary)["MTB2"].parameter_bytes == {"int8": 196_608, "fp16": 2 * 196_608}
    assert list(by_name(summary)) == list(by_name(examine(build_graph(PAPER, weights))))


def test_the_plugins_are_blocks_of_the_paper(weights: Weights) -> None:
    """TFA is the MTBs, their sum and TP."""
    found = by_name(examine(build_graph(PAPER, weights, Plan("plugin", "plugin"))))
    assert list(found) == ["Input", *FRAME_NETWORK, "HP", "TFA + FC"]
    assert [found[name].operators for name in FRAME_NETWORK] == [{"GaitEdgeFocalConv": 1}] * 6
    assert found["TFA + FC"].operators == {"GaitEdgeMicroMotion": 1}


def test_fc_in_int8_stands_beside_the_plugin(weights: Weights) -> None:
    """What turns the plugin's result for FC belongs to FC."""
    found = by_name(examine(build_graph(PAPER, weights, Plan("plugin", "plugin", scales=(("fc", 0.5),)))))
    assert list(found)[-2:] == ["TFA", "FC"]
    assert found["TFA"].operators == {"GaitEdgeMicroMotion": 1}
    assert found["TFA"].parameters == 655_360
    assert found["FC"].operators["Transpose"] == 2


def test_the_frame_network_is_one_block(weights: Weights) -> None:
    """As many MACs and parameters as its FConvs have; its packed weights' padding and biases are none."""
    whole = by_name(examine(build_graph(PAPER, weights, Plan("network", "plugin", "fp16"))))
    assert [(name, block.nodes) for name, block in whole.items()] == [
        ("Input", 1),
        ("FPFE + HP", 1),
        ("TFA + FC", 1),
    ]
    block = whole["FPFE + HP"]
    assert block.operators == {"GaitEdgeFrameNetwork": 1}
    assert (block.macs, block.parameters) == (30 * 106_061_824, 286_496)
    assert block.parameter_bytes == {"fp16": 2 * 286_496}
    assert block.traffic == 2 * 30 * (64 * 44 + 16 * 128)  # halves in, halves out, and nothing between
    beside = by_name(examine(build_graph(PAPER, weights, Plan("network", "grouped", "fp16"))))
    assert list(beside) == ["Input", "FPFE + HP", "MTB1", "MTB2", "MTB1 + MTB2", "TP", "FC"]
    assert (beside["FPFE + HP"].macs, beside["MTB1"].parameters) == (block.macs, 262_144)


def test_fusing_moves_less(weights: Weights) -> None:
    """The same MACs for fewer bytes: the letter, folded, in plugins, in half the bytes."""
    plans = [LETTER, Plan(), Plan("plugin", "plugin"), Plan("plugin", "plugin", "fp16")]
    moved = [examine(build_graph(PAPER, weights, plan)).total.traffic for plan in plans]
    assert moved == sorted(moved, reverse=True)
    assert moved[2] < 0.6 * moved[1] < 0.6 * 0.7 * moved[0]


def small(*nodes: onnx.NodeProto, output: str) -> onnx.ModelProto:
    """A graph of some nodes over silhouettes, with a kernel of 2 channels."""
    kernel = numpy_helper.from_array(np.zeros((2, 1, 3, 3), np.float32), "kernel")
    sizes = numpy_helper.from_array(np.array([-1, 1, 64, 44]), "sizes")
    scale, zero = numpy_helper.from_array(np.float32(1), "s"), numpy_helper.from_array(np.int8(0), "z")
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("silhouettes", TensorProto.UINT8, ["batch", "frames", 64, 44])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [kernel, sizes, scale, zero],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


IMAGE = [
    node("Reshape", "silhouettes sizes", "frames"),
    node("Cast", "frames", "pixels", to=TensorProto.FLOAT),
]
CONV = node("Conv", "pixels kernel", "fconv1", pads=[1, 1, 1, 1])
POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
PIXELS = 64 * 44  # of one frame


def test_traffic_and_peak_by_hand() -> None:
    """Of 3 frames: a byte a pixel is read, 4 are written; the LeakyReLU costs nothing, the pool does."""
    relu, pool = (
        node("LeakyRelu", "fconv1", "fconv1.relu"),
        node("MaxPool", "fconv1.relu", "fconv1.pool", **POOL),
    )
    summary = examine(small(*IMAGE, CONV, relu, pool, output="fconv1.pool"), frames=3)
    image, fconv = summary.blocks
    map_, pooled = 2 * 4 * 3 * PIXELS, 2 * 4 * 3 * PIXELS // 4
    assert image.traffic == image.peak == 3 * PIXELS * (1 + 4)
    assert fconv.traffic == (3 * PIXELS * 4 + map_) + (map_ + pooled)
    assert fconv.peak == map_ + max(3 * PIXELS * 4, pooled)
    assert fconv.intensity == pytest.approx(3 * PIXELS * 18 / (fconv.traffic + 18 * 4))
    assert fconv.operators == {"Conv": 1, "LeakyRelu": 1, "MaxPool": 1}


def test_a_second_reader_is_not_done_in_passing() -> None:
    """Where the map is read beside the LeakyReLU too, both it and the LeakyReLU's result are written."""
    relu = node("LeakyRelu", "fconv1", "fconv1.relu")
    both = node("Add", "fconv1 fconv1.relu", "fconv1.sum")
    fconv = examine(small(*IMAGE, CONV, relu, both, output="fconv1.sum"), frames=1).blocks[1]
    map_ = 2 * 4 * PIXELS
    assert fconv.traffic == (4 * PIXELS + map_) + 2 * map_ + 3 * map_
    assert fconv.peak == 3 * map_


def test_what_was_quantised_lies_in_memory_as_int8() -> None:
    chain = [
        node("QuantizeLinear", "fconv1 s z", "fconv2.input.quantize"),
        node("DequantizeLinear", "fconv2.input.quantize s z", "fconv2.input"),
        node("MaxPool", "fconv2.input", "fconv2.pool", **POOL),
    ]
    blocks = by_name(examine(small(*IMAGE, CONV, *chain, output="fconv2.pool"), frames=1))
    assert blocks["FConv1"].traffic == 4 * PIXELS + 2 * PIXELS
    assert blocks["FConv2"].traffic == 2 * PIXELS + 2 * PIXELS  # a quarter of the values, of 4 bytes


def test_the_frame_graph_ends_with_hp(weights: Weights) -> None:
    summary = examine(build_frame_graph(PAPER, weights), frames=7)
    assert [block.name for block in summary.blocks] == ["Input", *FRAME_NETWORK, "HP"]
    assert summary.total.macs == 7 * 106_061_824
    assert summary.total.outputs[0].shape == (1, 7, 16, 128)


def test_rows_are_the_blocks_and_their_sum(weights: Weights) -> None:
    table = rows(examine(build_graph(PAPER, weights, LETTER)))
    assert all(len(row) == len(COLUMNS) for row in table)
    assert [row[0] for row in table[3:5]] == ["FConv3, p = 4", "FConv4, p = 4"]
    assert table[7][-1] == "16 × fp32 [1, 128, 1, 30]"
    assert table[-1][:4] == ["total", 375, "3,202.04", "1,466,144"]
    assert table[-2][2:5] == ["0.52", "524,288", "2,097.2"]


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(BundleError, match=r"the graph in x\.gait is no ONNX model"):
        parse(b"no graph", "x.gait")


def test_graphs_that_say_too_little_are_refused(weights: Weights) -> None:
    plugins = without_functions(build_graph(PAPER, weights, Plan("plugin")))
    with pytest.raises(InputError, match="'fconv1', GaitEdgeFocalConv"):
        examine(plugins)
    with pytest.raises(InputError, match="1 frame or more, not 1 and 0"):
        examine(build_graph(PAPER, weights), frames=0)
    for frames in (2**31, 2**63 - 1, 10**20):
        with pytest.raises(InputError, match=rf"^1 sequences of {frames} frames are more than 2147483647"):
            examine(build_graph(PAPER, weights), frames=frames)
    other = small(*IMAGE, CONV, output="fconv1")
    other.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "length"
    with pytest.raises(InputError, match="which shape its tensor 'silhouettes' has"):
        examine(other)
    with pytest.raises(InputError, match="none of GaitPart"):
        examine(parse(b"", "nothing"))
    wrong = small(*IMAGE, node("Conv", "frames kernel", "fconv1"), output="fconv1")
    with pytest.raises(InputError, match=r"shapes cannot be told: .*Conv"):
        examine(wrong)


def test_a_graph_with_its_own_sizes_keeps_them() -> None:
    fixed = small(*IMAGE, CONV, output="fconv1")
    for size, value in zip(fixed.graph.input[0].type.tensor_type.shape.dim, (2, 5, 64, 44), strict=True):
        size.dim_value = value
    summary = examine(fixed, batch=1, frames=30)
    assert (summary.batch, summary.frames) == (2, 5)
    assert re.fullmatch(r"fp32 \[10, 2, 64, 44\]", str(summary.total.outputs[0]))
