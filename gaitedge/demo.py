"""The whole way on synthetic walkers: draw, align, export, enrol, identify, measure."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gaitedge.data.preparation import Preparation, prepare
from gaitedge.data.store import is_store
from gaitedge.engines import Engine
from gaitedge.errors import InputError
from gaitedge.export.exporter import ExportReport, export
from gaitedge.people.recognizer import Identified, Recognizer
from gaitedge.profiling.figures import Distribution, summarize
from gaitedge.profiling.inputs import make_inputs
from gaitedge.profiling.measuring import measure
from gaitedge.walkers.synthesis import synthesise
from gaitedge.weights import shipped_weights

__all__ = ["Demo", "Latency", "Outcome", "demo", "outcomes"]

SEED = 7  # none of these people was in the training of the shipped weights, which has seed 1
KNOWN, STRANGERS, OTHERS = 12, 4, 8
GALLERY_VIEWS = ("018", "054", "090", "126", "162")
PROBE_VIEWS = ("036", "072", "108", "144")
ENROLLED = ("nm-01", "nm-02")
PROBES = {"normal walk": "nm-05", "with a bag": "bg-01", "in a coat": "cl-01"}
# The threshold is set on other people: walks as different from each other as probes from a gallery.
THRESHOLD = {"nm-01": ("018", "090", "162"), "bg-01": ("054", "126"), "cl-01": ("036", "108")}


@dataclass(frozen=True)
class Latency:
    """What calls of one shape take here, in this process; `gaitedge bench` says more."""

    batch: int
    frames: int
    end_to_end: Distribution
    first_run_ms: float
    sequences_per_second: float
    frames_per_second: float


@dataclass(frozen=True)
class Demo:
    """What the demonstration did and found."""

    drawn: int
    """Frames drawn as images, of 240×320 pixels."""
    drawing_seconds: float
    prepared: Preparation
    exported: ExportReport
    engine: str
    enrolled: int
    """Sequences in the gallery."""
    threshold: float
    walks: list[Identified]
    """Every probe, with who walks there and who the engine says it is."""
    latency: list[Latency]
    files: dict[str, Path]


@dataclass(frozen=True)
class Outcome:
    """How the probes of one kind came out."""

    probe: str
    walks: int
    right: int
    """Named rightly; for people whom the gallery does not know: called unknown."""
    wrong: int
    """Named as somebody else."""
    unknown: int
    """Called unknown."""
    nearest_right: int | None
    """Whose nearest person was the right one, whatever the threshold said: rank-1."""


def demo(
    out: Path, workers: int | None = None, progress: Callable[[str, int, int], None] | None = None
) -> Demo:
    """Run everything into the folder `out`, which may hold an earlier run's files and nothing else.

    progress: called with a step's name, how much of it is done, and of how much. Raises InputError
    where `out` is no such folder.
    """

    def step(name: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(name, done, total) if progress else None

    files = _make_room(Path(out))
    known, everyone = (1, KNOWN), (1, KNOWN + STRANGERS)
    others = (KNOWN + STRANGERS + 1, OTHERS)
    drawn = [
        synthesise(
            files["raw silhouettes"],
            first=first,
            subjects=subjects,
            conditions=conditions,
            views=views,
            seed=SEED,
            workers=workers,
            progress=step("drawing walkers"),
        )
        for (first, subjects), conditions, views in [
            (known, ENROLLED, GALLERY_VIEWS),
            (everyone, tuple(PROBES.values()), PROBE_VIEWS),
            *((others, (condition,), views) for condition, views in THRESHOLD.items()),
        ]
    ]
    prepared = prepare(
        files["raw silhouettes"], files["aligned store"], workers=workers, progress=step("aligning")
    )
    exported = export(shipped_weights(), files["bundle"])

    def walks(subjects: tuple[int, int], conditions: Iterable[str], views: Iterable[str]) -> list[str]:
        people = range(subjects[0], sum(subjects))
        combinations = itertools.product(people, conditions, views)
        return [f"{files['aligned store']}:{number:03d}/{how}/{view}" for number, how, view in combinations]

    recognizer = Recognizer(files["bundle"], files["gallery"])
    enrolled = recognizer.enroll(walks(known, ENROLLED, GALLERY_VIEWS), progress=step("enrolling"))
    threshold = recognizer.set_threshold(
        [walk for condition, views in THRESHOLD.items() for walk in walks(others, [condition], views)],
        progress=step("setting the threshold"),
    )
    identified = recognizer.identify(
        walks(everyone, PROBES.values(), PROBE_VIEWS), top=3, progress=step("identifying")
    )
    return Demo(
        sum(synthesis.frames for synthesis in drawn),
        sum(synthesis.seconds for synthesis in drawn),
        prepared,
        exported,
        recognizer.engine.description,
        len(enrolled),
        threshold,
        identified,
        [_latency(recognizer.engine, batch, frames) for batch in (1, 4) for frames in (30, 60)],
        files,
    )


def _latency(engine: Engine, batch: int, frames: int) -> Latency:
    found = measure([engine], make_inputs(None, batch, frames, SEED, 0))
    rate = found.calls_per_second * batch
    times = summarize(found.end_to_end_ms)
    return Latency(batch, frames, times, found.first_run_ms, rate, rate * frames)


def outcomes(walks: list[Identified]) -> list[Outcome]:
    """Count the demonstration's probes by what they show; the people not enrolled come last."""
    kinds = {condition: label for label, condition in PROBES.items()}
    rows = []
    for label, is_known in [*((label, True) for label in PROBES), ("a stranger", False)]:
        chosen = [
            walk
            for walk in walks
            if (int(walk.subject or 0) <= KNOWN) == is_known
            and (not is_known or kinds[walk.condition or ""] == label)
        ]
        unknown = [walk for walk in chosen if walk.identification.unknown]
        nearest = [walk for walk in chosen if walk.identification.matches[0].subject == walk.subject]
        named = [walk for walk in nearest if not walk.identification.unknown]
        rows.append(
            Outcome(
                label,
                len(chosen),
                right=len(named) if is_known else len(unknown),
                wrong=len(chosen) - len(unknown) - len(named),
                unknown=len(unknown),
                nearest_right=len(nearest) if is_known else None,
            )
        )
    return rows


def _make_room(out: Path) -> dict[str, Path]:
    """The demonstration's files; of an earlier run's only the raw images stay, they come out the same."""
    files = {
        "raw silhouettes": out / "raw",
        "aligned store": out / "store",
        "bundle": out / "walkers.gait",
        "gallery": out / "people.db",
    }
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is not a folder; give another one with --out")
    out.mkdir(parents=True, exist_ok=True)
    journal = files["gallery"].with_name(f"{files['gallery'].name}-journal")  # of a run that was killed
    strange = sorted(
        {path.name for path in out.iterdir() if not path.name.startswith(".")}
        - {path.name for path in (*files.values(), journal)}
    )
    if strange:
        raise InputError(
            f"{out} holds other things ({', '.join(strange[:3])}); give another folder with --out"
        )
    old = out / ".old-store"  # first out of the way: half a store would be in it
    shutil.rmtree(old, ignore_errors=True)
    if is_store(files["aligned store"]):
        files["aligned store"].rename(old)
        shutil.rmtree(old)
    files["gallery"].unlink(missing_ok=True)
    journal.unlink(missing_ok=True)
    return files
