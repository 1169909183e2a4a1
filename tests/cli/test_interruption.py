"""Ctrl-C and kill -9: nothing is left half-written, and what was begun is gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import check_refusal, contents, in_process, remains, succeed
from processes import (
    MANY,
    check_interrupted,
    ended,
    finish,
    linux,
    press,
    read_terminal,
    start,
    started,
    until,
)

from gaitedge.bundle import Bundle
from gaitedge.cli.interrupt import INTERRUPTED
from gaitedge.people.gallery import Gallery

pytestmark = linux


# Ctrl-C


def children(process: subprocess.Popen[str]) -> int:
    """How many processes it has started: its workers, and one that tracks their semaphores."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    return 0


def frames(store: Path) -> int:
    path = store / "frames.npy"
    return path.stat().st_size // (64 * 44) if path.exists() else 0


@pytest.mark.parametrize(
    ("command", "times"), [("synth", 1), ("synth", 3), ("synth --store", 1), ("prepare", 1), ("prepare", 3)]
)
def test_ctrl_c_while_walks_are_written(
    command: str, times: int, weights: Path, many: Path, many_prepared: Path, tmp_path: Path
) -> None:
    """Again and again, in one folder: while the workers start, and while they work."""
    out = tmp_path / "out"
    arguments = ["prepare", many, out] if command == "prepare" else ["synth", out, *MANY]
    arguments += ["--store"] if command == "synth --store" else []

    def written() -> int:
        return len(list(out.glob("*/*/[0-9]*"))) if command == "synth" else frames(out) // 64

    def check(whole: bool) -> None:
        if command == "synth":
            there, expected = contents(out), contents(many)
            assert there == expected if whole else there.items() <= expected.items()
        elif whole:
            for name in ("frames.npy", "index.jsonl"):
                assert (out / name).read_bytes() == (many_prepared / name).read_bytes()
        else:
            check_refusal(in_process("eval", weights, out), "unfinished", "once more")

    interrupted = 0
    for workers, walks, pause in ((1, 0, 0), (1, 0, 0.03), (2, 0, 0.06), (2, 2, 0), (2, 6, 0)):
        before = written()
        process = start(*arguments, "--workers", 2)
        until(lambda: children(process) > workers and written() >= before + walks, process)  # noqa: B023
        time.sleep(pause)
        stopped = check_interrupted(press(process, times))
        assert remains(tmp_path) == []
        check(whole=not stopped)
        assert written() >= before + walks  # nothing that was done is done again
        interrupted += stopped
        if not stopped:  # it was done before this process got its turn: begin again
            shutil.rmtree(out)
    assert interrupted > 0
    succeed(*arguments)
    check(whole=True)


def spread(count: int, *arguments: object) -> Iterator[float]:
    """Delays from the moment when a command answers Ctrl-C to its end."""
    process = started(*arguments)
    began = time.monotonic()
    done = finish(process)
    assert (done.status, done.stderr) == (0, "")
    yield from np.linspace(0, time.monotonic() - began, count)


def embeddings(gallery: Path) -> list[tuple[str, bytes]]:
    with Gallery.open(gallery) as opened:
        array, records = opened.embeddings()
    return sorted((record.source or "", array[index].tobytes()) for index, record in enumerate(records))


