"""What training does on a GPU: the CPU's losses, every precision, and going on after a stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gaitedge.data.store import Store
from gaitedge.training.loop import RunOptions, train
from gaitedge.training.presets import Precision, Recipe
from gaitedge.training.records import read_log

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here"),
]
RECIPE = Recipe(iterations=30, subjects=4, samples=4, frames=8, precision="fp32", learning_rate=3e-4)
OPTIONS = RunOptions(log_every=1, checkpoint_every=10, device="cuda")


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_log(run) if "loss" in line]


def test_the_losses_are_the_cpu_s(store: Store, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        train(store, tmp_path / device, RECIPE, options=RunOptions(log_every=1, device=device))  # type: ignore[arg-type]
    ours, theirs = losses(tmp_path / "cuda"), losses(tmp_path / "cpu")
    assert ours[:5] == pytest.approx(theirs[:5], rel=1e-3)
    assert ours == pytest.approx(theirs, rel=0.1)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_learn_as_well(precision: Precision, store: Store, tmp_path: Path) -> None:
    for name in ("fp32", precision):
        train(store, tmp_path / name, RECIPE.changed(precision=name), options=OPTIONS)
    full, low = losses(tmp_path / "fp32"), losses(tmp_path / precision)
    assert sum(low[-5:]) == pytest.approx(sum(full[-5:]), rel=0.1)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_stopped_training_goes_on(precision: Precision, store: Store, tmp_path: Path) -> None:
    recipe = RECIPE.changed(precision=precision)
    train(store, tmp_path / "straight", recipe, options=OPTIONS)
    train(store, tmp_path / "stopped", recipe.changed(iterations=15), options=OPTIONS)
    done = train(store, tmp_path / "stopped", recipe, options=OPTIONS)
    assert done.went_on_from == 15
    assert losses(tmp_path / "stopped") == pytest.approx(losses(tmp_path / "straight"), rel=0.05)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_see_the_losses_of_one(store: Store, tmp_path: Path) -> None:
    options = ["--preset", "walkers", "--subjects", "all", "--iterations", "40", "--batch", "4,4,8"]
    options += ["--precision", "fp32", "--device", "cuda"]
    one = [sys.executable, "-m"]
    two = [*one, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    for name, start in (("one", one), ("two", two)):
        command = [*start, "gaitedge", "train", str(store.path), str(tmp_path / name), *options]
        subprocess.run(command, check=True, env=os.environ)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=0.05)
