"""Training as a command: what cannot be costs one line at the start, and leaves what is there as it was."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Refused, check_refusal, contents, in_process
from stores import walk
from trainings import QUICK, SHORT, losses, same_weights, trains

from gaitedge.data.store import StoreWriter


def a_store(path: Path, *names: str, frames: int = 16) -> Path:
    """A store of noise: sequences by their names, "anna/nm-01/090"."""
    with StoreWriter(path) as writer:
        for number, name in enumerate(names):
            writer.append(*name.split("/"), walk(number, frames))
    return path


# What cannot be


@pytest.mark.parametrize(
    ("options", "needles"),
    [
        (["--batch", ""], ("subjects,samples,frames", "not ''")),
        (["--batch", "8,16"], ("subjects,samples,frames", "'8,16'")),
        (["--batch", "2,-2,2"], ("subjects,samples,frames", "'2,-2,2'")),
        (["--batch", "1,2,2"], ("subjects must be 2 or more", "not 1")),
        (["--batch", "2,0,2"], ("samples must be 2 or more", "not 0")),
        (["--batch", "2,2,0"], ("frames must be 1 or more", "not 0")),
        (["--batch", f"2,2,{10**20}"], ("frames must be 1000000 or less", str(10**20))),
        (["--batch", "3,2,2"], ("a batch of 3 subjects", "there are 2")),
        (["--learning-rate", "0"], ("learning_rate must be above 0 and finite", "0.0")),
        (["--learning-rate", "-1"], ("learning_rate", "-1.0")),
        (["--learning-rate", "nan"], ("learning_rate", "nan")),
        (["--learning-rate", "inf"], ("learning_rate", "inf")),
        (["--clip", "0"], ("clip must be above 0 and finite", "0.0")),
        (["--clip", "nan"], ("clip", "nan")),
        (["--clip", "inf"], ("clip", "inf")),
        (["--seed", str(2**64)], ("seed must be 18446744073709551615 or less", str(2**64))),
        (["--iterations", str(10**8)], ("iterations must be 99999999 or less", str(10**8))),
        (["--precision", "fp16"], ("fp16 training needs a GPU",)),
        (["--subjects", ""], ("there is no subject ''",)),
        (["--subjects", "anna"], ("there is no subject 'anna'",)),
        (["--subjects", "casia-b/test"], ("no subject is in 'casia-b/test'", "2 subjects, 001 to 002")),
        (["--evaluate-on", "all"], ("--evaluate-on", "add --evaluate-every")),
        (["--evaluate-every", "2"], ("no subject is in 'casia-b/test'", "--evaluate-on all")),
        (["--evaluate-every", "2", "--evaluate-on", "anna"], ("there is no subject 'anna'",)),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be(
    options: list[str], needles: tuple[str, ...], store: Path, tmp_path: Path, refused: Refused
) -> None:
    refused(["train", store, tmp_path / "runs" / "gait", *SHORT, *options], *needles)


def test_a_gpu_that_is_not_there(store: Path, tmp_path: Path, refused: Refused) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    line = refused(["train", store, tmp_path / "run", *SHORT, "--device", "cuda"], "no GPU", "--device cpu")
    assert line == refused(
        [
            "ablate",
            store,
            tmp_path / "out",
            "--group",
            "C",
            *QUICK,
            "--evaluate-on",
            "all",
            "--device",
            "cuda",
        ]
    )


def test_a_store_that_is_not_there(store: Path, tmp_path: Path, refused: Refused) -> None:
    unfinished = Path(shutil.copytree(store, tmp_path / "unfinished"))
    about = (unfinished / "store.json").read_text()
    (unfinished / "store.json").write_text(about.replace('"finished": true', '"finished": false'))
    for command in (["train"], ["ablate", "--group", "C"]):
        name, *more = command
        refused([name, tmp_path / "none", tmp_path / "out", *more], "no store at", "gaitedge prepare")
        refused([name, tmp_path, tmp_path / "out", *more], "no store at")
        refused([name, unfinished, tmp_path / "out", *more], "unfinished", "once more")


def test_a_place_that_cannot_hold_a_training(store: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    refused(["train", store, tmp_path / "file", *SHORT], "is a file", "name a folder")
    refused(["train", store, tmp_path / "folder", *SHORT], "is not empty and holds no training")
    refused(["train", store, store, *SHORT], "is not empty and holds no training")
    refused(["train", store, tmp_path / "file" / "run", *SHORT], "Not a directory", "check the path")
    table = ["--group", "C", *SHORT, "--evaluate-on", "all"]
    refused(["ablate", store, tmp_path / "file", *table], "file", "check the path")
    refused(["ablate", store, tmp_path / "folder", *table], "is not empty and holds no ablation")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(
    store: Path, trained: Path, tmp_path: Path, refused: Refused
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    more = [*QUICK, "--iterations", 6]
    tmp_path.chmod(0o500)
    run.chmod(0o500)
    try:
        refused(["train", store, tmp_path / "new", *more], "Permission denied", "choose another place")
        refused(["train", store, run, *more], "Permission denied", "choose another place")
    finally:
        tmp_path.chmod(0o700)
        run.chmod(0o700)


def test_people_with_names_of_their_own(tmp_path: Path, refused: Refused) -> None:
    """Whose names no split knows, and who are fewer than the paper's batch has."""
    people = ["anna", "bob"]
    where = a_store(
        tmp_path / "store", *(f"{name}/nm-0{n}/{v}" for name in people for n in (1, 5) for v in "12")
    )
    run = tmp_path / "run"
    refused(["train", where, run], "'casia-b/train'", "2 subjects, anna to bob", "--subjects all")
    refused(["train", where, run, "--preset", "walkers"], "'walkers/train'", "--subjects all")
    refused(["train", where, run, "--subjects", "all"], "a batch of 8 subjects", "there are 2")
    table = ["ablate", where, run, "--group", "C"]
    refused([*table], "'casia-b/train'", "--subjects all")
    refused([*table, "--subjects", "all"], "'casia-b/test'", "--evaluate-on all")
    trains(where, run, "--subjects", "anna,bob", *SHORT[2:])


