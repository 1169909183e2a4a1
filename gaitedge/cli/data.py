"""Commands that make and read data: synth, prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gaitedge.cli.console import Json, print_json, progress_bar, say, table

__all__ = ["prepare", "synth"]


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write to; an interrupted run goes on there.")],
    subjects: Annotated[int, typer.Option(min=1, help="How many people.")] = 8,
    first: Annotated[int, typer.Option(min=1, help="Number of the first one.")] = 1,
    views: Annotated[str, typer.Option(help="Camera angles, as in 000,090; all 11 by default.")] = "all",
    conditions: Annotated[str, typer.Option(help="As in nm-01,bg-01,cl-01; all 10 by default.")] = "all",
    seed: Annotated[int, typer.Option(help="Another seed, other people.")] = 0,
    store: Annotated[bool, typer.Option("--store", help="Write a store, not images.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core by default.")] = None,
    json: Json = False,
) -> None:
    """Draw synthetic walkers in CASIA-B's raw layout: OUT/001/nm-01/090/001-nm-01-090-001.png."""
    from gaitedge.walkers.drawing import CONDITIONS, VIEWS
    from gaitedge.walkers.synthesis import synthesise

    with progress_bar("drawing") as progress:
        done = synthesise(
            out,
            subjects=subjects,
            first=first,
            views=VIEWS if views == "all" else tuple(views.split(",")),
            conditions=CONDITIONS if conditions == "all" else tuple(conditions.split(",")),
            seed=seed,
            store=store,
            workers=workers,
            progress=progress,
        )
    if json:
        print_json(done)
    else:
        say(f"{done.sequences} sequences, {done.frames} frames in {out} ({done.seconds:.1f} s)")


def prepare(
    raw: Annotated[Path, typer.Argument(help="Folder of raw silhouettes.")],
    out: Annotated[Path, typer.Argument(help="Store to write; an interrupted run goes on there.")],
    layout: Annotated[
        Literal["casia-b", "oumvlp", "opengait"], typer.Option(help="How RAW is laid out.")
    ] = "casia-b",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core by default.")] = None,
    json: Json = False,
) -> None:
    """Align raw silhouettes to 64×44 and put them into a store."""
    from gaitedge.data import preparation

    with progress_bar("aligning") as progress:
        done = preparation.prepare(raw, out, layout=layout, workers=workers, progress=progress)
    if json:
        print_json(done)
        return
    say(f"{done.sequences} sequences, {done.frames} frames in {out} ({done.seconds:.1f} s)")
    reasons: dict[str, int] = {}
    for frames in done.dropped_frames.values():
        for reason in frames.values():
            reasons[reason] = reasons.get(reason, 0) + 1
    rows = [[f"frames: {reason}", count] for reason, count in sorted(reasons.items())]
    rows += [[f"sequence {name}: {reason}", 1] for name, reason in sorted(done.dropped_sequences.items())]
    if rows:
        table("Dropped", ["what and why", "count"], rows)
        say(f"one by one: {out / 'report.json'}")
