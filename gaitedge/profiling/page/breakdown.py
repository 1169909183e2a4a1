"""The sections of a profile's page that take a call or a frame apart: layers, roofline, stages of `watch`."""

from __future__ import annotations

from html import escape

from gaitedge.profiling.document import Block, Document, Stages
from gaitedge.profiling.page import charts
from gaitedge.profiling.page.parts import element, ms, name_row, quantity, section, shown, table

__all__ = ["layers", "roofline", "stages"]

_WHAT = {
    "decode": "decoding the frame, on a thread of its own",
    "segment": "finding people's pixels",
    "track": "finding people in the mask, following them, judging frames; what the others leave",
    "align": "aligning silhouettes to 64×44",
    "embed": "the network",
    "match": "comparing with the gallery",
    "annotate": "drawing what was seen",
}
_STAGES = tuple(_WHAT)  # in the order in which a frame meets them


def layers(document: Document) -> str | None:
    """Where a call's time goes, by the paper's blocks, and each layer."""
    found = document.layers
    if found is None:
        return None
    by_block = [
        charts.Bar(
            block.name,
            block.ms,
            f"{shown(block.ms)} ms, {100 * block.share:.1f} %",
            _about(block),
        )
        for block in found.blocks
    ]
    rows = [
        [
            block.name,
            ms(block.ms),
            f"{100 * block.share:.1f} %",
            None if block.macs is None else (f"{block.macs / 1e6:,.1f}", block.macs),
            None if block.bytes is None else (f"{block.bytes / 1e6:,.2f}", block.bytes),
            None if block.roofline_share is None else f"{100 * block.roofline_share:.0f} %",
            block.bound,
        ]
        for block in found.blocks
    ]
    each = [
        [layer.name, layer.kind, layer.block, layer.precision, ms(layer.ms)]
        for layer in sorted(found.layers, key=lambda layer: -layer.ms)
    ]
    apart = 100 * (found.sum_ms / found.total_ms - 1) if found.total_ms else 0.0
    cost = ""
    if found.clock_cost is not None:
        cost = f" The layers' clocks cost {100 * found.clock_cost:+.1f} %."
    return section(
        "layers",
        "Blocks and layers",
        f"{name_row(document.rows[found.row].configuration)}, by {found.source}: the layers take "
        f"{shown(found.sum_ms)} ms of a call's {shown(found.total_ms)} ms ({apart:+.1f} %).{cost}",
        f'<div class="chart">{charts.bars(by_block, "Time by block of the paper", "ms")}</div>',
        table(
            ["block", "ms", "share", "MMAC", "MB moved", "of the roofline", "bound by"], rows, texts=(0, 6)
        ),
        f"<details><summary>All {len(each)} layers</summary>"
        f"{table(['layer', 'kind', 'block', 'precision', 'ms'], each, texts=(0, 1, 2, 3), sortable=True)}"
        "</details>",
    )


def roofline(document: Document) -> str | None:
    """What each block reaches of what the machine could do."""
    measured, found = document.roofline, document.layers
    if measured is None:
        return None
    points = [
        charts.Point(block.name, block.macs / block.bytes, block.macs / block.ms * 1e3, _about(block))
        for block in (found.blocks if found is not None else ())
        if block.macs and block.bytes and block.ms > 0
    ]
    return section(
        "roofline",
        "Roofline",
        f"What this machine reached in {measured.precision}: "
        f"{quantity(measured.macs_per_second / 1e9)} GMAC/s and "
        f"{quantity(measured.bytes_per_second / 1e9)} GB/s ({measured.how}). "
        "A block's bytes are those of its graph: it may lie above the line where caches hold them, "
        "or where this machine was busy while the line was measured. A block that multiplies in another type "
        "has no share.",
        '<div class="chart">'
        + charts.roofline(points, measured.macs_per_second, measured.bytes_per_second, "Roofline")
        + "</div>",
    )


def stages(document: Document) -> str | None:
    """Where a frame's time goes in `watch`."""
    found = document.stages
    if found is None:
        return None
    rows = [
        [
            stage.name,
            _WHAT.get(stage.name),
            ms(stage.ms_a_frame),
            f"{100 * stage.share:.1f} %",
            stage.times.runs,
            ms(stage.times.median_ms),
            ms(stage.times.p99_ms),
        ]
        for stage in found.stages
    ]
    share = "".join(
        f'<i class="s-{escape(stage.name)}" style="width:{100 * stage.share:.3f}%" '
        f'title="{escape(stage.name)}: {100 * stage.share:.1f} %"></i>'
        for stage in found.stages
    )
    legend = "".join(
        f'<li><i class="s-{escape(stage.name)}"></i>{escape(stage.name)} {_percent(stage.share)}</li>'
        for stage in found.stages
    )
    frames = _by_frame(found)
    chart = charts.stacks(
        frames, _STAGES, {name: f"s-{name}" for name in _STAGES}, "Stages of each frame, ms", budget_ms=40.0
    )
    return section(
        "stages",
        "Where a frame's time goes in watch",
        f"{found.source}: {found.frames} frames in {found.seconds:.1f} s.",
        f'<div class="share" aria-hidden="true">{share}</div><ul class="legend">{legend}</ul>',
        f"<h3>The {len(frames)} frames in which most was done</h3>" if len(frames) < found.frames else "",
        f'<div class="chart">{chart}</div>' if frames else "",
        table(["stage", "what", "ms a frame", "share", "times", "median ms", "p99 ms"], rows, texts=(0, 1)),
        element("p", "Decoding has a thread of its own and runs beside the rest.", "about"),
    )


def _by_frame(found: Stages) -> list[tuple[int, dict[str, float]]]:
    frames: dict[int, dict[str, float]] = {}
    for span in found.spans:
        if span.frame is not None and span.stage in _STAGES:
            parts = frames.setdefault(span.frame, {})
            parts[span.stage] = parts.get(span.stage, 0.0) + span.ms
    return sorted(frames.items())


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"


def _about(block: Block) -> str:
    said = [f"{block.name}: {shown(block.ms)} ms"]
    if block.macs and block.ms > 0:
        said.append(f"{quantity(block.macs / block.ms / 1e6)} GMAC/s")
    if block.macs and block.bytes:
        said.append(f"{quantity(block.macs / block.bytes)} MAC/byte")
    if block.roofline_share is not None:
        said.append(f"{100 * block.roofline_share:.0f} % of the roofline, bound by {block.bound}")
    return ", ".join(said)
