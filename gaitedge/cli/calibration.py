"""The command that finds what int8 stands for: calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gaitedge.cli.console import Json, ModelArgument, print_json, progress_bar, say, shipped, table
from gaitedge.errors import InputError
from gaitedge.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gaitedge.calibration.calibration import Calibration

__all__ = ["calibrate"]


def calibrate(
    model: ModelArgument,
    store: Annotated[Path, typer.Argument(help="Store of walks to show.")],
    out: Annotated[Path, typer.Argument(help="Calibration to write, as in int8.json.")],
    method: Annotated[
        Literal["minmax", "percentile", "entropy", "mse"], typer.Option(help="How a range is chosen.")
    ] = "percentile",
    subjects: Annotated[str, typer.Option(help="Whom to show, as in casia-b/train, 001-074 or all.")] = "all",
    sequences: Annotated[int, typer.Option(help="How many to show, of all views and conditions.")] = 500,
    temporal_head: Annotated[
        bool, typer.Option("--temporal-head", help="Quantise the layers behind HP too.")
    ] = False,
    equalize: Annotated[
        bool, typer.Option(help="Make the channels of each FConv equally large first.")
    ] = True,
    correct_biases: Annotated[
        bool, typer.Option("--correct-biases", help="Give each channel its mean back.")
    ] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Points of rank-1 that may be lost: keeps as few layers in floating point as that takes.",
        ),
    ] = None,
    judge_on: Annotated[
        str | None,
        typer.Option(
            help="Whom to judge that on, as in casia-b/test, not those who are shown; alone it tells what "
            "each layer costs, and keeps none."
        ),
    ] = None,
    tensorrt_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a calibration cache for TensorRT 8.x too.")
    ] = None,
    json: Json = False,
) -> None:
    """Find the ranges that int8 stands for, layer by layer, from walks of a store."""
    from gaitedge.calibration import collecting, sensitivity
    from gaitedge.calibration.refining import refine
    from gaitedge.data.splits import choose_subjects
    from gaitedge.data.store import Store
    from gaitedge.export.exporter import open_model
    from gaitedge.export.plan import layer_names

    source = shipped(model)
    if tensorrt_cache and equalize:
        raise InputError(
            "a calibration cache is for the network as it was trained, and equalised channels are not in it; "
            "give --no-equalize beside --tensorrt-cache"
        )
    if tensorrt_cache:  # all that can be told before the work
        collecting.check_destination(tensorrt_cache, source, store)
        if tensorrt_cache.resolve() == out.resolve():
            raise InputError(f"{out} is the calibration; name another file for --tensorrt-cache")
    if judge_on is not None:
        choose_subjects(judge_on, (one.subject for one in Store(store).sequences))
    more = correct_biases or max_drop is not None or judge_on is not None
    before = 0  # sequences that an interrupted run has counted

    def showing(done: int, total: int) -> None:
        nonlocal before
        before = before or done
        update(done, total, "showing walks")

    with progress_bar("showing walks") as update:
        found = collecting.calibrate(
            source,
            store,
            out,
            method,
            subjects,
            sequences,
            temporal_head=temporal_head,
            equalized=equalize,
            progress=showing,
            save=not more,
        )
        judged = None
        if more:
            found, judged = refine(
                source,
                store,
                found,
                out,
                subjects,
                corrected=correct_biases,
                max_drop=max_drop,
                judged_on=judge_on,
                progress=lambda name, done, total: update(done, total, name),
            )
    bundle = open_model(source)
    if tensorrt_cache:
        text = found.tensorrt_cache(bundle.config, bundle.weights())
        with atomic_write(tensorrt_cache) as file:
            file.write(text.encode())
    if json:
        print_json({"calibration": found, "sensitivity": judged})
        return
    if before > 1:
        say(f"{before} of {found.sequences} sequences had been counted by a run that was interrupted")
    _tell(found, layer_names(bundle.config), out)
    for each in sensitivity.tables(judged) if judged else ():
        table(each.title, each.columns, each.rows)
        say("\n".join(each.notes) + "\n")
    say(f"next: gaitedge export {model} OUT.gait --precision int8 --calibration {out}")


def _tell(found: Calibration, layers: Sequence[str], out: Path) -> None:
    say(f"{out}: {found.method} of {found.sequences} sequences, model {found.weights[:12]}")
    rows = [
        [layer, f"{found.ranges[layer]:.4g}", "floating point" if layer in found.floating else "int8"]
        for layer in layers
    ]
    table("Inputs", ["layer", "range", "computes in"], rows)
