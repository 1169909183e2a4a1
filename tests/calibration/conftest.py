from __future__ import annotations

from pathlib import Path

import pytest
from small_walks import SMALL, WEIGHTS, make_store

from gaitedge.weights import save_weights


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("walks") / "store")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, SMALL, WEIGHTS)
    return path
