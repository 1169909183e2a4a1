"""How a network is written down: the form of its layers, the precision, and the scales of INT8."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError

__all__ = ["LETTER", "Plan", "layer_names"]

FConvForm = Literal["fold", "split", "plugin"]
MicroMotionForm = Literal["grouped", "per_part", "plugin"]
GraphPrecision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Plan:
    """The choices of the graph writer; the defaults are the portable form.

    Raises InputError where a value is impossible.
    """

    fconv: FConvForm = "fold"
    """fold: the strips of an FConv become a part of the batch, and stay so as long as the number of
    strips does; split: every strip is cut out, convolved and joined again (Fig. 3b), and so are, in
    either, strips of unequal height; plugin: one node an FConv, its LeakyReLU and max-pool inside, and
    one for HP."""
    micro_motion: MicroMotionForm = "grouped"
    """grouped: all parts' MCMs in grouped convolutions; per_part: every part's by itself (Fig. 5);
    plugin: one node from the PR-Matrix to the end of TP (Eq. 4 to 12)."""
    precision: GraphPrecision = "fp32"
    """Type of weights and activations. Silhouettes stay uint8, and embeddings float32."""
    scales: tuple[tuple[str, float], ...] = ()
    """Layer -> scale of its input, which becomes int8: the input's largest magnitude over 127. Names as
    layer_names gives them; a layer without a scale stays in `precision`. The input of fconv1 is the
    silhouette, 0 to 255."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("fconv", get_args(FConvForm)),
            ("micro_motion", get_args(MicroMotionForm)),
            ("precision", get_args(GraphPrecision)),
        ):
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        seen: set[str] = set()
        for layer, scale in self.scales:
            if not (math.isfinite(scale) and scale > 0):
                raise InputError(f"the scale of {layer} must be a positive number, not {scale}")
            if layer in seen:
                raise InputError(f"{layer} has two scales; a layer takes one")
            seen.add(layer)
            form = self.fconv if layer.startswith("fconv") else self.micro_motion
            if form == "plugin" and layer != "fc":
                raise InputError(
                    f"{layer} is inside a plugin, which takes no scale; write it in another form"
                )

    @property
    def opset(self) -> int:
        """Of the graph. 17 is the newest that TensorRT 8.6 reads; scales of 16 bits need 19, and
        convolutions in bfloat16 need 22."""
        if self.precision == "bf16":
            return 22
        return 19 if self.precision == "fp16" and self.scales else 17

    def check(self, config: GaitPartConfig) -> None:
        """Raise InputError where a scale is for a layer that the network does not have."""
        known = layer_names(config)
        for layer, _ in self.scales:
            if layer not in known:
                raise InputError(f"no layer {layer!r} to scale; there are: {', '.join(known)}")


LETTER = Plan("split", "per_part")
"""The letter of the paper: the naive baseline."""


def layer_names(config: GaitPartConfig) -> tuple[str, ...]:
    """The layers with weights, in the order in which the network uses them: "fconv1" to "fconv6",
    "mtb1.squeeze", "mtb1.excite", "mtb2.squeeze", "mtb2.excite" and "fc" in the paper's."""
    names = (name for name in config.shapes() if not name.startswith("frame."))
    return (*(f"fconv{layer + 1}" for layer in range(len(config.strips))), *names)
