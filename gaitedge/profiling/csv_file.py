"""A profile's rows as CSV, for spreadsheets: a line a configuration, units in the names of the columns."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

from gaitedge.files import atomic_write
from gaitedge.profiling.document import Configuration, Document, Energy, Figures, Memory, Row
from gaitedge.profiling.figures import Distribution

__all__ = ["columns", "write_csv"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(document: Document, path: Path) -> None:
    """Write one line for the columns' names and one for each row, whole or not at all.

    What was not measured is an empty cell; `failed` says why where nothing was.
    """
    text = io.StringIO()
    writer = csv.writer(text)  # RFC 4180
    writer.writerow(columns())
    for row in document.rows:
        writer.writerow([_cell(value) for _, value in _fields(row)])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def columns() -> list[str]:
    """The names of the columns, in their order."""
    return [name for name, _ in _fields(None)]


def _fields(row: Row | None) -> Iterator[tuple[str, object]]:
    """Every column's name, with what a row has there."""
    for field in dataclasses.fields(Configuration):
        yield field.name, None if row is None else getattr(row.configuration, field.name)
    for name in ("failed", "description", "load_ms", "first_run_ms", "warmup_runs"):
        yield name, None if row is None else getattr(row, name)
    for name in ("calls_per_second", "sequences_per_second", "frames_per_second"):
        yield name, None if row is None else getattr(row, name)
    figures = None if row is None else row.figures
    for field in dataclasses.fields(Figures):
        found = None if figures is None else getattr(figures, field.name)
        for each in dataclasses.fields(Distribution):
            yield f"{field.name}_{each.name}", None if found is None else getattr(found, each.name)
    memory = None if row is None else row.memory
    for field in dataclasses.fields(Memory):
        yield f"{field.name}_bytes", None if memory is None else getattr(memory, field.name)
    energy = None if row is None else row.energy
    for field in dataclasses.fields(Energy):
        yield f"energy_{field.name}", None if energy is None else getattr(energy, field.name)
    yield "warnings", None if row is None else "; ".join(row.warnings)


def _cell(value: object) -> object:
    """A text that a spreadsheet would take for a formula is quoted."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
