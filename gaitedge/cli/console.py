"""What the commands share: one line for an error, tables, progress, and JSON on stdout alone."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol, TextIO

import typer

from gaitedge.cli.interrupt import INTERRUPTED
from gaitedge.errors import GaitEdgeError
from gaitedge.files import naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class Progress(Protocol):
    """Called with how much is done, of how much, and a new label if that changes."""

    def __call__(self, done: int, total: int, name: str = ...) -> None: ...


__all__ = [
    "BundleArgument",
    "EngineOption",
    "Group",
    "Json",
    "ModelArgument",
    "PrecisionOption",
    "print_json",
    "print_lines",
    "progress_bar",
    "say",
    "shipped",
    "table",
    "training_progress",
]

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="WEIGHTS|BUNDLE",
        help="A file, or walkers for the weights that come with GaitEdge.",
        readable=False,  # what cannot be read is told by whoever reads it
    ),
]

BundleArgument = Annotated[Path, typer.Argument(help="A .gait bundle.", readable=False)]

EngineOption = Annotated[str, typer.Option(help="auto, tensorrt, cuda, openvino or onnxruntime.")]
PrecisionOption = Annotated[
    str | None, typer.Option(help="fp32, fp16, bf16, int8 or fp8; as exported by default.")
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


_STDOUT = "standard output"

# What to do about an OSError, by its number; the others say enough.
_REMEDIES = {
    errno.ENOSPC: "make room there and run the command again",
    errno.EDQUOT: "make room there and run the command again",
    errno.EFBIG: "allow larger files (ulimit -f) or choose another disk",
    errno.EACCES: "check the permissions or choose another place",
    errno.EPERM: "check the permissions or choose another place",
    errno.EROFS: "choose a place where you may write",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter one",
}


class Group(typer.core.TyperGroup):
    """Turns what the user can mend into one line and exit 1; a bug keeps its traceback."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _one_line():
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except GaitEdgeError as error:
        _fail(f"gaitedge: {error}")
    except BrokenPipeError:  # the reader of our output has left, and knows
        _fail(None)
    except OSError as error:
        parts = [error.strerror or str(error), error.filename]
        text = ": ".join(str(part) for part in parts if part)
        remedy = _REMEDIES.get(error.errno or 0)
        _fail(f"gaitedge: {text}; {remedy}" if remedy else f"gaitedge: {text}")
    except MemoryError as error:
        _fail(f"gaitedge: this machine has not enough memory: {error}; give it less at once")
    except KeyboardInterrupt:
        _fail(INTERRUPTED)


def _fail(line: str | None) -> NoReturn:
    """Print one line on stderr and exit with 1."""
    _write(sys.stdout, "")  # what it still holds
    _write(sys.stderr, f"{' '.join(line.split())}\n" if line else "")
    raise typer.Exit(1)


def _write(stream: TextIO | None, text: str) -> None:
    """Write at once. What cannot be written goes nowhere: Python would try again at its end, and complain."""
    if stream is None:  # closed before we came
        return
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # full, left by its reader, or closed
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def say(text: str = "") -> None:
    """Print text on stdout, bracketed names and all; no line is broken that need not be."""
    from rich.console import Console

    with naming(_STDOUT):
        Console(soft_wrap=True, highlight=False, markup=False).print(text)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout as they are."""
    with naming(_STDOUT):
        print("\n".join(lines), flush=True)  # noqa: T201


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns whose cells are numbers stand to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    cells = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    for number, column in enumerate(columns):
        values = [row[number].rstrip("%×") for row in cells if row[number] != "–"]
        numeric = bool(values) and all(_is_number(value) for value in values)
        grid.add_column(
            column,
            justify="right" if numeric else "left",
            overflow="fold",
            # No word of a title and no number stands in two lines, however narrow the terminal.
            min_width=max(map(len, [*column.split(), *(values if numeric else [])]), default=0),
        )
    for row in cells:
        grid.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a file or a pipe has no width that a table should be squeezed into
        console = Console(highlight=False, markup=False, width=160)
    with console.capture() as capture:
        console.print(title, style="bold", soft_wrap=True)
        console.print(grid, crop=False, no_wrap=True)
    text = "\n".join(line.rstrip() for line in capture.get().splitlines())
    with naming(_STDOUT):
        print(text, flush=True)  # noqa: T201


def shipped(model: Path) -> Path:
    """The file that a ModelArgument means."""
    from gaitedge.weights import shipped_weights

    return shipped_weights() if str(model) == "walkers" and not model.exists() else model


def print_json(value: object) -> None:
    """Print one JSON document. Dataclasses become objects, paths strings, NumPy numbers numbers."""
    with naming(_STDOUT):
        print(json.dumps(value, default=_plain, indent=2), flush=True)  # noqa: T201


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A progress bar on stderr; yields a function of done, total and, where it changes, the label.

    A total of 0 is one that is not known."""
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
        yield lambda done, total, name=label: bar.update(
            task, completed=done, total=total or None, description=name
        )


@contextlib.contextmanager
def training_progress(shown: bool = True) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show a training's figures on stderr: a bar that lives on a terminal, a line each elsewhere.

    shown: whether this process is the one that shows anything.
    """
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    columns = [
        bars.TextColumn("{task.completed}/{task.total}"),
        bars.BarColumn(None),
        bars.TextColumn("{task.description}"),
    ]
    hidden = not (shown and console.is_terminal)
    with bars.Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("starting", total=None)

        def report(figures: dict[str, Any]) -> None:
            text = training_line(figures)
            text = f"{figures['row']}  {text}" if "row" in figures else text
            if "rank1" in figures or not console.is_terminal:
                console.print(f"{figures['iteration']}/{figures['iterations']}  {text}")
            else:
                bar.update(
                    task, completed=figures["iteration"], total=figures["iterations"], description=text
                )

        yield report


def training_line(figures: dict[str, Any]) -> str:
    """A line of a training's log as people read it."""
    if "rank1" in figures:
        return "rank-1  " + "  ".join(
            f"{name} {100 * share:.1f} %" for name, share in figures["rank1"].items()
        )
    hours, seconds = divmod(round(figures["eta"]), 3600)
    return (
        f"loss {figures['loss']:.4f}  non-zero {100 * figures['nonzero']:.1f} %  "
        f"{figures['images_per_second']:,.0f} images/s  ETA {hours}:{seconds // 60:02d}:{seconds % 60:02d}"
    )


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
