"""What bench adds to its rows when it is asked to: layers, something else in turns, the stages of watch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from gaitedge.cli.console import progress_bar
from gaitedge.errors import GaitEdgeError, one_line
from gaitedge.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gaitedge.profiling.document import Document

__all__ = ["look_closer"]


def look_closer(
    document: Document,
    bundle: Path,
    *,
    layers: bool,
    against: str | None,
    video: str | None,
    gallery: Path | None,
    key_file: Path | None,
    trace: Path | None,
    seconds: float,
    repeats: int,
    inputs: str | None,
) -> tuple[Document, list[GaitEdgeError]]:
    """Add what was asked for beside the rows. What fails is a warning, and costs nothing else."""
    parts: dict[str, Callable[[Document], Document]] = {}
    if layers:
        parts["layers"] = lambda found: _layers(found, bundle, seconds, inputs)
    if against is not None:
        parts[f"comparison with {against}"] = lambda found: _against(
            found, bundle, against, seconds, repeats, inputs
        )
    if video is not None:
        parts[f"stages of {video}"] = lambda found: _stages(found, bundle, video, gallery, key_file, trace)
    problems = []
    for name, add in parts.items():
        try:
            document = add(document)
        except GaitEdgeError as problem:  # noqa: PERF203  (each by itself)
            problems.append(problem)
            said = printable(f"no {name}: {one_line(problem)}")
            document = dataclasses.replace(document, warnings=[*document.warnings, said])
    return document, problems


def _layers(document: Document, bundle: Path, seconds: float, inputs: str | None) -> Document:
    from gaitedge.profiling.details import add_layers

    with progress_bar("layers") as progress:
        return add_layers(
            document,
            bundle,
            seconds=seconds,
            inputs=inputs,
            progress=lambda name: progress(0, 0, name),
        )


def _against(
    document: Document, bundle: Path, name: str, seconds: float, repeats: int, inputs: str | None
) -> Document:
    from gaitedge.profiling.details import add_against

    with progress_bar(f"against {name}") as progress:
        return add_against(
            document,
            bundle,
            name,
            seconds=2 * seconds,  # for both
            repeats=repeats,
            inputs=inputs,
            progress=lambda share: progress(round(100 * share), 100),
        )


def _stages(
    document: Document,
    bundle: Path,
    video: str,
    gallery: Path | None,
    key_file: Path | None,
    trace: Path | None,
) -> Document:
    from gaitedge.bundle import Bundle
    from gaitedge.engines.frames import FrameEngineName
    from gaitedge.people.encryption import find_key
    from gaitedge.profiling.details import chosen_row
    from gaitedge.profiling.stages import measure_stages
    from gaitedge.watching.reports import Notice, Report
    from gaitedge.watching.tracing import write_chrome_trace

    key, warnings = find_key(key_file), list(document.warnings)

    def note(report: Report) -> None:  # as of a file that was cut off
        if isinstance(report, Notice) and report.event != "no threshold":
            warnings.append(printable(f"{video}: {report.event}: {report.message}"))

    row = document.rows[chosen_row(document)].configuration
    with progress_bar(f"watching {video}") as progress:
        stages, found = measure_stages(
            Bundle.open(bundle),
            video,
            gallery,
            # The frame network alone has no TensorRT engine.
            engine=row.engine if row.engine in get_args(FrameEngineName) else "auto",
            threads=row.threads,
            key=key,
            report=note,
            progress=lambda status: progress(status.frames, 0),
        )
    if trace is not None:
        write_chrome_trace(found, trace)
    return dataclasses.replace(document, stages=stages, warnings=warnings)
