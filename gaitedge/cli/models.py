"""Commands that turn weights into bundles and look into them: export, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gaitedge.cli.console import (
    Json,
    ModelArgument,
    print_json,
    print_lines,
    progress_bar,
    say,
    shipped,
    table,
)

if TYPE_CHECKING:
    from gaitedge.export.exporter import ExportReport
    from gaitedge.manifest import Build, Manifest

__all__ = ["export", "inspect"]

_BUILD = "TensorRT builds"
_GRAPH = "Graph"

FConv = Annotated[
    Literal["fold", "split", "plugin", "network"] | None,
    typer.Option(
        help="Strips in the batch, cut out one by one, a CUDA plugin each, or one for all of them and HP "
        "(fp16, the paper's network).",
        rich_help_panel=_GRAPH,
    ),
]
MicroMotion = Annotated[
    Literal["grouped", "per_part", "plugin"] | None,
    typer.Option(help="All parts at once, one by one, or a CUDA plugin.", rich_help_panel=_GRAPH),
]


def export(
    source: ModelArgument,
    out: Annotated[
        Path | None,
        typer.Argument(
            help="Bundle to write, or graph.onnx for the graph alone; a bundle's own name if left out."
        ),
    ] = None,
    target: Annotated[
        Literal["auto", "cpu", "onnxruntime", "tensorrt", "cuda", "portable"],
        typer.Option(
            help="auto: TensorRT if it is here, else this CPU. cpu: OpenVINO. cuda: GaitEdge's own kernels."
        ),
    ] = "auto",
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8", "fp8"] | None,
        typer.Option(
            help="fp16 for tensorrt and cuda, fp32 for the others by default; bf16 needs a device that has "
            "it, int8 and fp8 (TensorRT from 10 on, and .onnx) a calibration."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="What gaitedge calibrate wrote, for int8 or fp8; a bundle keeps its own.", metavar="FILE"
        ),
    ] = None,
    fconv: FConv = None,
    micro_motion: MicroMotion = None,
    batch: Annotated[
        str | None,
        typer.Option(help="Sequences at once: least, usual, most; 1:1:8 by default.", rich_help_panel=_BUILD),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(help="Frames of each: least, usual, most; 1:30:300 by default.", rich_help_panel=_BUILD),
    ] = None,
    workspace: Annotated[
        float | None,
        typer.Option(
            help="Share of the free memory that a build may use; 0.5 by default.", rich_help_panel=_BUILD
        ),
    ] = None,
    optimization_level: Annotated[
        int | None,
        typer.Option(help="0 builds fastest, 5 searches longest; 3 by default.", rich_help_panel=_BUILD),
    ] = None,
    hardware_compatibility: Annotated[
        Literal["none", "ampere+", "same-compute-capability"] | None,
        typer.Option(help="Other GPUs that the engine shall run on.", rich_help_panel=_BUILD),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="Run in the next major version too.", rich_help_panel=_BUILD
        ),
    ] = False,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            help="File of timings to reuse; one a device and version by default.", rich_help_panel=_BUILD
        ),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Build a bundle's engines again for this GPU.", rich_help_panel=_BUILD
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Write a .gait bundle, after its engine was found to agree with the paper's letter.

    From a bundle: one target of it is added or replaced.
    """
    from gaitedge.calibration.applying import find_quantization
    from gaitedge.export import exporter
    from gaitedge.export.graph import Plan
    from gaitedge.export.plan import EIGHT_BITS
    from gaitedge.export.tensorrt import BuildOptions, Range

    given: dict[str, Any] = {
        "batch": Range.parse(batch, "--batch") if batch else None,
        "frames": Range.parse(frames, "--frames") if frames else None,
        "workspace": workspace,
        "optimization_level": optimization_level,
        "hardware_compatibility": hardware_compatibility,
        "version_compatible": version_compatible or None,
        "timing_cache": timing_cache,
    }
    build = {name: value for name, value in given.items() if value is not None}
    forms: dict[str, Any] = {"fconv": fconv, "micro_motion": micro_motion}
    plan = {name: value for name, value in forms.items() if value is not None}
    if rebuild and (build or plan or precision or calibration or target != "auto"):
        raise typer.BadParameter(
            "builds as the bundle's engines were built; for one that is built otherwise leave it out, as in "
            "--target tensorrt --workspace 0.2",
            param_hint="--rebuild",
        )
    if out is None and source.suffix != ".gait":
        raise typer.BadParameter("name the bundle to write, as in walkers.gait", param_hint="OUT")
    with progress_bar("starting") as update:

        def progress(name: str, done: int, total: int) -> None:
            update(done, total, name)

        calibrated = precision in EIGHT_BITS or calibration is not None
        quantization = find_quantization(shipped(source), calibration) if calibrated else None
        if rebuild:
            reports = exporter.rebuild(source, out, progress)
        else:
            report = exporter.export(
                shipped(source),
                out or source,
                target,
                precision,
                Plan(**plan) if plan else None,
                BuildOptions(**build) if build else None,
                progress,
                quantization,
            )
            reports = [report]
    if json:
        print_json(reports if rebuild else reports[0])
        return
    for report in reports:
        _tell(report)


