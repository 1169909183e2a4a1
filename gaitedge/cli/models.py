"""Commands that make and judge models: train, eval, export, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gaitedge.cli.console import Json, print_json, progress_bar, say, table

__all__ = ["evaluate", "export", "inspect", "train"]


ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="WEIGHTS|BUNDLE", help="A file, or walkers for the weights that come with GaitEdge."
    ),
]


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
    from gaitedge import training
    from gaitedge.data.store import Store

    def report(figures: dict[str, Any]) -> None:
        if not json:
            say("  ".join(f"{name} {value}" for name, value in figures.items()))

    options = training.TrainingOptions(
        iterations=iterations,
        subjects=subjects,
        samples=samples,
        frames=frames,
        learning_rate=learning_rate,
        seed=seed,
    )
    last = training.train(Store(store), out, options, report=report)
    if json:
        print_json({"weights": out, **last})


def evaluate(
    model: ModelArgument,
    store: Annotated[Path, typer.Argument(help="Store with gallery and probes.")],
    views: Annotated[str, typer.Option(help="Camera angles to take, as in 000,090.")] = "all",
    json: Json = False,
) -> None:
    """Measure rank-1 accuracy by CASIA-B's protocol (Sec. 4.1 of the paper)."""
    from gaitedge import evaluation

    with progress_bar("embedding") as progress:
        result = evaluation.evaluate(
            _shipped(model), store, views=None if views == "all" else views.split(","), progress=progress
        )
    if json:
        print_json(result)
        return
    angles = sorted({view for views_of in result.by_view.values() for view in views_of})
    rows = [
        [name, result.probes[name]]
        + [_percent(result.by_view[name].get(view)) for view in angles]
        + [_percent(result.means[name])]
        for name in result.by_view
    ]
    table("Rank-1 in %, identical views excluded", ["probe", "count", *angles, "mean"], rows)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f}"


def export(
    source: ModelArgument,
    out: Annotated[Path, typer.Argument(help="Bundle to write, as in walkers.gait.")],
    target: Annotated[
        Literal["auto", "cpu", "portable"], typer.Option(help="auto: cpu where an engine is installed.")
    ] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option(help="bf16 needs a processor that computes in it.")
    ] = "fp32",
    json: Json = False,
) -> None:
    """Write a .gait bundle, after its engine was found to agree with the paper's letter."""
    from gaitedge.export import exporter

    done = exporter.export(_shipped(source), out, target=target, precision=precision)
    if json:
        print_json(done)
        return
    say(f"{done.path}: {done.bytes / 1e6:.1f} MB, {done.nodes} nodes, target {done.target}")
    say(f"engine: {done.engine}")
    if done.agreement:
        say(
            f"agrees with the paper's letter ({done.agreement.reference}): largest error "
            f"{done.agreement.relative_error:.1e} of the largest value, smallest cosine "
            f"{done.agreement.cosine:.6f}"
        )


def _shipped(model: Path) -> Path:
    from gaitedge.weights import shipped_weights

    return shipped_weights() if str(model) == "walkers" and not model.exists() else model


def inspect(
    bundle: Annotated[Path, typer.Argument(help="A .gait bundle.")],
    json: Json = False,
) -> None:
    """Show what a bundle holds."""
    from gaitedge.bundle import Bundle

    manifest = Bundle.open(bundle).manifest
    if json:
        print_json(manifest)
        return
    say(f"{bundle}: model {manifest.fingerprint[:12]}, written by {manifest.written_by}, {manifest.created}")
    rows = [[name, target.engine, target.precision] for name, target in manifest.targets.items()]
    table("Targets", ["target", "engine", "precision"], rows)
    rows = [[name, f"{member.size:,}", member.sha256[:12]] for name, member in manifest.members.items()]
    table("Members", ["name", "bytes", "SHA-256"], rows)
    say(f"network: {manifest.config.to_json()}")
