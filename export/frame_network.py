"""The frame network of the graph: FConv1 to FConv6 and HP (Tab. 1), in the form that the plan names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig, strip_heights
from gaitedge.export.packing import pack_frame_network
from gaitedge.export.plan import HP
from gaitedge.export.writer import Writer

if TYPE_CHECKING:
    from gaitedge.export.plan import Plan
    from gaitedge.weights import Weights

__all__ = ["SLOPE", "average_plus_maximum", "write_frame_network"]

SLOPE = 0.01  # of every LeakyReLU


@dataclass(frozen=True)
class _FConv:
    """One FConv and the max-pool that follows it, if one does."""

    name: str
    strips: int
    size: tuple[int, int, int]
    """Of what it reads: channels, rows, columns."""
    outputs: int
    kernel: int
    pooled: bool
    following: str
    """What reads what it writes, as Plan.scales names it."""
    pixels: bool = False
    """Whether it reads the silhouettes' uint8."""

    @property
    def whole(self) -> tuple[int, int, int]:
        """What it writes, before the pool."""
        return (self.outputs, *self.size[1:])


def write_frame_network(
    writer: Writer, config: GaitPartConfig, weights: Weights, plan: Plan, *, rows: bool
) -> str:
    """FPFE and HP, `silhouettes` [batch, frames, 64, 44] → the PR-Matrix (Eq. 1 and 2).

    rows: as [batch, parts·C, 1, frames], each part's row side by side with the others', or else as
    [batch, frames, parts, C].
    """
    # Of several strips not: OpenVINO makes floats of uint8 that is moved.
    exact = plan.placement == "chain" and writer.is_quantised("fconv1") and config.strips[0] == 1
    pixels = "silhouettes" if exact else _pixels(writer, plan)
    if plan.fconv == "network":
        return _network_plugin(writer, config, weights, pixels, rows=rows)
    x, folded = writer.add("Reshape", pixels, writer.shape(-1, 1, HEIGHT, WIDTH), name="frames"), 1
    for layer, fconv in enumerate(_fconvs(config, exact)):
        # The division of the silhouettes by 255. It costs FP16 nothing: what a small weight loses below
        # the smallest normal number is less than what rounding takes from a large one beside it.
        weight = weights[f"frame.{layer}"] / np.float32(255 if layer == 0 else 1)
        if plan.fconv == "plugin":
            x = _plugin(writer, x, weight, fconv)
        else:
            kernel = writer.weight(f"{fconv.name}.weight", weight, layer=fconv.name, channels=0)
            bias = writer.bias(f"{fconv.name}.bias", fconv.name)
            # x is [N·folded, C, H/folded, W], strip by strip in the batch.
            x, folded = _convolve(writer, x, kernel, bias, fconv, folded, fold=plan.fconv != "split")
            x, folded = _max_pool(writer, x, fconv, folded)

    if plan.fconv == "plugin":
        x, folded = _pooling_plugin(writer, config, x), config.parts
    else:
        x, folded = _horizontal_pooling(writer, config, x, folded)
    return _matrix(writer, config, x, folded, pixels, rows=rows)


def _fconvs(config: GaitPartConfig, exact: bool = False) -> list[_FConv]:
    """The FConvs of Tab. 1; exact: whether the first reads uint8."""
    shapes = [config.shapes()[f"frame.{layer}"] for layer in range(len(config.strips))]
    return [
        _FConv(
            f"fconv{layer + 1}",
            strips,
            (shapes[layer][1], config.height(layer), config.width(layer)),
            shapes[layer][0],
            shapes[layer][-1],
            config.pooled_after(layer),
            f"fconv{layer + 2}" if layer + 1 < len(shapes) else HP,
            pixels=exact and layer == 0,
        )
        for layer, strips in enumerate(config.strips)
    ]


def _pixels(writer: Writer, plan: Plan) -> str:
    """The silhouettes as numbers of the plan's type, still 0 to 255. TensorRT allows nothing else to be
    done with uint8, and only float32 and float16 to be made of it."""
    from onnx import TensorProto

    x = "silhouettes"
    if plan.precision == "bf16":
        x = writer.add("Cast", x, name="pixels.float32", to=TensorProto.FLOAT)
    return str(writer.add("Cast", x, name="pixels", to=writer.float_type))


