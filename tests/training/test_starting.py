"""Fine-tuning of given weights, for INT8 and without: what comes out, and that it goes on exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from calibrations import HARSH, RECIPE, SMALL, calibrated, embed
from commands import check_refusal, in_process
from graphs import relative_error, run
from networks import random_silhouettes
from trainings import QUICK, losses, same_weights, trains

from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.correction import apply_factors
from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import InputError
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.plan import layer_names
from gaitedge.training.loop import RunOptions, train
from gaitedge.training.losses import separate_triplet_loss
from gaitedge.training.sampling import BatchSampler
from gaitedge.training.starting import Start
from gaitedge.weights import Weights, fingerprint, load_weights, shipped_weights

QUICKLY = RECIPE.changed("2,2,5")
OPTIONS = RunOptions(device="cpu", checkpoint_every=4)


@pytest.fixture(scope="module")
def first(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that know the four walkers a little."""
    run = tmp_path_factory.mktemp("first") / "run"
    recipe = RECIPE.changed(iterations=40, learning_rate=3e-3, seed=3)
    return train(store, run, recipe, SMALL, options=RunOptions(device="cpu")).weights


def start_at(weights: Path, **fields: Any) -> Start:
    config, arrays = load_weights(weights)
    return Start(config, arrays, calibrated(config, arrays, **fields))


def test_fine_tuning_mends_what_int8_breaks(store: Store, first: Path, tmp_path: Path) -> None:
    """Of ranges that cut off three quarters; the same training without int8 in it mends nothing."""
    start = start_at(first, harsh=HARSH)
    assert start.calibration is not None
    recipe, options = RECIPE.changed(iterations=25), RunOptions(device="cpu")
    tuned = train(store, tmp_path / "int8", recipe, options=options, start=start)
    plain = train(store, tmp_path / "fp32", recipe, options=options, start=Start(SMALL, start.weights))
    found = Calibration.load(tmp_path / "int8" / "calibration.json")
    assert not (tmp_path / "fp32" / "calibration.json").exists()

    everyone = {sequence.subject for sequence in store.sequences}
    sampler = BatchSampler(store, everyone, recipe.changed(seed=77), 0, 1)
    batches = [sampler.batch(iteration) for iteration in range(1, 5)]

    def loss(weights: Weights, calibration: Calibration) -> float:
        """Mean over the batches, of the quantised network."""
        model = Start(SMALL, weights, calibration).model()
        found = [
            separate_triplet_loss(torch.from_numpy(embed(model, silhouettes)), torch.from_numpy(labels), 0.2)
            for silhouettes, labels in batches
        ]
        return float(np.mean([value.item() for value, _ in found]))

    without = load_weights(plain.weights)[1]
    theirs = dataclasses.replace(start.calibration, weights=fingerprint(SMALL, without))
    before = loss(start.weights, start.calibration)
    gained = before - loss(load_weights(tuned.weights)[1], found)
    assert gained > 0.002
    assert gained > 3 * (before - loss(without, theirs))


def test_an_equalised_network_is_trained_as_it_is_exported(store: Store, first: Path, tmp_path: Path) -> None:
    """The factors go into the weights, and corrections of biases are for the weights to learn anew."""
    factors, biases = {"fconv2": (0.25, *[1.0] * 7)}, {"fconv3": tuple([0.5] * 8)}
    start = start_at(first, factors=factors, biases=biases)
    assert start.calibration is not None
    model, silhouettes = start.model(), random_silhouettes(2, 3, 12)
    equal = apply_factors(SMALL, start.weights, factors)
    assert not np.array_equal(equal["frame.1"], start.weights["frame.1"])
    assert all(np.array_equal(array, equal[name]) for name, array in model.weights().items())
    graph = run(build_graph(SMALL, equal, Plan(scales=start.calibration.scales())), silhouettes)[0]
    assert relative_error(embed(model, silhouettes), graph) <= 1e-2
    train(store, tmp_path / "run", QUICKLY.changed(iterations=1), options=OPTIONS, start=start)
    found = Calibration.load(tmp_path / "run" / "calibration.json")
    assert (found.factors, found.biases) == ({}, {})
    assert found.ranges == start.calibration.ranges


def test_what_comes_out_is_exported_by_the_same_writer(store: Store, first: Path, tmp_path: Path) -> None:
    start = start_at(first, floating=("mtb1.squeeze", "fc"))
    done = train(store, tmp_path / "run", RECIPE.changed(iterations=2), options=OPTIONS, start=start)
    config, weights = load_weights(done.weights)
    found = Calibration.load(tmp_path / "run" / "calibration.json")
    found.check(config, weights)
    assert start.calibration is not None
    assert found == dataclasses.replace(start.calibration, weights=fingerprint(config, weights))
    with pytest.raises(InputError, match="of other weights"):
        found.check(config, start.weights)
    silhouettes = random_silhouettes(3, 4, 11)
    model: onnx.ModelProto = build_graph(config, weights, Plan(scales=found.scales()))
    ours = embed(Start(config, weights, found).model(), silhouettes)
    assert relative_error(ours, run(model, silhouettes)[0]) <= 1e-2
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) == 2 * 9


