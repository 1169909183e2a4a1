"""An evaluation as tables: the form of Tab. 3 and Tab. 4, with the paper's own figures beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gaitedge.evaluation.protocols import OU_MVLP, PROTOCOLS, Protocol
from gaitedge.evaluation.published import MISPRINT, PUBLISHED, WITH_GALLERY, Published
from gaitedge.evaluation.results import Evaluation
from gaitedge.files import atomic_write

__all__ = ["Table", "counts", "markdown", "paper", "percent", "save_markdown", "tables"]

SHOWN_RANKS = (1, 5, 10, 20)
OURS, OURS_WITH_GALLERY = "this model", "this model, probes with gallery"


@dataclass(frozen=True)
class Table:
    """What a table says; None is a figure that there is not."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()


def tables(result: Evaluation) -> list[Table]:
    """Rank-1 by view in the form of Tab. 3 or Tab. 4; then CMC and verification, which the paper lacks.

    The paper's figures stand beside ours where the views are those of its data set, and say that they are
    of that data set: the store may hold another one.
    """
    protocol = PROTOCOLS[result.protocol]
    rank1 = _by_probe_view(result, protocol) if protocol is OU_MVLP else _by_probe_set(result, protocol)
    return [rank1, _other_figures(result)]


def _by_probe_set(result: Evaluation, protocol: Protocol) -> Table:
    """Tab. 3: a row is a probe set and a method, a column a probe view."""
    rows: list[list[object]] = []
    for name, figures in result.probe_sets.items():
        every, known = figures.all_probes, figures.with_gallery
        rows.append([name, OURS, every.probes, *map(percent, every.by_view.values()), percent(every.mean)])
        if known != every:
            shares = map(percent, known.by_view.values())
            rows.append([name, OURS_WITH_GALLERY, known.probes, *shares, percent(known.mean)])
        for row in paper(result):
            if row.probe_set == name:
                label = _label(row.method, protocol)
                rows.append([name, label, None, *map(_tenth, row.by_view), _tenth(row.mean)])
    notes = [MISPRINT] if paper(result) else []
    columns = ["probe", "rank-1 of", "probes", *map(_degrees, result.views), "mean"]
    return Table(_title(protocol), columns, rows, notes)


def _by_probe_view(result: Evaluation, protocol: Protocol) -> Table:
    """Tab. 4: a row is a probe view, a column a method."""
    (figures,) = result.probe_sets.values()
    every, known, papers = figures.all_probes, figures.with_gallery, paper(result)
    columns = ["probe", OURS, OURS_WITH_GALLERY, *(_label(each.method, protocol) for each in papers)]
    rows: list[list[object]] = [
        [
            _degrees(view),
            percent(every.by_view[view]),
            percent(known.by_view[view]),
            *(_tenth(each.by_view[number]) for each in papers),
        ]
        for number, view in enumerate(result.views)
    ]
    means = [_tenth(each.mean) for each in papers]
    rows.append(["mean", percent(every.mean), percent(known.mean), *means])
    with_and_without = (
        f"{every.probes} probes, {known.probes} of them with a sequence of their subject in the gallery of "
        "another view. A probe without one in a pair of views counts as wrong there; “probes with gallery” "
        "leaves it out there."
    )
    notes = [with_and_without]
    if papers:
        notes.append(f"With gallery, the paper's GaitPart has a mean of {WITH_GALLERY} on {protocol.title}.")
    return Table(_title(protocol), columns, rows, notes)


def _other_figures(result: Evaluation) -> Table:
    rows: list[list[object]] = []
    names = ("1e-1", "1e-2", "1e-3", "1e-4")
    for name, figures in result.probe_sets.items():
        cmc, found = figures.all_probes.cmc, figures.verification
        row: list[object] = [name]
        row += [percent(cmc[rank - 1]) if cmc else None for rank in SHOWN_RANKS]
        row += [percent(found.eer, 2) if found else None, f"{found.threshold:.4g}" if found else None]
        row += [percent(found.tar_at_far[far]) if found else None for far in names]
        row += [found.genuine if found else None, found.impostor if found else None]
        rows.append(row)
    columns = ["probe", *(f"rank {rank}" for rank in SHOWN_RANKS), "EER", "at distance"]
    columns += [*(f"TAR at {far}" for far in names), "genuine pairs", "impostor pairs"]
    return Table("Identification by rank, and verification, in %; TAR at a FAR", columns, rows)


def save_markdown(result: Evaluation, path: Path, heading: str) -> None:
    """Write the tables as Markdown under a heading. Raises OSError where it cannot be written."""
    protocol = PROTOCOLS[result.protocol]
    lines = [f"# {heading}", ""]
    lines += [f"{protocol.title}'s protocol: {counts(result)}.", ""]
    lines += [f"Engine: {result.engine}.", ""] if result.engine else []
    for each in tables(result):
        lines += [f"## {each.title}", "", *markdown(each.columns, each.rows)]
        lines += ["", *(part for note in each.notes for part in (note, ""))]
    with atomic_write(path) as file:
        file.write("\n".join(lines).encode())


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table; None is a figure that there is not."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [_line(["–" if cell is None else cell for cell in line]) for line in lines]


def counts(result: Evaluation) -> str:
    """How much was compared, in words."""
    return (
        f"{result.subjects} subjects, {result.gallery} gallery sequences, {result.probes} probes, "
        f"{len(result.views)} views"
    )


def percent(share: float | None, digits: int = 1) -> str | None:
    """A share from 0 to 1 as percent, None as None."""
    return None if share is None else f"{100 * share:.{digits}f}"


def paper(result: Evaluation) -> tuple[Published, ...]:
    """The paper's figures by the same protocol, in %; none where the views are not those of its data set."""
    protocol = PROTOCOLS[result.protocol]
    return PUBLISHED[protocol.name] if result.views == protocol.views else ()


def _title(protocol: Protocol) -> str:
    gallery = " to ".join(dict.fromkeys((protocol.gallery[0], protocol.gallery[-1])))
    return f"Rank-1 in %, {protocol.title}'s protocol, gallery {gallery}, identical views excluded"


def _label(method: str, protocol: Protocol) -> str:
    return f"{method} in the paper, on {protocol.title}"


def _degrees(view: str) -> str:
    return f"{int(view)}°" if view.isdecimal() else view


def _tenth(figure: float) -> str:
    return f"{figure:.1f}"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
