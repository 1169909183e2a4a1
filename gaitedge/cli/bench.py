"""The command that profiles: bench, of an engine, of two profiles, of a watch."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaitedge.cli.bench_details import look_closer
from gaitedge.cli.bench_options import check_apart, check_details, milliseconds, numbers, texts
from gaitedge.cli.console import EngineOption, Json, print_json, progress_bar
from gaitedge.cli.gallery import KeyFileOption

if TYPE_CHECKING:
    from gaitedge.profiling.comparison import Comparison
    from gaitedge.profiling.document import Document

__all__ = ["bench"]

_FILES = {"out": ".json", "csv": ".csv", "html": ".html", "trace": ".json"}


def bench(
    bundle: Annotated[
        Path | None, typer.Argument(help="A .gait bundle; none with --compare.", readable=False)
    ] = None,
    batch: Annotated[str, typer.Option(rich_help_panel="Sweep", help="Sequences at once, as in 1,4.")] = "1",
    frames: Annotated[str, typer.Option(rich_help_panel="Sweep", help="Frames of each, as in 30,60.")] = "30",
    precision: Annotated[
        str | None, typer.Option(rich_help_panel="Sweep", help="As in fp32,int8; as exported by default.")
    ] = None,
    plan: Annotated[
        str,
        typer.Option(
            rich_help_panel="Sweep",
            help="Forms of the graph: exported, naive (the paper's letter), fused, plugin.",
        ),
    ] = "exported",
    threads: Annotated[
        str | None,
        typer.Option(rich_help_panel="Sweep", help="Of a CPU's engine, as in 1,2; all cores by default."),
    ] = None,
    streams: Annotated[
        str,
        typer.Option(
            rich_help_panel="Sweep",
            help="Calls at the same time, as in 1,2; on a CPU each with all the threads.",
        ),
    ] = "1",
    engine: EngineOption = "auto",
    seconds: Annotated[
        float, typer.Option(rich_help_panel="Measuring", help="To measure each configuration for.")
    ] = 3.0,
    warmup: Annotated[
        float, typer.Option(rich_help_panel="Measuring", help="Seconds before, in each repeat.")
    ] = 0.2,
    repeats: Annotated[
        int,
        typer.Option(
            rich_help_panel="Measuring",
            help="Starts that the seconds are spread over, each in a process of its own.",
        ),
    ] = 5,
    load_inputs: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Measuring",
            help="Walks to measure with; drawn ones by default.",
            metavar="STORE[:WALK]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(rich_help_panel="Measuring", help="Of the inputs that are drawn.")] = 0,
    latency_bound: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Sweep", help="Name what has most throughput with a p99 within this, as 10ms."
        ),
    ] = None,
    energy: Annotated[
        bool, typer.Option(rich_help_panel="Measuring", help="Read a power sensor, where there is one.")
    ] = True,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            rich_help_panel="A closer look",
            help="Also each layer's time, and the machine's own limits.",
        ),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="A closer look",
            help="Also the same work in turns with the paper's letter in PyTorch, or another bundle.",
            metavar="pytorch|BUNDLE",
        ),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="A closer look",
            help="Also where a frame's time goes in watch, of this video or camera.",
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="A closer look",
            help="Whom that watch compares with; 100 people made up by default.",
        ),
    ] = None,
    key_file: KeyFileOption = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="A closer look",
            help="Write that watch for chrome://tracing.",
            metavar="FILE.json",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Files",
            help="Write the profile here; an interrupted sweep goes on from it.",
            metavar="FILE.json",
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(rich_help_panel="Files", help="Write the rows here.", metavar="FILE.csv")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(rich_help_panel="Files", help="Write a page here.", metavar="FILE.html")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            rich_help_panel="Comparing",
            help="Say whether the second profile is faster than the first.",
            metavar="A.json B.json",
        ),
    ] = None,
    fail_if_slower: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Comparing", help="With --compare: exit with 1 if it surely is, by more than 5%."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure latency, throughput, memory and energy, and say whether a change is real.

    Several values of an option, with commas between, make a sweep over all combinations.
    """
    from gaitedge.destinations import check_destination
    from gaitedge.errors import InputError, MachineError

    places = {"out": out, "csv": csv, "html": html, "trace": trace}
    for name, place in places.items():
        if place is not None:
            check_destination(place, _FILES[name])
    check_apart(places)
    if compare is not None:
        if bundle is not None:
            raise InputError(f"--compare takes two profiles and no bundle, and {bundle} was given")
        unused = {
            "out": out,
            "csv": csv,
            "layers": layers,
            "against": against,
            "video": video,
            "trace": trace,
        }
        for name, value in unused.items():
            if value:
                raise InputError(f"--compare measures nothing: leave --{name} out, or name a bundle instead")
        _compare(compare, fail_if_slower, html, json)
        return
    if fail_if_slower is not None:
        raise InputError("--fail-if-slower needs two profiles: --compare A.json B.json")
    if bundle is None:
        raise typer.BadParameter("a bundle, or --compare with two profiles, is needed", param_hint="BUNDLE")
    if video is None and (trace or gallery):
        raise InputError(f"{'--trace' if trace else '--gallery'} is of a watch: name its source with --video")

    from gaitedge.profiling.profile import profile
    from gaitedge.profiling.unfinished import remove_unfinished

    at_once = numbers("--streams", streams)
    check_details(bundle, against, at_once, video, gallery, key_file)
    with progress_bar("loading") as progress:
        document = profile(
            bundle,
            engine=engine,
            batches=numbers("--batch", batch),
            frames=numbers("--frames", frames),
            precisions=texts("--precision", precision),
            plans=[name for name in texts("--plan", plan) if name is not None],
            threads=[None] if threads is None else numbers("--threads", threads),
            streams=at_once,
            seconds=seconds,
            warmup_s=warmup,
            repeats=repeats,
            inputs=load_inputs,
            seed=seed,
            bound_ms=None if latency_bound is None else milliseconds(latency_bound),
            energy=energy,
            out=out,
            command=shlex.join(["gaitedge", *sys.argv[1:]]),
            progress=progress,
        )
    if all(row.failed is not None for row in document.rows):
        if out is not None:
            remove_unfinished(out)  # else the next run would take its word for it
        raise MachineError(f"nothing could be measured: {document.rows[0].failed}")
    try:
        document, problems = look_closer(
            document,
            bundle,
            layers=layers,
            against=against,
            video=video,
            gallery=gallery,
            key_file=key_file,
            trace=trace,
            seconds=seconds,
            repeats=repeats,
            inputs=load_inputs,
        )
        _write(document, out, csv, html)
    finally:  # a full disk, or Ctrl-C: what was measured is told
        _show(document, json)
    if problems:
        raise problems[0]


