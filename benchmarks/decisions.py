"""What a stream's settings do to synthetic walkers: python benchmarks/decisions.py

Walkers on whom the shipped weights were not trained. Two thirds of them are enrolled, from two walks in three
views; each then walks past again in five views, in the same clothes, with a bag and in a coat. The others are
unknown people. The threshold is the equal-error point of these very walks, so that its own error is known.

Decisions: each walk comes frame by frame, with a look at every third frame. "settled" is the share of walks
that were settled before their end, "after" the median frame at which. Of the first settled ones "wrong" is
the share that is not true, "misnamed" the share that names somebody else; "revised" is how often a walk's was
revised, "wrong at end" the share of final verdicts that are not true.

Gaps: of each walk pieces of 9 frames, with frames missing between them. How far the embedding is then from
that of the whole walk: of as many frames in a row, with the pieces joined, and with each piece a segment.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from documents import save
from numpy.typing import NDArray

from gaitedge.data.sources import open_sources
from gaitedge.export.exporter import export
from gaitedge.people.identification import Identification, Match, distances
from gaitedge.streaming.decision import Decider, DecisionSettings
from gaitedge.streaming.head import TemporalHead
from gaitedge.streaming.stream import Network
from gaitedge.walkers.synthesis import synthesise
from gaitedge.weights import shipped_weights

Array = NDArray[np.float32]

FIRST = 205  # subject; those up to 200 were trained on, those up to 210 looked at in training
VIEWS = ("036", "054", "090", "126", "162")
ENROLLED_VIEWS, ENROLLED = ("054", "090", "126"), ("nm-01", "nm-02")
PROBES = ("nm-05", "bg-01", "cl-01")
LOOK = 3  # frames from one look to the next
PIECE, PIECES = 9, 4  # frames of a piece between gaps, and how many
MISSING = (1, 2, 3, 4, 5, 6, 8, 10, 12)

AS_THEY_ARE = DecisionSettings()
AT_ONCE = DecisionSettings(frames=1, checks=1, margin=0, clearance=0, revise_checks=1, revise_margin=0)
SETTINGS = {
    "every look settles": AT_ONCE,
    "settings as they are": AS_THEY_ARE,
    **{f"frames {frames}": replace(AS_THEY_ARE, frames=frames) for frames in (1, 10, 15, 20, 30)},
    **{f"checks {checks}": replace(AS_THEY_ARE, checks=checks) for checks in (1, 5)},
    **{f"margin {margin}": replace(AS_THEY_ARE, margin=margin) for margin in (0.0, 0.05, 0.15)},
    **{f"clearance {share}": replace(AS_THEY_ARE, clearance=share) for share in (0.0, 0.03, 0.1)},
    "revised like settled": replace(AS_THEY_ARE, revise_checks=3, revise_margin=0.1),
}


@dataclass(frozen=True)
class Walk:
    """A walk's part features, [frames, parts, C]."""

    subject: str
    condition: str
    view: str
    features: Array


