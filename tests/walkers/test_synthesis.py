from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gaitedge.data.preparation import prepare
from gaitedge.data.store import Store
from gaitedge.errors import InputError, StoreError
from gaitedge.walkers import synthesis
from gaitedge.walkers.drawing import draw_sequence, draw_walker
from gaitedge.walkers.synthesis import synthesise

SMALL: dict[str, Any] = {
    "subjects": 2,
    "views": ["090", "000"],
    "conditions": ["nm-01", "cl-01"],
    "workers": 1,
}
ALL = ["001/cl-01/000", "001/cl-01/090", "001/nm-01/000", "001/nm-01/090"]
ALL += [name.replace("001/", "002/") for name in ALL]


def contents(folder: Path) -> dict[str, str]:
    """Every file under a folder and its SHA-256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished folder of images; not to be written to."""
    out = tmp_path_factory.mktemp("whole") / "walkers"
    report = synthesise(out, **SMALL)
    assert (report.sequences, report.skipped) == (8, 0)
    assert report.frames == len(list(out.rglob("*.png")))
    assert report.seconds > 0
    return out


def test_images_are_in_casia_bs_layout(whole: Path) -> None:
    assert sorted(str(path.relative_to(whole)) for path in whole.glob("*/*/*")) == sorted(ALL)
    silhouettes = draw_sequence(draw_walker(0, 2), "cl-01", "090")
    files = sorted((whole / "002/cl-01/090").iterdir())
    assert [file.name for file in files] == [
        f"002-cl-01-090-{number:03d}.png" for number in range(1, len(silhouettes) + 1)
    ]
    for file, silhouette in zip(files, silhouettes, strict=True):
        with Image.open(file) as image:
            assert (image.mode, image.size) == ("1", (320, 240))
            assert np.array_equal(np.asarray(image), silhouette > 0)


def test_the_number_of_workers_changes_nothing(whole: Path, tmp_path: Path) -> None:
    synthesise(tmp_path / "walkers", **{**SMALL, "workers": 2})
    assert contents(tmp_path / "walkers") == contents(whole)


