"""Commands about video: silhouettes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaitedge.cli.console import Json, print_json, progress_bar, say, table

__all__ = ["silhouettes"]


def silhouettes(
    video: Annotated[
        str,
        typer.Argument(
            help="A video file, a camera's number or /dev/videoN, an RTSP or HTTP address, or a "
            "GStreamer pipeline."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write to; it must not be there yet, or be empty.")],
    segmenter: Annotated[
        str, typer.Option(help="background, for a camera that stands still, or a model, MODEL.onnx.")
    ] = "background",
    contact_sheet: Annotated[
        Path | None, typer.Option(help="A PNG to draw what was cut out into.", metavar="FILE.png")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Of the video to look at; to its end by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Cut the people who walk in a video out, as aligned silhouettes: OUT/track-001/000001.png."""
    from gaitedge.video.extraction import extract

    with progress_bar("looking") as progress:
        done = extract(
            video,
            out,
            segmenter=segmenter,
            contact_sheet=contact_sheet,
            seconds=seconds,
            progress=progress,
        )
    if json:
        print_json(done)
        return
    walks = "1 walk" if done.walks == 1 else f"{done.walks} walks"
    say(f"{walks} in {done.frames} frames of {done.source} ({done.seconds:.1f} s), written to {out}")
    if done.note is not None:
        say(done.note)
    rows = [
        [
            track.folder,
            f"{track.begin:.2f}",
            f"{track.end:.2f}",
            track.silhouettes,
            sum(track.rejected.values()),
            None if track.step is None else f"{track.step:.2f}",
        ]
        for track in done.tracks
        if track.folder is not None
    ]
    if rows:
        table("Walks", ["folder", "from s", "to s", "silhouettes", "left out", "step s"], rows)
    left = [[f"tracks: {reason}", count] for reason, count in sorted(done.rejected_tracks.items())]
    left += [[f"frames: {reason}", count] for reason, count in sorted(done.rejected_frames.items())]
    if left:
        table("Left out", ["what and why", "count"], left)
        say(f"track by track: {out / 'report.json'}")
