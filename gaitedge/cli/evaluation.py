"""The command that judges a model: eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaitedge.cli.console import Json, ModelArgument, print_json, progress_bar, shipped, table

__all__ = ["evaluate"]


def evaluate(
    model: ModelArgument,
    store: Annotated[Path, typer.Argument(help="Store with gallery and probes.")],
    views: Annotated[str, typer.Option(help="Camera angles to take, as in 000,090.")] = "all",
    json: Json = False,
) -> None:
    """Measure rank-1 accuracy by CASIA-B's protocol (Sec. 4.1 of the paper)."""
    from gaitedge.evaluation import protocols

    with progress_bar("embedding") as progress:
        result = protocols.evaluate(
            shipped(model), store, views=None if views == "all" else views.split(","), progress=progress
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
