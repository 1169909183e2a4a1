"""The commands as a user runs them, and small things for them to work on."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from networks import random_weights
from typer.testing import CliRunner

from gaitedge.cli.app import app
from gaitedge.config import GaitPartConfig
from gaitedge.weights import save_weights

SMALL = GaitPartConfig(channels=(4, 8, 8), parts=4, squeeze=2, embedding_dim=8)
COMMAND = [sys.executable, "-m", "gaitedge"]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.stdout)


def contents(folder: Path) -> dict[str, str]:
    """Everything in a folder, hidden files too: path -> digest, "" of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def in_process(*arguments: object) -> Done:
    """Run a command in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # a traceback on the user's screen
    return Done(result.exit_code, result.stdout, result.stderr)


def in_own_process(*arguments: object, **options: Any) -> Done:
    """Run a command in a process of its own; options as subprocess.run takes them."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120, **options
    )
    return Done(done.returncode, done.stdout, done.stderr)


def check_refusal(done: Done, *needles: str) -> str:
    """Check that a command ended with 1 and one clear line that holds every needle; gives the line."""
    assert (done.status, done.stdout) == (1, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("\n")
    assert done.stderr.startswith("gaitedge: "), done.stderr
    line = done.stderr.removeprefix("gaitedge: ").strip()
    assert line
    for needle in needles:
        assert needle in line
    return line


@pytest.fixture(scope="session")
def run() -> Callable[..., Done]:
    """Run a command that must succeed, in this process."""

    def run(*arguments: object) -> Done:
        done = in_process(*arguments)
        assert (done.status, done.stderr) == (0, ""), done
        return done

    return run


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Run a command that must be refused in one line, and leave everything in tmp_path as it is."""

    def refused(arguments: list[object], *needles: str) -> str:
        before = contents(tmp_path)
        line = check_refusal(in_process(*arguments), *needles)
        assert contents(tmp_path) == before
        return line

    return refused


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random network."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, SMALL, random_weights(SMALL, 0))
    return path


@pytest.fixture(scope="session")
def bundle(weights: Path, run: Callable[..., Done]) -> Path:
    """It as a bundle."""
    path = weights.with_suffix(".gait")
    run("export", weights, path)
    return path


@pytest.fixture(scope="session")
def other_bundle(weights: Path, run: Callable[..., Done]) -> Path:
    """A bundle of another network of the same shape."""
    other = weights.with_name("other.safetensors")
    save_weights(other, SMALL, random_weights(SMALL, 1))
    run("export", other, other.with_suffix(".gait"))
    return other.with_suffix(".gait")


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Done]) -> Path:
    """Two walkers, three walks each, as images."""
    path = tmp_path_factory.mktemp("walks") / "raw"
    run("synth", path, "--subjects", 2, "--views", "072,090", "--conditions", "nm-01,nm-05", "--workers", 1)
    return path


@pytest.fixture(scope="session")
def store(raw: Path, run: Callable[..., Done]) -> Path:
    """The same walks as a store."""
    path = raw.with_name("store")
    run("prepare", raw, path, "--workers", 1)
    return path


@pytest.fixture
def people(tmp_path: Path, bundle: Path, store: Path, run: Callable[..., Done]) -> Path:
    """A gallery of the two."""
    path = tmp_path / "people.db"
    run("enroll", bundle, path, f"{store}:*/nm-01", "--set-threshold")
    return path
