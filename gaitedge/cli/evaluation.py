"""Commands that judge a model and its engines: eval, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaitedge.cli.console import (
    BundleArgument,
    EngineOption,
    Json,
    ModelArgument,
    PrecisionOption,
    print_json,
    progress_bar,
    say,
    shipped,
    table,
)
from gaitedge.files import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gaitedge.evaluation import Evaluation
    from gaitedge.evaluation.reports import Table

__all__ = ["evaluate", "verify"]


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
    engine: EngineOption = "auto",
    precision: PrecisionOption = None,
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
    from gaitedge.destinations import check_destination
    from gaitedge.evaluation import plots, reports

    if markdown:
        check_destination(markdown, ".md")
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
            precision=precision,
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
            print_json({**vars(result), "paper": reports.paper(result)})
        else:
            _print_tables(result, heading)


def _print_tables(result: Evaluation, heading: str) -> None:
    from gaitedge.evaluation import reports

    say(f"{heading}: {reports.counts(result)}")
    if result.engine:
        say(f"engine: {result.engine}")
    _print(reports.tables(result))


def verify(
    bundle: BundleArgument,
    store: Annotated[Path, typer.Argument(help="Store of walks to compare on.")],
    targets: Annotated[
        str | None,
        typer.Option(
            help="Two of the bundle's, as in cpu-fp32,tensorrt-fp16, or letter for the paper's network. "
            "By default the letter and the fastest one."
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="casia-b, oumvlp or, by the store's conditions, auto.")
    ] = "auto",
    subjects: Annotated[
        str, typer.Option(help="Whom to compare on, as in casia-b/test, 075-124 or all.")
    ] = "all",
    json: Json = False,
) -> None:
    """Compare two targets of a bundle on a store: cosine by part, distances, rank-1."""
    from gaitedge.evaluation import agreement

    with progress_bar("embedding") as progress:
        names, result = agreement.verify_targets(bundle, store, targets, protocol, subjects, progress)
    if json:
        print_json({"targets": names, "comparison": result})
        return
    _print(agreement.tables(result, *names))


def _print(tables: Sequence[Table]) -> None:
    for each in tables:
        table(each.title, each.columns, each.rows)
        if each.notes:
            say("\n".join(each.notes) + "\n")
