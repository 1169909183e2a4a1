"""One step, against plain statements of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_silhouettes

from gaitedge.config import GaitPartConfig
from gaitedge.errors import MachineError
from gaitedge.model import GaitPart
from gaitedge.training.checkpoints import read_checkpoint, write_checkpoint
from gaitedge.training.losses import separate_triplet_loss
from gaitedge.training.presets import Precision, Recipe
from gaitedge.training.trainer import Trainer, settle_precision

SMALL = GaitPartConfig(channels=(4, 8, 8), embedding_dim=8)
RECIPE = Recipe(subjects=3, samples=2, frames=5, learning_rate=1e-2, seed=4)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def batch(seed: int) -> torch.Tensor:
    return torch.from_numpy(random_silhouettes(6, 5, seed))


def test_steps_are_adam_on_the_letter_s_loss() -> None:
    """Kingma & Ba's update, written out, on gradients of the paper's letter."""
    trainer = Trainer(SMALL, RECIPE)
    torch.manual_seed(RECIPE.seed)
    plain = GaitPart(SMALL)
    first, second = ([torch.zeros_like(p) for p in plain.parameters()] for _ in range(2))
    for iteration in (1, 2, 3):
        seen = trainer.step(iteration, batch(iteration), LABELS)
        loss, nonzero = separate_triplet_loss(plain(batch(iteration), letter=True), LABELS, 0.2)
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        assert seen.loss == pytest.approx(loss.item(), rel=1e-4)
        assert seen.nonzero == pytest.approx(nonzero.item(), abs=0.02)
        with torch.no_grad():
            for p, g, m, v in zip(plain.parameters(), gradients, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                step = m / (1 - 0.9**iteration) / ((v / (1 - 0.999**iteration)).sqrt() + 1e-8)
                p.sub_(1e-2 * step)
    ours, theirs = trainer.model.weights(), plain.weights()
    for name, array in ours.items():
        # Where a gradient is nearly zero Adam's first steps follow its sign, rounding and all.
        assert np.mean(np.isclose(array, theirs[name], atol=1e-3)) > 0.98, name


def test_the_rate_of_the_recipe_is_used() -> None:
    recipe = dataclasses.replace(RECIPE, iterations=100, schedule="cosine")
    trainer = Trainer(SMALL, recipe)
    for iteration in (1, 50, 100):
        trainer.step(iteration, batch(0), LABELS)
        assert trainer.optimizer.param_groups[0]["lr"] == recipe.rate(iteration)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_that_goes_on_is_the_same_bit_for_bit(precision: Precision, tmp_path: Path) -> None:
    straight = Trainer(SMALL, RECIPE, precision)
    straight.step(1, batch(1), LABELS)
    state = read_checkpoint(write_checkpoint(tmp_path, 1, straight.state(), keep=1))
    other = Trainer(SMALL, RECIPE.changed(seed=9), precision)
    other.load_state(state)
    for trainer in (straight, other):
        trainer.step(2, batch(2), LABELS)
    ours, theirs = straight.model.weights(), other.model.weights()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_bfloat16_follows_the_same_loss_curve() -> None:
    """Weights, moments and loss stay float32; only forward and backward are rounded."""
    losses: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        trainer = Trainer(SMALL, RECIPE.changed(learning_rate=2e-3), precision)  # type: ignore[arg-type]
        losses[precision] = [trainer.step(i, batch(i % 3), LABELS).loss for i in range(1, 21)]
        assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert losses["fp32"][-1] < losses["fp32"][0]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1)
    assert losses["bf16"] != losses["fp32"]


def test_gradients_are_clipped_only_if_asked() -> None:
    """Adam divides its gradient's size away: what shows is the ratio of two steps' gradients."""

    def moments(clip: float | None) -> float:
        trainer = Trainer(SMALL, RECIPE.changed(clip=clip))
        trainer.step(1, batch(1), LABELS)
        squares = [state["exp_avg"].square().sum() for state in trainer.optimizer.state.values()]
        return float(torch.stack(squares).sum().sqrt()) / 0.1  # the norm of the gradient that Adam saw

    free = moments(None)
    assert moments(free / 10) == pytest.approx(free / 10, rel=1e-3)
    assert moments(free * 10) == pytest.approx(free, rel=1e-6)


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    trainer = Trainer(SMALL, RECIPE)
    with torch.no_grad():
        trainer.model.fc[0, 0, 0] = torch.nan
    before = {name: array.copy() for name, array in trainer.model.weights().items()}
    seen = trainer.step(1, batch(0), LABELS)
    assert np.isnan(seen.loss)
    assert seen.broken == "the loss is nan"
    after = trainer.model.weights()
    assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    """A finite loss may have one; without this look it would show a batch later, in all weights."""
    trainer = Trainer(SMALL, RECIPE)
    trainer.model.fc.register_hook(lambda gradient: gradient * torch.inf)
    before = {name: array.copy() for name, array in trainer.model.weights().items()}
    seen = trainer.step(1, batch(1), LABELS)
    assert np.isfinite(seen.loss)
    assert seen.broken in ("the gradient is nan", "the gradient is inf")
    assert all(np.array_equal(before[name], array) for name, array in trainer.model.weights().items())


def test_fp16_lowers_its_scale_before_it_gives_up() -> None:
    """Overflow is how the right scale is found; at a scale of 1 it is the training that is broken."""
    trainer = Trainer(SMALL, RECIPE)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    trainer.model.fc.register_hook(lambda gradient: gradient * torch.inf)
    seen = [trainer.step(iteration, batch(1), LABELS).broken != "" for iteration in (1, 2, 3)]
    assert seen == [False, False, True]


def test_fp16_s_gradients_are_clipped_at_their_true_size() -> None:
    moments = []
    for scale in (None, 1024.0):
        trainer = Trainer(SMALL, RECIPE.changed(clip=1e-3))
        if scale:
            trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.step(1, batch(1), LABELS)
        moments.append([state["exp_avg"] for state in trainer.optimizer.state.values()])
    assert all(torch.allclose(ours, theirs, rtol=1e-4) for ours, theirs in zip(*moments, strict=True))


def test_precisions_settle_by_the_device() -> None:
    cpu = torch.device("cpu")
    assert settle_precision("auto", cpu) in ("fp32", "bf16")
    assert settle_precision("fp32", cpu) == "fp32"
    with pytest.raises(MachineError, match="fp16 training needs a GPU: use bf16 or fp32"):
        settle_precision("fp16", cpu)
