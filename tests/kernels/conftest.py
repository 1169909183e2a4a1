from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from host_build import Host, build


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The kernels, compiled for this machine's CPU."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to compile the kernels for the CPU")
    # One folder for all workers of pytest-xdist: whoever comes first builds.
    shared = tmp_path_factory.getbasetemp().parent if _is_worker() else tmp_path_factory.getbasetemp()
    return Host(build(Path(shared) / "kernels"))


def _is_worker() -> bool:
    import os

    return "PYTEST_XDIST_WORKER" in os.environ
