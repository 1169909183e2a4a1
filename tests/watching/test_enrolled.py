"""People who are known while their gallery is changed, locked, or gone."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, MachineError
from gaitedge.people.gallery import Gallery
from gaitedge.watching.enrolled import Enrolled

MODEL = "ab" * 32


def at(place: float) -> NDArray[np.float32]:
    return np.full((3, 5), place, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gallery.create(tmp_path / "people.db", MODEL, 3, 5) as gallery:
        gallery.enroll("anna", at(0))
        gallery.enroll("berta", at(10))
        gallery.threshold = 3.0
    return tmp_path / "people.db"


def name(enrolled: Enrolled, place: float) -> str | None:
    found = enrolled.identify(at(place))
    assert found is not None
    return None if found.unknown else found.matches[0].subject


def test_it_identifies_as_the_gallery_does(path: Path) -> None:
    with Enrolled(path, MODEL, pause=60) as enrolled:
        assert enrolled.threshold == 3.0
        assert (name(enrolled, 1), name(enrolled, 9), name(enrolled, 5)) == ("anna", "berta", None)
        found = enrolled.identify(at(1))
        assert found is not None
        assert len(found.matches) == 2
        assert enrolled.news() == []
    with Enrolled(path, MODEL, threshold=100.0, pause=60) as enrolled:
        assert name(enrolled, 50) == "berta"


def test_an_enrolment_is_picked_up(path: Path) -> None:
    with Enrolled(path, MODEL, pause=60) as enrolled, Gallery.open(path) as reader:
        enrolled.refresh(reader)
        assert enrolled.news() == []  # the same people, read by another connection
        with Gallery.open(path) as gallery:
            gallery.enroll("carla", at(50))
        enrolled.refresh(reader)
        assert name(enrolled, 50) == "carla"
        assert enrolled.news() == [("gallery changed", f"{path}: 3 people, 3 walks enrolled")]
        with Gallery.open(path) as gallery:
            gallery.threshold = 40.0
        enrolled.refresh(reader)
        assert [event for event, _ in enrolled.news()] == ["gallery changed"]
        assert name(enrolled, 25) == "berta"
        with Gallery.open(path) as gallery:
            for subject in ("anna", "berta", "carla"):
                gallery.remove(subject)
        enrolled.refresh(reader)
        assert enrolled.identify(at(0)) is None


def test_a_locked_gallery_is_told_of_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Gallery.embeddings
    with Enrolled(path, MODEL, pause=60) as enrolled, Gallery.open(path) as reader:

        def locked(_: Gallery) -> None:
            raise MachineError(f"{path}: another process kept it locked for 30 s; try again")

        monkeypatch.setattr(Gallery, "embeddings", locked)
        enrolled.refresh(reader)
        enrolled.refresh(reader)
        ((event, line),) = enrolled.news()
        assert event == "gallery trouble"
        assert "locked" in line
        assert name(enrolled, 1) == "anna"
        monkeypatch.setattr(Gallery, "embeddings", read)
        enrolled.refresh(reader)
        enrolled.refresh(reader)
        assert enrolled.news() == [("gallery back", f"{path} can be read again")]


def test_its_thread_follows_the_file_even_when_another_takes_its_place(path: Path) -> None:
    def waits_for(event: str) -> None:
        limit = time.monotonic() + 30
        while event not in [found for found, _ in enrolled.news()]:
            assert time.monotonic() < limit
            time.sleep(0.005)

    with Enrolled(path, MODEL, pause=0.01) as enrolled:
        with Gallery.open(path) as gallery:
            gallery.enroll("carla", at(50))
        waits_for("gallery changed")
        moved = path.rename(path.with_name("moved.db"))
        waits_for("gallery trouble")
        assert name(enrolled, 50) == "carla"
        moved.rename(path)
        waits_for("gallery back")


def test_what_cannot_be_watched_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="none"), Enrolled(tmp_path / "none.db", MODEL):
        pass
    with pytest.raises(GalleryError, match="distances between two models"), Enrolled(path, "cd" * 32):
        pass
    Gallery.create(tmp_path / "empty.db", MODEL, 3, 5).close()
    with pytest.raises(GalleryError, match="nobody is enrolled in"), Enrolled(tmp_path / "empty.db", MODEL):
        pass
