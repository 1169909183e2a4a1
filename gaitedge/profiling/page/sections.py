"""The sections of a profile's page, each None where the document has nothing for it."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from gaitedge.profiling.comparison import Comparison
from gaitedge.profiling.document import Document
from gaitedge.profiling.page import charts
from gaitedge.profiling.page.parts import (
    all_warnings,
    element,
    facts,
    name_row,
    quantity,
    section,
    shown,
    size,
    table,
)
from gaitedge.profiling.page.sweep import COLUMNS, distribution, headline

__all__ = [
    "against",
    "compared",
    "energy",
    "environment",
    "head",
    "memory",
    "method",
    "summary",
    "warnings",
]


def head(document: Document) -> str:
    """What was measured, on what, when."""
    about = document.environment
    on = ", ".join(
        str(part)
        for part in (about.get("cpu"), f"{about.get('cores')} cores" if about.get("cores") else None)
        if part
    )
    number = headline(document)
    measured = None if number is None else document.rows[number]
    lines = [element("p", "GaitEdge profile", "eyebrow"), element("h1", document.bundle)]
    if measured is not None:
        lines.append(element("p", measured.description))
    lines.append(element("p", " · ".join(part for part in (on, document.created) if part)))
    return f"<header>{''.join(lines)}</header>"


def summary(document: Document) -> str:
    """The numbers that people ask for, of the best row or the only one."""
    number = headline(document)
    if number is None:
        return section("summary", "Nothing was measured", "Every configuration failed; see below why.")
    row = document.rows[number]
    figures = row.figures
    cards: list[tuple[str, str | None, str, str]] = []
    if figures is not None:
        end = figures.end_to_end
        cards.append(("latency, median", shown(end.median_ms), "ms", f"p99 {shown(end.p99_ms)} ms"))
    cards.append(
        (
            "throughput",
            quantity(row.sequences_per_second),
            "sequences/s",
            f"{quantity(row.frames_per_second)} frames/s",
        )
    )
    if row.memory is not None and row.memory.process_peak is not None:
        before = row.memory.process_before
        under = "" if before is None else f"{before / 1e6:,.0f} MB before the engine"
        cards.append(("memory, peak", f"{row.memory.process_peak / 1e6:,.0f}", "MB", under))
    if row.energy is not None:
        joules = row.energy.joules_a_sequence
        if joules is None:
            why = "no sensor that may be read" if row.energy.sensor is None else "no more than idle"
            cards.append(("energy", "–", "", why))
        else:
            watts = f"{quantity(row.energy.average_watts)} W, idle {quantity(row.energy.idle_watts)} W"
            cards.append(("energy", quantity(joules), "J/sequence", watts))
    if document.against is not None:
        speed = document.against.speedup
        cards.append(
            (
                f"against {document.against.name.partition(',')[0]}",
                f"{speed.ratio:.2f}",
                "×",
                f"{document.against.verdict}, {speed.low:.2f} to {speed.high:.2f}",
            )
        )
    inner = "".join(
        f"<div>{element('dt', name)}<dd>{escape(str(value))} <small>{escape(unit)}</small>"
        f'<div class="under">{escape(under)}</div></dd></div>'
        for name, value, unit, under in cards
    )
    best = element("p", f"Of {name_row(row.configuration)}.", "about") if len(document.rows) > 1 else ""
    return f'<div id="summary"><dl class="cards">{inner}</dl>{best}</div>'


def warnings(document: Document) -> str | None:
    """What may make the figures mean less than they seem to."""
    found = all_warnings(document)
    if not found:
        return None
    items = "".join(element("li", warning) for warning in found)
    return f'<section id="warnings" class="warnings"><h2>To bear in mind</h2><ul>{items}</ul></section>'


def compared(comparison: Comparison | None) -> str | None:
    """Faster, slower, or not distinguishable from an earlier profile."""
    if comparison is None:
        return None
    rows = [
        [
            name_row(pair.after),
            f"{shown(pair.before_ms)} → {shown(pair.after_ms)}",
            (f"{pair.end_to_end.ratio:.3f}×", pair.end_to_end.ratio),
            f"{pair.end_to_end.low:.3f} to {pair.end_to_end.high:.3f}",
            pair.verdict,
        ]
        for pair in comparison.pairs
    ]
    chart = ""
    if len(comparison.pairs) == 1:
        found = comparison.pairs[0].end_to_end
        chart = f'<div class="chart">{charts.interval(found.ratio, found.low, found.high, "Speedup")}</div>'
    notes = [*comparison.notes, *(note for pair in comparison.pairs for note in pair.notes)]
    return section(
        "comparison",
        "Compared",
        f"Before: {comparison.before}. After: {comparison.after}. Above 1, after is faster.",
        chart,
        table(
            ["configuration", "median ms", "speedup", "95 % interval", ""],
            rows,
            texts=(0, 4),
            sortable=len(rows) > 1,
        ),
        "".join(element("p", note, "about") for note in dict.fromkeys(notes)),
    )


def against(document: Document) -> str | None:
    """Something else on the same inputs, in turns."""
    found = document.against
    if found is None:
        return None
    row = document.rows[found.row]
    own = row.figures
    lines = [["this", *distribution(own.end_to_end)]] if own is not None else []
    lines.append([found.name, *distribution(found.figures.end_to_end)])
    speed = found.speedup
    return section(
        "against",
        f"Against {found.name}",
        f"The same inputs in the same run, in turns, {name_row(row.configuration)}: "
        f"{found.verdict}, {speed.ratio:.2f}× (95 % interval {speed.low:.2f} to {speed.high:.2f}); "
        f"the embeddings differ by {found.largest_difference:.1e} at most, relative to the largest.",
        f'<div class="chart">{charts.interval(speed.ratio, speed.low, speed.high, "Speedup")}</div>',
        table(["end to end, ms", *COLUMNS], lines),
    )


def energy(document: Document) -> str | None:
    """Joules, or why there are none."""
    rows = [row for row in document.rows if row.energy is not None]
    if not rows:
        return None
    reasons = dict.fromkeys(row.energy.absent for row in rows if row.energy and row.energy.absent)
    measured = [row for row in rows if row.energy and row.energy.sensor]
    lines = [
        [
            name_row(row.configuration),
            row.energy.sensor,
            *(
                quantity(value)
                for value in (
                    row.energy.joules_a_sequence,
                    row.energy.joules_a_sequence_whole,
                    row.energy.average_watts,
                    row.energy.idle_watts,
                )
            ),
        ]
        for row in measured
        if row.energy is not None
    ]
    columns = ["configuration", "sensor", "J/sequence", "J/sequence, with idle", "W", "idle W"]
    return section(
        "energy",
        "Energy",
        "Idle power was measured just before, with nothing of ours running, and subtracted." if lines else "",
        table(columns, lines, texts=(0, 1), sortable=len(lines) > 1) if lines else "",
        *(element("p", f"Not measured: {reason}") for reason in reasons),
    )


def memory(document: Document) -> str | None:
    """Peak memory of each row's own process."""
    rows = [row for row in document.rows if row.memory is not None]
    if not rows:
        return None
    lines = [
        [
            name_row(row.configuration),
            size(row.memory.process_peak),
            size(row.memory.process_before),
            size(row.memory.device_peak),
        ]
        for row in rows
        if row.memory is not None
    ]
    return section(
        "memory",
        "Memory",
        "Resident, in MB; each configuration ran in processes of its own.",
        table(["configuration", "peak", "before the engine", "of the GPU"], lines, sortable=len(lines) > 1),
    )


def environment(document: Document) -> str:
    """The machine, and what its clocks did."""
    row = next((row for row in document.rows if row.clocks), None)
    clocks = ""
    if row is not None:
        clocks = f"<details><summary>Clocks, temperatures, load</summary>{facts(_flat(row.clocks))}</details>"
    return section("environment", "Machine", "", facts(_flat(document.environment)), clocks)


def method(document: Document) -> str:
    """How to do it again."""
    return section(
        "method",
        "How it was measured",
        "",
        f"<p><code>{escape(document.command)}</code></p>" if document.command else "",
        facts([("model", document.fingerprint), *_flat(document.settings)]),
    )


def _flat(values: dict[str, Any], above: str = "") -> list[tuple[str, object]]:
    """Nested settings as names and values."""
    found: list[tuple[str, object]] = []
    for key, value in values.items():
        name = f"{above}{key}".replace("_", " ")
        if isinstance(value, dict) and value:
            found += _flat(value, f"{name}, ")
        elif isinstance(value, (list, tuple)):
            found.append((name, ", ".join(map(str, value)) or "none"))
        elif isinstance(value, bool):
            found.append((name, "yes" if value else "no"))
        else:
            found.append((name, json.dumps(value) if isinstance(value, (dict, list)) else value))
    return found
