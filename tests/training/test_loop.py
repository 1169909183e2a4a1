from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import GaitEdgeError, InputError
from gaitedge.evaluation import evaluate
from gaitedge.model import GaitPart
from gaitedge.training.distributed import Team
from gaitedge.training.judging import judge, to_judge
from gaitedge.training.loop import RunOptions, train
from gaitedge.training.presets import Recipe
from gaitedge.training.records import read_log
from gaitedge.weights import load_weights

SMALL = GaitPartConfig(channels=(8, 8, 16), embedding_dim=16)
QUICK = Recipe(iterations=12, subjects=2, samples=2, frames=5, precision="fp32", learning_rate=1e-3, seed=3)
OPTIONS = RunOptions(log_every=2, checkpoint_every=4, device="cpu")
TIMES = {"seconds", "images_per_second"}


def figures(run: Path) -> list[dict[str, Any]]:
    """A run's log without what a clock has said."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in read_log(run)]


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = (load_weights(run / "weights.safetensors")[1] for run in (first, second))
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def straight(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody disturbed."""
    run = tmp_path_factory.mktemp("straight") / "run"
    train(store, run, QUICK, SMALL, options=OPTIONS)
    return run


def test_training_lowers_the_share_of_triplets_that_fail(store: Store, tmp_path: Path) -> None:
    recipe = QUICK.changed(iterations=45, subjects=4, samples=3, frames=6, learning_rate=3e-3)
    done = train(store, tmp_path / "run", recipe, SMALL, options=RunOptions(log_every=15, device="cpu"))
    lines = read_log(tmp_path / "run")
    assert [line["iteration"] for line in lines] == [15, 30, 45]
    assert (done.iterations, done.went_on_from, done.figures) == (45, 0, lines[-1])
    assert done.figures["nonzero"] < 0.8 * lines[0]["nonzero"]
    assert done.figures["images_per_second"] > 0
    config, weights = load_weights(done.weights)
    assert config == SMALL
    assert set(weights) == set(SMALL.shapes())


