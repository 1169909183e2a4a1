"""Commands about this machine: demo, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaitedge.cli.console import (
    Json,
    print_json,
    progress_bar,
    say,
    table,
)

if TYPE_CHECKING:
    from gaitedge.demo import Latency

__all__ = ["demo", "doctor"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what the demonstration makes.")] = Path("demo"),
    json: Json = False,
) -> None:
    """Identify synthetic walkers by their walk, with an engine built for this machine."""
    from gaitedge import demo as demonstration

    with progress_bar("starting") as update:
        done = demonstration.demo(out, progress=lambda name, step, of: update(step, of, name))
    if json:
        print_json(done)
        return
    table(
        "Data",
        ["what", "frames", "seconds"],
        [
            ["drawn as PNGs, 240×320", done.drawn, f"{done.drawing_seconds:.1f}"],
            ["aligned to 64×44", done.prepared.frames, f"{done.prepared.seconds:.1f}"],
        ],
    )
    agreement = done.exported.agreement
    error = "not measured" if agreement is None else f"{agreement.relative_error:.0e}"
    table(
        "Engine",
        ["what", "is"],
        [
            ["engine", done.engine],
            ["bundle", f"{done.exported.bytes / 1e6:.1f} MB, {done.exported.nodes} nodes"],
            ["largest error against the paper's letter", error],
        ],
    )
    rows = [
        [
            row.probe,
            row.walks,
            row.right,
            row.wrong,
            row.unknown,
            None if row.nearest_right is None else f"{100 * row.nearest_right / row.walks:.0f}%",
        ]
        for row in demonstration.outcomes(done.walks)
    ]
    views = ", ".join(demonstration.PROBE_VIEWS)
    table(
        f"Identification: {demonstration.KNOWN} people enrolled from {done.enrolled} normal walks, "
        f"probes from other views ({views}), threshold {done.threshold:.3f}",
        ["probe", "walks", "right", "wrong", "unknown", "nearest is right"],
        rows,
    )
    rows = [
        [
            row.batch,
            row.frames,
            row.end_to_end.runs,
            *(f"{ms:.2f}" for ms in _shown(row)),
            f"{row.sequences_per_second:.1f}",
            f"{row.frames_per_second:.0f}",
        ]
        for row in done.latency
    ]
    table(
        "Latency in ms, silhouettes to embeddings",
        ["batch", "frames", "runs", "median", "p90", "p95", "p99", "first", "sequences/s", "frames/s"],
        rows,
    )
    table("Files", ["what", "where"], [[what, where] for what, where in done.files.items()])
    say("Synthetic walkers: these figures say that it works, not how well it knows real people.")


def _shown(row: Latency) -> tuple[float, ...]:
    found = row.end_to_end
    return found.median_ms, found.p90_ms, found.p95_ms, found.p99_ms, row.first_run_ms


def doctor(json: Json = False) -> None:
    """Say what this machine can run, what is missing, and the command that brings it."""
    from gaitedge.machine.doctor import examine

    found = examine()
    if json:
        print_json(found)
        return
    rows = [[finding.topic, finding.state, finding.detail, finding.remedy or ""] for finding in found]
    table("This machine", ["topic", "state", "detail", "what to do"], rows)