def _write(document: Document, out: Path | None, csv: Path | None, html: Path | None) -> None:
    from gaitedge.profiling.csv_file import write_csv
    from gaitedge.profiling.report import write_report
    from gaitedge.profiling.schema import write_document
    from gaitedge.profiling.unfinished import remove_unfinished

    if out is not None:
        write_document(document, out)
        remove_unfinished(out)
    if csv is not None:
        write_csv(document, csv)
    if html is not None:
        write_report(document, html)


def _show(document: Document, json: bool) -> None:
    from gaitedge.cli import profile_tables
    from gaitedge.profiling.schema import to_json

    if json:
        from gaitedge.cli.console import print_lines

        print_lines([to_json(document).rstrip("\n")])
    else:
        profile_tables.show(document)


def _compare(paths: tuple[Path, Path], fail_if_slower: str | None, html: Path | None, json: bool) -> None:
    from gaitedge.cli import profile_tables
    from gaitedge.errors import MachineError
    from gaitedge.profiling.comparison import compare
    from gaitedge.profiling.gate import failed_since, parse_share, slower_than
    from gaitedge.profiling.report import write_report
    from gaitedge.profiling.schema import read_document

    share = None if fail_if_slower is None else parse_share(fail_if_slower)
    before, after = (read_document(path) for path in paths)
    found: Comparison = compare(before, after)
    if html is not None:
        write_report(after, html, found)
    if json:
        print_json(found)
    else:
        profile_tables.show_comparison(found)
    if share is None:
        return
    failed = failed_since(before, after, found)
    if failed:
        raise MachineError(
            f"{len(failed)} of the configurations that {paths[0]} has figures of failed in {paths[1]}: "
            f"{failed[0]}"
        )
    slower = slower_than(found, share)
    if slower:
        worst = min(slower, key=lambda pair: pair.end_to_end.ratio)
        raise MachineError(
            f"{paths[1]} is slower than {paths[0]} by more than {fail_if_slower} in {len(slower)} of "
            f"{len(found.pairs)} configurations, at most by {100 * (1 / worst.end_to_end.ratio - 1):.1f} %"
        )
