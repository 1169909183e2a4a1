"""Training: a plain loop over the separate triplet loss (Sec. 3.4, Sec. 4.1)."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gaitedge.config import GaitPartConfig
from gaitedge.errors import GaitEdgeError, InputError
from gaitedge.machine.cpu import cpu_features
from gaitedge.model import GaitPart
from gaitedge.training.losses import separate_triplet_loss
from gaitedge.training.sampling import BatchSampler
from gaitedge.weights import check_destination, save_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from gaitedge.data.store import Store

__all__ = ["TrainingOptions", "train"]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. The defaults are the recipe of the shipped weights, not the paper's for CASIA-B."""

    iterations: int = 3000
    subjects: int = 8
    """P: subjects in a batch."""
    samples: int = 6
    """K: sequences of each."""
    frames: int = 12
    """Frames of each sequence; 30 in Sec. 3.4."""
    learning_rate: float = 6e-4
    """Of Adam at the peak; it warms up over 3 % of the iterations and falls to zero as a cosine."""
    margin: float = 0.2
    """Of the triplet loss."""
    bfloat16: bool | None = None
    """Run forward and backward under bfloat16 autocast; None: where the CPU computes in it."""
    seed: int = 0


def train(
    store: Store,
    out: Path,
    options: TrainingOptions | None = None,
    *,
    config: GaitPartConfig | None = None,
    among: set[str] | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    save_every: int = 200,
) -> dict[str, Any]:
    """Train on `store` and write the weights to `out`, now and then on the way too.

    among: the subjects to train on, all of the store's if None. report is called with a dict of
    figures every 20 iterations; the same go to `out` with the suffix .jsonl, a line each; the last
    are returned.
    Raises InputError where the store has too few subjects, WeightsError where `out` cannot be
    written, GaitEdgeError where the loss is not finite; what was written before stays.
    """
    options = options or TrainingOptions()
    out = check_destination(out)
    if options.iterations < 1:
        raise InputError(f"a training needs at least 1 iteration, not {options.iterations}")
    everyone = {sequence.subject for sequence in store.sequences}
    sampler = BatchSampler(
        store,
        everyone if among is None else among,
        subjects=options.subjects,
        samples=options.samples,
        frames=options.frames,
        seed=options.seed,
    )
    torch.manual_seed(options.seed)
    model = GaitPart(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    warm_up = max(1, round(0.03 * options.iterations))
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=warm_up),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, options.iterations - warm_up)),
        ],
        milestones=[warm_up],
    )
    autocast = bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_features())
    autocast = autocast if options.bfloat16 is None else options.bfloat16
    figures: dict[str, Any] = {}
    began = time.perf_counter()
    with out.with_suffix(".jsonl").open("w") as log:
        for iteration in range(1, options.iterations + 1):
            silhouettes, labels = sampler.draw()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                embeddings = model(torch.from_numpy(silhouettes))
            loss, nonzero = separate_triplet_loss(embeddings, torch.from_numpy(labels), options.margin)
            if not torch.isfinite(loss):
                raise GaitEdgeError(
                    f"the loss is {loss.item()} at iteration {iteration}; lower the learning rate"
                )
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            if iteration % 20 == 0 or iteration == options.iterations:
                seconds = time.perf_counter() - began
                figures = {
                    "iteration": iteration,
                    "loss": round(loss.item(), 5),
                    "nonzero": round(nonzero.item(), 4),
                    "norm": round(embeddings.detach().float().norm(dim=2).mean().item(), 3),
                    "learning_rate": schedule.get_last_lr()[0],
                    "seconds": round(seconds, 1),
                }
                log.write(json.dumps(figures) + "\n")
                log.flush()
                if report:
                    report(figures)
            if iteration % save_every == 0 or iteration == options.iterations:
                save_weights(out, model.config, model.weights())
    return figures
