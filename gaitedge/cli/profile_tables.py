"""A profile and a comparison as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaitedge.cli.console import say, table
from gaitedge.profiling.page.parts import FIGURES, all_warnings, name_row, shown

if TYPE_CHECKING:
    from gaitedge.profiling.comparison import Comparison
    from gaitedge.profiling.document import Configuration, Document, Row
    from gaitedge.profiling.figures import Distribution

__all__ = ["show", "show_comparison"]


def show(document: Document) -> None:
    """Print a profile: its rows, of the row that is looked into all figures, and what else it holds."""
    measured = [row for row in document.rows if row.figures is not None]
    if len(document.rows) == 1 and measured:
        say(measured[0].description)
        _figures(measured[0])
    else:
        _sweep(document)
    _best(document)
    if measured:
        _energy(measured)
    _layers(document)
    _against(document)
    _stages(document)
    for warning in all_warnings(document):
        say(f"! {warning}")


def show_comparison(comparison: Comparison) -> None:
    """Print which configurations became faster or slower."""
    say(f"before: {comparison.before}")
    say(f"after:  {comparison.after}")
    rows = [
        [
            _pair_name(pair.before, pair.after),
            shown(pair.before_ms),
            shown(pair.after_ms),
            f"{pair.end_to_end.ratio:.3f}×",
            f"{pair.end_to_end.low:.3f} to {pair.end_to_end.high:.3f}",
            pair.verdict,
        ]
        for pair in comparison.pairs
    ]
    table(
        "End to end, ms; above 1 after is faster",
        ["configuration", "before", "after", "speedup", "95 % interval", "after is"],
        rows,
    )
    for unpaired in comparison.unpaired:
        say(f"not compared, {unpaired.side}: {name_row(unpaired.configuration)}: {unpaired.why}")
    for note in dict.fromkeys(
        [*comparison.notes, *(note for pair in comparison.pairs for note in pair.notes)]
    ):
        say(f"! {note}")


def _figures(row: Row) -> None:
    rows = []
    for field, name in FIGURES.items():
        found: Distribution | None = getattr(row.figures, field)
        if found is not None:
            rows.append([name, found.runs, *map(shown, _times(found)), f"{100 * found.variation:.1f}%"])
    table(
        f"Latency in ms of {row.configuration.batch} × {row.configuration.frames} frames",
        ["", "runs", "min", "mean", "median", "p90", "p95", "p99", "max", "variation"],
        rows,
    )
    memory = row.memory
    table(
        "Of all",
        ["what", "is"],
        [
            ["sequences a second", _number(row.sequences_per_second)],
            ["frames a second", _number(row.frames_per_second)],
            ["load, ms", shown(row.load_ms)],
            ["first run, ms", shown(row.first_run_ms)],
            ["peak memory, MB", None if memory is None else _megabytes(memory.process_peak)],
            ["of that before the engine, MB", None if memory is None else _megabytes(memory.process_before)],
            *(
                [["peak memory of the GPU, MB", _megabytes(memory.device_peak)]]
                if memory is not None and memory.device_peak is not None
                else []
            ),
        ],
    )


def _sweep(document: Document) -> None:
    rows = []
    for row in document.rows:
        end = None if row.figures is None else row.figures.end_to_end
        rows.append(
            [
                name_row(row.configuration),
                None if end is None else shown(end.median_ms),
                None if end is None else shown(end.p99_ms),
                _number(row.sequences_per_second),
                _number(row.frames_per_second),
                None if row.memory is None else _megabytes(row.memory.process_peak),
            ]
        )
    table(
        "Sweep: latency in ms, peak memory in MB",
        ["configuration", "median", "p99", "sequences/s", "frames/s", "memory"],
        rows,
    )
    for row in document.rows:
        if row.failed is not None:
            say(f"not measured: {name_row(row.configuration)}: {row.failed}")


def _best(document: Document) -> None:
    best = document.best
    if best is None:
        return
    if best.bound_ms is not None:
        if best.within_bound is None:
            say(f"nothing has a p99 within {best.bound_ms:g} ms")
        else:
            named = name_row(document.rows[best.within_bound].configuration)
            say(f"most frames a second with a p99 within {best.bound_ms:g} ms: {named}")
    if len(document.rows) > 1 and best.throughput is not None and best.latency is not None:
        say(f"most frames a second: {name_row(document.rows[best.throughput].configuration)}")
        say(f"least p99: {name_row(document.rows[best.latency].configuration)}")


def _energy(measured: list[Row]) -> None:
    rows = [
        [
            name_row(row.configuration),
            row.energy.sensor,
            _number(row.energy.joules_a_sequence),
            _number(row.energy.joules_a_sequence_whole),
            _number(row.energy.average_watts),
            _number(row.energy.idle_watts),
        ]
        for row in measured
        if row.energy is not None and row.energy.sensor is not None
    ]
    if rows:
        table(
            "Energy, idle power subtracted",
            ["configuration", "sensor", "J/sequence", "J/sequence with idle", "W", "idle W"],
            rows,
        )
    for reason in dict.fromkeys(row.energy.absent for row in measured if row.energy and row.energy.absent):
        say(f"energy not measured: {reason}")


def _layers(document: Document) -> None:
    found = document.layers
    if found is None:
        return
    rows = [
        [
            block.name,
            shown(block.ms),
            f"{100 * block.share:.1f}%",
            None if block.macs is None else f"{block.macs / 1e6:,.1f}",
            None if block.bytes is None else f"{block.bytes / 1e6:,.2f}",
            None if block.roofline_share is None else f"{100 * block.roofline_share:.0f}%",
            block.bound,
        ]
        for block in found.blocks
    ]
    rows.append(
        ["all layers", shown(found.sum_ms), f"{100 * found.sum_ms / found.total_ms:.1f}%", *[None] * 4]
    )
    table(
        f"Blocks of {name_row(document.rows[found.row].configuration)}, by {found.source}; a call took "
        f"{shown(found.total_ms)} ms",
        ["block", "ms", "share", "MMAC", "MB moved", "of the roofline", "bound by"],
        rows,
    )
    if found.clock_cost is not None:
        say(f"the layers' clocks cost {100 * found.clock_cost:+.1f} %")
    if document.roofline is not None:
        limits = document.roofline
        say(
            f"roofline: {limits.macs_per_second / 1e9:,.0f} GMAC/s, "
            f"{limits.bytes_per_second / 1e9:,.1f} GB/s ({limits.how})"
        )


def _against(document: Document) -> None:
    found = document.against
    if found is None:
        return
    speed, row = found.speedup, document.rows[found.row]
    table(
        "In turns, end to end, ms",
        ["", "runs", "min", "mean", "median", "p90", "p95", "p99", "max"],
        [[found.name, found.figures.end_to_end.runs, *map(shown, _times(found.figures.end_to_end))]],
    )
    say(
        f"{name_row(row.configuration)} against {found.name}: {found.verdict}, {speed.ratio:.2f}× "
        f"(95 % interval {speed.low:.2f} to {speed.high:.2f}); embeddings differ by "
        f"{found.largest_difference:.1e} at most"
    )


def _stages(document: Document) -> None:
    found = document.stages
    if found is None:
        return
    table(
        f"Where a frame's time goes in watch: {found.source}, {found.frames} frames in {found.seconds:.1f} s",
        ["stage", "ms a frame", "share", "times", "median ms", "p99 ms"],
        [
            [
                stage.name,
                shown(stage.ms_a_frame),
                f"{100 * stage.share:.1f}%",
                stage.times.runs,
                shown(stage.times.median_ms),
                shown(stage.times.p99_ms),
            ]
            for stage in found.stages
        ],
    )


def _times(found: Distribution) -> tuple[float, ...]:
    return (
        found.min_ms,
        found.mean_ms,
        found.median_ms,
        found.p90_ms,
        found.p95_ms,
        found.p99_ms,
        found.max_ms,
    )


def _pair_name(before: Configuration, after: Configuration) -> str:
    other = [str(value) for name, value in vars(before).items() if value != getattr(after, name)]
    return name_row(after) + (f" (before: {', '.join(other)})" if other else "")


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _megabytes(value: float | None) -> str | None:
    return None if value is None else f"{value / 1e6:,.0f}"
