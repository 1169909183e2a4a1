"""A training that is stopped, by whatever, says so in one line, leaves nothing behind and goes on exactly."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import Done, apart, check_refusal, in_process, remains
from processes import ENVIRONMENT, check_interrupted, ended, finish, linux, press, read_terminal, start, until
from trainings import QUICK, SHORT, losses, same_weights, trains, weights_of

LONG = [*QUICK, "--iterations", 30, "--checkpoint-every", 5, "--evaluate-every", 15, "--evaluate-on", "all"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ALONE = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    trains(store, run, *LONG)
    return run


def iteration(run: Path) -> int:
    """Of the newest checkpoint."""
    found = sorted((run / "checkpoints").glob("0*.pt"))
    return int(found[-1].stem) if found else 0


@linux
def test_ctrl_c_again_and_again(store: Path, whole: Path, tmp_path: Path) -> None:
    """While it starts, in a step, while a checkpoint is written, in an evaluation; with workers or not."""
    run, interrupted = tmp_path / "run", 0
    while True:
        before = iteration(run)
        arguments = [*LONG, "--workers", interrupted % 2]
        process = start("train", store, run, *arguments, env=ALONE)
        moments: list[Callable[[], bool]] = [
            (run / "run.json").exists,
            lambda: iteration(run) > before,  # noqa: B023
            lambda: any((run / "checkpoints").glob(".*.part")),
            lambda: iteration(run) == 15,
        ]
        until(moments[min(interrupted, 3)], process)
        done = press(process)
        lines = done.stderr.splitlines(keepends=True)
        told = [line for line in lines if not line.startswith(tuple("0123456789"))]  # and no progress
        if not check_interrupted(Done(done.status, done.stdout, "".join(told))):
            break
        assert done.stdout == ""
        assert [name for name in remains(run) if name != ".lock"] == []
        interrupted += 1
        if interrupted == 4:
            break
    assert interrupted >= 3
    trains(store, run, *LONG)
    assert same_weights(run, whole)
    assert losses(run) == losses(whole)


@linux
def test_a_kill_leaves_no_process_and_nothing_that_is_not_made_good(
    store: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start("train", store, run, *LONG, "--workers", 2, env=ALONE)
    until(lambda: iteration(run) > 0, process)
    process.kill()
    process.wait()
    ended(process)
    process.communicate()
    trains(store, run, *LONG)
    assert same_weights(run, whole)


@linux
def test_a_worker_that_is_killed(store: Path, tmp_path: Path) -> None:
    """As the system does where the memory ends."""
    run = tmp_path / "run"
    process = start("train", store, run, *LONG[:-4], "--iterations", 9999, "--workers", 1, env=ALONE)
    until(lambda: iteration(run) > 0, process)
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if "spawn_main" in (Path("/proc") / child / "cmdline").read_text():
            os.kill(int(child), signal.SIGKILL)
    done = finish(process)
    ended(process)
    assert (done.status, done.stdout) == (1, "")
    assert "a process that prepares batches was killed" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for one checkpoint and the half of another."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=38m", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@linux
def test_a_full_disk(store: Path, trained: Path, small_disk: Path) -> None:
    run = small_disk / "run"
    done = in_process("train", store, run, *SHORT)
    assert done.stderr.startswith("4/4  loss ")
    line = done.stderr.partition("\n")[2]
    check_refusal(Done(done.status, done.stdout, line), "No space left on", "00000004.pt", "make room there")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000002.pt"]
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    trains(store, run, *SHORT)
    assert same_weights(run, trained)
    assert losses(run) == losses(trained)


@linux
@pytest.mark.parametrize("name", ["log.jsonl", "events.out.tfevents"])
def test_a_record_that_the_disk_does_not_take(name: str, tmp_path: Path) -> None:
    """No thread of TensorBoard's complains, and the line names the file."""
    code = f"""
import os, sys
from pathlib import Path
from gaitedge.training.records import Records
try:
    with Records(Path({str(tmp_path)!r})) as records:
        full = os.open("/dev/full", os.O_WRONLY)
        file = next(path for path in Path("/proc/self/fd").iterdir() if {name!r} in os.readlink(path))
        os.dup2(full, int(file.name))
        records.add({{"iteration": 1, "loss": 0.5}})
except OSError as error:
    print(error.filename)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).name.startswith(name)


# What is shown


@linux
def test_progress_on_a_terminal_and_json_on_stdout(store: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    evaluate = ["--evaluate-every", 2, "--evaluate-on", "all"]
    process = start("train", store, tmp_path / "run", *SHORT, *evaluate, "--json", stderr=theirs, env=ALONE)
    os.close(theirs)
    shown = read_terminal(ours)
    done = finish(process)
    assert done.status == 0
    assert set(done.json) == {"weights", "iterations", "went_on_from", "figures"}
    assert "4/4  rank-1  NM " in shown
    assert "images/s" in shown
    assert "Warning" not in shown


def test_lines_in_a_pipe(store: Path, tmp_path: Path) -> None:
    done = apart("train", store, tmp_path / "run", *SHORT, env=ALONE)
    assert (done.status, done.stderr.count("\n"), done.stdout.count("\n")) == (0, 1, 1)
    assert done.stderr.startswith("4/4  loss 0.")
    assert done.stderr.endswith("ETA 0:00:00\n")


# More than one process


def together(*arguments: object, folder: Path) -> Done:
    """Train with two processes, as a user starts them."""
    command = [*TORCHRUN, "-m", "gaitedge", "train", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ALONE, cwd=folder)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_torchrun_shares_the_work_and_speaks_once(store: Path, trained: Path, tmp_path: Path) -> None:
    """It goes on from what one process has done."""
    run = tmp_path / "run"
    trains(store, run, *SHORT, "--iterations", 2)
    evaluate = ["--evaluate-every", 4, "--evaluate-on", "all"]
    done = together(store, run, *SHORT, *evaluate, "--json", folder=tmp_path)
    assert done.status == 0
    assert (done.json["iterations"], done.json["went_on_from"]) == (4, 2)
    assert done.stderr.count("4/4  loss ") == done.stderr.count("4/4  rank-1 ") == 1
    assert losses(run)[-1][1] == pytest.approx(losses(trained)[-1][1], rel=1e-3)
    for name, tensor in weights_of(trained).items():
        assert np.allclose(weights_of(run)[name], tensor, atol=1e-3)


@pytest.mark.slow
def test_torchrun_that_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    for run, options, needle in [
        ("folder", SHORT, "is not empty and holds no training"),  # which the first process alone sees to
        ("run", [*SHORT, "--batch", "3,3,2"], "a batch of 3 subjects"),
    ]:
        done = together(store, tmp_path / run, *options, folder=tmp_path)
        lines = [line for line in done.stderr.splitlines() if line.startswith("gaitedge: ")]
        assert (done.status, done.stdout) == (1, "")
        assert 1 <= len(lines) <= 2
        assert needle in lines[0] + lines[-1]
        assert "gaitedge/training" not in done.stderr  # no traceback of ours
    assert not (tmp_path / "run").exists()
