from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import GaitEdgeError, InputError
from gaitedge.training.loop import TrainingOptions, train
from gaitedge.walkers.synthesis import synthesise
from gaitedge.weights import load_weights

SMALL = GaitPartConfig(channels=(8, 8, 16), embedding_dim=16)
QUICK = TrainingOptions(
    iterations=60, subjects=4, samples=4, frames=8, learning_rate=3e-3, bfloat16=False, seed=3
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("walkers") / "store"
    conditions = ("nm-01", "nm-02", "bg-01")
    synthesise(out, subjects=4, views=("072", "090"), conditions=conditions, seed=5, store=True, workers=1)
    return Store(out)


def test_training_lowers_the_share_of_triplets_that_fail(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    last = train(store, out, QUICK, config=SMALL)
    lines = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [20, 40, 60]
    assert lines[-1] == last
    assert last["nonzero"] < 0.8 * lines[0]["nonzero"]
    config, weights = load_weights(out)
    assert config == SMALL
    assert set(weights) == set(SMALL.shapes())


def test_the_same_seed_gives_the_same_weights(store: Store, tmp_path: Path) -> None:
    options = TrainingOptions(iterations=3, subjects=2, samples=2, frames=5, bfloat16=False)
    for name in ("a", "b"):
        train(store, tmp_path / f"{name}.safetensors", options, config=SMALL)
    first, second = (load_weights(tmp_path / f"{name}.safetensors")[1] for name in ("a", "b"))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_weights(
    store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "small.safetensors"
    options = TrainingOptions(
        iterations=200, subjects=2, samples=2, frames=5, learning_rate=1e18, bfloat16=False
    )
    with pytest.raises(GaitEdgeError, match=r"the loss is (nan|inf) at iteration \d+|diverged"):
        train(store, out, options, config=SMALL, save_every=1)
    load_weights(out)  # whole and finite


def test_impossible_options_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1 iteration, not 0"):
        train(store, tmp_path / "out.safetensors", TrainingOptions(iterations=0))
    assert not list(tmp_path.iterdir())


def test_the_command_s_defaults_are_the_recipe_s() -> None:
    from gaitedge.cli.training import train as command

    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(command).parameters.items()
        if name in TrainingOptions.__dataclass_fields__
    }
    recipe = TrainingOptions()
    assert len(defaults) == 6
    assert defaults == {name: getattr(recipe, name) for name in defaults}
