from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaitedge.data.preparation import prepare
from gaitedge.data.silhouettes import align
from gaitedge.data.store import Store
from gaitedge.errors import InputError, MachineError, StoreError


def person(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frame = np.zeros((120, 160), np.uint8)
    left = int(rng.integers(5, 120))
    frame[8:112, left : left + 30] = 255 * (rng.random((104, 30)) < 0.8)
    return frame


def write(path: Path, frame: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).convert("1").save(path)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Six good sequences of 4 to 9 frames, some with bad frames, and three that are not usable."""
    raw = tmp_path / "raw"
    for number in range(6):
        folder = raw / f"00{number % 2}" / f"nm-0{number // 2}" / "090"
        for frame in range(4 + number):
            write(folder / f"{frame:03}.png", person(100 * number + frame))
    broken = raw / "000" / "nm-01" / "090" / "001.png"
    broken.write_bytes(broken.read_bytes()[:70])
    write(raw / "001" / "nm-00" / "090" / "000.png", np.zeros((120, 160), np.uint8))
    (raw / "001" / "nm-00" / "090" / "note.txt").write_text("walk")
    (raw / "000" / "bg-01" / "000").mkdir(parents=True)
    write(raw / "001" / "bg-01" / "000" / "1.png", person(1))
    write(raw / "001" / "bg-01" / "000" / "2.png", person(2)[:100])
    write(raw / "001" / "cl-01" / "000" / "1.png", np.zeros((120, 160), np.uint8))
    return raw


def contents(path: Path) -> dict[str, bytes]:
    return {
        entry.name: entry.read_bytes()
        for entry in path.iterdir()
        if entry.name != "report.json" and not entry.name.startswith(".")
    }


def test_prepare(raw: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = prepare(raw, tmp_path / "store", workers=1, progress=lambda *step: steps.append(step))
    assert steps == [(number, 9) for number in range(10)]
    store = Store(tmp_path / "store")
    names = ["000/nm-00/090", "000/nm-01/090", "000/nm-02/090"]
    names += [name.replace("000/", "001/") for name in names]
    assert [sequence.name for sequence in store.sequences] == names
    kept = [number for number in range(6) if number != 1]  # the truncated one of 000/nm-01 is number 2's
    assert (store[2] == np.stack([align(person(400 + frame)) for frame in range(8)])).all()
    assert (store[1] == np.stack([align(person(200 + frame)) for frame in kept])).all()
    assert report.sequences == len(store) == 6
    assert report.frames == len(store.frames) == sum(range(4, 10)) - 2
    assert report.seconds > 0
    assert sorted(report.dropped_frames) == ["000/nm-01/090", "001/nm-00/090"]
    assert report.dropped_frames["001/nm-00/090"] == {"note.txt": "not a PNG file", "000.png": "empty"}
    assert report.dropped_frames["000/nm-01/090"]["001.png"].startswith("the PNG file is damaged")
    assert sorted(report.dropped_sequences) == ["000/bg-01/000", "001/bg-01/000", "001/cl-01/000"]
    assert "holds no frame" in report.dropped_sequences["000/bg-01/000"]
    assert "160×100 pixels and 1.png is 160×120" in report.dropped_sequences["001/bg-01/000"]
    assert "none of 1 frames shows a person: 1 empty" in report.dropped_sequences["001/cl-01/000"]
    assert json.loads((tmp_path / "store" / "report.json").read_text()) == dataclasses.asdict(report)


def test_the_store_does_not_depend_on_the_workers(raw: Path, tmp_path: Path) -> None:
    one = prepare(raw, tmp_path / "one", workers=1)
    three = prepare(raw, tmp_path / "three", workers=3)
    assert dataclasses.replace(one, seconds=0) == dataclasses.replace(three, seconds=0)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


@pytest.mark.parametrize("after", range(1, 9))
def test_an_interrupted_run_goes_on(after: int, raw: Path, tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    whole = prepare(raw, tmp_path / "whole", workers=1)
    with pytest.raises(KeyboardInterrupt):
        prepare(raw, tmp_path / "store", workers=1, progress=interrupt)
    with pytest.raises(StoreError, match="unfinished"):
        Store(tmp_path / "store")
    steps: list[tuple[int, int]] = []
    report = prepare(raw, tmp_path / "store", workers=1, progress=lambda *step: steps.append(step))
    assert steps == [(number, 9) for number in range(after, 10)]
    assert dataclasses.replace(report, seconds=0) == dataclasses.replace(whole, seconds=0)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


SCRIPT = """
import sys, time
from gaitedge.data.preparation import prepare

def progress(done, total):
    print(done, flush=True)

if __name__ == "__main__":
    prepare(sys.argv[1], sys.argv[2], workers=2, progress=progress)
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """So many frames that two workers are busy for a second or so."""
    raw = tmp_path / "many"
    write(raw / "frame.png", person(1))
    data = (raw / "frame.png").read_bytes()
    for sequence in range(150):
        folder = raw / f"{sequence:03}" / "nm-01" / "090"
        folder.mkdir(parents=True)
        for frame in range(20):
            (folder / f"{frame}.png").write_bytes(data)
    return raw


def children_file(process: int) -> Path:
    return Path(f"/proc/{process}/task/{process}/children")


def children(process: int) -> list[int]:
    return [int(child) for child in children_file(process).read_text().split()]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


needs_proc = pytest.mark.skipif(not children_file(os.getpid()).exists(), reason="looks for workers in /proc")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_run_that_is_killed_ends_at_once_and_goes_on(
    number: signal.Signals, many: Path, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(many), str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 20:
        pass
    workers = children(process.pid)
    assert len(workers) >= 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == -number
    if number == signal.SIGINT:
        assert complaint.count("Traceback") == 1  # this script's own; none of a worker
    limit = time.monotonic() + 60
    while any(is_alive(worker) for worker in workers):
        assert time.monotonic() < limit
        time.sleep(0.02)

    steps: list[int] = []
    report = prepare(many, tmp_path / "store", workers=1, progress=lambda done, _: steps.append(done))
    assert steps[-1] == report.sequences == 150
    if number == signal.SIGINT:
        assert steps[0] >= 20  # nothing that was done is done again
    store = Store(tmp_path / "store")
    assert [sequence.subject for sequence in store.sequences] == [f"{n:03}" for n in range(150)]
    assert (store.frames == align(person(1))).all()


@needs_proc
def test_a_dead_worker_is_said(raw: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(done: int, _: int) -> None:
        if done == 1:
            killed.extend(children(os.getpid()))
            for child in killed:
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(child, signal.SIGKILL)

    for number in range(30):
        write(raw / "009" / f"nm-{number:02}" / "090" / "1.png", person(number))
    with pytest.raises(MachineError, match="a worker process was killed"):
        prepare(raw, tmp_path / "store", workers=2, progress=kill)
    assert killed
    assert prepare(raw, tmp_path / "store", workers=1).sequences == 36


def unusable(raw: Path) -> None:
    for number, folder in enumerate(raw.glob("*/*/*")):
        for file in folder.iterdir():
            if number % 2:
                file.unlink()
            else:
                file.write_bytes(b"walk")


def test_data_of_which_nothing_is_usable_leave_nothing(raw: Path, tmp_path: Path) -> None:
    unusable(raw)
    with pytest.raises(InputError, match=r"no sequence in .* is usable; the first, 000/bg-01/000: "):
        prepare(raw, tmp_path / "store", workers=1)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: {"out": raw / "store"}, "would lie inside the raw data"),
        (lambda raw: {"out": raw}, "would lie inside the raw data"),
        (lambda raw: {"workers": 0}, "workers must be 1 or more, not 0"),
        (lambda raw: {"layout": "grew"}, "no layout 'grew'"),
        (lambda raw: {"layout": "oumvlp"}, "000 does not fit"),
        (lambda raw: {"raw": raw / "none"}, "no folder at"),
        (
            lambda raw: {"out": raw / ".." / "raw" / "000" / "nm-00" / "090" / "000.png"},
            "inside the raw data",
        ),
    ],
)
def test_what_cannot_be_prepared(
    change: Callable[[Path], dict[str, object]], message: str, raw: Path, tmp_path: Path
) -> None:
    wanted = {"raw": raw, "out": tmp_path / "store", "workers": 1, **change(raw)}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message) as caught:
        prepare(**wanted)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_finished_store_is_left_alone(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "store", workers=1)
    before = contents(tmp_path / "store")
    with pytest.raises(StoreError, match="is finished"):
        prepare(raw, tmp_path / "store", workers=1)
    assert contents(tmp_path / "store") == before


@pytest.mark.shared
def test_real_walks(shared: Path, tmp_path: Path) -> None:
    with tarfile.open(shared / "data" / "walks" / "006.tar.gz") as file:
        members = [member for member in file.getmembers() if "/054" in member.name or "/090" in member.name]
        file.extractall(tmp_path / "raw", members, filter="data")
    report = prepare(tmp_path / "raw", tmp_path / "store", workers=1)
    store = Store(tmp_path / "store")
    assert [sequence.name for sequence in store.sequences] == ["006/nm-05/054", "006/nm-05/090"]
    files = len(list((tmp_path / "raw").rglob("*.png")))
    assert report.frames == files - sum(len(dropped) for dropped in report.dropped_frames.values())
    assert report.frames > 0.8 * files
    assert store.frames.any(axis=2)[:, [0, -1]].all()  # from head to foot
