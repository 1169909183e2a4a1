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

    from gaitedge.profiling.measuring import Measurement

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
    _latency(done.latency)
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
    from gaitedge.bundle import Bundle
    from gaitedge.engines import load
    from gaitedge.machine.environment import environment
    from gaitedge.profiling.measuring import bench as measure

    loaded = load(Bundle.open(bundle), engine, threads=threads, precision=precision)
    batches, lengths = _integers("--batch", batch), _integers("--frames", frames)
    with progress_bar("measuring") as progress:
        total = len(batches) * len(lengths)
        done: list[Measurement] = []

        def count(measurement: Measurement) -> None:
            done.append(measurement)
            progress(len(done), total)

        found = measure(loaded, batches, lengths, seconds=seconds, progress=count)
    if json:
        print_json({"engine": loaded.description, "machine": environment(), "measurements": found})
        return
    say(loaded.description)
    _latency(found)


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 1,4", param_hint=option) from None


def _latency(found: Sequence[Measurement]) -> None:
    table(
        "Latency in ms, silhouettes to embeddings",
        ["batch", "frames", "runs", "median", "p90", "p95", "p99", "first", "sequences/s", "frames/s"],
        [
            [
                row.batch,
                row.frames,
                row.runs,
                *(
                    f"{ms:.2f}"
                    for ms in (row.median_ms, row.p90_ms, row.p95_ms, row.p99_ms, row.first_run_ms)
                ),
                f"{row.sequences_per_second:.1f}",
                f"{row.frames_per_second:.0f}",
            ]
            for row in found
        ],
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
