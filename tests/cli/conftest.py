from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import check_refusal, contents, in_process, succeed
from networks import random_weights
from processes import MANY
from trainings import SHORT, trains

from gaitedge.config import GaitPartConfig
from gaitedge.weights import save_weights

SMALL = GaitPartConfig(channels=(4, 8, 8), parts=4, squeeze=2, embedding_dim=8)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random network."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, SMALL, random_weights(SMALL, 0))
    return path


@pytest.fixture(scope="session")
def bundle(weights: Path) -> Path:
    """It as a bundle."""
    path = weights.with_suffix(".gait")
    succeed("export", weights, path)
    return path


@pytest.fixture(scope="session")
def other_bundle(weights: Path) -> Path:
    """A bundle of another network of the same shape."""
    path = weights.with_name("other.safetensors")
    save_weights(path, SMALL, random_weights(SMALL, 1))
    succeed("export", path, path.with_suffix(".gait"))
    return path.with_suffix(".gait")


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two walkers, two walks of each at two views, as images."""
    path = tmp_path_factory.mktemp("walks") / "raw"
    which = ["--subjects", 2, "--views", "072,090", "--conditions", "nm-01,nm-05", "--workers", 1]
    succeed("synth", path, *which)
    return path


@pytest.fixture(scope="session")
def store(raw: Path) -> Path:
    """The same walks as a store."""
    path = raw.with_name("store")
    succeed("prepare", raw, path, "--workers", 1)
    return path


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many walks as images that two workers are busy for a second or so."""
    path = tmp_path_factory.mktemp("many") / "raw"
    succeed("synth", path, *MANY)
    return path


@pytest.fixture(scope="session")
def many_prepared(many: Path) -> Path:
    """The same as a store."""
    path = many.with_name("store")
    succeed("prepare", many, path, "--workers", 1)
    return path


@pytest.fixture(scope="session")
def enrolled(bundle: Path, store: Path) -> Path:
    """A gallery of the two, with a threshold; to be copied."""
    path = bundle.with_name("people.db")
    succeed("enroll", bundle, path, f"{store}:*/nm-01", "--set-threshold")
    return path


@pytest.fixture
def people(tmp_path: Path, enrolled: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(enrolled, tmp_path))


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Run a command that must end with one line, the needles in it, and leave tmp_path as it is."""

    def refused(arguments: list[object], *needles: str) -> str:
        before = contents(tmp_path)
        line = check_refusal(in_process(*arguments), *needles)
        assert contents(tmp_path) == before
        return line

    return refused


@pytest.fixture(scope="session")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training that nobody disturbed; to be copied."""
    run = tmp_path_factory.mktemp("trained") / "run"
    trains(store, run, *SHORT)
    return run
