"""Fine-tuning for INT8: what int8 does to a network, in training, with the gradient passed straight through.

The forward pass rounds where the graph writer puts its Q/DQ pairs: the input of a layer to int8 with the
calibration's scale, its weight with a scale for each output channel, max |w| / 127 of the weight as it is
now. The backward pass takes the rounding for the identity, and gives what int8 cuts off no gradient: the
straight-through estimator (Bengio, Léonard & Courville, "Estimating or Propagating Gradients Through
Stochastic Neurons", 2013; Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, Sec. 3). Weights stay float32, and are exported as any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own spelling)
from torch.overrides import TorchFunctionMode

from gaitedge.calibration.calibration import LEVELS
from gaitedge.config import GaitPartConfig
from gaitedge.export.plan import Plan, layer_names
from gaitedge.model import GaitPart

__all__ = ["QuantizedGaitPart", "through_int8"]

_PRODUCTS = (F.conv2d, F.conv1d, torch.matmul)  # what a layer with weights is in the fused form


class _StraightThrough(torch.autograd.Function):
    """QuantizeLinear and DequantizeLinear, half to even; the gradient passes where nothing was cut off."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        levels = torch.div(x, scale).round_()
        # A range of percentiles cuts off, and QuantizeLinear does so at -128, though no scale counts on it.
        ctx.save_for_backward((levels >= -LEVELS - 1) & (levels <= LEVELS))
        return levels.clamp_(-LEVELS - 1, LEVELS).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradients[0] * kept, None


def through_int8(x: Tensor, scale: Tensor) -> Tensor:
    """x as the nearest of the 256 values that int8 with this scale has, float32; x's gradient is that of
    the result where x is within them, and 0 beyond. scale: positive, of a shape that spreads over x."""
    rounded: Tensor = _StraightThrough.apply(x.float(), scale)  # type: ignore[no-untyped-call]
    return rounded


class QuantizedGaitPart(GaitPart):
    """GaitPart whose fused forward computes what the exported Q/DQ graph does, within float rounding.

    scales: layer -> scale of its input, as Plan.scales has them; other layers stay as they are. The
    letter stays in floating point. Under autocast the rounding is done in float32, and the product of
    what was rounded in autocast's type. Raises InputError where a scale is impossible or of no layer.
    """

    scales: Tensor

    def __init__(self, config: GaitPartConfig, scales: Iterable[tuple[str, float]]) -> None:
        super().__init__(config)
        plan = Plan(scales=tuple(scales))
        plan.check(config)
        self.quantized = [layer for layer, _ in plan.scales]
        # Not persistent: checkpoints and weights are those of the network alone.
        values = torch.tensor([scale for _, scale in plan.scales], dtype=torch.float32)
        self.register_buffer("scales", values, persistent=False)

    def forward(self, silhouettes: Tensor, *, letter: bool = False) -> Tensor:
        """Embeddings, as GaitPart.forward gives them."""
        if letter:
            return super().forward(silhouettes, letter=True)
        names = dict(zip(layer_names(self.config), self.config.shapes(), strict=True))
        at = {self.get_parameter(names[layer]).data_ptr(): n for n, layer in enumerate(self.quantized)}

        def operands(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            # The weight of a product is its parameter or a view of the whole of it.
            number = at.get(weight.data_ptr())
            if number is None:
                return x, weight
            return self._through_int8(x, weight, self.quantized[number], self.scales[number])

        with _Operands(operands):
            return super().forward(silhouettes)

    def _through_int8(self, x: Tensor, weight: Tensor, layer: str, scale: Tensor) -> tuple[Tensor, Tensor]:
        """What a layer multiplies. The scale of fconv1 is of pixels from 0 to 255, which the graph has."""
        x = through_int8(x * 255, scale) / 255 if layer == "fconv1" else through_int8(x, scale)
        axes = tuple(range(1, weight.dim())) if layer != "fc" else tuple(range(weight.dim()))
        largest = weight.detach().abs().amax(dim=axes, keepdim=True)
        # A channel of zeros has no scale of its own; any does, but 0.
        return x, through_int8(weight, (largest / LEVELS).clamp(min=torch.finfo(torch.float32).tiny))


class _Operands(TorchFunctionMode):
    """While it is entered, every product of a layer gets its operands through a function."""

    def __init__(self, operands: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.operands = operands

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _PRODUCTS:
            args = (*self.operands(*args[:2]), *args[2:])
        return func(*args, **(kwargs or {}))
