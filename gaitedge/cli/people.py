"""Commands about people: enroll, identify, threshold."""

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
from gaitedge.cli.gallery import KeyFileOption

if TYPE_CHECKING:
    from gaitedge.people.recognizer import Identified

__all__ = ["enroll", "identify", "threshold"]

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
    key_file: KeyFileOption = None,
    json: Json = False,
) -> None:
    """Enrol a person's walks into a gallery; all walks of SOURCE or none."""
    from gaitedge.people.encryption import find_key
    from gaitedge.people.gallery import Gallery
    from gaitedge.people.recognizer import Recognizer

    recognizer = Recognizer(bundle, gallery, engine=engine, threads=threads, key=find_key(key_file))
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
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.png", help="Draw each part's distance over a silhouette of the walk; of one walk."
        ),
    ] = None,
    engine: EngineOption = "auto",
    threads: ThreadsOption = None,
    key_file: KeyFileOption = None,
    json: Json = False,
) -> None:
    """Name the people who walk in SOURCE, nearest first, or say "unknown"."""
    from gaitedge.people.encryption import find_key
    from gaitedge.people.recognizer import Recognizer

    recognizer = Recognizer(bundle, gallery, engine=engine, threads=threads, key=find_key(key_file))
    with progress_bar("embedding") as progress:
        walks = recognizer.identify(
            source, top=top, threshold=threshold, progress=progress, explanation=explain
        )
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
                _margin(walk),
            ]
            for walk in walks
        ]
        table("Identified", ["walk", "is", "distance", "next", "distance ", "margin"], rows)
    if explain is not None and not json:
        say(f"wrote {explain}")


def threshold(
    bundle: BundleArgument,
    gallery: GalleryArgument,
    source: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="Walks of many people, enrolled or not: a store, or as identify takes them."
        ),
    ],
    false_accept_rate: Annotated[
        float, typer.Option(help="Share of strangers' walks that may be taken for somebody enrolled.")
    ] = 0.01,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals' resampling.")] = 0,
    allow_few: Annotated[
        bool, typer.Option("--allow-few", help="Accept a rate that so few people cannot support.")
    ] = False,
    engine: EngineOption = "auto",
    threads: ThreadsOption = None,
    key_file: KeyFileOption = None,
    json: Json = False,
) -> None:
    """Set the distance beyond which a walk is nobody's, by the false-accept rate that you can bear."""
    from gaitedge.people.encryption import find_key
    from gaitedge.people.recognizer import Recognizer

    recognizer = Recognizer(bundle, gallery, engine=engine, threads=threads, key=find_key(key_file))
    with progress_bar("embedding") as progress:
        point = recognizer.set_operating_point(
            source, false_accept_rate, seed=seed, allow_few=allow_few, progress=progress
        )
    if json:
        print_json({"gallery": gallery, **point.details()})
        return
    say(
        f"threshold {point.distance:.4f} set in {gallery}, for {point.gallery_subjects} people and "
        f"{point.gallery_sequences} walks enrolled"
    )
    rates = {"false accept": point.false_accept, "false reject": point.false_reject}
    rows = [
        [
            name,
            f"{100 * rate.rate:.2f}%",
            f"{100 * rate.low:.2f} to {100 * rate.high:.2f}%",
            rate.count,
            rate.probes,
            rate.subjects,
        ]
        for name, rate in rates.items()
        if rate is not None
    ]
    title = f"Operating point, wished false-accept rate {100 * point.wished:g}%"
    table(title, ["", "rate", f"{100 * point.confidence:g}% interval", "walks", "of", "people"], rows)
    notes = []
    if point.left_out:
        notes.append(f"{point.left_out} of the strangers are enrolled and were left out for their own walks")
    if point.misidentified:
        notes.append(f"{point.misidentified} of the false rejects were named as somebody else")
    if point.false_reject is None:
        notes.append("no other walk of anybody enrolled: nothing is known of false rejects")
    if notes:
        say("; ".join(notes))


def _one(walk: Identified) -> None:
    found = walk.identification
    best = found.matches[0]
    limit = "no threshold set" if found.threshold is None else f"threshold {found.threshold:.4f}"
    name = "unknown" if found.unknown else best.subject
    margin = _margin(walk)
    ahead = "nobody else enrolled" if margin is None else f"margin {margin}"
    say(f"{name}  distance {best.distance:.4f}, {ahead}, {limit}; {walk.frames} frames of {walk.source}")
    rows = [
        [rank, match.subject, f"{match.distance:.4f}", match.condition, match.view]
        for rank, match in enumerate(found.matches, 1)
    ]
    table("Nearest", ["rank", "subject", "distance", "condition", "view"], rows)


def _margin(walk: Identified) -> str | None:
    margin = walk.identification.margin
    return None if margin is None else f"{margin:.4f}"
