"""One step of training: forward, loss, backward, optimiser (Sec. 3.4, Sec. 4.1)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gaitedge.config import GaitPartConfig
from gaitedge.errors import MachineError
from gaitedge.machine.cpu import cpu_features
from gaitedge.model import GaitPart
from gaitedge.training.distributed import Team
from gaitedge.training.losses import separate_triplet_loss
from gaitedge.training.presets import Precision, Recipe

__all__ = ["Step", "Trainer", "settle_precision"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Step(NamedTuple):
    """What a step saw, before it changed the weights."""

    loss: float
    nonzero: float
    """Share of the triplets whose loss is not zero, 0 to 1."""
    norm: float
    """Mean Euclidean length of the embeddings' parts: it goes to zero where the training collapses."""
    broken: str = ""
    """What is no longer finite, such as "the loss is nan"; the weights were then left as they were."""


def settle_precision(precision: Precision, device: torch.device) -> Precision:
    """What "auto" means on a device. Raises MachineError where a precision cannot be had there."""
    if precision == "fp16" and device.type != "cuda":
        raise MachineError("fp16 training needs a GPU: use bf16 or fp32")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if {"avx512_bf16", "amx_bf16", "bf16"} & cpu_features() else "fp32"


class Trainer:
    """GaitPart with its optimiser, on one device or as one of a team.

    precision: "fp32", "bf16" or "fp16", of forward and backward; weights, moments and loss are float32.
    model: to go on with; None: a new one, by the recipe's seed.
    """

    def __init__(
        self,
        config: GaitPartConfig,
        recipe: Recipe,
        precision: Precision = "fp32",
        crew: Team | None = None,
        model: GaitPart | None = None,
    ) -> None:
        self.crew = crew or Team(torch.device("cpu"))
        self.recipe, self.precision = recipe, precision
        torch.manual_seed(recipe.seed)
        self.model = (model or GaitPart(config)).to(self.crew.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=recipe.learning_rate)
        self.scaler = torch.amp.GradScaler(self.crew.device.type, enabled=precision == "fp16")
        alone = self.crew.world == 1
        self.network: torch.nn.Module = self.model if alone else DistributedDataParallel(self.model)

    def step(self, iteration: int, silhouettes: Tensor, labels: Tensor) -> Step:
        """Train on one batch; where loss or gradient are not finite the weights stay as they are.

        iteration: counted from 1, for the learning rate. silhouettes: this process's rows of the
        batch, [rows, frames, 64, 44] uint8. labels: of the whole batch, [world·rows].
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(iteration)
        device = self.crew.device
        silhouettes = silhouettes.to(device, non_blocking=True)
        with torch.autocast(device.type, _DTYPES[self.precision], enabled=self.precision != "fp32"):
            embeddings = self.network(silhouettes)
        embeddings = self.crew.gather(embeddings.float())
        loss, nonzero = separate_triplet_loss(embeddings, labels.to(device), self.recipe.margin)
        self.optimizer.zero_grad(set_to_none=True)
        # DistributedDataParallel takes the mean of the processes' gradients; ours are shares of a sum.
        torch.autograd.backward(self.scaler.scale(loss * self.crew.world))
        self.scaler.unscale_(self.optimizer)
        clip = math.inf if self.recipe.clip is None else self.recipe.clip
        gradient = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        norm = embeddings.detach().norm(dim=2).mean()
        # One look at a GPU's figures, when all its work but the update is under way.
        figures = torch.stack([loss.detach(), nonzero, norm, gradient]).tolist()
        seen = Step(figures[0], figures[1], figures[2], self._broken(figures[0], figures[3]))
        if not seen.broken:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return seen

    def _broken(self, loss: float, gradient: float) -> str:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        # In fp16 a gradient overflows now and then: the scaler leaves that step out and lowers its scale.
        if not math.isfinite(gradient) and (not self.scaler.is_enabled() or self.scaler.get_scale() <= 1):
            return f"the gradient is {gradient}"
        return ""

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, for load_state."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what state() gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled() and state["scaler"]:  # empty where it was saved in another precision
            self.scaler.load_state_dict(state["scaler"])