def test_the_caller_is_told_every_line_and_how_long_it_takes(store: Store, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    train(store, tmp_path / "run", QUICK, SMALL, options=OPTIONS, report=told.append)
    assert [line["iteration"] for line in told] == [2, 4, 6, 8, 10, 12]
    assert {line["iterations"] for line in told} == {12}
    etas = [line["eta"] for line in told]
    assert etas[-1] == 0 < etas[0]


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(
    store: Store, straight: Path, tmp_path: Path
) -> None:
    options = RunOptions(log_every=2, checkpoint_every=50, device="cpu", workers=1)
    train(store, tmp_path / "run", QUICK, SMALL, options=options)
    assert same_weights(tmp_path / "run", straight)
    assert figures(tmp_path / "run") == figures(straight)


@pytest.mark.parametrize("at", [3, 6, 8, 11])
def test_a_stopped_training_goes_on_bit_for_bit(
    store: Store, straight: Path, at: int, tmp_path: Path
) -> None:
    def stop(figures: dict[str, Any]) -> None:
        if figures["iteration"] >= at:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(store, run, QUICK, SMALL, options=OPTIONS, report=stop)
    done = train(store, run, QUICK, SMALL, options=OPTIONS)
    assert done.went_on_from == (0 if at <= 4 else 4 if at <= 8 else 8)
    assert same_weights(run, straight)
    assert figures(run) == figures(straight)


WRITES = range(1, 8)


@pytest.fixture(scope="module")
def killed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training for each of WRITES that killed itself while that file was written: half of it is there.

    Each is a fork of one process, which loads PyTorch once.
    """
    folder = tmp_path_factory.mktemp("killed")
    code = f"""
    import os, signal
    from pathlib import Path
    import torch._dynamo  # which an optimizer loads
    from torch.utils.tensorboard import SummaryWriter
    import gaitedge.files as files
    from gaitedge.config import GaitPartConfig
    from gaitedge.data.store import Store
    from gaitedge.training.loop import RunOptions, train
    from gaitedge.training.presets import Recipe
    writes, fsync = [], os.fsync

    def cut(descriptor):
        writes.append(1)
        if len(writes) == 2 * write - 1:  # a file, then its folder
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            fsync(descriptor)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    files.os.fsync = cut
    for write in {list(WRITES)!r}:
        child = os.fork()
        if not child:
            run = Path({str(folder)!r}) / str(write)
            train(Store({str(store.path)!r}), run, {QUICK!r}, {SMALL!r}, options={OPTIONS!r})
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(WRITES), done.stderr
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("write", WRITES)
def test_a_kill_in_the_middle_of_a_write_costs_nothing(
    store: Store, straight: Path, killed: Path, write: int, tmp_path: Path
) -> None:
    """run.json and log.jsonl are the first two files, then weights and checkpoint by turns."""
    run = Path(shutil.copytree(killed / str(write), tmp_path / "run"))
    assert any(".part" in path.name for path in run.rglob("*"))  # it was in the middle
    again = train(store, run, QUICK, SMALL, options=OPTIONS)
    assert again.went_on_from == {1: 0, 2: 0, 3: 0, 4: 0, 5: 4, 6: 4, 7: 8}[write]
    assert same_weights(run, straight)
    assert figures(run) == figures(straight)
    assert not [path for path in run.rglob("*") if ".part" in path.name]


def test_a_finished_training_is_left_as_it_is(store: Store, straight: Path) -> None:
    before = (straight / "weights.safetensors").stat().st_mtime_ns
    done = train(store, straight, QUICK, SMALL, options=OPTIONS)
    assert (done.iterations, done.went_on_from) == (12, 12)
    assert done.figures["iteration"] == 12
    assert (straight / "weights.safetensors").stat().st_mtime_ns == before


def test_checkpoints_are_pruned(store: Store, tmp_path: Path) -> None:
    options = RunOptions(checkpoint_every=2, keep=2, device="cpu")
    train(store, tmp_path / "run", QUICK, SMALL, options=options)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["00000010.pt", "00000012.pt"]


def test_rank_1_is_measured_on_the_way(store: Store, tmp_path: Path) -> None:
    options = RunOptions(evaluate_every=5, log_every=6, device="cpu")
    train(store, tmp_path / "run", QUICK, SMALL, options=options)
    judged = [line for line in read_log(tmp_path / "run") if "rank1" in line]
    assert [line["iteration"] for line in judged] == [5, 10, 12]
    assert all(set(line["rank1"]) == {"NM", "BG"} for line in judged)
    assert all(0 <= share <= 1 for line in judged for share in line["rank1"].values())


def test_what_is_measured_on_the_way_is_what_evaluate_measures(store: Store, tmp_path: Path) -> None:
    """PyTorch on the way, an engine afterwards; shuffled (Tab. 7) alike."""
    options = RunOptions(evaluate_every=12, device="cpu")
    done = train(store, tmp_path / "run", QUICK, SMALL, options=options)
    (line,) = [line for line in read_log(tmp_path / "run") if "rank1" in line]
    for shuffled in (False, True):
        result = evaluate(done.weights, store.path, shuffled=shuffled)
        means = {name: figures.all_probes.mean for name, figures in result.probe_sets.items()}
        found = line["rank1"]
        if shuffled:
            model = GaitPart(SMALL).load(load_weights(done.weights)[1])
            found = judge(model, store, to_judge(store, "all"), Team(torch.device("cpu")), shuffled=True)
        assert found == pytest.approx(
            {name: mean for name, mean in means.items() if mean is not None}, abs=1e-4
        )


JUDGED = RunOptions(evaluate_every=4, checkpoint_every=4, log_every=2, device="cpu")


@pytest.fixture(scope="module")
def judged(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was evaluated on the way, and nobody disturbed."""
    run = tmp_path_factory.mktemp("judged") / "run"
    train(store, run, QUICK, SMALL, options=JUDGED)
    return run


@pytest.mark.parametrize("at", [4, 12])
def test_an_evaluation_that_is_interrupted_is_made_up_for(
    store: Store, judged: Path, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after its checkpoint, and at the last iteration nothing comes after it."""
    calls = []

    def interrupted(*arguments: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == at // 4:
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr("gaitedge.training.loop.judge", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path / "run", QUICK, SMALL, options=JUDGED)
    monkeypatch.undo()
    assert train(store, tmp_path / "run", QUICK, SMALL, options=JUDGED).went_on_from == at
    assert figures(tmp_path / "run") == figures(judged)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(store: Store, tmp_path: Path) -> None:
    recipe = QUICK.changed(iterations=200, learning_rate=1e18)
    options = RunOptions(checkpoint_every=1, device="cpu")
    with pytest.raises(GaitEdgeError) as caught:
        train(store, tmp_path / "run", recipe, SMALL, options=options)
    message = str(caught.value)
    stopped = json.loads((tmp_path / "run" / "stopped.json").read_text())
    assert f"at iteration {stopped['iteration']}, in the batch of " in message
    assert all(row["sequence"] in message for row in stopped["batch"])
    assert len(stopped["batch"]) == 4
    assert {len(row["frames"]) for row in stopped["batch"]} == {5}
    checkpoints = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert (
        f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"
    ) in message
    if checkpoints:
        load_weights(tmp_path / "run" / "weights.safetensors")  # whole and finite


def test_a_nan_in_the_middle_names_the_checkpoint_before_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gaitedge.training.trainer import Step, Trainer

    step = Trainer.step

    def poisoned(self: Trainer, iteration: int, *batch: Any) -> Step:
        seen = step(self, iteration, *batch)
        return seen._replace(broken="the loss is nan") if iteration == 7 else seen

    monkeypatch.setattr(Trainer, "step", poisoned)
    with pytest.raises(GaitEdgeError, match=r"the loss is nan at iteration 7.*00000004\.pt"):
        train(store, tmp_path / "run", QUICK, SMALL, options=OPTIONS)
    monkeypatch.undo()
    assert read_log(tmp_path / "run")[-1] == {"iteration": 7, "stopped": "the loss is nan"}
    # What the message says can be done, and once only: then it is another training.
    slower = QUICK.changed(learning_rate=5e-4, clip=1.0)
    assert train(store, tmp_path / "run", slower, SMALL, options=OPTIONS).went_on_from == 4
    assert not (tmp_path / "run" / "stopped.json").exists()
    with pytest.raises(InputError, match=r"clip 1\.0, not None"):
        train(store, tmp_path / "run", QUICK, SMALL, options=OPTIONS)


def test_impossible_options_are_refused(store: Store, tmp_path: Path) -> None:
    for options, message in [
        ({"checkpoint_every": 0}, "checkpoint_every must be 1 or more, not 0"),
        ({"workers": -1}, "workers must be 0 or more, not -1"),
    ]:
        with pytest.raises(InputError, match=message):
            RunOptions(**options)
    with pytest.raises(InputError, match="no subject is in 'casia-b/test'"):
        train(store, tmp_path / "run", QUICK, SMALL, subjects="casia-b/test", options=OPTIONS)
    with pytest.raises(InputError, match="a batch of 5 subjects"):
        train(store, tmp_path / "run", QUICK.changed(subjects=5), SMALL, options=OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_see_the_losses_of_one(store: Store, tmp_path: Path) -> None:
    """torchrun with gloo: DistributedDataParallel over halves of the batch, one loss over all of it."""
    code = f"""
    from pathlib import Path
    from gaitedge.config import GaitPartConfig
    from gaitedge.data.store import Store
    from gaitedge.training.loop import RunOptions, train
    from gaitedge.training.presets import Recipe
    options = RunOptions(log_every=1, checkpoint_every=3, evaluate_every=6, device="cpu")
    train(Store({str(store.path)!r}), Path("run"), {QUICK!r}, {SMALL!r}, options=options)
    """
    script = tmp_path / "together.py"
    script.write_text(textwrap.dedent(code))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*start, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    options = RunOptions(log_every=1, checkpoint_every=50, evaluate_every=6, device="cpu")
    train(store, tmp_path / "alone", QUICK, SMALL, options=options)
    together, alone = figures(tmp_path / "run"), figures(tmp_path / "alone")
    assert len(together) == len(alone) == 14
    for ours, theirs in zip(together, alone, strict=True):
        assert ours["iteration"] == theirs["iteration"]
        if "loss" in ours:
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
            assert ours["nonzero"] == pytest.approx(theirs["nonzero"], abs=0.02)
        else:
            assert ours["rank1"] == pytest.approx(theirs["rank1"], abs=0.1)
    assert together[0]["loss"] != together[-2]["loss"]


@pytest.mark.slow
def test_processes_with_different_options_do_not_train_together(store: Store, tmp_path: Path) -> None:
    """Rows of one draw with labels of another would train, and nobody would know."""
    code = f"""
    import os
    from pathlib import Path
    from gaitedge.config import GaitPartConfig
    from gaitedge.data.store import Store
    from gaitedge.errors import InputError
    from gaitedge.training.loop import RunOptions, train
    from gaitedge.training.presets import Recipe
    recipe = {QUICK!r}.changed(seed=int(os.environ["RANK"]))
    try:
        train(Store({str(store.path)!r}), Path("run"), recipe, {SMALL!r}, options={OPTIONS!r})
    except InputError as error:
        Path("refused-" + os.environ["RANK"]).write_text(str(error))
    """
    script = tmp_path / "apart.py"
    script.write_text(textwrap.dedent(code))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*start, str(script)], cwd=tmp_path, capture_output=True, check=True)
    said = [(tmp_path / f"refused-{rank}").read_text() for rank in (0, 1)]
    assert said == ["the processes of this training were started with different options or stores"] * 2
    assert not (tmp_path / "run").exists()