# FConv (Sec. 3.2) ---------------------------------------------------------------------------------


def _convolve(
    writer: Writer, x: str, kernel: str, bias: str | None, fconv: _FConv, folded: int, *, fold: bool
) -> tuple[str, int]:
    """FConv and its LeakyReLU; returns the map and how many of its strips are in the batch."""
    name, strips, (_, rows, _) = fconv.name, fconv.strips, fconv.size
    in_batch = strips if fold and rows % strips == 0 else 1
    x = _fold(writer, x, fconv.size, folded, in_batch, name)
    cut = writer.split(x, strip_heights(rows, strips // in_batch), axis=2, name=f"{name}.cut")
    size, pads = (fconv.kernel, fconv.kernel), (fconv.kernel // 2, fconv.kernel // 2)
    done = []
    for index, strip in enumerate(cut):
        one = name if len(cut) == 1 else f"{name}.strip{index}"
        # Right before the convolution, though int8 could pass through cut, fold and max-pool: TensorRT's
        # builder may move the pair up, but of OpenVINO 2026.4 an int8 Reshape gives wrong numbers.
        read = writer.pixels(strip, one) if fconv.pixels else writer.activation(strip, name, one)
        found = writer.conv(read, kernel, size, pads, name=one, bias=bias)
        done.append(writer.handed_on(found, name, fconv.following, one))
    x = done[0] if len(done) == 1 else writer.add("Concat", *done, name=f"{name}.join", axis=2)
    return writer.add("LeakyRelu", x, name=f"{name}.relu", alpha=SLOPE), in_batch


def _max_pool(writer: Writer, x: str, fconv: _FConv, folded: int) -> tuple[str, int]:
    """The 2x2 max-pool after an FConv, where there is one."""
    if not fconv.pooled:
        return x, folded
    if fconv.size[1] // folded % 2:  # a window would lie across two strips
        x, folded = _fold(writer, x, fconv.whole, folded, 1, f"{fconv.name}.pool"), 1
    return writer.add("MaxPool", x, name=f"{fconv.name}.pool", kernel_shape=[2, 2], strides=[2, 2]), folded


def _plugin(writer: Writer, x: str, weight: NDArray[np.float32], fconv: _FConv) -> str:
    """FConv, its LeakyReLU and its max-pool as one node, whole maps in and out.

    Its weight is [out, k, k, in], as the kernel reads it, and its bias float32.
    """
    packed = weight.transpose(0, 2, 3, 1)
    inputs = {
        "x": x,
        "weight": writer.weight(f"{fconv.name}.weight", packed, layer=fconv.name, channels=None),
    }
    if (bias := writer.bias(f"{fconv.name}.bias", fconv.name, float32=True)) is not None:
        inputs["bias"] = bias

    def body(inner: Writer) -> str:
        kernel = inner.add("Transpose", "weight", name=f"{fconv.name}.kernel", perm=[0, 3, 1, 2])
        added = inner.to_plan("bias", f"{fconv.name}.added") if "bias" in inputs else None
        y, folded = _convolve(inner, "x", kernel, added, fconv, 1, fold=True)
        y, folded = _max_pool(inner, y, fconv, folded)
        channels, rows, columns = fconv.whole
        half = 2 if fconv.pooled else 1
        return _fold(inner, y, (channels, rows // half, columns // half), folded, 1, f"{fconv.name}.whole")

    return writer.plugin(
        "GaitEdgeFocalConv",
        inputs,
        body,
        name=fconv.name,
        strips=fconv.strips,
        slope=SLOPE,
        pool=int(fconv.pooled),
    )


def _fold(writer: Writer, x: str, size: tuple[int, int, int], have: int, want: int, name: str) -> str:
    """Move between `have` and `want` strips in the batch; `size` is that of a whole map, C, H, W.

    Cutting each strip into several is one transposition, and so is joining: only where neither
    number divides the other does the map become whole in between.
    """
    c, h, w = size
    if have == want:
        return x
    if max(have, want) % min(have, want) and not writer.channels_last:
        return _fold(writer, _fold(writer, x, size, have, 1, name), size, 1, want, name)
    whole = writer.shape(-1, c, h // want, w)
    if writer.channels_last:
        step = "fold" if want > have else "unfold"
        x = writer.add("Transpose", x, name=f"{name}.{step}.last", perm=[0, 2, 3, 1])
        x = writer.add("Reshape", x, writer.shape(-1, h // want, w, c), name=f"{name}.{step}.cut")
        return str(writer.add("Transpose", x, name=f"{name}.{step}", perm=[0, 3, 1, 2]))
    if want > have:  # a strip's own strips come apart, then move beside it in the batch
        step, cut = "fold", writer.shape(-1, c, want // have, h // want * w)
    else:
        step, cut = "unfold", writer.shape(-1, have // want, c, h // have * w)
        x = writer.standing(x, f"{name}.{step}.standing")
    x = writer.add("Reshape", x, cut, name=f"{name}.{step}.cut")
    x = writer.add("Transpose", x, name=f"{name}.{step}.move", perm=[0, 2, 1, 3])
    return str(writer.add("Reshape", x, whole, name=f"{name}.{step}"))


# HP (Eq. 2) ---------------------------------------------------------------------------------------


def _horizontal_pooling(writer: Writer, config: GaitPartConfig, x: str, folded: int) -> tuple[str, int]:
    """[N·folded, C, H/folded, W] → [N·f, C, parts/f, 1], and f, which may be 1 instead of `folded`."""
    last = len(config.strips) - 1
    rows, columns, c, parts = config.height(last), config.width(last), config.features, config.parts
    if rows % parts or parts % folded:
        x, folded = _fold(writer, x, (c, rows, columns), folded, 1, "hp"), 1
    if rows % parts == 0:
        window = {"kernel_shape": [rows // parts, columns], "strides": [rows // parts, columns]}
        return average_plus_maximum(writer, x, window, "hp"), folded
    heights = strip_heights(rows, parts)
    cut = writer.split(x, heights, axis=2, name="hp.cut")
    pooled = [
        average_plus_maximum(writer, strip, {"kernel_shape": [height, columns]}, f"hp.part{part}")
        for part, (strip, height) in enumerate(zip(cut, heights, strict=True))
    ]
    return writer.add("Concat", *pooled, name="hp", axis=2), folded


def _pooling_plugin(writer: Writer, config: GaitPartConfig, x: str) -> str:
    """HP as one node, [N, C, H, W] → [N, parts, C]."""

    def body(inner: Writer) -> str:
        pooled, _ = _horizontal_pooling(inner, config, "x", 1)
        flat = inner.add("Reshape", pooled, inner.shape(0, config.features, config.parts), name="hp.flat")
        return str(inner.add("Transpose", flat, name="hp.by_part", perm=[0, 2, 1]))

    return writer.plugin("GaitEdgePartPool", {"x": x}, body, name="hp", parts=config.parts)


def _network_plugin(
    writer: Writer, config: GaitPartConfig, weights: Weights, pixels: str, *, rows: bool
) -> str:
    """All FConvs and HP as one node, silhouettes [batch, frames, 64, 44] → [batch, frames, parts, C].

    Its weights are one tensor, as pack_frame_network lays them out for the kernel. Their biases, float32
    seen as fp16, are zeros, for no operator takes them back.
    """

    def body(inner: Writer) -> str:
        x, folded = inner.add("Reshape", "silhouettes", inner.shape(-1, 1, HEIGHT, WIDTH), name="frames"), 1
        # In float32, as the kernel does: the weights are fp16 before the division by 255.
        x = inner.add("Div", inner.to_float32(x, "pixels.float32"), inner.ratio(255), name="pixels")
        start = 0
        for fconv in _fconvs(config):
            kernel, start = _unpacked(inner, fconv, start)
            if fconv.name == "fconv1":
                kernel = inner.to_float32(kernel, "fconv1.kernel.float32")
            x, folded = _convolve(inner, x, kernel, None, fconv, folded, fold=True)
            if fconv.name == "fconv1":
                x = inner.to_plan(x, "fconv1.rounded")
            x, folded = _max_pool(inner, x, fconv, folded)
        x, folded = _horizontal_pooling(inner, config, x, folded)
        return _matrix(inner, config, x, folded, "silhouettes", rows=False)

    packed = writer.packed("network.weights", pack_frame_network(config, weights, "fp16"))
    inputs = {"silhouettes": pixels, "weights": packed}
    x = writer.plugin("GaitEdgeFrameNetwork", inputs, body, name="network", slope=SLOPE)
    if not rows:
        return x
    x = writer.add("Transpose", x, name="hp.rows", perm=[0, 2, 3, 1])
    sizes = writer.shape(0, config.parts * config.features, 1, -1)
    return str(writer.add("Reshape", x, sizes, name="hp.rows_by_channel"))


def _unpacked(writer: Writer, fconv: _FConv, start: int) -> tuple[str, int]:
    """The weight of one FConv, [out, in, k, k], out of the packed ones, and where the next one's begin.

    What pack_frame_network did is undone: [out, depth] in the order of the tensor cores' fragments, depth
    being tap and channel; FConv1's rows of five taps have a sixth, and its depth is 32.
    """
    outputs, k, channels, name = fconv.outputs, fconv.kernel, fconv.size[0], fconv.name
    depth = k * k * channels if channels > 1 else 32
    end = start + outputs * depth
    x = _cut(writer, "weights", start, end, 0, f"{name}.packed")
    x = writer.add("Reshape", x, writer.shape(outputs // 16, -1, 8, 4, 2, 2, 2), name=f"{name}.fragments")
    x = writer.add("Transpose", x, name=f"{name}.in_order", perm=[0, 4, 2, 1, 5, 3, 6])
    x = writer.add("Reshape", x, writer.shape(outputs, depth), name=f"{name}.by_output")
    if channels == 1:
        x = _cut(writer, x, 0, k * (k + 1), 1, f"{name}.rows")
        x = writer.add("Reshape", x, writer.shape(outputs, k, k + 1), name=f"{name}.by_row")
        x = _cut(writer, x, 0, k, 2, f"{name}.taps")
    x = writer.add("Reshape", x, writer.shape(outputs, k, k, channels), name=f"{name}.by_tap")
    return str(writer.add("Transpose", x, name=f"{name}.kernel", perm=[0, 3, 1, 2])), end


def _cut(writer: Writer, x: str, start: int, end: int, axis: int, name: str) -> str:
    ends = (writer.shape(start), writer.shape(end), writer.shape(axis))
    return str(writer.add("Slice", x, *ends, name=name))


def _matrix(writer: Writer, config: GaitPartConfig, x: str, folded: int, pixels: str, *, rows: bool) -> str:
    """[N·folded, C, parts/folded, 1] → the PR-Matrix, frames apart from the batch again."""
    parts, c, inside = config.parts, config.features, config.parts // folded
    # Not by Shape's own start and end: the parser of TensorRT 8.6 passes over them in silence.
    shape = writer.add("Shape", pixels, name="hp.shape")
    ends = (writer.shape(0), writer.shape(2), writer.shape(0))
    leading = writer.add("Slice", shape, *ends, name="hp.batch_and_frames")
    sizes = (folded, c, inside) if rows or inside > 1 else (parts, c)
    target = writer.add("Concat", leading, writer.shape(*sizes), name="hp.matrix_shape", axis=0)
    x = writer.add("Reshape", x, target, name="hp.matrix")  # [b, t, folded, C, inside]
    if rows:
        x = writer.add("Transpose", x, name="hp.rows", perm=[0, 2, 4, 3, 1])
        return str(writer.add("Reshape", x, writer.shape(0, parts * c, 1, -1), name="hp.rows_by_channel"))
    if inside > 1:
        x = writer.add("Transpose", x, name="hp.features", perm=[0, 1, 2, 4, 3])
        x = writer.add("Reshape", x, writer.shape(0, 0, parts, c), name="hp.features_by_part")
    return str(x)


def average_plus_maximum(writer: Writer, x: str, window: dict[str, Any], name: str) -> str:
    """Average plus maximum of each window: HP (Eq. 2) and TempFunc (Eq. 5).

    Pools rather than reductions: runtimes have them in every layout, and they are faster.
    """
    average = writer.add("AveragePool", x, name=f"{name}.average", count_include_pad=1, **window)
    maximum = writer.add("MaxPool", x, name=f"{name}.maximum", **window)
    return str(writer.add("Add", average, maximum, name=name))
