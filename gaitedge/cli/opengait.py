"""The command that brings OpenGait's checkpoints here: import-opengait."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaitedge.cli.console import Json, print_json, say

__all__ = ["import_opengait"]


def import_opengait(
    checkpoint: Annotated[Path, typer.Argument(help="OpenGait's, as in GaitPart-120000.pt.")],
    out: Annotated[Path, typer.Argument(help="Weights to write, as in gait.safetensors.")],
    strips: Annotated[
        str | None, typer.Option(help="p of each block; by default 1,4,8, and 1,1,8,8 of four blocks.")
    ] = None,
    json: Json = False,
) -> None:
    """Turn a GaitPart checkpoint of OpenGait into weights."""
    from gaitedge import opengait

    done = opengait.import_opengait(checkpoint, out, None if strips is None else _by_block(strips))
    if json:
        print_json(done)
        return
    config = done.config
    known = "a configuration of its own" if done.configuration == "another" else done.configuration
    channels, by_block = (", ".join(map(str, values)) for values in (config.channels, done.strips))
    say(
        f"OpenGait's GaitPart, {known}: channels {channels}, {config.parts} parts, "
        f"embeddings {config.parts}×{config.embedding_dim}"
    )
    assumed = " (assumed by the number of blocks: the weights do not say, --strips does)"
    say(f"strips by block: {by_block}{assumed if done.strips_assumed else ''}")
    iteration = "" if done.iteration is None else f", iteration {done.iteration:,}"
    say(f"{done.tensors} tensors, {done.parameters:,} parameters{iteration}")
    say(f"{done.path}: model {done.fingerprint[:12]}")


def _by_block(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of numbers such as 1,4,8", param_hint="--strips"
        ) from None
