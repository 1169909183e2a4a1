"""Commands that turn weights into bundles and look into them: export, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gaitedge.cli.console import Json, ModelArgument, print_json, say, shipped, table

__all__ = ["export", "inspect"]


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

    done = exporter.export(shipped(source), out, target=target, precision=precision)
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