def _tell(done: ExportReport) -> None:
    nodes = f"{done.nodes} nodes, " if done.nodes else ""
    say(f"{done.path}: {done.bytes / 1e6:.1f} MB, {nodes}target {done.target}, {done.precision}")
    say(f"engine: {done.engine}")
    if done.missed:
        say(f"no engine for the GPU: {done.missed}; run: gaitedge doctor")
    if done.build:
        _tell_build(done.build, done.precision)
    if done.agreement:
        say(
            f"agrees with the paper's letter ({done.agreement.reference}): largest error "
            f"{done.agreement.relative_error:.1e} of the largest value, smallest cosine "
            f"{done.agreement.cosine:.6f}"
        )


def _tell_build(build: Build, precision: str, name: str = "") -> None:
    """How an engine came about; name: what the lines begin with."""
    say(f"{name}built in {build.seconds:.0f} s: {_layers(build.layers)}")
    if build.fell_back:
        say(f"{name}in a higher precision than {precision}: {', '.join(build.fell_back)}")


def _layers(layers: dict[str, str]) -> str:
    """How many layers run in which precision."""
    if not layers:
        return "TensorRT tells of no layers"
    precisions = list(layers.values())
    counts = {name: precisions.count(name) for name in sorted(set(precisions))}
    return f"{len(layers)} layers, " + ", ".join(f"{count} in {name}" for name, count in counts.items())


def inspect(
    model: ModelArgument,
    fconv: FConv = None,
    micro_motion: MicroMotion = None,
    frames: Annotated[int, typer.Option(min=1, help="Of a sequence, for MACs and bytes.")] = 30,
    json: Json = False,
) -> None:
    """Show what a bundle holds, what of it runs in int8, and what the FP32 network costs, block by block."""
    from gaitedge.bundle import FOLD_GRAPH
    from gaitedge.calibration.execution import executed_targets
    from gaitedge.export import blocks, drawing
    from gaitedge.export.exporter import open_model
    from gaitedge.export.graph import Plan, build_graph

    bundle = open_model(shipped(model))
    forms: dict[str, Any] = {"fconv": fconv, "micro_motion": micro_motion}
    plan = {name: value for name, value in forms.items() if value is not None}
    graph = (
        build_graph(bundle.config, bundle.weights(), Plan(**plan))
        if plan
        else blocks.parse(bundle.read(FOLD_GRAPH), str(bundle.path))
    )
    found = blocks.examine(graph, frames=frames)
    manifest, ran = bundle.manifest, executed_targets(bundle)
    if json:
        print_json({"manifest": manifest, "graph": found, "computed_in": ran})
        return
    if manifest.targets:
        say(
            f"{model}: model {manifest.fingerprint[:12]}, written by {manifest.written_by}, "
            f"{manifest.created}"
        )
        _manifest(manifest)
        for name, layers in ran.items():
            low = [layer for layer, kind in layers.items() if kind == "int8"]
            say(f"{name} runs in int8 kernels: {', '.join(low) or 'nothing'}")
    say(f"network: {manifest.config.to_json()}")
    say()
    print_lines(drawing.draw(graph, frames=frames))
    table(f"Blocks, for one sequence of {frames} frames", blocks.COLUMNS, blocks.rows(found))


def _manifest(manifest: Manifest) -> None:
    rows = []
    for name, target in sorted(manifest.targets.items()):
        build, packed = target.build, target.packed
        device = f"{build.device}, TensorRT {build.versions['tensorrt']}" if build else None
        device = f"every GPU, checked on {packed.device}" if packed else device
        error = f"{target.agreement.relative_error:.1e}" if target.agreement else None
        rows.append([name, target.engine, device, error])
    table("Targets", ["target", "engine", "built for", "largest error against the letter"], rows)
    for name, target in sorted(manifest.targets.items()):
        if target.build:
            _tell_build(target.build, target.precision, f"{name}: ")
    rows = [[name, f"{member.size:,}", member.sha256[:12]] for name, member in manifest.members.items()]
    table("Members", ["name", "bytes", "SHA-256"], rows)
