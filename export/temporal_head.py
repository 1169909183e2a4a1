"""The temporal head of the graph: MTBs, TP and FC (Sec. 3.3), in the form that the plan names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaitedge.config import GaitPartConfig
from gaitedge.export.frame_network import SLOPE, average_plus_maximum
from gaitedge.export.writer import Writer

if TYPE_CHECKING:
    from gaitedge.export.plan import Plan
    from gaitedge.weights import Weights

__all__ = ["write_temporal_head"]


def write_temporal_head(
    writer: Writer, config: GaitPartConfig, weights: Weights, plan: Plan, features: str
) -> str:
    """TFA and FC (Eq. 3 to 12), the PR-Matrix → embeddings, float32 [batch, parts, dim].

    features: [batch, parts·C, 1, frames], or [batch, frames, parts, C] for the plugin.
    """
    if plan.micro_motion == "per_part":
        return writer.to_float32(_per_part(writer, config, weights, features), "fc.float32")
    if plan.micro_motion == "plugin":
        whole = not (writer.is_quantised("fc") or writer.has_bias("fc"))
        pooled = _plugin(writer, config, weights, features, whole=whole)
        if whole:
            return pooled
    else:
        kernels = _kernels(writer, config, weights, slice(None), "")
        pooled = _grouped(writer, config, features, kernels)
    # Right after a Reshape: OpenVINO 2026.4 computes wrong numbers where it joins this with TP's reduction.
    pooled = writer.activation(pooled, "fc", "fc")
    pooled = writer.add("Transpose", pooled, name="tp.by_part", perm=[1, 0, 2])
    # In int8 with one scale for all parts: nothing says that TensorRT takes more of a stack of matrices.
    weight = writer.weight("fc.weight", weights["fc"], layer="fc", channels=None)
    x = writer.add("MatMul", pooled, weight, name="fc.by_part")
    if (bias := writer.bias("fc.bias", "fc", shape=(config.parts, 1, -1))) is not None:
        x = writer.add("Add", x, bias, name="fc.corrected")
    return writer.to_float32(writer.add("Transpose", x, name="fc", perm=[1, 0, 2]), "fc.float32")


def _grouped(writer: Writer, config: GaitPartConfig, x: str, kernels: dict[str, str]) -> str:
    """MTBs and TP of all parts at once, [batch, parts·C, 1, frames] → [batch, parts, C]."""
    motion = _micro_motion(writer, config, x, kernels, slice(None), "")
    pooled = _temporal_pooling(writer, config, motion, "tp")
    return str(writer.add("Reshape", pooled, writer.shape(0, config.parts, config.features), name="tp.parts"))


def _plugin(writer: Writer, config: GaitPartConfig, weights: Weights, x: str, *, whole: bool) -> str:
    """MTBs and TP (Eq. 4 to 12) as one node, [batch, frames, parts, C] → [batch, parts, C]; where `whole`
    with FC, to embeddings in float32.

    Its weights are as the kernel reads them: [parts, out, k, in] of a convolution, [parts, C, dim] of FC.
    """
    kernels = {}
    for layer in config.shapes():
        if layer.startswith("mtb"):
            packed = weights[layer].transpose(0, 1, 3, 2)
            kernels[layer] = writer.weight(f"{layer}.weight", packed, layer=layer, channels=None)
    inputs = {"x": x, **{f"{layer}.weight": tensor for layer, tensor in kernels.items()}}
    if whole:
        inputs["fc.weight"] = writer.weight("fc.weight", weights["fc"], layer="fc", channels=None)

    def body(inner: Writer) -> str:
        rows = inner.add("Transpose", "x", name="motion.rows", perm=[0, 2, 3, 1])
        sizes = inner.shape(0, config.parts * config.features, 1, -1)
        rows = inner.add("Reshape", rows, sizes, name="motion.rows_by_channel")
        unpacked = {layer: _unpacked(inner, config, layer) for layer in kernels}
        pooled = _grouped(inner, config, rows, unpacked)
        if not whole:
            return pooled
        # In float32, as the kernel adds: nothing is rounded between TP and the embeddings.
        weight = inner.to_float32("fc.weight", "fc.float32")
        pooled = inner.add("Transpose", pooled, name="tp.by_part", perm=[1, 0, 2])
        y = inner.add("MatMul", inner.to_float32(pooled, "tp.float32"), weight, name="fc.by_part")
        return str(inner.add("Transpose", y, name="fc", perm=[1, 0, 2]))

    return writer.plugin(
        "GaitEdgeMicroMotion",
        inputs,
        body,
        name="motion",
        templates=list(config.templates),
        attention=int(config.attention),
        pooling=config.temporal_pooling,
        slope=SLOPE,
        fc=int(whole),
    )


def _unpacked(writer: Writer, config: GaitPartConfig, layer: str) -> str:
    """A plugin's weight [parts, out, k, in] as that of a grouped convolution, [parts·out, in, 1, k]."""
    parts, outputs, inputs, width = config.shapes()[layer]
    x = writer.add("Transpose", f"{layer}.weight", name=f"{layer}.kernel.turned", perm=[0, 1, 3, 2])
    sizes = writer.shape(parts * outputs, inputs, 1, width)
    return str(writer.add("Reshape", x, sizes, name=f"{layer}.kernel"))


