"""The ONNX graph of a GaitPart network, written straight from its configuration and NumPy weights.

One writer, several plans: the paper's letter and the fused forms are the same code with other
choices, so every speed-up is measured against the letter, and every plan is tested against the
PyTorch model. Nothing is traced and PyTorch is not imported: a device can export by itself.

Input `silhouettes`, uint8 [batch, frames, 64, 44], 0 to 255; the division by 255 is folded into the
first convolution. Output `embeddings`, float32 [batch, parts, dim]. Batch and frames are dynamic.

1-D convolutions over time are written as 4-D ones over [1, frames]: TensorRT's parser would wrap
the 1-D kind into a squeeze and an unsqueeze each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gaitedge import __version__
from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig, strip_heights
from gaitedge.errors import InputError
from gaitedge.weights import check_weights

if TYPE_CHECKING:
    from onnx import ModelProto

    from gaitedge.weights import Weights

__all__ = ["LETTER", "Plan", "build_graph"]

OPSET, IR_VERSION = 17, 8  # the newest that TensorRT 8.6 reads
SLOPE = 0.01  # of every LeakyReLU


@dataclass(frozen=True)
class Plan:
    """How the network is written down."""

    fconv: Literal["fold", "split"] = "fold"
    """fold: the strips of an FConv become a part of the batch, and stay so as long as the number of
    strips does; split: every strip is cut out, convolved and joined again (Fig. 3b), and so are, in
    either, strips of unequal height."""
    micro_motion: Literal["grouped", "per_part"] = "grouped"
    """grouped: all parts' MCMs in grouped convolutions; per_part: every part's by itself (Fig. 5)."""

    def __post_init__(self) -> None:
        if self.fconv not in ("fold", "split"):
            raise InputError(f"fconv must be 'fold' or 'split', not {self.fconv!r}")
        if self.micro_motion not in ("grouped", "per_part"):
            raise InputError(f"micro_motion must be 'grouped' or 'per_part', not {self.micro_motion!r}")


LETTER = Plan("split", "per_part")
"""The letter of the paper: the naive baseline."""


def build_graph(config: GaitPartConfig, weights: Weights, plan: Plan | None = None) -> ModelProto:
    """Write the network as an ONNX model of opset 17.

    Raises WeightsError where the weights are not those of the configuration.
    """
    from onnx import TensorProto, helper

    plan = plan or Plan()
    check_weights(config, weights, "these weights")
    writer = _Writer()
    frames = writer.add("Reshape", "silhouettes", writer.shape(-1, 1, HEIGHT, WIDTH), name="frames")
    pixels = writer.add("Cast", frames, name="pixels", to=TensorProto.FLOAT)
    features = _frame_network(writer, config, weights, plan, pixels)
    embeddings = _temporal_head(writer, config, weights, plan, features)
    writer.nodes[-1].output[0] = embeddings = "embeddings"
    graph = helper.make_graph(
        writer.nodes,
        "GaitPart",
        [helper.make_tensor_value_info("silhouettes", TensorProto.UINT8, ["batch", "frames", HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info(
                embeddings, TensorProto.FLOAT, ["batch", config.parts, config.embedding_dim]
            )
        ],
        writer.constants,
    )
    return helper.make_model(
        graph,
        producer_name="gaitedge",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


class _Writer:
    """Collects nodes and constants; every tensor is named after the node that makes it."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: set[str] = set()

    def add(self, op: str, *inputs: str, name: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; returns its output's name, or a list of them where there are several."""
        from onnx import helper

        names = [name] if outputs == 1 else [f"{name}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """A constant; one that is already there under this name is used again."""
        from onnx import numpy_helper

        if name not in self._known:
            self._known.add(name)
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def shape(self, *sizes: int) -> str:
        """A constant list of integers: a target shape, axes, row numbers or split sizes."""
        return self.constant("shape." + "x".join(map(str, sizes)), np.asarray(sizes, dtype=np.int64))

    def conv(self, x: str, weight: str, pads: tuple[int, int], *, name: str, group: int = 1) -> str:
        """A convolution with `pads` rows and columns of zeros on each side."""
        return str(self.add("Conv", x, weight, name=name, pads=[*pads, *pads], group=group))

    def split(self, x: str, sizes: list[int], axis: int, *, name: str) -> list[str]:
        """Cut a tensor into pieces along an axis."""
        if len(sizes) == 1:
            return [x]
        return list(self.add("Split", x, self.shape(*sizes), name=name, outputs=len(sizes), axis=axis))


# The frame network (Tab. 1) -----------------------------------------------------------------------


def _frame_network(writer: _Writer, config: GaitPartConfig, weights: Weights, plan: Plan, pixels: str) -> str:
    """FPFE and HP, [N, 1, 64, 44] → the PR-Matrix as [batch, parts·C, 1, frames]."""
    x, folded = pixels, 1  # [N·folded, C, H/folded, W]: strip by strip in the batch
    channels = 1
    for layer, strips in enumerate(config.strips):
        name, rows, columns = f"fconv{layer + 1}", config.height(layer), config.width(layer)
        weight = weights[f"frame.{layer}"] / np.float32(255 if layer == 0 else 1)
        kernel = writer.constant(f"frame.{layer}", weight)
        pad = (weight.shape[-1] // 2,) * 2
        even = rows % strips == 0
        in_batch = strips if plan.fconv == "fold" and even else 1
        x = _fold(writer, x, (channels, rows, columns), folded, in_batch, name)
        folded = in_batch
        if folded == strips:
            x = writer.conv(x, kernel, pad, name=name)
        else:
            cut = writer.split(x, strip_heights(rows, strips), axis=2, name=f"{name}.cut")
            done = [writer.conv(strip, kernel, pad, name=f"{name}.strip{i}") for i, strip in enumerate(cut)]
            x = writer.add("Concat", *done, name=f"{name}.join", axis=2)
        x = writer.add("LeakyRelu", x, name=f"{name}.relu", alpha=SLOPE)
        channels = weight.shape[0]
        if config.pooled_after(layer):
            if rows // folded % 2:  # a 2x2 window would lie across two strips
                x, folded = _fold(writer, x, (channels, rows, columns), folded, 1, f"{name}.pool"), 1
            x = writer.add("MaxPool", x, name=f"{name}.pool", kernel_shape=[2, 2], strides=[2, 2])
    return _horizontal_pooling(writer, config, x, folded)


def _fold(writer: _Writer, x: str, size: tuple[int, int, int], have: int, want: int, name: str) -> str:
    """Move between `have` and `want` strips in the batch; `size` is that of a whole map, C, H, W.

    Cutting each strip into several is one transposition, and so is joining: only where neither
    number divides the other does the map become whole in between.
    """
    c, h, w = size
    if have == want:
        return x
    if max(have, want) % min(have, want):
        return _fold(writer, _fold(writer, x, size, have, 1, name), size, 1, want, name)
    if want > have:  # a strip's own strips come apart, then move beside it in the batch
        step, cut = "fold", writer.shape(-1, c, want // have, h // want * w)
    else:
        step, cut = "unfold", writer.shape(-1, have // want, c, h // have * w)
    x = writer.add("Reshape", x, cut, name=f"{name}.{step}.cut")
    x = writer.add("Transpose", x, name=f"{name}.{step}.move", perm=[0, 2, 1, 3])
    return str(writer.add("Reshape", x, writer.shape(-1, c, h // want, w), name=f"{name}.{step}"))


def _horizontal_pooling(writer: _Writer, config: GaitPartConfig, x: str, folded: int) -> str:
    """HP (Eq. 2), [N·folded, C, H/folded, W] → the PR-Matrix as [batch, parts·C, 1, frames]."""
    last = len(config.strips) - 1
    rows, columns, c, parts = config.height(last), config.width(last), config.features, config.parts
    if rows % parts or parts % folded:
        x, folded = _fold(writer, x, (c, rows, columns), folded, 1, "hp"), 1

    if rows % parts == 0:
        window = {"kernel_shape": [rows // parts, columns], "strides": [rows // parts, columns]}
        x = _average_plus_maximum(writer, x, window, "hp")  # [N·folded, C, parts/folded, 1]
    else:
        heights = strip_heights(rows, parts)
        cut = writer.split(x, heights, axis=2, name="hp.cut")
        pooled = [
            _average_plus_maximum(writer, strip, {"kernel_shape": [height, columns]}, f"hp.part{part}")
            for part, (strip, height) in enumerate(zip(cut, heights, strict=True))
        ]
        x = writer.add("Concat", *pooled, name="hp", axis=2)
    leading = writer.add("Shape", "silhouettes", name="hp.batch_and_frames", start=0, end=2)
    target = writer.add(
        "Concat", leading, writer.shape(folded, c, parts // folded), name="hp.matrix_shape", axis=0
    )
    x = writer.add("Reshape", x, target, name="hp.matrix")  # [b, t, folded, C, parts/folded]
    x = writer.add("Transpose", x, name="hp.rows", perm=[0, 2, 4, 3, 1])
    return str(writer.add("Reshape", x, writer.shape(0, parts * c, 1, -1), name="hp.rows_by_channel"))


def _average_plus_maximum(writer: _Writer, x: str, window: dict[str, Any], name: str) -> str:
    """Average plus maximum of each window: HP (Eq. 2) and TempFunc (Eq. 5).

    Pools rather than reductions: runtimes have them in every layout, and they are faster.
    """
    average = writer.add("AveragePool", x, name=f"{name}.average", count_include_pad=1, **window)
    maximum = writer.add("MaxPool", x, name=f"{name}.maximum", **window)
    return str(writer.add("Add", average, maximum, name=name))


# The temporal head (Sec. 3.3) ---------------------------------------------------------------------


def _temporal_head(writer: _Writer, config: GaitPartConfig, weights: Weights, plan: Plan, rows: str) -> str:
    """TFA and FC, [batch, parts·C, 1, frames] → [batch, parts, dim]."""
    parts, c = config.parts, config.features
    if plan.micro_motion == "grouped":
        motion = _micro_motion(writer, config, weights, rows, slice(0, parts), "")
        pooled = _temporal_pooling(writer, config, motion, "tp")  # [b, parts·C]
        pooled = writer.add("Reshape", pooled, writer.shape(-1, parts, c), name="tp.parts")
        pooled = writer.add("Transpose", pooled, name="tp.by_part", perm=[1, 0, 2])
        x = writer.add("MatMul", pooled, writer.constant("fc", weights["fc"]), name="fc.by_part")
        return str(writer.add("Transpose", x, name="fc", perm=[1, 0, 2]))
    embeddings = []
    for part, row in enumerate(writer.split(rows, [c] * parts, axis=1, name="part")):
        prefix = f"part{part}."
        motion = _micro_motion(writer, config, weights, row, slice(part, part + 1), prefix)
        pooled = _temporal_pooling(writer, config, motion, f"{prefix}tp")
        weight = writer.constant(f"{prefix}fc.weight", weights["fc"][part])
        embedding = writer.add("MatMul", pooled, weight, name=f"{prefix}fc")
        embeddings.append(writer.add("Unsqueeze", embedding, writer.shape(1), name=f"{prefix}embedding"))
    return str(writer.add("Concat", *embeddings, name="fc", axis=1))


def _micro_motion(
    writer: _Writer, config: GaitPartConfig, weights: Weights, x: str, which: slice, prefix: str
) -> str:
    """The MTBs of some parts (Eq. 4 to 6, Tab. 2), [b, parts·C, 1, t] → the same shape."""
    group = which.stop - which.start
    motions = []
    for template in config.templates:
        name = f"{prefix}mtb{template}"
        window: dict[str, Any] = {"kernel_shape": [1, 2 * template + 1], "pads": [0, template, 0, template]}
        motion = _average_plus_maximum(writer, x, window, f"{name}.template")
        if config.attention:
            hidden = x
            for step in ("squeeze", "excite"):
                weight = weights[f"mtb{template}.{step}"][which]
                kernel = writer.constant(
                    f"{name}.{step}.weight", weight.reshape(-1, weight.shape[2], 1, weight.shape[3])
                )
                pads = (0, weight.shape[3] // 2)
                hidden = writer.conv(hidden, kernel, pads, name=f"{name}.{step}", group=group)
                if step == "squeeze":
                    hidden = writer.add("LeakyRelu", hidden, name=f"{name}.relu", alpha=SLOPE)
            attention = writer.add("Sigmoid", hidden, name=f"{name}.attention")
            motion = writer.add("Mul", motion, attention, name=name)
        motions.append(motion)
    if len(motions) == 1:
        return str(motions[0])
    return str(writer.add("Add", *motions, name=f"{prefix}motion"))


def _temporal_pooling(writer: _Writer, config: GaitPartConfig, x: str, name: str) -> str:
    """TP (Eq. 9 or Eq. 11), [b, channels, 1, t] → [b, channels]."""
    op = "ReduceMax" if config.temporal_pooling == "max" else "ReduceMean"
    return str(writer.add(op, x, name=name, axes=[2, 3], keepdims=0))
