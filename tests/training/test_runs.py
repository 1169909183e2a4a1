from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store, StoreWriter
from gaitedge.errors import InputError
from gaitedge.training.presets import Recipe
from gaitedge.training.runs import describe, open_run, read_about

SMALL = GaitPartConfig(channels=(8, 8, 16), embedding_dim=16)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return a_store(tmp_path / "store", frames=20)


def a_store(path: Path, frames: int) -> Store:
    with StoreWriter(path) as writer:
        writer.append("001", "nm-01", "090", np.full((frames, 64, 44), 255, np.uint8))
    return Store(path)


def test_a_run_is_made_and_goes_on(store: Store, tmp_path: Path) -> None:
    about, run = describe(SMALL, Recipe(), store, {"b", "a"}), tmp_path / "runs" / "gait"
    for _ in range(2):
        with open_run(run, about):
            assert read_about(run) == about
    assert about["trained_on"] == ["a", "b"]
    assert GaitPartConfig.from_json(json.dumps(about["network"])) == SMALL


def test_a_constant_rate_may_go_on_for_longer(store: Store, tmp_path: Path) -> None:
    for iterations in (10, 20):
        with open_run(tmp_path / "run", describe(SMALL, Recipe(iterations=iterations), store, ["001"])):
            pass
    about = read_about(tmp_path / "run")
    assert about is not None
    assert about["iterations"] == 20


@pytest.mark.parametrize(
    ("recipe", "config", "subjects", "message"),
    [
        (Recipe(seed=1), SMALL, ["001"], "a training with seed 0, not 1"),
        (Recipe(margin=0.3), SMALL, ["001"], "margin 0.2, not 0.3"),
        (Recipe(schedule="cosine"), SMALL, ["001"], "schedule constant, not cosine"),
        (Recipe(), GaitPartConfig(), ["001"], "another network"),
        (Recipe(), SMALL, ["002"], "other subjects"),
    ],
)
def test_another_training_does_not_go_on_there(
    recipe: Recipe, config: GaitPartConfig, subjects: list[str], message: str, store: Store, tmp_path: Path
) -> None:
    about = describe(SMALL, Recipe(), store, ["001"])
    with open_run(tmp_path / "run", about):
        pass
    with (
        pytest.raises(InputError, match=f"{message}: give the same options"),
        open_run(tmp_path / "run", describe(config, recipe, store, subjects)),
    ):
        pass
    assert read_about(tmp_path / "run") == about


def test_a_cosine_is_as_long_as_it_was(store: Store, tmp_path: Path) -> None:
    """Its rate at every iteration depends on how many there are."""
    recipe = Recipe(iterations=10, schedule="cosine")
    with open_run(tmp_path / "run", describe(SMALL, recipe, store, ["001"])):
        pass
    longer = describe(SMALL, recipe.changed(iterations=20), store, ["001"])
    with pytest.raises(InputError, match="iterations 10, not 20"), open_run(tmp_path / "run", longer):
        pass


def test_another_store_is_other_data(store: Store, tmp_path: Path) -> None:
    other = a_store(tmp_path / "other", frames=21)
    with open_run(tmp_path / "run", describe(SMALL, Recipe(), store, ["001"])):
        pass
    about = describe(SMALL, Recipe(), other, ["001"])
    with pytest.raises(InputError, match="another store"), open_run(tmp_path / "run", about):
        pass


def test_one_training_at_a_time(store: Store, tmp_path: Path) -> None:
    about = describe(SMALL, Recipe(), store, ["001"])
    with (
        open_run(tmp_path / "run", about),
        pytest.raises(InputError, match="another process is training in"),
        open_run(tmp_path / "run", about),
    ):
        pass
    longer = describe(SMALL, Recipe(iterations=200_000), store, ["001"])
    with (
        open_run(tmp_path / "run", about),
        pytest.raises(InputError, match="another process is training in"),
        open_run(tmp_path / "run", longer),  # it would be written into run.json
    ):
        pass
    assert read_about(tmp_path / "run") == about


def test_a_folder_of_something_else_stays_as_it_is(store: Store, tmp_path: Path) -> None:
    about = describe(SMALL, Recipe(), store, ["001"])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file: name a folder"), open_run(tmp_path / "file", about):
        pass
    with pytest.raises(InputError, match="is not empty and holds no training"), open_run(tmp_path, about):
        pass
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"network": ')
    with pytest.raises(InputError, match=r"run.json is damaged"), open_run(tmp_path / "run", about):
        pass
    assert (tmp_path / "file").read_text() == "mine"
