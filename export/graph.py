"""The ONNX graph of a GaitPart network, written straight from its configuration and NumPy weights.

One writer, several plans: the paper's letter and the fused forms are the same code with other
choices, so every speed-up is measured against the letter, and every plan is tested against the
PyTorch model. Nothing is traced and PyTorch is not imported: a device can export by itself.

Input `silhouettes`, uint8 [batch, frames, 64, 44], 0 to 255; the division by 255 is folded into the
first convolution. Output `embeddings`, float32 [batch, parts, dim]. Batch and frames are dynamic.

1-D convolutions over time are written as 4-D ones over [1, frames]: TensorRT's parser would wrap
the 1-D kind into a squeeze and an unsqueeze each.

`plan.py` says what can be chosen, `frame_network.py` and `temporal_head.py` write the network's two
halves, `writer.py` the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaitedge import __version__
from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.frame_network import write_frame_network
from gaitedge.export.plan import LETTER, Plan, bias_shapes
from gaitedge.export.temporal_head import write_temporal_head
from gaitedge.export.writer import PLUGIN_DOMAIN, Writer
from gaitedge.weights import check_weights

if TYPE_CHECKING:
    from onnx import ModelProto

    from gaitedge.weights import Weights

__all__ = ["LETTER", "Plan", "build_frame_graph", "build_graph", "without_functions"]

_IR_VERSIONS = {17: 8, 19: 9, 22: 10}  # of the ONNX that brought each opset


def build_graph(
    config: GaitPartConfig,
    weights: Weights,
    plan: Plan | None = None,
    biases: Mapping[str, NDArray[np.float32]] | None = None,
) -> ModelProto:
    """Write the network as an ONNX model, `silhouettes` → `embeddings`.

    biases: layer -> what is added to each of its output channels, which GaitPart itself does without: a
    correction of what rounding shifts. Names as layer_names gives them; [channels] of an FConv, [parts,
    channels] of the others, either of them flat if need be.
    Raises WeightsError where the weights are not those of the configuration, InputError where the plan
    has a scale, or there is a bias, for a layer that is not there, a bias has another length, is not
    finite or is for a plugin that takes none, a plugin has no kernel for the network or the precision, or
    a weight is beyond the plan's precision.
    """
    plan = plan or Plan()
    writer = _writer(config, weights, plan, biases)
    rows = plan.micro_motion != "plugin"
    features = write_frame_network(writer, config, weights, plan, rows=rows)
    write_temporal_head(writer, config, weights, plan, features)
    sizes = ("batch", config.parts, config.embedding_dim)
    return _model(writer, plan, "GaitPart", "embeddings", sizes)


def build_frame_graph(
    config: GaitPartConfig,
    weights: Weights,
    plan: Plan | None = None,
    biases: Mapping[str, NDArray[np.float32]] | None = None,
) -> ModelProto:
    """Write the network up to HP (Eq. 2), for frames that come one by one: `silhouettes` →
    `part_features`, float32 [batch, frames, parts, C].

    Takes and raises what build_graph does; scales and biases of later layers have no effect.
    """
    plan = plan or Plan()
    writer = _writer(config, weights, plan, biases)
    features = write_frame_network(writer, config, weights, plan, rows=False)
    writer.to_float32(features, f"{features}.float32")
    sizes = ("batch", "frames", config.parts, config.features)
    return _model(writer, plan, "GaitPart frames", "part_features", sizes)


def without_functions(model: ModelProto) -> ModelProto:
    """A copy whose plugin nodes have no functions behind them: what TensorRT is given.

    Its parser looks for a function by the operator's name alone, and would take one FConv's for all, and
    any before a plugin. All plugin nodes are then in one domain.
    """
    from onnx import ModelProto, helper

    bare = ModelProto()
    bare.CopyFrom(model)
    domains = {function.domain for function in bare.functions}
    if not domains:
        return bare
    for node in bare.graph.node:
        if node.domain in domains:
            node.domain = PLUGIN_DOMAIN
    kept = [entry for entry in model.opset_import if entry.domain not in domains]
    del bare.functions[:], bare.opset_import[:]
    bare.opset_import.extend([*kept, helper.make_opsetid(PLUGIN_DOMAIN, 1)])
    return bare


def _writer(
    config: GaitPartConfig,
    weights: Weights,
    plan: Plan,
    biases: Mapping[str, NDArray[np.float32]] | None,
) -> Writer:
    check_weights(config, weights, "these weights")
    plan.check(config)
    return Writer(plan, _checked(config, plan, biases or {}))


def _checked(
    config: GaitPartConfig, plan: Plan, biases: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """The biases in the shapes of bias_shapes, or InputError."""
    shapes = bias_shapes(config)
    checked = {}
    for layer, bias in biases.items():
        if layer not in shapes:
            raise InputError(f"no layer {layer!r} to add a bias to; there are: {', '.join(shapes)}")
        if not plan.takes_bias(layer):
            raise InputError(f"{layer} is inside a plugin, which takes no bias; write it in another form")
        array = np.asarray(bias, dtype=np.float32)
        if array.shape != shapes[layer] and array.shape != (math.prod(shapes[layer]),):
            raise InputError(f"the bias of {layer} is {list(array.shape)}, must be {list(shapes[layer])}")
        if not np.isfinite(array).all():
            raise InputError(f"the bias of {layer} holds NaN or infinite values")
        checked[layer] = array.reshape(shapes[layer])
    return checked


def _model(writer: Writer, plan: Plan, name: str, output: str, sizes: tuple[str | int, ...]) -> ModelProto:
    """The model of what was written; what its last node gives, in float32, is the output."""
    from onnx import TensorProto, helper

    writer.nodes[-1].output[0] = output
    silhouettes: tuple[str | int, ...] = ("batch", "frames", HEIGHT, WIDTH)
    graph = helper.make_graph(
        writer.nodes,
        name,
        [helper.make_tensor_value_info("silhouettes", TensorProto.UINT8, silhouettes)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, sizes)],
        writer.constants,
    )
    functions = writer.functions
    return helper.make_model(
        graph,
        functions=functions,
        producer_name="gaitedge",
        producer_version=__version__,
        opset_imports=[
            helper.make_opsetid("", plan.opset),
            *(helper.make_opsetid(function.domain, 1) for function in functions),
        ],
        ir_version=_IR_VERSIONS[plan.opset],
    )
