"""The application: every command and the group that turns errors into one line."""

from __future__ import annotations

from typing import Annotated

import typer

from gaitedge import __version__
from gaitedge.cli import (
    bench,
    calibration,
    data,
    evaluation,
    gallery,
    machine,
    models,
    opengait,
    people,
    plugins,
    training,
    video,
    watch,
)
from gaitedge.cli.console import Group

__all__ = ["app"]

app = typer.Typer(
    name="gaitedge",
    cls=Group,
    help="Gait recognition on the edge: train, export, identify, profile.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug's traceback as Python prints it
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gaitedge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command(rich_help_panel="Start here")(machine.demo)
app.command(rich_help_panel="Start here")(machine.doctor)
app.command(rich_help_panel="Data")(data.synth)
app.command(rich_help_panel="Data")(data.prepare)
app.command(rich_help_panel="Data")(video.silhouettes)
app.command(rich_help_panel="Models")(training.train)
app.command(rich_help_panel="Models")(training.ablate)
app.command("eval", rich_help_panel="Models")(evaluation.evaluate)
app.command("import-opengait", rich_help_panel="Models")(opengait.import_opengait)
app.command(rich_help_panel="Models")(calibration.calibrate)
app.command(rich_help_panel="Models")(models.export)
app.command(rich_help_panel="Models")(models.inspect)
app.command(rich_help_panel="Models")(evaluation.verify)
app.command(rich_help_panel="Models")(bench.bench)
app.add_typer(plugins.plugins, name="plugins", rich_help_panel="Models")
app.command(rich_help_panel="People")(people.enroll)
app.command(rich_help_panel="People")(people.identify)
app.command(rich_help_panel="People")(people.threshold)
app.command(rich_help_panel="People")(watch.watch)
app.add_typer(gallery.gallery, name="gallery", rich_help_panel="People")
