"""What a profile may say of one of its rows: layers and roofline, and something else in turns with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from gaitedge.bundle import Bundle
from gaitedge.errors import GaitEdgeError, MachineError, one_line
from gaitedge.profiling.against import measure_against
from gaitedge.profiling.document import Document, Roofline
from gaitedge.profiling.inputs import make_inputs
from gaitedge.profiling.layers import measure_layers
from gaitedge.profiling.roofline import measure_roofline
from gaitedge.profiling.sweep import best
from gaitedge.profiling.variants import Variants

__all__ = ["add_against", "add_layers", "chosen_row"]

_APART = 0.1  # of a call, beyond which it is told that its layers are not all of it


def chosen_row(document: Document) -> int:
    """Number of the row that is looked into: the best one (Best.row) of those with one stream.

    What looks into it makes one call after the other; only where every row has several streams is it the best
    of them. Raises MachineError, with the first reason, where no row was measured.
    """
    measured = [number for number, row in enumerate(document.rows) if row.figures is not None]
    single = [number for number in measured if document.rows[number].configuration.streams == 1]
    numbers, bound = single or measured, None if document.best is None else document.best.bound_ms
    found = best([document.rows[number] for number in numbers], bound).row
    if found is not None:
        return numbers[found]
    why = next((row.failed for row in document.rows if row.failed), "it has no rows")
    raise MachineError(f"nothing was measured that could be looked into: {why}")


def add_layers(
    document: Document,
    bundle: Path,
    *,
    seconds: float = 3.0,
    inputs: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Document:
    """Add layers and roofline of the chosen row.

    bundle, inputs: as gaitedge.profiling.profile.profile took them. seconds: for each of the two. A limit of
    this machine that cannot be measured is a warning, and the blocks are held against none. Raises what
    measure_layers does.
    """
    say = progress or _silent
    number = chosen_row(document)
    row = document.rows[number].configuration
    warnings = list(document.warnings)
    roofline: Roofline | None = None
    say("roofline")
    try:
        roofline = measure_roofline(row, seconds=seconds)
    except GaitEdgeError as error:
        warnings.append(f"no roofline: {one_line(error)}")
    say("layers")
    with Variants(Bundle.open(bundle)) as variants:
        path, _, _ = variants.find(row.plan, row.engine, row.precision)
        calls = make_inputs(inputs, row.batch, row.frames, _seed(document), 0)
        layers = measure_layers(path, row, number, seconds=seconds, inputs=calls, roofline=roofline)
    told = layers.sum_ms / layers.total_ms
    if abs(told - 1) > _APART:
        warnings.append(
            f"the layers take {told:.0%} of a call: the rest is beside them, such as copies, waiting, "
            "other programs"
        )
    if all(block.bytes is None for block in layers.blocks):
        warnings.append(
            f"no bytes of blocks, nor shares of the roofline: our kernels' graph is not in {row.precision}"
        )
    return dataclasses.replace(document, layers=layers, roofline=roofline, warnings=warnings)


def add_against(
    document: Document,
    bundle: Path,
    name: str,
    *,
    seconds: float = 6.0,
    repeats: int = 5,
    inputs: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> Document:
    """Add something else on the same work, in turns with the chosen row.

    name, seconds, repeats: as gaitedge.profiling.against.measure_against takes them, and raises.
    """
    number = chosen_row(document)
    row = document.rows[number]
    wanted = row.configuration
    with Variants(Bundle.open(bundle)) as variants:
        path, _, _ = variants.find(wanted.plan, wanted.engine, wanted.precision)
        calls = make_inputs(inputs, wanted.batch, wanted.frames, _seed(document), 0)
        found = measure_against(
            path, row, number, name=name, seconds=seconds, repeats=repeats, inputs=calls, progress=progress
        )
    return dataclasses.replace(document, against=found)


def _seed(document: Document) -> int:
    return int(document.settings.get("seed", 0))


def _silent(_: str) -> None:
    pass
