from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import contents
from numpy.typing import NDArray
from scenes import HEIGHT, RATE, WIDTH, Person, Scene

from gaitedge.data.silhouettes import read_image
from gaitedge.data.sources import open_source
from gaitedge.errors import InputError
from gaitedge.video.blobs import Box
from gaitedge.video.capture import Video
from gaitedge.video.contact_sheet import TILES, Strip, draw_contact_sheet
from gaitedge.video.extraction import extract


class Red:
    """A segmenter for scenes of red people."""

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        red = (image[:, :, 2].astype(int) - image[:, :, 1]) > 50
        return red.astype(np.uint8) * np.uint8(255)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One walks, another jumps."""
    people = (Person(100, 600, last=79, colour=(20, 20, 230)), Person(60, 60, subject=2, last=79, jumps=True))
    return film(tmp_path_factory.mktemp("film") / "scene.avi", Scene(people, frames=80))


def film(path: Path, scene: Scene) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))
    for image in scene.images():
        writer.write(image)
    writer.release()
    return path


def test_a_walk_becomes_a_folder_that_is_read_as_it_was_written(video: Path, tmp_path: Path) -> None:
    done = extract(video, tmp_path / "out", contact_sheet=tmp_path / "sheet.png")
    (walk,) = [track for track in done.tracks if track.fault is None]
    assert walk.folder is not None
    files = sorted((tmp_path / "out" / walk.folder).iterdir())
    source = open_source(tmp_path / "out" / walk.folder)
    assert len(files) == len(source.silhouettes) == walk.silhouettes > 50
    assert (source.silhouettes == np.stack([read_image(file) for file in files])).all()
    assert source.silhouettes.shape[1:] == (64, 44)
    numbers = [int(file.stem) for file in files]
    assert 0 <= numbers[0] < numbers[-1] < 80
    assert walk.begin <= numbers[0] / RATE + 1e-3
    assert walk.end >= numbers[-1] / RATE - 1e-3
    assert walk.step == pytest.approx(0.55, abs=0.12)


def test_what_is_left_out_is_counted_and_named(video: Path, tmp_path: Path) -> None:
    done = extract(video, tmp_path / "out", segmenter=Red())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["walks"], report["frames"], report["size"]) == (1, 80, [WIDTH, HEIGHT])
    assert report["segmenter"] == "Red"
    assert report["tracks"] == [json.loads(json.dumps(vars(track))) for track in done.tracks]
    assert sum(done.rejected_tracks.values()) == len(done.tracks) - done.walks
    counted = sum(sum(track.rejected.values()) for track in done.tracks)
    assert sum(done.rejected_frames.values()) == counted
    folders = {path.name for path in (tmp_path / "out").iterdir()} - {"report.json"}
    assert folders == {track.folder for track in done.tracks if track.folder}


def test_a_contact_sheet_shows_the_tracks(video: Path, tmp_path: Path) -> None:
    extract(video, tmp_path / "out", segmenter=Red(), contact_sheet=tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] == TILES * 88
    assert (sheet.shape[0] % 280, sheet.shape[0] > 0) == (0, True)
    assert sheet.std() > 20


def test_a_strip_spreads_its_tiles_and_does_not_grow() -> None:
    strip, image = Strip(), np.zeros((200, 300, 3), np.uint8)
    for index in range(1000):
        strip.add(image, Box(270, 50, 310, 150), np.full((64, 44), 255, np.uint8), index)
        assert len(strip.tiles) <= 2 * TILES
    assert len(strip.tiles) >= TILES


def test_a_sheet_of_nothing_is_an_image(tmp_path: Path) -> None:
    draw_contact_sheet(tmp_path / "sheet.png", [])
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def test_a_video_of_nobody_is_no_walk_and_no_error(tmp_path: Path) -> None:
    path = film(tmp_path / "empty.avi", Scene((), frames=20))
    done = extract(path, tmp_path / "out")
    assert (done.walks, done.tracks, done.frames) == (0, [], 20)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.json"]


def test_only_so_many_seconds_are_looked_at(video: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = extract(
        video, tmp_path / "out", segmenter=Red(), seconds=0.5, progress=lambda *at: told.append(at)
    )
    assert done.frames == 15
    assert [at for at, _ in told] == list(range(1, 16))
    with pytest.raises(InputError, match="more than 0, not -1"):
        extract(video, tmp_path / "other", seconds=-1)


def test_nothing_is_written_over_and_nothing_is_left_of_a_failure(video: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)
    for out in ("full", "file"):
        with pytest.raises(InputError, match="choose another one"):
            extract(video, tmp_path / out, segmenter=Red())

    class Broken(Red):
        def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            if image[0, 0, 0] >= 0:
                raise InputError("broken")
            return super().segment(image)

    with pytest.raises(InputError, match="broken"):
        extract(video, tmp_path / "out", segmenter=Broken())
    assert contents(tmp_path) == before
    (tmp_path / "empty").mkdir()
    extract(video, tmp_path / "empty", segmenter=Red())
    assert (tmp_path / "empty" / "report.json").exists()


def test_a_camera_that_vanishes_takes_nothing_with_it(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gaitedge.video.extraction.open_video", _camera)
    done = extract(video, tmp_path / "out", segmenter=Red())
    assert done.note is not None
    assert "stopped after 80 frames" in done.note
    assert done.walks == 1


def _camera(source: Path) -> Video:
    """A film as a camera: its end is a failure."""
    return Video(
        cv2.VideoCapture(str(source)), "camera 0", live=True, clock=itertools.count(0, 1 / RATE).__next__
    )


def test_a_film_that_is_cut_off_says_so(video: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.avi").write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    done = extract(tmp_path / "cut.avi", tmp_path / "out", segmenter=Red())
    assert 20 < done.frames < 60
    assert done.note is not None
    assert f"{done.frames} of the 80 frames" in done.note


@pytest.mark.slow
@pytest.mark.shared
def test_the_real_clip_is_one_walk(shared: Path, tmp_path: Path) -> None:
    """One walks across in frames 40 to 190; another jumps and runs off; a small one passes far away."""
    done = extract(shared / "data" / "video" / "sports2d_demo.mp4", tmp_path / "out")
    (walk,) = [track for track in done.tracks if track.fault is None]
    assert walk.folder is not None
    numbers = sorted(int(file.stem) for file in (tmp_path / "out" / walk.folder).iterdir())
    assert len([number for number in numbers if 40 <= number <= 190]) > 120
    assert numbers[0] < 60
    assert numbers[-1] > 175
    assert walk.step == pytest.approx(0.6, abs=0.1)
    assert set(done.rejected_tracks) >= {"not moving", "too short"}
    assert {"too small", "cut at the border", "not upright"} <= set(done.rejected_frames)
