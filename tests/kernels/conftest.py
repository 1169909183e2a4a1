from __future__ import annotations

from pathlib import Path

import pytest
from host_build import Host


@pytest.fixture(scope="session")
def host(host_library: Path) -> Host:
    """The kernels' functions, which run on this machine's CPU."""
    return Host(host_library)
