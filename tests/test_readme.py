"""The README's commands and code are run as they stand, one after the other, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def run(language: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else [sys.executable, "-c", text]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.slow
def test_every_block_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    """`print(...)  # → text` in a Python block is a claim about what that block prints."""
    runnable = [(language, text) for language, text in BLOCKS if language in ("bash", "python")]
    assert {language for language, _ in runnable} == {"bash", "python"}
    for language, text in runnable:
        done = run(language, text, tmp_path)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        if language == "python":
            assert done.stdout.splitlines() == re.findall(r"# → (.+)$", text, flags=re.MULTILINE)


def test_commands_that_the_readme_names_exist() -> None:
    from typer.main import get_command

    from gaitedge.cli.app import app

    commands = set(getattr(get_command(app), "commands", {}))
    named = set(re.findall(r"^(?:\$ )?gaitedge ([a-z-]+)", README, flags=re.MULTILINE))
    assert named
    assert named <= commands


def commands(text: str) -> list[str]:
    """The command lines of GaitEdge in a document: in its blocks, and between backticks in its text."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose)]
    lines = [re.sub(r"^(\$ |\.venv/bin/)|[][](?=--|$)", "", line.strip()) for line in lines]
    return [line for line in lines if re.match(r"gaitedge [a-z-]+ \S", line) and "…" not in line]


DOCUMENTS = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_of_every_document_can_be_typed(document: str) -> None:
    """Each command has the options that it is shown with, and takes their values; none is run."""
    from typer.main import get_command

    from gaitedge.cli.app import app

    mistaken = []
    for line in commands((ROOT / document).read_text()):
        command: Any = get_command(app)
        words = shlex.split(re.split(r" (?:&&|\|) ", line)[0], comments=True)[1:]
        try:
            while hasattr(command, "commands"):
                command = command.commands[words.pop(0)]
            command.make_context(command.name, words)
        except Exception as error:  # noqa: BLE001  # of whatever kind: it cannot be typed
            if type(error).__name__ == "MissingParameter":
                continue  # prose leaves out what does not matter there
            mistaken.append(f"{line}: {error!r}")
    assert mistaken == []


def test_make_targets_that_the_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