def test_sequences_that_are_too_short(tmp_path: Path, refused: Refused) -> None:
    where = a_store(tmp_path / "store", "001/nm-01/090", "002/nm-01/090", frames=14)
    refused(["train", where, tmp_path / "run", *SHORT], "15 frames or more", "there are 0")


@pytest.mark.parametrize(
    ("names", "needle"),
    [
        (("nm-05/072", "nm-06/090"), "no gallery for CASIA-B's protocol"),
        (("nm-01/072", "nm-02/090"), "no probes for CASIA-B's protocol"),
        (("nm-01/090", "nm-05/090"), "only view 090"),
        (("walk/072", "run/090"), "no gallery for either protocol"),
    ],
)
def test_who_cannot_be_evaluated_on_is_refused_before_hours_of_training(
    names: tuple[str, ...], needle: str, tmp_path: Path, refused: Refused
) -> None:
    where = a_store(
        tmp_path / "store", *(f"{subject}/{name}" for subject in ("001", "002") for name in names)
    )
    evaluate = ["--evaluate-every", 3, "--evaluate-on", "all"]
    refused(["train", where, tmp_path / "run", *SHORT, *evaluate], "'all' cannot be evaluated on", needle)
    table = ["ablate", where, tmp_path / "out", "--group", "C", *SHORT, "--evaluate-on", "all"]
    refused(table, "'all' cannot be evaluated on", needle)


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_tensorboard_that_is_not_installed(
    command: str, store: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    more = ["--group", "C", "--evaluate-on", "all"] if command == "ablate" else []
    refused([command, store, tmp_path / "run", *SHORT, *more], "needs tensorboard", "gaitedge[train]")


@pytest.mark.parametrize(
    ("message", "needle"),
    [
        (
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory",
            "batches of 2,2,2",
        ),
        ("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation", "batches of 2,2,2"),
    ],
)
def test_memory_that_does_not_suffice(
    message: str, needle: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gaitedge.training.trainer import Trainer

    def fail(*_: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(Trainer, "step", fail)
    check_refusal(in_process("train", store, tmp_path / "run", *SHORT), "memory", needle)
    monkeypatch.undo()
    trains(store, tmp_path / "run", *SHORT)


# A run that is there


@pytest.mark.parametrize(
    ("options", "needles"),
    [
        (["--seed", 1], ("a training with seed 0, not 1", "the same options")),
        (["--learning-rate", "0.1"], ("learning_rate 0.0001, not 0.1",)),
        (["--preset", "walkers"], ("learning_rate 0.0001, not 0.0006",)),
        (["--preset", "oumvlp"], ("another network",)),
        (["--batch", "2,2,3"], ("frames 2, not 3",)),
    ],
    ids=str,
)
def test_other_options_in_a_run(
    options: list[object],
    needles: tuple[str, ...],
    store: Path,
    trained: Path,
    tmp_path: Path,
    refused: Refused,
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    refused(["train", store, run, *SHORT, *options], "holds a training with", *needles)


def test_another_store_in_a_run(trained: Path, tmp_path: Path, refused: Refused) -> None:
    other = a_store(tmp_path / "store", *(f"{s}/nm-01/{v}" for s in ("001", "002") for v in ("072", "090")))
    run = shutil.copytree(trained, tmp_path / "run")
    refused(["train", other, run, *SHORT], "a training with another store")


def another_network(path: Path) -> None:
    from gaitedge.config import GaitPartConfig
    from gaitedge.training.checkpoints import write_checkpoint
    from gaitedge.training.presets import Recipe
    from gaitedge.training.trainer import Trainer

    small = Trainer(GaitPartConfig(channels=(8, 8, 16), embedding_dim=16), Recipe())
    write_checkpoint(path.parent, 4, small.state(), keep=9)


def of_nothing(path: Path) -> None:
    from gaitedge.training.checkpoints import write_checkpoint

    write_checkpoint(path.parent, 4, {}, keep=9)


DAMAGE: dict[str, tuple[str, Callable[[Path], object], tuple[str, ...]]] = {
    "a run.json cut short": ("run.json", lambda path: path.write_text("{"), ("run.json is damaged",)),
    "a run.json of bytes": ("run.json", lambda path: path.write_bytes(b"\xff" * 9), ("run.json is damaged",)),
    "a log of text": (
        "log.jsonl",
        lambda path: path.write_text("loss 1\n"),
        ("line 1 of", "delete that line"),
    ),
    "a log without iterations": ("log.jsonl", lambda path: path.write_text('{"loss": 1}\n'), ("line 1 of",)),
    "a checkpoint cut short": ("4", lambda path: os.truncate(path, 9999), ("damaged", "the one before")),
    "a text as checkpoint": ("4", lambda path: path.write_text("hi"), ("damaged", "the one before")),
    "a checkpoint with another's name": (
        "4",
        lambda path: shutil.copy(path.with_name("00000002.pt"), path),
        ("damaged",),
    ),
    "a checkpoint of another network": ("4", another_network, ("is not of this training", "the one before")),
    "a checkpoint of nothing": ("4", of_nothing, ("is not of this training",)),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_run(what: str, store: Path, trained: Path, tmp_path: Path, refused: Refused) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    name, damage, needles = DAMAGE[what]
    path = run / "checkpoints" / "00000004.pt" if name == "4" else run / name
    damage(path)
    refused(["train", store, run, *SHORT], path.name, *needles)
    if name == "4":  # what the line says helps
        path.unlink()
        trains(store, run, *SHORT)
        assert same_weights(run, trained)


def test_a_finished_run_is_shown_again(store: Path, trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    before = contents(run)
    done = trains(store, run, *SHORT)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert "4 iterations, loss " in done.stdout
    found = trains(store, run, *SHORT, "--json").json
    assert (found["iterations"], found["went_on_from"]) == (4, 4)
    assert found["figures"]["loss"] == losses(run)[-1][1]
    assert contents(run) == before
    (run / "weights.safetensors").unlink()
    trains(store, run, *SHORT)
    assert same_weights(run, trained)


def test_a_loss_that_is_not_finite(store: Path, tmp_path: Path) -> None:
    """One line on the screen, one in the log, and the log is JSON to any reader."""
    run = tmp_path / "run"
    done = in_process("train", store, run, *QUICK, "--iterations", 200, "--learning-rate", 1e18)
    line = done.stderr.splitlines()[-1]
    assert (done.status, done.stdout) == (1, "")
    assert "at iteration" in line
    assert "with a lower learning rate" in line

    def no_number(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    lines = (run / "log.jsonl").read_text().splitlines()
    figures = [json.loads(line, parse_constant=no_number) for line in lines]
    assert figures[-1]["stopped"] in line
