"""`gaitedge watch`: who walks before a camera, line by line, until it is told to stop."""

from __future__ import annotations

import json
import os
import pty
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import Refused, check_refusal, in_process, succeed
from processes import finish, linux, press, read_terminal, start, until
from scenes import HEIGHT, RATE, WIDTH, Person, Scene

from gaitedge.cli.interrupt import INTERRUPTED
from gaitedge.people.gallery import Gallery
from gaitedge.video.capture import open_video
from gaitedge.watching.reports import Status


def make_film(path: Path, subject: int) -> Path:
    """Somebody walks by; then, as at the beginning, nobody is there for a moment."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))
    for image in Scene((Person(80, 560, subject=subject, last=69),), frames=72).images():
        writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the walker who is enrolled."""
    return make_film(tmp_path_factory.mktemp("film") / "anna.avi", 1)


@pytest.fixture(scope="module")
def walkers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the weights that come with GaitEdge."""
    path = tmp_path_factory.mktemp("bundle") / "walkers.gait"
    succeed("export", "walkers", path)
    return path


@pytest.fixture(scope="module")
def known(walkers: Path, film: Path) -> Path:
    """A gallery of that one walker, cut out of the same film."""
    path = film.with_name("people.db")
    succeed("silhouettes", film, film.with_name("walks"))
    succeed("enroll", walkers, path, film.with_name("walks") / "track-001", "--id", "anna")
    with Gallery.open(path) as gallery:
        gallery.threshold = 0.5
    return path


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def decisions(text: str) -> list[tuple[str, str | None, bool]]:
    return [
        (line["state"], line["subject"], line["unknown"])
        for line in lines(text)
        if line.get("state") in ("settled", "revised", "final")
    ]


def test_a_trace_of_the_watch_is_written_at_its_end(
    walkers: Path, known: Path, film: Path, tmp_path: Path
) -> None:
    done = succeed("watch", walkers, known, film, "--trace", tmp_path / "trace.json")
    assert decisions(done.stdout) == [("settled", "anna", False), ("final", "anna", False)]  # as without
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    stages = {event["name"] for event in events if event["ph"] == "X"}
    assert stages == {"decode", "segment", "track", "align", "embed", "match", "wait"}
    nowhere = tmp_path / "none" / "trace.json"
    check_refusal(in_process("watch", walkers, known, film, "--trace", nowhere), "there is no folder")


def test_who_is_enrolled_is_named(walkers: Path, known: Path, film: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.mp4"
    done = succeed("watch", walkers, known, film, "--annotated", seen)
    assert decisions(done.stdout) == [("settled", "anna", False), ("final", "anna", False)]
    final = next(line for line in lines(done.stdout) if line.get("state") == "final")
    assert list(final) == [
        "time",
        "utc",
        "track",
        "state",
        "subject",
        "unknown",
        "distance",
        "margin",
        "threshold",
        "frames",
        "reason",
    ]
    assert final["distance"] < 0.2  # the same silhouettes, but for those that were left out when standing
    assert final["threshold"] == 0.5
    with open_video(seen) as video:
        pictures = [frame.image for frame in video]
    assert len(pictures) == 72
    green = [image[:, :, 1].astype(int) - image[:, :, 2] for image in pictures]
    assert max(np.count_nonzero(picture > 60) for picture in green[40:60]) > 150  # the box of somebody known


def test_a_stranger_is_unknown(walkers: Path, known: Path, tmp_path: Path) -> None:
    stranger = make_film(tmp_path / "stranger.avi", 4)
    done = succeed("watch", walkers, known, stranger)
    assert decisions(done.stdout)[-1] == ("final", None, True)
    assert not [line for line in lines(done.stdout) if line.get("subject")]
    lenient = succeed("watch", walkers, known, stranger, "--threshold", 100)
    assert decisions(lenient.stdout)[-1] == ("final", "anna", False)


def test_lines_are_appended_to_a_file(walkers: Path, known: Path, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen.jsonl"
    out.write_text('{"torn": ')
    assert succeed("watch", walkers, known, film, "--out", out).stdout == ""
    once = out.read_text()
    torn, *rest = once.splitlines()
    assert torn == '{"torn": '
    assert decisions("\n".join(rest))[-1] == ("final", "anna", False)
    succeed("watch", walkers, known, film, "--out", out, "--seconds", 1)
    assert out.read_text().startswith(once)
    assert lines(out.read_text().removeprefix(once))


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_the_last_decisions(
    number: signal.Signals, walkers: Path, known: Path, film: Path, tmp_path: Path
) -> None:
    out = tmp_path / "seen.jsonl"
    process = start("watch", walkers, known, film, "--loop", "--out", out)
    # While somebody is being followed: a name is settled, and more often than it has become final.
    until(lambda: out.exists() and open_ones(out.read_text()) > 0, process)
    if number == signal.SIGTERM:
        process.send_signal(number)
        done = finish(process)
        assert (done.status, done.stdout, done.stderr) == (0, "", "")
    else:
        done = press(process)
        assert (done.status, done.stderr) == (1, f"{INTERRUPTED}\n")
    found = decisions(out.read_text())
    assert found[-1][0] == "final"
    assert open_ones(out.read_text()) == 0


def open_ones(text: str) -> int:
    """Tracks that are settled and not over yet."""
    states = [state for state, _, _ in decisions(text[: text.rfind("\n") + 1])]
    return states.count("settled") - states.count("final")


@linux
def test_a_terminal_has_a_line_of_how_it_is_doing(walkers: Path, known: Path, film: Path) -> None:
    mine, theirs = pty.openpty()
    process = start("watch", walkers, known, film, stderr=theirs)
    os.close(theirs)
    shown = read_terminal(mine)
    done = finish(process)
    assert done.status == 0
    assert decisions(done.stdout)
    assert "\r\x1b[K0.0 frames/s, 0 people, 0 dropped, 0 reconnects" in shown
    assert shown.endswith("\r\x1b[K")


def test_a_slow_watch_drops_frames_and_counts_them(
    walkers: Path, known: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source's thread goes on while the first frame is being looked at, until some were dropped."""
    from gaitedge.video.live import LiveVideo
    from gaitedge.watching import watch as module

    made: list[LiveVideo] = []

    class Slow:
        def __init__(self) -> None:
            self.waited = False

        def segment(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            while not self.waited and made[0].statistics.dropped < 5:
                time.sleep(0.005)
            self.waited = True
            return np.zeros(image.shape[:2], np.uint8)

    class Noted(LiveVideo):
        def __enter__(self) -> LiveVideo:
            made.append(self)
            return super().__enter__()

    monkeypatch.setattr(module, "LiveVideo", Noted)
    status: Status = module.watch(walkers, known, film, lambda _: None, segmenter=Slow(), paced=True)
    assert status.dropped >= 5
    assert status.frames + status.dropped == 72


def test_an_enrolment_needs_no_new_start(
    walkers: Path, known: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else is enrolled while the camera looks on: a line says so."""
    from gaitedge.watching import watch as module
    from gaitedge.watching.enrolled import Enrolled

    people = tmp_path / "people.db"
    people.write_bytes(known.read_bytes())

    class Eager(Enrolled):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, pause=0.01)

    monkeypatch.setattr(module, "Enrolled", Eager)
    said: list[Any] = []

    class Empty:
        def segment(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.zeros(image.shape[:2], np.uint8)

    with Gallery.open(people) as gallery:
        embedding = gallery.embeddings()[0][0]
        gallery.enroll("berta", embedding + 1)
    seen = iter(range(10**6))

    def stop() -> bool:
        if next(seen) == 5:
            with Gallery.open(people) as gallery:
                gallery.enroll("carla", embedding + 2)
        return bool(said)

    module.watch(walkers, people, film, said.append, segmenter=Empty(), loop=True, stop=stop)
    assert [line.event for line in said] == ["gallery changed"]
    assert "3 people" in said[0].message


def test_what_cannot_be_watched_is_one_line(
    bundle: Path, other_bundle: Path, people: Path, film: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    run: Refused = refused
    run(["watch", bundle, tmp_path / "none.db", film], "none.db")
    run(["watch", other_bundle, people, film], "distances between two models mean nothing")
    run(["watch", bundle, people, tmp_path / "none.mp4"], "none.mp4")
    (tmp_path / "no.mp4").write_text("no video")
    run(["watch", bundle, people, tmp_path / "no.mp4"], "no.mp4")
    run(["watch", bundle, people, film, "--segmenter", "yolo"], "unknown segmenter 'yolo'")
    run(["watch", bundle, people, film, "--seconds", "0"], "must be more than 0")
    run(["watch", bundle, people, film, "--threshold", "-1"], "a threshold is a distance of 0 or more")
    run(["watch", bundle, people, film, "--annotated", tmp_path / "x.txt"], "x.txt")
    run(["watch", bundle, people, film, "--key-file", tmp_path / "none.key"], "none.key")
    run(["watch", bundle, people, "127.0.0.1"], "127.0.0.1")
    with Gallery.open(people) as gallery:
        for subject in gallery.subjects():
            gallery.remove(subject)
    check_refusal(in_process("watch", bundle, people, film), "nobody is enrolled in", "enrol somebody first")
