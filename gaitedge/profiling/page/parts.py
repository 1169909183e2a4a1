"""Pieces that the sections of a profile's page are made of: escaped text, tables, figures with units."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from gaitedge.profiling.document import Configuration, Document, Row

__all__ = [
    "FIGURES",
    "METRICS",
    "Metric",
    "all_warnings",
    "cells",
    "element",
    "facts",
    "ms",
    "name_row",
    "name_variant",
    "quantity",
    "section",
    "shown",
    "size",
    "table",
]


@dataclass(frozen=True)
class Metric:
    """What the heat map can show."""

    name: str
    unit: str
    of: Callable[[Row], float | None]

    @property
    def about(self) -> dict[str, str]:
        """For the page's script."""
        return {"name": self.name, "unit": self.unit}


FIGURES = {
    "end_to_end": "end to end",
    "host_to_device": "host to device",
    "compute": "compute",
    "device_to_host": "device to host",
    "enqueue": "enqueue",
    "host": "host",
}
"""Figures' fields, as people read them."""


def _figure(field: str) -> Callable[[Row], float | None]:
    return lambda row: None if row.figures is None else float(getattr(row.figures.end_to_end, field))


METRICS = {
    "median": Metric("median latency", "ms", _figure("median_ms")),
    "p99": Metric("p99 latency", "ms", _figure("p99_ms")),
    "sequences": Metric("throughput", "sequences/s", lambda row: row.sequences_per_second),
    "frames_rate": Metric("throughput", "frames/s", lambda row: row.frames_per_second),
    "joules": Metric(
        "energy", "J/sequence", lambda row: None if row.energy is None else row.energy.joules_a_sequence
    ),
}


def element(tag: str, text: object, classes: str = "", **attributes: object) -> str:
    """An element around escaped text; of no tag, the escaped text alone."""
    inner = escape(str(text))
    if not tag:
        return inner
    named = {"class": classes, **{key.replace("_", "-"): value for key, value in attributes.items()}}
    written = "".join(f' {key}="{escape(str(value))}"' for key, value in named.items() if value != "")
    return f"<{tag}{written}>{inner}</{tag}>"


def section(name: str, title: str, about: str, *parts: str) -> str:
    """A section of the page. about: a sentence on what it shows."""
    said = element("p", about, "about") if about else ""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{escape(title)}</h2>{said}{"".join(parts)}</section>'
    )


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    texts: Sequence[int] = (0,),
    *,
    sortable: bool = False,
    lines: Sequence[dict[str, object]] = (),
) -> str:
    """A table. A cell is a text, None, or a pair of what is shown and what it is sorted by.

    texts: columns that stand to the left. lines: attributes of each row.
    """
    head = "".join(
        f'<th scope="col"{_class(number in texts)}>{escape(name)}</th>' for number, name in enumerate(columns)
    )
    body = []
    for number, row in enumerate(rows):
        attributes = lines[number] if lines else {}
        written = "".join(f' {key}="{escape(str(value))}"' for key, value in attributes.items())
        body.append(f"<tr{written}>{''.join(_cell(cell, at in texts) for at, cell in enumerate(row))}</tr>")
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(cell: object, text: bool) -> str:
    shown, key = cell if isinstance(cell, tuple) else (cell, None)
    sort = "" if key is None else f' data-value="{escape(str(key))}"'
    wide = isinstance(shown, str) and text and len(shown) > 44
    kind = ' class="wrap"' if wide else _class(text)
    return f"<td{kind}{sort}>{'–' if shown is None else escape(str(shown))}</td>"


def _class(text: bool) -> str:
    return ' class="text"' if text else ""


def facts(values: Sequence[tuple[str, object]]) -> str:
    """Names with values below each other."""
    inner = "".join(
        f"{element('dt', name)}{element('dd', 'not known' if value is None else value)}"
        for name, value in values
    )
    return f'<dl class="facts">{inner}</dl>'


def ms(value: float | None) -> tuple[str, float] | None:
    """Milliseconds for a table, with three or four figures."""
    if value is None:
        return None
    digits = 3 if value < 1 else 2 if value < 100 else 1
    return f"{value:.{digits}f}", value


def shown(value: float | None) -> str:
    """Milliseconds as text."""
    found = ms(value)
    return "–" if found is None else found[0]


def quantity(value: float | None, digits: int = 3) -> str | None:
    """A number with so many figures and commas between thousands."""
    if value is None:
        return None
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if abs(value) < 10 ** (digits - 1) else f"{value:.0f}"


def size(value: float | None) -> tuple[str, float] | None:
    """Bytes for a table, in MB."""
    return None if value is None else (f"{value / 1e6:,.1f}", value)


def name_variant(configuration: Configuration) -> str:
    """What a heat map is of: all but batch and frames."""
    parts = [configuration.engine, configuration.precision, configuration.plan]
    if configuration.threads is not None:
        parts.append("1 thread" if configuration.threads == 1 else f"{configuration.threads} threads")
    if configuration.streams != 1:
        parts.append(f"{configuration.streams} streams")
    return ", ".join(parts)


def name_row(configuration: Configuration) -> str:
    """A row in a few words."""
    return f"{configuration.batch} × {configuration.frames} frames, {name_variant(configuration)}"


def all_warnings(document: Document) -> list[str]:
    """Of the whole run and of its rows; of those that differ in their numbers alone, the first."""
    if len(document.rows) == 1:
        return list(dict.fromkeys([*document.warnings, *document.rows[0].warnings]))
    kinds: dict[str, list[str]] = {}
    for row in document.rows:
        for warning in row.warnings:
            named = f"{name_row(row.configuration)}: {warning}"
            kinds.setdefault(re.sub(r"[\d.]+", "", warning), []).append(named)
    more = {kind: len(named) - 1 for kind, named in kinds.items()}
    return [
        *dict.fromkeys(document.warnings),
        *(named[0] + (f" (and {more[kind]} more)" if more[kind] else "") for kind, named in kinds.items()),
    ]


def cells(document: Document) -> dict[str, dict[str, Any]]:
    """What the page's script knows of each row."""
    return {
        str(number): {
            "variant": name_variant(row.configuration),
            "batch": row.configuration.batch,
            "frames": row.configuration.frames,
            "failed": row.failed,
            **{key: _positive(metric.of(row)) for key, metric in METRICS.items()},
        }
        for number, row in enumerate(document.rows)
    }


def _positive(value: float | None) -> float | None:
    """The heat map's colours are logarithmic."""
    return value if value is not None and value > 0 else None
