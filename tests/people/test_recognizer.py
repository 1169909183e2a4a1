from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import random_weights
from PIL import Image

from gaitedge.bundle import Bundle
from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import GalleryError, InputError
from gaitedge.export.exporter import export
from gaitedge.people.gallery import Gallery
from gaitedge.people.identification import distances
from gaitedge.people.recognizer import Recognizer
from gaitedge.people.threshold import OperatingPoint
from gaitedge.walkers.synthesis import synthesise
from gaitedge.weights import save_weights

SMALL = GaitPartConfig(channels=(4, 4, 8), embedding_dim=8)


def bundle(folder: Path, seed: int) -> Path:
    weights = folder / f"{seed}.safetensors"
    save_weights(weights, SMALL, random_weights(SMALL, seed))
    return export(weights, folder / f"{seed}.gait").path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle, and a store of three people."""
    folder = tmp_path_factory.mktemp("made")
    conditions = ("nm-01", "nm-02")
    synthesise(
        folder / "store", subjects=3, views=("072", "090"), conditions=conditions, store=True, workers=1
    )
    return bundle(folder, 0), folder / "store"


def test_a_walk_finds_itself(made: tuple[Path, Path], tmp_path: Path) -> None:
    box = Recognizer(made[0], tmp_path / "people.db")
    assert [walk.subject for walk in box.enroll(f"{made[1]}:*/nm-01")] == [
        "001",
        "001",
        "002",
        "002",
        "003",
        "003",
    ]
    for walk in box.identify(f"{made[1]}:*/nm-01"):
        match = walk.identification.matches[0]
        assert (match.subject, match.view) == (walk.subject, walk.view)
        assert match.distance == pytest.approx(0, abs=1e-5)
        assert len(walk.identification.matches) == 3
        assert not walk.identification.unknown


def test_identification_is_embedding_and_distance(made: tuple[Path, Path], tmp_path: Path) -> None:
    box, store = Recognizer(made[0], tmp_path / "people.db"), Store(made[1])
    box.enroll([f"{made[1]}:{subject}/nm-01/090" for subject in ("001", "002", "003")])
    found = box.identify(f"{made[1]}:002/nm-02/072", top=2)[0]
    silhouettes = [store[store.find(f"{subject}/nm-01/090")] for subject in ("001", "002", "003")]
    probe = box.embed([store[store.find("002/nm-02/072")]])
    expected = sorted(distances(probe, box.embed(silhouettes))[0].tolist())[:2]
    assert [match.distance for match in found.identification.matches] == pytest.approx(expected, abs=1e-6)


def test_a_folder_of_images_is_a_walk_of_a_named_person(made: tuple[Path, Path], tmp_path: Path) -> None:
    store, folder = Store(made[1]), tmp_path / "images"
    folder.mkdir()
    for number, frame in enumerate(store[0]):
        Image.fromarray(np.asarray(frame)).save(folder / f"{number}.png")
    box = Recognizer(made[0], tmp_path / "people.db")
    with pytest.raises(InputError, match="does not say who walks there"):
        box.enroll(folder)
    assert not (tmp_path / "people.db").exists()
    box.enroll(folder, subject="Ada")
    walk = box.identify(f"{made[1]}:001/nm-01/072")[0]
    assert walk.identification.matches[0].subject == "Ada"
    assert walk.identification.matches[0].distance == pytest.approx(0, abs=1e-5)


def test_one_bad_source_of_several_enrols_nobody(made: tuple[Path, Path], tmp_path: Path) -> None:
    box = Recognizer(made[0], tmp_path / "people.db")
    with pytest.raises(InputError, match="009"):
        box.enroll([f"{made[1]}:001/nm-01", f"{made[1]}:009/nm-01/090"])
    assert not (tmp_path / "people.db").exists()


def test_the_threshold_separates_the_enrolled_from_strangers(made: tuple[Path, Path], tmp_path: Path) -> None:
    box = Recognizer(made[0], tmp_path / "people.db")
    box.enroll([f"{made[1]}:001", f"{made[1]}:002"])
    by_gallery = box.set_threshold()
    with Gallery.open(tmp_path / "people.db") as gallery:
        assert gallery.threshold == by_gallery
    by_others = box.set_threshold([f"{made[1]}:002", f"{made[1]}:003"])
    assert by_others != by_gallery
    beyond = box.identify(f"{made[1]}:003/nm-01/090", threshold=0.0)[0].identification
    assert beyond.unknown
    assert beyond.threshold == 0
    assert not box.identify(f"{made[1]}:003/nm-01/090", threshold=1e6)[0].identification.unknown


def test_another_model_s_gallery_is_refused_before_an_engine_is_built(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    Recognizer(made[0], tmp_path / "people.db").enroll(f"{made[1]}:001/nm-01/090")
    other = Bundle.open(bundle(tmp_path, 1))
    with pytest.raises(GalleryError, match=other.fingerprint[:12]):
        Recognizer(other, tmp_path / "people.db", engine="no such engine")


def test_a_key_makes_an_encrypted_gallery_and_opens_it(made: tuple[Path, Path], tmp_path: Path) -> None:
    key = bytes(range(32))
    box = Recognizer(made[0], tmp_path / "people.db", key=key)
    box.enroll([f"{made[1]}:{subject}/nm-01/090" for subject in ("001", "002")])
    found = box.identify(f"{made[1]}:002/nm-01/090")[0].identification.matches[0]
    assert (found.subject, found.distance) == ("002", pytest.approx(0, abs=1e-5))
    for other in (None, bytes(32)):
        with pytest.raises(GalleryError, match="key"):
            Recognizer(made[0], tmp_path / "people.db", key=other)


def test_an_explanation_is_drawn_of_one_walk(made: tuple[Path, Path], tmp_path: Path) -> None:
    box, picture = Recognizer(made[0], tmp_path / "people.db"), tmp_path / "why.png"
    box.enroll([f"{made[1]}:{subject}/nm-01/090" for subject in ("001", "002")])
    for refused, words in (
        (tmp_path / "why.gif", "PNG picture"),
        (picture, "one walk, not of 2; choose one"),
    ):
        with pytest.raises(InputError, match=words):
            box.identify(f"{made[1]}:001/nm-02", explanation=refused)
    assert not picture.exists()
    (plain,) = box.identify(f"{made[1]}:001/nm-02/090", top=1)
    (walk,) = box.identify(f"{made[1]}:001/nm-02/090", top=1, explanation=picture)
    assert walk == plain
    assert len(walk.identification.matches) == 1
    assert walk.identification.margin is not None
    with Image.open(picture) as drawn:
        two = drawn.width
    box.identify(f"{made[1]}:003/nm-02/090", explanation=picture)  # replaces it
    with Image.open(picture) as drawn:
        assert drawn.width == two


def test_the_operating_point_is_stored_with_what_it_costs(made: tuple[Path, Path], tmp_path: Path) -> None:
    box = Recognizer(made[0], tmp_path / "people.db")
    box.enroll([f"{made[1]}:{subject}/nm-01" for subject in ("001", "002")])
    seen = []
    point = box.set_operating_point(
        f"{made[1]}:*/nm-02", 0.4, allow_few=True, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (6, 6)
    assert (point.gallery_subjects, point.gallery_sequences, point.left_out) == (2, 4, 2)
    assert (point.false_accept.probes, point.false_accept.subjects) == (6, 3)
    assert point.false_accept.rate <= 0.4
    assert point.false_reject is not None
    assert point.false_reject.probes == 4
    with Gallery.open(tmp_path / "people.db") as gallery:
        assert gallery.threshold == point.distance
        stored = gallery.operating_point
    assert stored is not None
    assert OperatingPoint.from_details(stored) == point
    strangers = box.identify(f"{made[1]}:003/nm-02")
    for walk in strangers:
        nearest = walk.identification.matches[0].distance
        assert walk.identification.unknown is (nearest > point.distance)


def test_an_operating_point_that_cannot_be_changes_nothing(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Recognizer(made[0], tmp_path / "people.db")
    box.enroll(f"{made[1]}:001/nm-01")
    images = tmp_path / "images"
    images.mkdir()
    for number, frame in enumerate(Store(made[1])[0]):
        Image.fromarray(np.asarray(frame)).save(images / f"{number}.png")
    monkeypatch.setattr(box, "embed", None)  # it is refused before anything is embedded
    for source, words in ((f"{made[1]}:*", "needs walks of 300 people"), (images, "does not say who walks")):
        with pytest.raises(InputError, match=words):
            box.set_operating_point(source)
    with Gallery.open(tmp_path / "people.db") as gallery:
        assert gallery.threshold is None
