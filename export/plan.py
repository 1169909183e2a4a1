"""How a network is written down: the form of its layers, the precision, and the scales of INT8."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.packing import fits

__all__ = ["EIGHT_BITS", "HP", "LETTER", "Plan", "bias_shapes", "layer_names"]

FConvForm = Literal["fold", "fold_nhwc", "split", "plugin", "network"]
MicroMotionForm = Literal["grouped", "per_part", "plugin"]
GraphPrecision = Literal["fp32", "fp16", "bf16"]
EightBits = Literal["int8", "fp8"]
Placement = Literal["inputs", "chain"]

EIGHT_BITS: Final = ("int8", "fp8")
"""Precisions that need a calibration."""

HP = "hp"
"""What Plan.scales calls the input of horizontal pooling."""


@dataclass(frozen=True)
class Plan:
    """The choices of the graph writer; the defaults are the portable form.

    Raises InputError where a value is impossible.
    """

    fconv: FConvForm = "fold"
    """fold: the strips of an FConv become a part of the batch, and stay so as long as the number of
    strips does; fold_nhwc: the same, written as the view that it is where channels come last, as they do in
    ONNX Runtime's int8; split: every strip is cut out, convolved and joined again (Fig. 3b), and so are, in
    either, strips of unequal height; plugin: one node an FConv, its LeakyReLU and max-pool inside, and
    one for HP; network: one node for all FConvs and HP, of the paper's network for CASIA-B in fp16 alone."""
    micro_motion: MicroMotionForm = "grouped"
    """grouped: all parts' MCMs in grouped convolutions; per_part: every part's by itself (Fig. 5);
    plugin: one node from the PR-Matrix to the embeddings (Eq. 4 to 12), or to the end of TP where FC has a
    scale or a bias."""
    precision: GraphPrecision = "fp32"
    """Type of weights and activations. Silhouettes stay uint8, and embeddings float32."""
    scales: tuple[tuple[str, float], ...] = ()
    """Layer -> the largest magnitude of its input over 127, of a layer to compute in eight bits. Names as
    layer_names gives them; a layer without a scale stays in `precision`. The input of fconv1 is the
    silhouette, 0 to 255. "hp", no layer of weights, is HP's input, of use to the chain alone."""
    eight_bits: EightBits = "int8"
    """What the layers with a scale are computed in; fp8 is E4M3, whose largest number is 448: the scale in
    the graph follows from the same range."""
    placement: Placement = "inputs"
    """Where int8 is. inputs: a Quantize/Dequantize pair right before each convolution and product, what
    TensorRT asks for; it moves them through max-pools by itself. chain, for OpenVINO and ONNX Runtime: the
    first convolution, if of one strip, reads the silhouettes' uint8 as it is and loses nothing; and one that
    another layer with a scale follows writes int8 of that scale, without which ONNX Runtime computes it in
    float. There the last FConv needs the scale of "hp"; that of mtb1.squeeze, which reads the sum of HP's
    average and maximum, has at most twice the range and serves too."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("fconv", get_args(FConvForm)),
            ("micro_motion", get_args(MicroMotionForm)),
            ("precision", get_args(GraphPrecision)),
            ("eight_bits", get_args(EightBits)),
            ("placement", get_args(Placement)),
        ):
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        if self.eight_bits == "fp8" and self.precision == "fp32":
            raise InputError("fp8 is for TensorRT, which computes it beside fp16 or bf16, not beside fp32")
        if self.eight_bits == "fp8" and self.placement == "chain":
            raise InputError("the chain is int8 of OpenVINO and ONNX Runtime; fp8 is placed at the inputs")
        seen: set[str] = set()
        for layer, scale in self.scales:
            if not (math.isfinite(scale) and scale > 0):
                raise InputError(f"the scale of {layer} must be a positive number, not {scale}")
            if layer in seen:
                raise InputError(f"{layer} has two scales; a layer takes one")
            seen.add(layer)
            if self.is_in_plugin(layer):
                raise InputError(
                    f"{layer} is inside a plugin, which takes no scale; write int8 with --fconv fold "
                    "--micro-motion grouped, or take --target cuda"
                )

    def is_in_plugin(self, layer: str) -> bool:
        """Whether a layer is computed by a plugin."""
        form = self.fconv if layer.startswith("fconv") else self.micro_motion
        return form in ("plugin", "network") and layer != "fc"

    def takes_bias(self, layer: str) -> bool:
        """Whether a layer's form has room for a bias: of the plugins that of one FConv alone."""
        return not self.is_in_plugin(layer) or (layer.startswith("fconv") and self.fconv == "plugin")

    @property
    def opset(self) -> int:
        """Of the graph. 17 is the newest that TensorRT 8.6 reads; scales of 16 bits need 19, and
        convolutions in bfloat16 need 22."""
        if self.precision == "bf16":
            return 22
        return 19 if self.precision == "fp16" and self.scales else 17

    def check(self, config: GaitPartConfig) -> None:
        """Raise InputError where a scale is for a layer that the network does not have, or a plugin has no
        kernel for the precision or the network."""
        known = (*layer_names(config), HP)
        for layer, _ in self.scales:
            if layer not in known:
                raise InputError(f"no layer {layer!r} to scale; there are: {', '.join(known)}")
        if self.fconv == "network" and self.precision != "fp16":
            raise InputError(
                f"the plugin of the whole frame network computes in fp16, not in {self.precision}; "
                "take fp16, or fconv plugin"
            )
        if self.fconv == "network" and not fits(config):
            raise InputError(
                "the plugin of the whole frame network is for the channels, strips and parts of the paper's "
                "network for CASIA-B alone (Tab. 1); take fconv plugin for this one"
            )
        if self.precision == "bf16" and "plugin" in (self.fconv, self.micro_motion):
            raise InputError("plugins compute in fp32 and fp16, not in bf16; take fp16, or other forms")


LETTER = Plan("split", "per_part")
"""The letter of the paper: the naive baseline."""


def layer_names(config: GaitPartConfig) -> tuple[str, ...]:
    """The layers with weights, in the order in which the network uses them: "fconv1" to "fconv6",
    "mtb1.squeeze", "mtb1.excite", "mtb2.squeeze", "mtb2.excite" and "fc" in the paper's."""
    names = (name for name in config.shapes() if not name.startswith("frame."))
    return (*(f"fconv{layer + 1}" for layer in range(len(config.strips))), *names)


def bias_shapes(config: GaitPartConfig) -> dict[str, tuple[int, ...]]:
    """Layer -> shape of its bias, for each of layer_names: [channels] of an FConv, [parts, channels] of the
    others."""
    shapes = config.shapes()
    return {
        name: (config.channels[(int(name[5:]) - 1) // 2],)
        if name.startswith("fconv")
        else (config.parts, shapes[name][2 if name == "fc" else 1])
        for name in layer_names(config)
    }
