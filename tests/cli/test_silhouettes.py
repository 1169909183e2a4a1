"""`gaitedge silhouettes`: a video to walks, and what it says of what is no video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from commands import Refused, succeed
from scenes import HEIGHT, RATE, WIDTH, Person, Scene


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "walk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))
    for image in Scene((Person(80, 560, last=69),), frames=70).images():
        writer.write(image)
    writer.release()
    return path


def test_a_video_becomes_folders_and_a_table(video: Path, bundle: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = succeed("silhouettes", video, tmp_path / "out", "--contact-sheet", sheet)
    assert f"1 walk in 70 frames of {video}" in done.stdout
    assert "track-001" in done.stdout
    assert sheet.stat().st_size > 1000
    people = tmp_path / "people.db"
    succeed("enroll", bundle, people, tmp_path / "out" / "track-001", "--id", "somebody")
    assert "somebody" in succeed("identify", bundle, people, tmp_path / "out" / "track-001").stdout


def test_a_walk_can_be_prepared_as_it_is(video: Path, tmp_path: Path) -> None:
    report = succeed("silhouettes", video, tmp_path / "out", "--json").json
    (track,) = report["tracks"]
    place = tmp_path / "raw" / "me" / "nm-01"
    place.mkdir(parents=True)
    (tmp_path / "out" / track["folder"]).rename(place / "090")
    done = succeed("prepare", tmp_path / "raw", tmp_path / "store", "--workers", 1, "--json").json
    assert (done["sequences"], done["frames"]) == (1, track["silhouettes"])


def test_json_is_the_report(video: Path, tmp_path: Path) -> None:
    done = succeed("silhouettes", video, tmp_path / "out", "--json").json
    assert (done["format"], done["walks"], done["frames"]) == ("gaitedge-silhouettes", 1, 70)
    assert (tmp_path / "out" / "report.json").exists()


def test_nobody_walks(video: Path, tmp_path: Path) -> None:
    done = succeed("silhouettes", video, tmp_path / "out", "--seconds", "0.4")
    assert "0 walks in 12 frames" in done.stdout
    assert "tracks: too short" in done.stdout


def test_what_cannot_be_used_is_one_line(video: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    run: Refused = refused
    (tmp_path / "no.mp4").write_text("no video")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    run(["silhouettes", tmp_path / "none.mp4", tmp_path / "out"], "none.mp4")
    run(["silhouettes", tmp_path / "no.mp4", tmp_path / "out"], "no.mp4")
    run(["silhouettes", video, tmp_path / "full"], "full is there already")
    run(["silhouettes", video, tmp_path / "out", "--segmenter", "yolo"], "unknown segmenter 'yolo'")
    run(
        ["silhouettes", video, tmp_path / "out", "--segmenter", "none.onnx"],
        "no segmentation model at none.onnx",
    )
    run(["silhouettes", video, tmp_path / "out", "--seconds", "0"], "more than 0")
