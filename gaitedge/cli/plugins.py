"""Commands about the CUDA kernels and TensorRT plugins: build, list."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gaitedge.cli.console import Group, Json, print_json, progress_bar, say, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gaitedge.machine.kernel_build import BuildReport
    from gaitedge.machine.ptxas import Kernel

__all__ = ["plugins"]

plugins = typer.Typer(
    cls=Group, help="Build the CUDA kernels and TensorRT plugins for this machine.", no_args_is_help=True
)


@plugins.command()
def build(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the libraries; where GaitEdge looks for them by default.")
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(help="As in 87, and again for more, or all; this machine's GPUs by default."),
    ] = None,
    tensorrt_include: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of TensorRT's headers, one a major version; found by itself by default."),
    ] = None,
    nvcc: Annotated[Path | None, typer.Option(help="The compiler; found by itself by default.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where a kernel uses local memory, as by spills.")
    ] = False,
    json: Json = False,
) -> None:
    """Compile the kernels, and plugins for each TensorRT whose headers are there; needs nvcc and CMake."""
    from gaitedge.errors import MachineError
    from gaitedge.machine.kernel_build import build as build_kernels

    with progress_bar("compiling") as progress:
        done = build_kernels(out, _architectures(arch), tensorrt_include or (), nvcc, progress)
    if json:
        print_json(done)
    else:
        _show(done, out)
    if strict and done.problems:
        names = sorted({row.name for row in done.problems})
        raise MachineError(f"local memory is used by {', '.join(names)}; nothing does that should run fast")


def _architectures(given: Sequence[str] | None) -> list[int] | Literal["all"] | None:
    if not given:
        return None
    if list(given) == ["all"]:
        return "all"
    odd = next((text for text in given if not re.fullmatch("[0-9]{1,4}", text)), None)
    if odd is not None:
        raise typer.BadParameter(f"{odd[:20]!r} is no number such as 87", param_hint="--arch")
    return [int(text) for text in given]


def _show(done: BuildReport, out: Path | None) -> None:
    table(
        f"Registers of a thread, by nvcc {done.toolkit.version}",
        ["kernel", *(f"sm_{number}" for number in done.architectures)],
        register_rows(done.kernels, done.architectures),
    )
    shared = [row for row in done.kernels if row.shared]
    if shared:
        rows = [[row.name, f"sm_{row.architecture}", row.shared] for row in shared]
        table("Static shared memory of a block, bytes", ["kernel", "target", "bytes"], rows)
    if done.problems:
        table(
            "Warning: these do not fit into registers; bytes of local memory of a thread",
            ["kernel", "target", "stack", "spill stores", "spill loads"],
            [
                [row.name, f"sm_{row.architecture}", row.stack, row.spill_stores, row.spill_loads]
                for row in done.problems
            ],
        )
    for library in done.libraries:
        say(f"wrote {library.path}")
    if not done.tensorrt:
        say("no plugins: TensorRT's headers were not found; --tensorrt-include FOLDER says where they are")
    say(f"{done.seconds:.0f} s")
    say(
        f"next: export GAITEDGE_KERNELS={shlex.quote(str(out.absolute()))}"
        if out
        else "next: gaitedge plugins list"
    )


def register_rows(kernels: Sequence[Kernel], architectures: Sequence[int]) -> list[list[object]]:
    """A row a kernel: its name, then its registers for each architecture."""
    registers = {(row.name, row.architecture): row.registers for row in kernels}
    return [
        [name, *(registers.get((name, number)) for number in architectures)]
        for name in sorted({row.name for row in kernels})
    ]


@plugins.command("list")
def list_plugins(json: Json = False) -> None:
    """Which libraries are here, for which GPUs, and whether they are of this GaitEdge's sources."""
    from gaitedge.machine.kernels import build_command, find_all

    found = find_all()
    if json:
        print_json(found)
        return
    if not found:
        say(f"no libraries; run: {build_command()}")
        return
    table(
        "Libraries of the kernels",
        ["file", "for", "sources", "state"],
        [
            [
                library.path,
                " ".join(library.targets),
                library.sources[:12],
                "current" if library.current else "of other sources: build again",
            ]
            for library in found
        ],
    )