def test_neither_the_order_nor_the_other_subjects_change_anything(whole: Path, tmp_path: Path) -> None:
    synthesise(tmp_path / "walkers", 1, first=2, views=("000",), conditions=("cl-01",))
    alone = {name: digest for name, digest in contents(tmp_path / "walkers").items() if "/" in name}
    assert alone.items() < contents(whole).items()
    assert {name.rpartition("/")[0] for name in alone} == {"002/cl-01/000"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_is_what_prepare_makes_from_the_images(whole: Path, tmp_path: Path, workers: int) -> None:
    report = synthesise(tmp_path / "store", **{**SMALL, "workers": workers}, store=True)
    prepared = prepare(whole, tmp_path / "prepared", workers=1)
    for name in ("frames.npy", "index.jsonl"):
        assert (tmp_path / "store" / name).read_bytes() == (tmp_path / "prepared" / name).read_bytes()
    assert [sequence.name for sequence in Store(tmp_path / "store").sequences] == ALL
    assert (report.sequences, report.frames) == (prepared.sequences, prepared.frames)


def test_progress_counts_every_sequence(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    synthesise(tmp_path / "walkers", **SMALL, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(number, 8) for number in range(1, 9)]


def test_an_interrupted_run_goes_on(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "walkers"
    save, saved = Image.Image.save, 0

    def full_disk(self: Image.Image, *args: Any, **options: Any) -> None:
        nonlocal saved
        saved += 1
        if saved == 200:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full_disk)
        with pytest.raises(OSError, match="No space"):
            synthesise(out, **SMALL)
    assert not list(out.rglob("*.part"))
    finished = {name: digest for name, digest in contents(out).items() if "/" in name}
    assert 0 < len(finished) < 200
    assert finished.items() < contents(whole).items()

    # What a killed process leaves behind goes too.
    junk = out / "002/nm-01/.090.part"
    junk.mkdir(parents=True)
    (junk / "002-nm-01-090-001.png").write_bytes(b"half")
    report = synthesise(out, **SMALL)
    assert contents(out) == contents(whole)
    assert report.skipped > 0
    assert report.sequences + report.skipped == 8
    assert synthesise(out, **SMALL).sequences == 0


def test_a_folder_of_images_can_be_extended(whole: Path, tmp_path: Path) -> None:
    synthesise(tmp_path / "walkers", **{**SMALL, "subjects": 1})
    report = synthesise(tmp_path / "walkers", **SMALL)
    assert (report.sequences, report.skipped) == (4, 4)
    assert contents(tmp_path / "walkers") == contents(whole)


def test_an_interrupted_store_goes_on(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        synthesise(tmp_path / "store", **SMALL, store=True, progress=stop)
    with pytest.raises(StoreError, match="unfinished"):
        Store(tmp_path / "store")
    with pytest.raises(StoreError, match=r"seed 0.*not from.*seed 1"):
        synthesise(tmp_path / "store", **SMALL, store=True, seed=1)
    with pytest.raises(StoreError, match="not from"):
        synthesise(tmp_path / "store", **{**SMALL, "views": ["000"]}, store=True)
    report = synthesise(tmp_path / "store", **SMALL, store=True)
    assert (report.sequences, report.skipped) == (5, 3)
    synthesise(tmp_path / "other", **SMALL, store=True)
    assert contents(tmp_path / "store") == contents(tmp_path / "other")


@pytest.mark.parametrize("store", [False, True])
def test_ctrl_c_ends_it_and_leaves_nothing_half_written(tmp_path: Path, store: bool) -> None:
    out = tmp_path / "walkers"
    run = start(out, store)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode != 0
    assert errors.count("Traceback") == 1  # the parent's: no worker prints its own
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not list(out.rglob("*.part"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux' /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    run = start(tmp_path / "walkers", store=False)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert len(children) >= 2
    run.kill()
    run.communicate(timeout=20)
    limit = time.monotonic() + 60
    while any(alive(int(child)) for child in children):
        assert time.monotonic() < limit
        time.sleep(0.05)
    synthesise(tmp_path / "walkers", 1, views=["000"], conditions=["nm-01"])
    assert not list((tmp_path / "walkers").rglob("*.part"))


def start(out: Path, store: bool) -> subprocess.Popen[str]:
    """A process that writes many walkers with two workers, and has begun to."""
    code = (
        "import signal\n"
        "from gaitedge.walkers.synthesis import synthesise\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "tell = lambda done, total: print(done, flush=True)\n"
        f"synthesise({str(out)!r}, 200, workers=2, store={store}, progress=tell)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "1\n"
    return run


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_another_seed_or_generator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "walkers"
    tiny: dict[str, Any] = {"subjects": 1, "views": ["000"], "conditions": ["nm-01"]}
    synthesise(out, **tiny)
    before = contents(out)
    with pytest.raises(InputError, match="holds walkers of seed 0, not of seed 7"):
        synthesise(out, **tiny, seed=7)
    monkeypatch.setattr(synthesis, "GENERATOR", 99)
    with pytest.raises(InputError, match="version 1 of the generator, not of version 99"):
        synthesise(out, **tiny)
    assert contents(out) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', "\ud7ff"])
def test_a_damaged_about_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "walkers.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"walkers\.json") as caught:
        synthesise(tmp_path, **SMALL)
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is not empty"):
        synthesise(tmp_path, **SMALL)
    with pytest.raises(InputError, match="is a file"):
        synthesise(tmp_path / "letter.txt", **SMALL)
    with pytest.raises(StoreError, match="is not empty"):
        synthesise(tmp_path, **SMALL, store=True)
    assert list(contents(tmp_path)) == ["letter.txt"]


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"subjects": 1, "views": ["000"], "conditions": ["nm-01"]}
    fcntl = pytest.importorskip("fcntl")
    synthesise(tmp_path, **tiny)
    with (tmp_path / "walkers.json").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is writing"):
            synthesise(tmp_path, **tiny)
    assert synthesise(tmp_path, **tiny).skipped == 1


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"subjects": 0}, "subjects must be 1 or more, not 0"),
        ({"first": 0}, "first must be 1 or more, not 0"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
        ({"workers": 0}, "workers must be 1 or more, not 0"),
        ({"views": ["45"]}, "unknown view '45'"),
        ({"views": []}, "at least one view"),
        ({"views": "090"}, "at least one view must be given, as a list"),
        ({"conditions": ["nm-01", "nm"]}, "unknown condition 'nm'"),
    ],
)
def test_a_wrong_choice_is_refused_before_anything_is_written(
    tmp_path: Path, choice: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        synthesise(tmp_path / "walkers", **{**SMALL, **choice})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "walkers").exists()


def test_what_the_walkers_are_is_written_beside_them(whole: Path) -> None:
    about = json.loads((whole / "walkers.json").read_text())
    assert about == {"format": "gaitedge-walkers", "version": synthesis.GENERATOR, "seed": 0}
    assert os.access(whole / "walkers.json", os.R_OK)
