"""The command that judges a model: eval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaitedge.cli.console import Json, ModelArgument, print_json, progress_bar, say, shipped, table
from gaitedge.files import printable

if TYPE_CHECKING:
    from gaitedge.evaluation import Evaluation

__all__ = ["evaluate"]


def evaluate(
    model: ModelArgument,
    store: Annotated[Path, typer.Argument(help="Store with gallery and probes.")],
    protocol: Annotated[
        str, typer.Option(help="casia-b, oumvlp or, by the store's conditions, auto.")
    ] = "auto",
    subjects: Annotated[
        str, typer.Option(help="Whom to evaluate on, as in casia-b/test, 075-124 or all.")
    ] = "all",
    views: Annotated[str, typer.Option(help="Camera angles to take, as in 000,090.")] = "all",
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Put the frames of each walk in a random order (Tab. 7).")
    ] = False,
    engine: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    markdown: Annotated[
        Path | None, typer.Option(metavar="OUT.md", help="Write the tables here too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="Draw distances, ROC and CMC here.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure rank-1, CMC and verification by the paper's protocols (Sec. 4.1), beside its figures."""
    from gaitedge import evaluation
    from gaitedge.evaluation import plots, reports

    if markdown:
        reports.check_destination(markdown, ".md")
    if plot:
        plots.check_plot(plot)
    with progress_bar("embedding") as progress:
        result = evaluation.evaluate(
            shipped(model),
            store,
            protocol,
            subjects,
            views=None if views == "all" else [view.strip() for view in views.split(",")],
            engine=engine,
            progress=progress,
            shuffled=shuffled,
        )
    heading = printable(f"{model.name} on {store.resolve().name}")
    try:
        if markdown:
            reports.save_markdown(result, markdown, heading)
        if plot:
            plots.save_plot(result, plot, heading)
    finally:  # on a full disk too: the figures may have taken hours
        if json:
            print_json(result)
        else:
            _print_tables(result, heading)


def _print_tables(result: Evaluation, heading: str) -> None:
    from rich.markup import escape

    from gaitedge.evaluation import reports

    say(f"{escape(heading)}: {reports.counts(result)}")
    for each in reports.tables(result):
        table(each.title, each.columns, each.rows)
        if each.notes:
            say("\n".join(each.notes) + "\n")
