from __future__ import annotations

import pytest

from gaitedge.data.store import Store
from gaitedge.walkers.synthesis import synthesise


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four walkers with a gallery, probes and a second view."""
    out = tmp_path_factory.mktemp("walkers") / "store"
    conditions = ("nm-01", "nm-05", "bg-01")
    synthesise(out, subjects=4, views=("072", "090"), conditions=conditions, seed=5, store=True, workers=1)
    return Store(out)
