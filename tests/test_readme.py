"""The README's commands and code are run as they stand, one after the other, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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


def test_make_targets_that_the_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
