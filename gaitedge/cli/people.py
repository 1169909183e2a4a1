"""Commands about people: enroll, identify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaitedge.cli.console import (
    BundleArgument,
    EngineOption,
    Json,
    print_json,
    progress_bar,
    say,
    table,
)

if TYPE_CHECKING:
    from gaitedge.people.recognizer import Identified

__all__ = ["enroll", "identify"]

GalleryArgument = Annotated[Path, typer.Argument(help="The gallery's file.")]
SourceArgument = Annotated[
    str,
    typer.Argument(
        help="A folder of silhouette PNGs, an OpenGait pickle, or STORE:SUBJECT/CONDITION/VIEW "
        "with * and ? for several walks, as in 'walks:007/nm-*/090'."
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Of the engine; all cores by default.")]


def enroll(
    bundle: BundleArgument,
    gallery: GalleryArgument,
    source: SourceArgument,
    id: Annotated[  # noqa: A002 (the option's name)
        str | None, typer.Option("--id", help="Who walks there; a store knows by itself.")
    ] = None,
    set_threshold: Annotated[
        bool, typer.Option("--set-threshold", help="Then set the threshold for unknown people.")
    ] = False,
    engine: EngineOption = "auto",
    threads: ThreadsOption = None,
    json: Json = False,
) -> None:
    """Enrol a person's walks into a gallery; all walks of SOURCE or none."""
    from gaitedge.people.gallery import Gallery
    from gaitedge.people.recognizer import Recognizer

    recognizer = Recognizer(bundle, gallery, engine=engine, threads=threads)
    with progress_bar("embedding") as progress:
        done = recognizer.enroll(source, subject=id, progress=progress, set_threshold=set_threshold)
    threshold = None
    if set_threshold:
        with Gallery.open(gallery) as opened:
            threshold = opened.threshold
    names = sorted({enrolment.subject for enrolment in done})
    if json:
        print_json({"gallery": gallery, "subjects": names, "sequences": len(done), "threshold": threshold})
        return
    walks = "1 walk" if len(done) == 1 else f"{len(done)} walks"
    say(f"enrolled {walks} of {', '.join(names)} into {gallery}")
    if threshold is not None:
        say(f"threshold: {threshold:.4f}")


def identify(
    bundle: BundleArgument,
    gallery: GalleryArgument,
    source: SourceArgument,
    top: Annotated[int, typer.Option(min=1, help="People to name at most.")] = 5,
    threshold: Annotated[
        float | None, typer.Option(help="Distance beyond which a walk is nobody's; the gallery's by default.")
    ] = None,
    engine: EngineOption = "auto",
    threads: ThreadsOption = None,
    json: Json = False,
) -> None:
    """Name the people who walk in SOURCE, nearest first, or say "unknown"."""
    from gaitedge.people.recognizer import Recognizer

    recognizer = Recognizer(bundle, gallery, engine=engine, threads=threads)
    with progress_bar("embedding") as progress:
        walks = recognizer.identify(source, top=top, threshold=threshold, progress=progress)
    if json:
        print_json(walks)
    elif len(walks) == 1:
        _one(walks[0])
    else:
        rows = [
            [
                walk.source,
                "unknown" if walk.identification.unknown else walk.identification.matches[0].subject,
                f"{walk.identification.matches[0].distance:.4f}",
                *(
                    (walk.identification.matches[1].subject, f"{walk.identification.matches[1].distance:.4f}")
                    if len(walk.identification.matches) > 1
                    else (None, None)
                ),
            ]
            for walk in walks
        ]
        table("Identified", ["walk", "is", "distance", "next", "distance "], rows)


def _one(walk: Identified) -> None:
    found = walk.identification
    best = found.matches[0]
    limit = "no threshold set" if found.threshold is None else f"threshold {found.threshold:.4f}"
    name = "unknown" if found.unknown else best.subject
    say(f"{name}  distance {best.distance:.4f}, {limit}; {walk.frames} frames of {walk.source}")
    rows = [
        [rank, match.subject, f"{match.distance:.4f}", match.condition, match.view]
        for rank, match in enumerate(found.matches, 1)
    ]
    table("Nearest", ["rank", "subject", "distance", "condition", "view"], rows)