def main() -> None:
    """Measure, print two tables, and write the JSON document if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=24, help="3 or more")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network, walks = walks_of(Path(folder), options.subjects, options.threads)
    known = sorted({walk.subject for walk in walks})[: options.subjects * 2 // 3]
    enrolled = [
        walk
        for walk in walks
        if walk.subject in known and walk.condition in ENROLLED and walk.view in ENROLLED_VIEWS
    ]
    gallery = np.stack([network.head.whole([walk.features]) for walk in enrolled])
    names = np.array([walk.subject for walk in enrolled])
    probes = [walk for walk in walks if walk.condition in PROBES]
    looks = [list(looks_at(network.head, walk, gallery, names, known)) for walk in probes]
    threshold = equal_error(probes, looks, known)

    decisions = [
        {"name": name, **decided(s, probes, looks, known, threshold)} for name, s in SETTINGS.items()
    ]
    print(f"{len(known)} people enrolled, {len(probes)} walks to identify, threshold {threshold:.3f}")
    print(f"{'':34}{'settled':>9}{'after':>7}{'wrong':>8}{'misnamed':>10}{'revised':>9}{'wrong at end':>14}")
    for row in decisions:
        print(
            f"{row['name']:34}{row['settled']:9.1%}{row['after']:7.0f}{row['wrong']:8.1%}{row['misnamed']:10.1%}"
            f"{row['revised']:9.3f}{row['wrong_at_end']:14.1%}"
        )
    gaps = [
        {"name": f"{missing} missing after every {PIECE}", **broken(network.head, probes, missing)}
        for missing in MISSING
    ]
    print(f"{'distance to the whole walk':34}{'in a row':>10}{'joined':>10}{'segments':>10}")
    for row in gaps:
        print(f"{row['name']:34}{row['in_a_row']:10.3f}{row['joined']:10.3f}{row['segments']:10.3f}")
    if options.json:
        save(options.json, [*decisions, *gaps], subjects=options.subjects, threshold=threshold)


def walks_of(folder: Path, subjects: int, threads: int) -> tuple[Network, list[Walk]]:
    """The shipped network, and the part features of all walks."""
    conditions = (*ENROLLED, *PROBES)
    synthesise(
        folder / "walks", subjects, FIRST, views=VIEWS, conditions=conditions, seed=1, store=True, workers=1
    )
    export(shipped_weights(), folder / "walkers.gait")
    network = Network.load(folder / "walkers.gait", threads=threads)
    walks = []
    for source in open_sources(f"{folder / 'walks'}:*"):
        features = network.frames.part_features(source.silhouettes)
        walks.append(Walk(str(source.subject), str(source.condition), str(source.view), features))
    return network, walks


def looks_at(
    head: TemporalHead, walk: Walk, gallery: Array, names: NDArray[np.str_], known: list[str]
) -> Iterator[tuple[int, Array]]:
    """Frames seen, and the distance of each of the known people, at every third frame and the last."""
    state, embeddings, seen = head.begin(), [], []
    for number, frame in enumerate(walk.features, 1):
        head.push([state], frame[None])
        if number % LOOK == 0 or number == len(walk.features):
            embeddings.append(head.embeddings([state])[0])
            seen.append(number)
    all_distances = distances(np.stack(embeddings), gallery)
    nearest = np.stack([all_distances[:, names == name].min(axis=1) for name in known], axis=1)
    yield from zip(seen, nearest, strict=True)


def equal_error(probes: list[Walk], looks: list[list[tuple[int, Array]]], known: list[str]) -> float:
    """The distance at which as many whole walks of known people are beyond as of unknown ones within."""
    genuine, impostor = [], []
    for walk, rows in zip(probes, looks, strict=True):
        last = rows[-1][1]
        if walk.subject in known:
            genuine.append(last[known.index(walk.subject)])
        else:
            impostor.append(last.min())
    mine, others = np.array(genuine), np.array(impostor)
    candidates = np.sort(np.concatenate([mine, others]))
    return float(min(candidates, key=lambda t: abs((mine > t).mean() - (others <= t).mean())))


def decided(
    settings: DecisionSettings,
    probes: list[Walk],
    looks: list[list[tuple[int, Array]]],
    known: list[str],
    threshold: float,
) -> dict[str, Any]:
    """The figures of the table, of all walks."""
    after, wrong, misnamed, revised, wrong_at_end = [], [], [], 0, []
    for walk, rows in zip(probes, looks, strict=True):
        truth = walk.subject if walk.subject in known else None
        decider, settled = Decider(settings), False
        for frames, row in rows:
            order = np.argsort(row)[:2]
            matches = tuple(Match(known[i], float(row[i]), None, None, 0) for i in order)
            found = Identification(matches, matches[0].distance > threshold, threshold)
            decision = decider.look(found, frames)
            if decision.settled and not settled:
                settled = True
                after.append(frames)
                wrong.append(decision.subject != truth)
                misnamed.append(decision.subject not in (truth, None))
        final = decider.end()
        revised += final.revisions
        wrong_at_end.append(final.verdict == "undecided" or final.subject != truth)
    return {
        "settled": len(after) / len(probes),
        "after": float(np.median(after)) if after else float("nan"),
        "wrong": float(np.mean(wrong)) if wrong else 0.0,
        "misnamed": float(np.mean(misnamed)) if misnamed else 0.0,
        "revised": revised / len(probes),
        "wrong_at_end": float(np.mean(wrong_at_end)),
    }


def broken(head: TemporalHead, probes: list[Walk], missing: int) -> dict[str, float]:
    """Mean distance to the whole walk's embedding, of what is left of the walks."""
    found: dict[str, list[float]] = {"in_a_row": [], "joined": [], "segments": []}
    for walk in probes:
        starts = range(0, len(walk.features) - PIECE + 1, PIECE + missing)[:PIECES]
        pieces = [walk.features[start : start + PIECE] for start in starts]
        joined = np.concatenate(pieces)
        whole = head.whole([walk.features])
        for name, segments in (
            ("in_a_row", [walk.features[: len(joined)]]),
            ("joined", [joined]),
            ("segments", pieces),
        ):
            found[name].append(float(distances(head.whole(segments)[None], whole[None])[0, 0]))
    return {name: float(np.mean(values)) for name, values in found.items()}


if __name__ == "__main__":
    main()