def _per_part(writer: Writer, config: GaitPartConfig, weights: Weights, rows: str) -> str:
    """Every part by itself, [batch, parts·C, 1, frames] → [batch, parts, dim]."""
    embeddings = []
    for part, row in enumerate(writer.split(rows, [config.features] * config.parts, axis=1, name="part")):
        prefix, which = f"part{part}.", slice(part, part + 1)
        kernels = _kernels(writer, config, weights, which, prefix)
        motion = _micro_motion(writer, config, row, kernels, which, prefix)
        pooled = _temporal_pooling(writer, config, motion, f"{prefix}tp")
        pooled = writer.add("Reshape", pooled, writer.shape(0, 1, config.features), name=f"{prefix}tp.row")
        pooled = writer.activation(pooled, "fc", f"{prefix}fc")
        weight = writer.weight(f"{prefix}fc.weight", weights["fc"][part], layer="fc", channels=1)
        embedding = writer.add("MatMul", pooled, weight, name=f"{prefix}fc")
        if (bias := writer.bias(f"{prefix}fc.bias", "fc", which)) is not None:
            embedding = writer.add("Add", embedding, bias, name=f"{prefix}fc.corrected")
        embeddings.append(embedding)
    return str(writer.add("Concat", *embeddings, name="fc", axis=1))


def _kernels(
    writer: Writer, config: GaitPartConfig, weights: Weights, which: slice, prefix: str
) -> dict[str, str]:
    """Layer -> the weight tensor of some parts, [parts·out, in, 1, k]."""
    kernels = {}
    for layer in config.shapes():
        if layer.startswith("mtb"):
            weight = weights[layer][which]
            flat = weight.reshape(-1, weight.shape[2], 1, weight.shape[3])
            kernels[layer] = writer.weight(f"{prefix}{layer}.weight", flat, layer=layer, channels=0)
    return kernels


def _micro_motion(
    writer: Writer, config: GaitPartConfig, x: str, kernels: dict[str, str], which: slice, prefix: str
) -> str:
    """The MTBs of some parts (Eq. 4 to 6, Tab. 2), [batch, parts·C, 1, frames] → the same shape."""
    motions = []
    for template in config.templates:
        mtb = f"mtb{template}"
        name, window = f"{prefix}{mtb}", [1, 2 * template + 1]
        pads = {"kernel_shape": window, "pads": [0, template, 0, template]}
        motion = average_plus_maximum(writer, x, pads, f"{name}.template")
        if config.attention:
            squeeze, excite = f"{mtb}.squeeze", f"{mtb}.excite"
            hidden = _convolve(writer, config, x, kernels, squeeze, which, prefix)
            hidden = writer.handed_on(hidden, squeeze, excite, f"{prefix}{squeeze}")
            hidden = writer.add("LeakyRelu", hidden, name=f"{name}.relu", alpha=SLOPE)
            logits = _convolve(writer, config, hidden, kernels, excite, which, prefix)
            attention = writer.add("Sigmoid", logits, name=f"{name}.attention")
            motion = writer.add("Mul", motion, attention, name=name)
        motions.append(motion)
    if len(motions) == 1:
        return str(motions[0])
    return str(writer.add("Add", *motions, name=f"{prefix}motion"))


def _convolve(
    writer: Writer,
    config: GaitPartConfig,
    x: str,
    kernels: dict[str, str],
    layer: str,
    which: slice,
    prefix: str,
) -> str:
    """One Conv1d of the attention, as a 4-D one over [1, frames]."""
    name, width = f"{prefix}{layer}", config.shapes()[layer][-1]
    x = writer.activation(x, layer, name)
    bias = writer.bias(f"{name}.bias", layer, which)
    group = len(range(config.parts)[which])
    return writer.conv(x, kernels[layer], (1, width), (0, width // 2), name=name, group=group, bias=bias)


def _temporal_pooling(writer: Writer, config: GaitPartConfig, x: str, name: str) -> str:
    """TP (Eq. 9 or Eq. 11), [batch, channels, 1, frames] → [batch, channels]."""
    op = "ReduceMax" if config.temporal_pooling == "max" else "ReduceMean"
    return writer.reduce(op, x, [2, 3], name=name)
