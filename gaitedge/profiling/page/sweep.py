"""The sections of a profile's page that show each row: the sweep, and a row's latency."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gaitedge.profiling.document import Document, Row
from gaitedge.profiling.figures import Distribution
from gaitedge.profiling.page import charts
from gaitedge.profiling.page.parts import (
    FIGURES,
    METRICS,
    element,
    facts,
    ms,
    name_row,
    name_variant,
    quantity,
    section,
    shown,
    table,
)

__all__ = ["COLUMNS", "distribution", "headline", "row_panels", "sweep"]


def sweep(document: Document) -> str | None:
    """All configurations: a heat map of batch and frames, and a table to sort."""
    if len(document.rows) < 2:
        return None
    batches = sorted({row.configuration.batch for row in document.rows})
    lengths = sorted({row.configuration.frames for row in document.rows})
    parts = []
    if len(batches) > 1 or len(lengths) > 1:
        variants = dict.fromkeys(name_variant(row.configuration) for row in document.rows)
        measured = [row for row in document.rows if row.failed is None]
        metrics = {
            key: f"{metric.name}, {metric.unit}"
            for key, metric in METRICS.items()
            if any(metric.of(row) for row in measured)
        }
        parts.append(
            '<div class="choices">'
            f"{_choice('variant', 'configuration', {name: name for name in variants})}"
            f"{_choice('metric', 'shown', metrics or {'median': 'median latency, ms'})}</div>"
            f"{_heat_map(document, batches, lengths)}"
        )
    return section(
        "sweep",
        "Sweep",
        _best(document),
        *parts,
        _rows_table(document),
    )


def row_panels(document: Document) -> str:
    """Figures and distribution of each row, one shown at a time."""
    at_first = headline(document) or 0
    options = {str(number): name_row(row.configuration) for number, row in enumerate(document.rows)}
    choice = f'<div class="choices">{_choice("row", "configuration", options, str(at_first))}</div>'
    panels = "".join(
        f'<div data-panel="{number}"{"" if number == at_first else " hidden"}>{_panel(row)}</div>'
        for number, row in enumerate(document.rows)
    )
    return section(
        "latency",
        "Latency",
        "Of a call, in ms, by trtexec's rules: a percentile is the largest value once the slowest share is "
        "left out. First runs and warm-up are in none of them.",
        choice if len(document.rows) > 1 else "",
        panels,
    )


def headline(document: Document) -> int | None:
    """The row whose numbers stand at the top."""
    if document.best is not None and document.best.row is not None:
        return document.best.row
    return next((number for number, row in enumerate(document.rows) if row.figures is not None), None)


def _best(document: Document) -> str:
    best = document.best
    if best is None:
        return ""
    said = []
    if best.bound_ms is not None:
        bound = f"a p99 within {best.bound_ms:g} ms"
        if best.within_bound is None:
            said.append(f"Nothing has {bound}.")
        else:
            named = name_row(document.rows[best.within_bound].configuration)
            said.append(f"Most frames a second with {bound}: {named}.")
    for what, number in (("Most frames a second", best.throughput), ("Least p99", best.latency)):
        if number is not None:
            said.append(f"{what}: {name_row(document.rows[number].configuration)}.")
    return " ".join(said)


def _heat_map(document: Document, batches: Sequence[int], lengths: Sequence[int]) -> str:
    first = name_variant(document.rows[0].configuration)
    medians = {
        (row.configuration.batch, row.configuration.frames): METRICS["median"].of(row)
        for row in document.rows
        if name_variant(row.configuration) == first
    }
    head = "".join(f'<th scope="col">{length} frame{"" if length == 1 else "s"}</th>' for length in lengths)
    body = "".join(
        f'<tr><th scope="row">batch {batch}</th>'
        + "".join(
            f'<td data-batch="{batch}" data-frames="{length}">{shown(medians.get((batch, length)))}</td>'
            for length in lengths
        )
        + "</tr>"
        for batch in batches
    )
    return (
        '<h3 id="heat-unit">median latency, ms</h3><div class="scroll"><table class="heat" id="heat" '
        f'aria-labelledby="heat-unit"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _rows_table(document: Document) -> str:
    columns = ["configuration", "batch", "frames", "median ms", "p99 ms", "sequences/s", "frames/s", ""]
    lines: list[list[object]] = []
    attributes: list[dict[str, object]] = []
    for number, row in enumerate(document.rows):
        end = None if row.figures is None else row.figures.end_to_end
        lines.append(
            [
                name_variant(row.configuration),
                row.configuration.batch,
                row.configuration.frames,
                ms(None if end is None else end.median_ms),
                ms(None if end is None else end.p99_ms),
                _sortable(row.sequences_per_second),
                _sortable(row.frames_per_second),
                row.failed or _praise(document, number),
            ]
        )
        attributes.append({"data-row": number})
    return table(columns, lines, texts=(0, 7), sortable=True, lines=attributes)


def _praise(document: Document, number: int) -> str:
    best = document.best
    if best is None:
        return ""
    named = {"most frames/s": best.throughput, "least p99": best.latency, "within bound": best.within_bound}
    return ", ".join(name for name, which in named.items() if which == number)


COLUMNS = ("runs", "min", "mean", "median", "p90", "p95", "p99", "max", "variation")


def _panel(row: Row) -> str:
    if row.figures is None:
        return element("p", f"Not measured: {row.failed}", "failed")
    lines = [
        [name, *distribution(found)]
        for field, name in FIGURES.items()
        if (found := getattr(row.figures, field)) is not None
    ]
    parts = [table(["ms", *COLUMNS], lines)]
    samples = [value for repeat in row.samples_ms for value in repeat]
    if samples:
        parts += [
            "<h3>How often a run took how long</h3>",
            f'<div class="chart">{charts.histogram(samples, "Latency, end to end")}</div>',
            "<h3>In the order of the runs</h3>",
            f'<div class="chart">{charts.run_order([each for each in row.samples_ms if each], "Runs")}</div>',
        ]
    apart = [
        ("to load the engine", row.load_ms),
        ("first run", row.first_run_ms),
    ]
    parts.append(
        facts(
            [
                *((name, f"{shown(value)} ms") for name, value in apart if value is not None),
                ("warm-up", f"{row.warmup_runs} runs"),
            ]
        )
    )
    return "".join(parts)


def distribution(found: Distribution) -> list[object]:
    values = (found.min_ms, found.mean_ms, found.median_ms, found.p90_ms, found.p95_ms, found.p99_ms)
    return [found.runs, *map(ms, (*values, found.max_ms)), f"{100 * found.variation:.1f} %"]


def _choice(name: str, label: str, options: dict[str, str], chosen: str = "") -> str:
    inner = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(text)}</option>'
        for value, text in options.items()
    )
    return f'<label for="{name}">{escape(label)} <select id="{name}">{inner}</select></label>'


def _sortable(value: float | None) -> tuple[str, float] | None:
    return None if value is None else (quantity(value) or "", value)
