"""What the commands share: one line for an error, tables, progress, and JSON on stdout alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol

import typer

from gaitedge.errors import GaitEdgeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Progress(Protocol):
    """Called with how much is done, of how much, and a new label if that changes."""

    def __call__(self, done: int, total: int, name: str = ...) -> None: ...


__all__ = ["Group", "Json", "fail", "print_json", "progress_bar", "say", "table"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


class Group(typer.core.TyperGroup):
    """Turns what the user can mend into one line and exit 1; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GaitEdgeError as error:
            fail(str(error))
        except BrokenPipeError:
            raise  # the reader of our output has left: typer ends quietly
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            fail(f"{error.strerror or error}{where}")
        except KeyboardInterrupt:
            fail("interrupted; what was finished before is kept, nothing is half-written")


def fail(message: str) -> NoReturn:
    """Print one line on stderr and exit with 1."""
    print(f"gaitedge: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(1)


def say(text: str = "") -> None:
    """Print text on stdout; rich markup is understood, and no line is broken that need not be."""
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(text)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns whose cells are numbers stand to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    cells = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    for number, column in enumerate(columns):
        values = [row[number].rstrip("%×") for row in cells if row[number] != "–"]
        numeric = bool(values) and all(_is_number(value) for value in values)
        grid.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        grid.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a file or a pipe has no width that a table should be squeezed into
        console = Console(highlight=False, markup=False, width=160)
    console.print(grid)


def print_json(value: object) -> None:
    """Print one JSON document. Dataclasses become objects, paths strings, NumPy numbers numbers."""
    print(json.dumps(value, default=_plain, indent=2))  # noqa: T201


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A progress bar on stderr; yields a function of done, total and, where it changes, the label."""
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    columns = [
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    ]
    with bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total, name=label: bar.update(task, completed=done, total=total, description=name)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "item"):  # a NumPy scalar; NumPy itself is not imported for this
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True
