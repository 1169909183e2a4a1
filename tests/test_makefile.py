"""What `make weights` does when it is run again: an hour's work goes on, and is not begun anew."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"


def weights(folder: Path) -> list[str]:
    """Run `make weights` with a gaitedge that writes down what it is asked for; its commands."""
    said, commands = folder / "said", folder / "bin"
    commands.mkdir(exist_ok=True)
    for name in ("python", "gaitedge"):
        (commands / name).write_text(f'#!/bin/sh\necho "$1" >> {said}\n')
        (commands / name).chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    (folder / ".test").touch()
    said.write_text("")
    made = ["make", "-f", str(MAKEFILE), "weights", f"VENV={folder}", f"BIN={commands}"]
    done = subprocess.run(made, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return said.read_text().split()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_weights_that_were_interrupted_go_on(tmp_path: Path) -> None:
    rest = ["train", "eval", "calibrate", "export", "eval"]
    store = tmp_path / "runs" / "walkers" / "store.json"
    assert weights(tmp_path) == ["synth", *rest]
    store.parent.mkdir(parents=True)
    assert weights(tmp_path) == ["synth", *rest]
    for finished in (False, True):  # the walkers are drawn half, and whole
        store.write_text(json.dumps({"format": "gaitedge-store", "finished": finished}, indent=1))
        assert weights(tmp_path) == ([] if finished else ["synth"]) + rest
