from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_build import build
from hypothesis import settings

# One draw more or less of a random network takes longer on a busy machine: no deadline per example.
settings.register_profile("gaitedge", deadline=None, print_blob=True)
settings.load_profile("gaitedge")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled graphs and timings are kept here, not among those of whoever runs the tests."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("XDG_CACHE_HOME")
    if before is not None:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """A shell's background job ignores Ctrl-C, and so would every command that a test starts to interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def host_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CUDA kernels, compiled for this machine's CPU."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to compile the kernels for the CPU")
    base = tmp_path_factory.getbasetemp()  # a worker's own; whichever of them comes first builds
    return build((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels")


@pytest.fixture
def shared() -> Path:
    """The folder of real walks and a real video beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real walks are not beside this checkout")
    return SHARED
