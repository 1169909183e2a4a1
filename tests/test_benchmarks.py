"""The benchmarks run and write what they measured; how fast is theirs to say, not a test's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [
        ("cold_start.py", ["--runs", "1"], {"gaitedge --help", "import gaitedge", "gaitedge identify"}),
        ("engines.py", ["--rounds", "1", "--frames", "5"], {"PyTorch eager, the paper's letter"}),
        ("evaluation.py", ["--size", "small"], {"small"}),
        ("loader.py", ["--size", "4,10,40", "--batch", "2,4,30", "--rounds", "5"], {"1 worker"}),
        ("training.py", ["--batch", "2,2,4", "--rounds", "2"], {"the paper's letter, contiguous, FP32"}),
    ],
)
def test_a_benchmark_writes_its_figures(
    script: str, arguments: list[str], rows: set[str], tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, str(FOLDER / script), *arguments, "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["machine"]["cpu"]
    assert report["command"]
    results = report["results"]
    named = set(results) if isinstance(results, dict) else {row["name"] for row in results}
    assert rows <= named
    assert all(name in done.stdout for name in rows)


def test_every_benchmark_says_what_it_does() -> None:
    scripts = [script for script in sorted(FOLDER.glob("*.py")) if "__main__" in script.read_text()]
    names = {script.name for script in scripts}
    assert names == {"cold_start.py", "engines.py", "evaluation.py", "loader.py", "training.py"}
    for script in scripts:
        done = subprocess.run(
            [sys.executable, str(script), "--help"], capture_output=True, text=True, check=True
        )
        assert script.name in done.stdout
