"""Commands that make weights: train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gaitedge.cli.console import Json, print_json, say

__all__ = ["train"]


def train(
    store: Annotated[Path, typer.Argument(help="Store of aligned silhouettes.")],
    out: Annotated[Path, typer.Argument(help="Weights to write, as in runs/gait.safetensors.")],
    iterations: Annotated[int, typer.Option(min=1, help="Steps of the optimiser.")] = 3000,
    subjects: Annotated[int, typer.Option(min=2, help="Subjects in a batch.")] = 8,
    samples: Annotated[int, typer.Option(min=2, help="Sequences of each.")] = 6,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each sequence.")] = 12,
    learning_rate: Annotated[float, typer.Option(min=0, help="Adam's, at its peak.")] = 6e-4,
    seed: Annotated[int, typer.Option(help="Of the weights and the batches.")] = 0,
    json: Json = False,
) -> None:
    """Train GaitPart on a store with the separate triplet loss."""
    from gaitedge.errors import require

    require("torch", "training")
    from gaitedge.data.store import Store
    from gaitedge.training import loop

    def report(figures: dict[str, Any]) -> None:
        if not json:
            say("  ".join(f"{name} {value}" for name, value in figures.items()))

    options = loop.TrainingOptions(
        iterations=iterations,
        subjects=subjects,
        samples=samples,
        frames=frames,
        learning_rate=learning_rate,
        seed=seed,
    )
    last = loop.train(Store(store), out, options, report=report)
    if json:
        print_json({"weights": out, **last})
