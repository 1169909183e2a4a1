"""Checkpoints as OpenGait saves them, of random weights, with every name written out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BLOCKS = ((0, 2), (5, 7), (10, 12), (14, 16))
"""The numbers of each block's convolutions."""


@dataclass(frozen=True)
class Network:
    """The sizes of a GaitPart of OpenGait's."""

    channels: tuple[int, ...]
    embedding: int
    parts: int = 16
    squeezed: int = 0  # a quarter of the channels

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor."""
        width = self.channels[-1]
        squeezed = self.squeezed or width // 4
        shapes: dict[str, tuple[int, ...]] = {}
        inputs = 1
        for outputs, positions in zip(self.channels, BLOCKS, strict=False):
            for position in positions:
                kernel = 5 if position == 0 else 3
                name = f"Backbone.forward_block.feature.{position}.conv.weight"
                shapes[name] = (outputs, inputs, kernel, kernel)
                inputs = outputs
        for template, kernel in (("conv1d3x1", 1), ("conv1d3x3", 3)):
            for part in range(self.parts):
                prefix = f"TFA.pooling_func.{template}.{part}"
                shapes[f"{prefix}.0.conv.weight"] = (squeezed, width, 3)
                shapes[f"{prefix}.2.conv.weight"] = (width, squeezed, kernel)
        shapes["Head.fc_bin"] = (self.parts, width, self.embedding)
        return shapes

    def state_dict(self, seed: int = 0) -> dict[str, Tensor]:
        """Random tensors that keep activations near 1."""
        generator = torch.Generator().manual_seed(seed)
        state = {}
        for name, shape in self.shapes().items():
            inputs = shape[1] if name == "Head.fc_bin" else torch.Size(shape[1:]).numel()
            state[name] = torch.randn(shape, generator=generator) * (2 / inputs) ** 0.5
        return state


CASIA_B = Network((32, 64, 128), 128)
OUMVLP = Network((32, 64, 128, 256), 256)
SMALL = Network((4, 6, 8), 5, parts=4, squeezed=2)


def checkpoint(state: dict[str, Any], iteration: int = 120_000) -> dict[str, Any]:
    """All that OpenGait saves at an iteration, with a real optimiser and a real schedule."""
    parameters = [torch.nn.Parameter(value.clone()) for value in list(state.values())[:3]]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 20])
    return {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "iteration": iteration,
    }


def save(path: Path, value: object, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path
