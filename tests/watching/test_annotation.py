"""The annotated video plays as fast as what it shows, whatever came when."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import contents

from gaitedge.errors import InputError
from gaitedge.video.blobs import Box
from gaitedge.video.capture import Frame, open_video
from gaitedge.watching.annotation import AnnotatedVideo, Mark


def frame(index: int, time: float, size: tuple[int, int] = (96, 128)) -> Frame:
    return Frame(index, time, np.full((*size, 3), 40, np.uint8))


def length(path: Path) -> int:
    with open_video(path) as video:
        return len(list(video))


def test_boxes_and_names_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "seen.mp4"
    with AnnotatedVideo(path) as out:
        out.write(frame(0, 7.0), [Mark(Box(30, 40, 90, 90), "1 Zoë 0.31", "known")], 25.0)
    (image,) = [seen.image for seen in open_video(path)]
    blue, green, red = (int(value) for value in image[65, 30:32].mean(axis=0))
    assert green > 120 > max(blue, red)
    assert abs(int(image[65, 60].mean()) - 40) < 12  # within the box nothing is covered
    assert contents(tmp_path).keys() == {"seen.mp4"}


@pytest.mark.parametrize(
    ("times", "pictures"),
    [([0.0, 0.04, 0.08], 3), ([5.0, 5.4], 11), ([0.0, 0.001, 0.04], 2), ([0.0, 1000.0, 1000.04], 127)],
)
def test_it_plays_as_fast_as_what_it_shows(times: list[float], pictures: int, tmp_path: Path) -> None:
    with AnnotatedVideo(tmp_path / "seen.avi") as out:
        for index, time in enumerate(times):
            out.write(frame(index, time), [], 25.0)
    assert length(tmp_path / "seen.avi") == pictures


def test_a_camera_may_come_back_with_another_size(tmp_path: Path) -> None:
    with AnnotatedVideo(tmp_path / "seen.mkv") as out:
        out.write(frame(0, 0.0), [], 25.0)
        out.write(frame(1, 0.04, (50, 60)), [Mark(Box(0, 0, 50, 40), "2", "unknown")], 25.0)
    assert length(tmp_path / "seen.mkv") == 2


def test_what_was_seen_before_an_error_is_kept(tmp_path: Path) -> None:
    def seen_until_an_error() -> None:
        with AnnotatedVideo(tmp_path / "seen.mp4") as out:
            out.write(frame(0, 0.0), [], 25.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seen_until_an_error()
    assert cv2.VideoCapture(str(tmp_path / "seen.mp4")).isOpened()


def test_unfit_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.mp4, \.mkv or \.avi file, not seen\.txt"):
        AnnotatedVideo(tmp_path / "seen.txt")
    with pytest.raises(InputError, match=r"no folder .*none to write seen\.mp4 in"):
        AnnotatedVideo(tmp_path / "none" / "seen.mp4")
    with AnnotatedVideo(tmp_path / "seen.mp4"):
        pass
    assert contents(tmp_path) == {}