@pytest.fixture(scope="module")
def straight(store: Store, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuning that nobody disturbed."""
    run = tmp_path_factory.mktemp("straight") / "run"
    train(store, run, QUICKLY, options=OPTIONS, start=start_at(first))
    return run


@pytest.mark.parametrize("write", [1, 2])
def test_a_kill_between_weights_and_calibration_costs_nothing(
    store: Store, first: Path, straight: Path, write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, run = start_at(first), tmp_path / "run"
    calls, save = [], Calibration.save

    def interrupted(self: Calibration, path: Path) -> None:
        calls.append(path)
        if len(calls) == write:
            raise KeyboardInterrupt
        save(self, path)

    monkeypatch.setattr(Calibration, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(store, run, QUICKLY, options=OPTIONS, start=start)
    monkeypatch.undo()
    again = train(store, run, QUICKLY, options=OPTIONS, start=start)
    assert again.went_on_from == 4 * (write - 1)
    assert same_weights(run, straight)
    for name in ("calibration.json", "run.json"):
        assert (run / name).read_bytes() == (straight / name).read_bytes()


def test_only_the_same_start_goes_on(store: Store, first: Path, tmp_path: Path) -> None:
    start, recipe = start_at(first), RECIPE.changed(iterations=1)
    train(store, tmp_path / "run", recipe, options=OPTIONS, start=start)
    (tmp_path / "run" / "calibration.json").unlink()
    assert train(store, tmp_path / "run", recipe, options=OPTIONS, start=start).went_on_from == 1
    Calibration.load(tmp_path / "run" / "calibration.json").check(
        *load_weights(tmp_path / "run" / "weights.safetensors")
    )
    others = {name: array + np.float32(1e-3) for name, array in start.weights.items()}
    assert start.calibration is not None
    theirs = dataclasses.replace(start.calibration, weights=fingerprint(SMALL, others))
    for other, message in [
        (start_at(first, harsh=2), "another calibration or none"),
        (Start(SMALL, start.weights), "another calibration or none"),
        (None, "another calibration or none"),
        (Start(SMALL, others, theirs), "other first weights"),
    ]:
        with pytest.raises(InputError, match=f"holds a training with {message}: give the same options"):
            train(store, tmp_path / "run", recipe, SMALL, options=OPTIONS, start=other)
    with pytest.raises(InputError, match="the weights to start from are of another network"):
        train(store, tmp_path / "new", recipe, GaitPartConfig(), options=OPTIONS, start=start)
    assert not (tmp_path / "new").exists()


# The command


def test_the_command_fine_tunes_the_shipped_weights(store: Store, tmp_path: Path) -> None:
    config, weights = load_weights(shipped_weights())
    calibrated(config, weights, floating=layer_names(config)[6:]).save(tmp_path / "cal.json")
    arguments = [store.path, tmp_path / "run", *QUICK, "--preset", "walkers", "--weights", "walkers"]
    arguments += ["--calibration", tmp_path / "cal.json", "--learning-rate", "1e-5", "--iterations", 2]
    done = trains(*arguments)
    path = tmp_path / "run" / "weights.safetensors"
    assert "gaitedge export" in done.stdout
    assert "--calibration" in done.stdout
    config, tuned = load_weights(path)
    Calibration.load(tmp_path / "run" / "calibration.json").check(config, tuned)
    assert all(0 < np.abs(tuned[name] - weights[name]).max() < 1e-3 for name in weights)
    assert [iteration for iteration, _ in losses(tmp_path / "run")] == [2]


def test_what_does_not_belong_together_costs_one_line(store: Store, first: Path, tmp_path: Path) -> None:
    config, weights = load_weights(first)
    calibration = tmp_path / "cal.json"
    calibrated(config, weights).save(calibration)
    (tmp_path / "damaged.json").write_text("{")
    run = ["train", store.path, tmp_path / "run", *QUICK]
    for options, needles in [
        (["--calibration", calibration], ("--calibration", "--weights gait.safetensors")),
        (["--weights", "walkers", "--calibration", calibration], ("of other weights", "gaitedge calibrate")),
        (["--weights", first, "--calibration", tmp_path / "damaged.json"], ("damaged.json",)),
        (["--weights", first, "--calibration", tmp_path / "none.json"], ("none.json",)),
        (["--weights", tmp_path / "none"], ("no weights file at",)),
        (["--weights", first, "--calibration", calibration], ("another network", "preset")),
    ]:
        check_refusal(in_process(*run, *options), *needles)
        assert not (tmp_path / "run").exists()