@pytest.mark.parametrize("earlier", [False, True])
def test_ctrl_c_while_a_bundle_is_exported(
    earlier: bool, weights: Path, other_bundle: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.gait"
    if earlier:
        shutil.copy(other_bundle, out)
    before, interrupted = contents(tmp_path), 0
    for delay in spread(5, "export", weights, tmp_path.with_suffix(".gait")):
        process = started("export", weights, out)
        time.sleep(delay)
        interrupted += check_interrupted(press(process))
        if contents(tmp_path) != before:  # then it is done
            assert list(contents(tmp_path)) == ["new.gait"]
            assert Bundle.open(out).fingerprint == Bundle.open(bundle).fingerprint
            out.unlink()
            before = {}
    assert interrupted >= 1
    succeed("export", weights, out)
    assert list(contents(tmp_path)) == ["new.gait"]
    assert Bundle.open(out).manifest.members == Bundle.open(bundle).manifest.members


@pytest.mark.parametrize("anew", [False, True])
def test_ctrl_c_while_people_are_enrolled(anew: bool, bundle: Path, store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    out, earlier, whole = folder / "people.db", tmp_path / "earlier.db", tmp_path / "whole.db"
    succeed("enroll", bundle, earlier, f"{store}:*/nm-05")
    if not anew:
        shutil.copy(earlier, whole)
    interrupted = 0
    for delay in spread(5, "enroll", bundle, whole, f"{store}:*/nm-01", "--set-threshold"):
        out.unlink(missing_ok=True)
        if not anew:
            shutil.copy(earlier, out)
        before = contents(folder)
        process = started("enroll", bundle, out, f"{store}:*/nm-01", "--set-threshold")
        time.sleep(delay)
        interrupted += check_interrupted(press(process))
        if contents(folder) != before:  # then it is done
            assert list(contents(folder)) == ["people.db"]
            assert embeddings(out) == embeddings(whole)
    assert interrupted >= 1
    out.unlink(missing_ok=True)
    succeed("enroll", bundle, out, f"{store}:*/nm-01")


def test_ctrl_c_while_somebody_is_identified(bundle: Path, people: Path, store: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    command = ["identify", bundle, people, store, "--json"]
    for delay in spread(5, *command):
        process = started(*command)
        time.sleep(delay)
        done = press(process)
        assert check_interrupted(done) or json.loads(done.stdout)
        assert contents(tmp_path) == before
    assert len(succeed(*command).json) == 8


@pytest.mark.parametrize("delay", [0, 0.1, 0.2, 0.4])
def test_ctrl_c_while_the_modules_load(delay: float, bundle: Path) -> None:
    """An interrupt in an import would come out as an ImportError, or get lost with a traceback."""
    process = started("bench", bundle, "--seconds", 60)
    time.sleep(delay)
    assert check_interrupted(press(process))


# In a script, because what python -c runs is a string: there the command waits before it is interrupted.
IN_AN_IMPORT = """
import signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "gaitedge.machine.doctor":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
IN_A_DESTRUCTOR = """
import signal, sys
from gaitedge.machine import doctor
class Thing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        [None for _ in range(9)]
examine = doctor.examine
doctor.examine = lambda: (Thing() and None, examine())[1]
"""
IN_A_STRING = """
import signal, sys
from gaitedge.machine import doctor
examine = doctor.examine
doctor.examine = lambda: (exec("signal.raise_signal(signal.SIGINT); [None for _ in range(9)]"), examine())[1]
"""


@pytest.mark.parametrize("code", [IN_AN_IMPORT, IN_A_DESTRUCTOR, IN_A_STRING], ids=["import", "del", "exec"])
def test_ctrl_c_where_python_would_lose_it_or_make_something_else_of_it(code: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(f"{code}\nfrom gaitedge.cli import main\nmain()\n")
    done = finish(start("doctor", command=[sys.executable, str(tmp_path / "script.py")]))
    assert check_interrupted(done)


SMALL_DEMO = """
import functools
import pathlib
import numpy as np
import gaitedge.demo as demo
from gaitedge.cli import main
demo.KNOWN, demo.STRANGERS, demo.OTHERS = 2, 1, 2
demo.ENROLLED, demo.GALLERY_VIEWS, demo.PROBE_VIEWS = ("nm-01",), ("054", "090"), ("072",)
demo.THRESHOLD = {"nm-01": ("072",), "bg-01": ("090",)}
demo.make_inputs = lambda *shape: [np.zeros((1, 5, 64, 44), np.uint8)]
demo.measure = functools.partial(demo.measure, seconds=0.01, minimum_runs=1, warmup_s=0)
begin = demo.demo
def marked(*arguments, **options):
    pathlib.Path(__file__).with_name("begun").touch()
    return begin(*arguments, **options)
demo.demo = marked
if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_ctrl_c_in_the_demonstration(tmp_path: Path) -> None:
    """The demonstration itself, of fewer people, interrupted in every one of its steps, and run once more."""
    (tmp_path / "demonstration.py").write_text(SMALL_DEMO)
    command = [sys.executable, str(tmp_path / "demonstration.py"), "demo", "--json"]

    def run(out: Path) -> Any:
        done = finish(start("--out", out, command=command))
        assert (done.status, done.stderr) == (0, ""), done
        return done.json

    def shown(found: Any) -> object:
        walks = [(walk["source"].rpartition(":")[2], walk["identification"]) for walk in found["walks"]]
        return walks, found["enrolled"], found["threshold"]

    whole = run(tmp_path / "whole")
    out, begun = tmp_path / "out", tmp_path / "begun"
    for name in ("raw/walkers.json", "raw/001", "store/store.json", "walkers.gait", "people.db"):
        (out / "walkers.gait").unlink(missing_ok=True)
        begun.unlink()  # of the start before; until then Python itself may be starting
        process = start("--out", out, command=command)
        until(lambda: begun.exists() and (out / name).exists(), process)  # noqa: B023
        assert check_interrupted(press(process))
        assert remains(out) == []
    assert shown(run(out)) == shown(whole)
    # Once more into the same folder: the images are there, and nobody is enrolled twice.
    again = run(out)
    assert shown(again) == shown(whole)
    assert whole["drawn"] > again["drawn"] == 0
    assert sorted(path.name for path in out.iterdir()) == ["people.db", "raw", "store", "walkers.gait"]


def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    """With a progress bar on it: the line is the last thing there."""
    ours, theirs = pty.openpty()
    process = start("synth", tmp_path / "raw", *MANY, stderr=theirs)
    os.close(theirs)
    until((tmp_path / "raw" / "001").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    shown = read_terminal(ours)
    assert finish(process).status == 1
    assert shown.rstrip().endswith(INTERRUPTED)
    assert "drawing" in shown
    assert "Traceback" not in shown


def test_a_command_in_the_background_ignores_ctrl_c(bundle: Path) -> None:
    """A shell without job control starts it with the signal ignored; so it stays."""
    process = start(
        "bench",
        bundle,
        "--seconds",
        0.5,
        "--repeats",
        2,
        "--json",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    for _ in range(8):
        time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    done = finish(process)
    assert (done.status, done.stderr) == (0, "")
    assert json.loads(done.stdout)


# kill -9


@pytest.mark.parametrize("command", ["synth", "prepare"])
def test_workers_end_with_a_killed_command_and_another_one_goes_on(
    command: str, many: Path, many_prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    arguments = ["synth", out, *MANY, "--store"] if command == "synth" else ["prepare", many, out]
    process = start(*arguments, "--workers", 2)
    until(lambda: frames(out) > 100, process)
    process.kill()
    process.wait()
    ended(process)
    process.communicate()
    succeed(*arguments)
    for name in ("frames.npy", "index.jsonl"):
        assert (out / name).read_bytes() == (many_prepared / name).read_bytes()
