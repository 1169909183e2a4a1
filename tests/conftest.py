from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# One draw more or less of a random network takes longer on a busy machine: no deadline per example.
settings.register_profile("gaitedge", deadline=None, print_blob=True)
settings.load_profile("gaitedge")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder of real walks and a real video beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real walks are not beside this checkout")
    return SHARED
