"""Walks of real people, from archives to names, as a user would go: prepare, enrol, identify.

Four people are enrolled and three are not: enough to see that it works, far too few for an accuracy
that means anything, so the figures are printed (`pytest -m shared -s`) and only what must hold at any
accuracy is asserted.
"""

from __future__ import annotations

import collections
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gaitedge.calibration.applying import find_quantization
from gaitedge.data.preparation import Preparation, prepare
from gaitedge.data.store import Store
from gaitedge.evaluation.agreement import verify_targets
from gaitedge.export.exporter import export
from gaitedge.people.recognizer import Identified, Recognizer
from gaitedge.weights import shipped_weights

pytestmark = [pytest.mark.shared, pytest.mark.slow]
ENROLLED = ("007", "039", "002", "032")
GALLERY = ("nm-01", "nm-02", "nm-03", "nm-04")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Preparation, Path]:
    archives = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "walks"
    if not archives.is_dir():
        pytest.skip("the real walks are not beside this checkout")
    folder = tmp_path_factory.mktemp("real")
    for archive in sorted(archives.glob("*.tar.gz")):
        with tarfile.open(archive) as opened:
            opened.extractall(folder / "raw", filter="data")
    return prepare(folder / "raw", folder / "store"), folder / "store"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights as a bundle, in FP32 and INT8."""
    path = tmp_path_factory.mktemp("box") / "walkers.gait"
    export(shipped_weights(), path, "cpu")
    export(path, path, "cpu", "int8", quantization=find_quantization(path))
    return path


@pytest.fixture(scope="module", params=["fp32", "int8"])
def walks(
    request: pytest.FixtureRequest,
    box: Path,
    prepared: tuple[Preparation, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Identified]:
    """Every walk that is not enrolled, identified in a precision."""
    folder, (_, path) = tmp_path_factory.mktemp("people"), prepared
    recognizer = Recognizer(box, folder / "people.db", precision=request.param)
    print(f"\n{recognizer.engine.description}")
    names = {(sequence.subject, sequence.condition) for sequence in Store(path).sequences}
    gallery = sorted(name for name in names if name[0] in ENROLLED and name[1] in GALLERY)
    recognizer.enroll([f"{path}:{subject}/{condition}" for subject, condition in gallery])
    return recognizer.identify(
        [f"{path}:{subject}/{condition}" for subject, condition in sorted(names - set(gallery))], top=4
    )


def test_every_sequence_comes_through(prepared: tuple[Preparation, Path]) -> None:
    report, path = prepared
    store = Store(path)
    assert report.sequences == len(store) == 297
    assert report.dropped_sequences == {}
    assert report.frames + sum(map(len, report.dropped_frames.values())) == 27_731
    reasons = {reason for frames in report.dropped_frames.values() for reason in frames.values()}
    assert reasons <= {"empty", "too few pixels", "too narrow", "off centre"}
    assert {sequence.view for sequence in store.sequences} == {f"{angle:03d}" for angle in range(0, 181, 18)}
    # Aligned: every silhouette reaches from the first row to the last.
    assert np.asarray(store.frames[:, 0].any(axis=1)).mean() > 0.99
    assert np.asarray(store.frames[:, 63].any(axis=1)).mean() > 0.99


def test_int8_embeds_real_walks_as_fp32_does(box: Path, prepared: tuple[Preparation, Path]) -> None:
    """By a calibration that has seen synthetic walkers alone."""
    _, found = verify_targets(box, prepared[1], "cpu-fp32,cpu-int8")
    assert found.distance is not None
    print(f"\nINT8 against FP32, {found.sequences} real walks: cosine {found.mean_cosine:.6f} in the mean,")
    print(f"{found.minimum_cosine:.6f} at least; largest change of a distance {found.distance.change:.4f}")
    assert found.sequences == 297
    assert found.mean_cosine >= 0.995


def test_enrolled_people_are_told_apart(walks: list[Identified]) -> None:
    counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for walk in walks:
        if walk.subject in ENROLLED:
            right = walk.identification.matches[0].subject == walk.subject
            row = counts[str(walk.condition)[:2].upper()]
            row[0], row[1] = row[0] + right, row[1] + 1
    print("\nRank-1, 4 people enrolled from nm-01..04, every view in the gallery")
    print("(4 people: it says that it works, nothing about accuracy)")
    for condition, (right, total) in sorted(counts.items()):
        print(f"  {condition}  {right:3d} of {total:3d}  {100 * right / total:5.1f} %")
    assert {condition: total for condition, (_, total) in counts.items()} == {"NM": 66, "BG": 44, "CL": 44}
    right, total = counts["NM"]
    assert right / total > 0.5  # one in four by chance


def test_people_whom_the_gallery_does_not_know_are_farther_away(walks: list[Identified]) -> None:
    strangers = [walk for walk in walks if walk.subject not in ENROLLED]
    known = [
        walk.identification.matches[0].distance
        for walk in walks
        if walk.subject in ENROLLED and str(walk.condition).startswith("nm")
    ]
    distances: dict[str, list[float]] = collections.defaultdict(list)
    for walk in strangers:
        distances[str(walk.subject)].append(walk.identification.matches[0].distance)
    print("\nDistance to the nearest enrolled person: smallest, median, largest over 11 views")
    print(f"  enrolled, nm  {min(known):.3f}  {np.median(known):.3f}  {max(known):.3f}")
    for subject, values in sorted(distances.items()):
        print(f"  stranger {subject}  {min(values):.3f}  {np.median(values):.3f}  {max(values):.3f}")
    assert set(distances) == {"005", "006", "010"}
    assert min(np.median(values) for values in distances.values()) > np.median(known)
