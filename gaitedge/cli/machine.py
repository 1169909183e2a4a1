"""Commands about this machine: demo, doctor, bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaitedge.cli.console import (
    BundleArgument,
    EngineOption,
    Json,
    PrecisionOption,
    print_json,
    progress_bar,
    say,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gaitedge.demo import Latency
    from gaitedge.profiling.document import Row
    from gaitedge.profiling.figures import Distribution

__all__ = ["bench", "demo", "doctor"]


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
    _latency(
        [
            [row.batch, row.frames, *_times(row.end_to_end, row.first_run_ms), *_rates(row)]
            for row in done.latency
        ]
    )
    table("Files", ["what", "where"], [[what, where] for what, where in done.files.items()])
    say("Synthetic walkers: these figures say that it works, not how well it knows real people.")


def bench(
    bundle: BundleArgument,
    batch: Annotated[str, typer.Option(help="Sequences at once, as in 1,4.")] = "1",
    frames: Annotated[str, typer.Option(help="Frames of each, as in 30,60.")] = "30",
    seconds: Annotated[float, typer.Option(min=0.01, help="To measure each shape for.")] = 3.0,
    engine: EngineOption = "auto",
    precision: PrecisionOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the engine; all cores by default.")] = None,
    json: Json = False,
) -> None:
    """Measure latency and throughput at every batch size with every length."""
    from gaitedge.errors import MachineError
    from gaitedge.profiling.profile import profile

    batches, lengths = _integers("--batch", batch), _integers("--frames", frames)
    with progress_bar("measuring") as progress:
        done = profile(
            bundle,
            engine=engine,
            batches=batches,
            frames=lengths,
            precisions=(precision,),
            threads=(threads,),
            seconds=seconds,
            progress=progress,
        )
    if all(row.figures is None for row in done.rows):
        raise MachineError(done.rows[0].failed)
    if json:
        print_json(done)
        return
    rows = []
    for row in done.rows:
        shape = [row.configuration.batch, row.configuration.frames]
        if row.figures is None or row.first_run_ms is None:
            say(f"{shape[0]}×{shape[1]}: {row.failed}")
        else:
            rows.append([*shape, *_times(row.figures.end_to_end, row.first_run_ms), *_rates(row)])
    say(next((row.description for row in done.rows if row.description), ""))
    _latency(rows)


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 1,4", param_hint=option) from None


def _times(found: Distribution, first_run_ms: float) -> list[object]:
    figures = (found.median_ms, found.p90_ms, found.p95_ms, found.p99_ms, first_run_ms)
    return [found.runs, *(f"{ms:.2f}" for ms in figures)]


def _rates(row: Latency | Row) -> list[object]:
    return [f"{row.sequences_per_second or 0:.1f}", f"{row.frames_per_second or 0:.0f}"]


def _latency(rows: Sequence[Sequence[object]]) -> None:
    table(
        "Latency in ms, silhouettes to embeddings",
        ["batch", "frames", "runs", "median", "p90", "p95", "p99", "first", "sequences/s", "frames/s"],
        rows,
    )


def doctor(json: Json = False) -> None:
    """Say what this machine can run, what is missing, and the command that brings it."""
    from gaitedge.machine.doctor import examine

    found = examine()
    if json:
        print_json(found)
        return
    rows = [[finding.topic, finding.state, finding.detail, finding.remedy or ""] for finding in found]
    table("This machine", ["topic", "state", "detail", "what to do"], rows)
