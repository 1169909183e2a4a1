"""Running the commands as a user does, and looking at what they leave."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from gaitedge.cli.app import app

COMMAND = [sys.executable, "-m", "gaitedge"]
Refused = Callable[..., str]  # the fixture `refused` of tests/cli


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


def in_process(*arguments: object) -> Done:
    """Run a command in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # a traceback on the user's screen
    return Done(result.exit_code, result.stdout, result.stderr)


def apart(*arguments: object, **options: Any) -> Done:
    """Run a command in a process of its own; options as subprocess.run takes them."""
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, **options)
    return Done(done.returncode, done.stdout, done.stderr)


def succeed(*arguments: object) -> Done:
    """Run a command, in this process, that must end well and say nothing on stderr."""
    done = in_process(*arguments)
    assert (done.status, done.stderr) == (0, ""), done
    return done


def check_refusal(done: Done, *needles: str) -> str:
    """Check that a command ended with 1 and one clear line that holds every needle; gives the line."""
    assert (done.status, done.stdout) == (1, ""), done
    assert done.stderr.startswith("gaitedge: "), done.stderr
    assert done.stderr.endswith("\n"), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    line = done.stderr.removeprefix("gaitedge: ").rstrip("\n")
    assert line.strip()
    for needle in needles:
        assert needle in line
    return line


def contents(folder: Path) -> dict[str, str]:
    """Everything in a folder, hidden files too: path -> digest, or "folder"."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def remains(folder: Path) -> list[str]:
    """Hidden files and SQLite's journals."""
    return [name for name in contents(folder) if Path(name).name.startswith(".") or name.endswith("-journal")]
