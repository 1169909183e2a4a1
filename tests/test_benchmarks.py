"""The benchmarks run and write what they measured; how fast is theirs to say, not a test's."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import sysconfig
import types
import venv
from pathlib import Path

import numpy as np
import pytest
from videos import write_video

from gaitedge.errors import InputError, MachineError
from gaitedge.machine.cuda_driver import CudaDevice

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [
        ("cold_start.py", ["--runs", "1"], {"gaitedge --help", "import gaitedge", "gaitedge identify"}),
        ("engines.py", ["--rounds", "1", "--frames", "5"], {"PyTorch eager, the paper's letter"}),
        ("evaluation.py", ["--size", "small"], {"small"}),
        ("loader.py", ["--size", "4,10,40", "--batch", "2,4,30", "--rounds", "5"], {"1 worker"}),
        ("decisions.py", ["--subjects", "3"], {"settings as they are", "2 missing after every 9"}),
        (
            "streaming.py",
            ["--rounds", "1", "--frames", "2,7", "--streams", "1,2"],
            {"whole walk of 7 frames", "one push after 7 frames", "a frame of each of 2, in one batch"},
        ),
        (
            "search.py",
            ["--sizes", "100,700", "--rounds", "1", "--walkers", "2"],
            {"walkers, search", "random, brute force", "one person, search"},
        ),
        ("profiler.py", ["--rounds", "2"], {"profiler's loop over a bare one", "the loop's own cost"}),
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


@pytest.mark.slow
def test_a_soak_writes_its_readings(tmp_path: Path) -> None:
    film, out = write_video(tmp_path / "film.avi"), tmp_path / "result.json"
    command = [sys.executable, str(FOLDER / "soak.py"), str(film), "--minutes", "0.05", "--every", "0.5"]
    done = subprocess.run(
        [*command, "--json", str(out)], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode in (0, 1), done.stderr  # so short a soak has no verdict worth a test
    report = json.loads(out.read_text())
    assert report["machine"]["cpu"]
    assert (report["video"], report["minutes"], report["status"]["dropped"]) == ("film.avi", 0.05, 0)
    results = report["results"]
    assert len(results["readings"]) > 1
    assert all(reading["rss_mb"] > 10 for reading in results["readings"])
    assert f"memory grew {results['growth_mb']:+.2f} MB" in done.stdout


def test_every_benchmark_says_what_it_does() -> None:
    scripts = [script for script in sorted(FOLDER.glob("*.py")) if "__main__" in script.read_text()]
    names = {script.name for script in scripts}
    programs = {"cold_start.py", "engines.py", "evaluation.py", "gpu.py", "int8.py", "kernels.py"}
    programs |= {
        "decisions.py",
        "loader.py",
        "profiler.py",
        "search.py",
        "soak.py",
        "streaming.py",
        "training.py",
    }
    assert names == programs | {"gpu_candidates.py"}  # which gpu.py starts
    code = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
for script in sys.argv[2:]:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print(f"{script} ended with {end.code}")
"""
    command = [sys.executable, "-c", code, str(FOLDER), *(str(FOLDER / name) for name in sorted(programs))]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in sorted(programs):
        help_, end, said = said.partition(f"{FOLDER / name} ended with 0\n")
        assert end
        assert help_.startswith(f"usage: {name} ")
        assert f"python benchmarks/{name}" in help_


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """benchmarks/gpu.py as a module."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(FOLDER)
    import gpu

    return gpu


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Another interpreter, with the packages of this one."""
    venv.create(tmp_path / "other", with_pip=False)
    (site,) = (tmp_path / "other").glob("lib/python*/site-packages")
    (site / "these.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(tmp_path / "other" / "bin" / "python")


def on_the_cpu(letter: bool, **form: object) -> dict[str, object]:
    return {"letter": letter, "compiled": None, "precision": "fp32", "device": "cpu", **form}


def test_without_a_gpu_the_gpu_benchmark_is_one_line(tmp_path: Path) -> None:
    from gaitedge.machine.tensorrt import driver

    if driver().devices:
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        [sys.executable, str(FOLDER / "gpu.py")], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "error: this benchmark needs an NVIDIA GPU" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX environment")
def test_candidates_of_two_interpreters_are_timed_and_compared(
    gpu: types.ModuleType,
    other: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # this interpreter's own affair
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    forms = {
        "PyTorch eager, the paper's letter": on_the_cpu(True),
        "PyTorch eager, fused": on_the_cpu(False),
        "PyTorch without a GPU": on_the_cpu(False, device="cuda"),
    }
    monkeypatch.setattr(gpu, "CANDIDATES", forms)
    out = tmp_path / "result.json"
    options = types.SimpleNamespace(
        rounds=2, runs=3, warmup=0.0, torch_python=other, tensorrt_python=other, json=out
    )
    device = CudaDevice("NVIDIA Test", (8, 7), 1 << 30, 8)
    import torch

    lacking = not torch.cuda.is_available()
    assert gpu.run(options, device, [(1, 3), (2, 2)]) == int(lacking)
    document = json.loads(out.read_text())
    rows = document["results"]
    assert [(row["name"], row["batch"], row["frames"]) for row in rows if "GPU" not in row["name"]] == [
        (name, *shape) for shape in ((1, 3), (2, 2)) for name in list(forms)[:2]
    ]
    assert all(row["agrees"] and 0 < row["min_ms"] <= row["median_ms"] <= row["p99_ms"] for row in rows)
    assert rows[0]["relative_error"] == 0
    assert 0 < rows[1]["relative_error"] < 1e-4  # the fused form is another computation
    assert document["gpu"]["name"] == "NVIDIA Test"
    assert document["candidates"]["PyTorch eager, fused"]["runtime"].startswith("PyTorch ")
    if lacking:
        assert "sees no GPU" in document["failed"]["PyTorch without a GPU"]
    assert "2 x 2 frames" in capsys.readouterr().out


@pytest.mark.slow
def test_a_candidate_that_cannot_be_had_says_why(gpu: types.ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot start the interpreter .*/nothing: No such file"):
        gpu.Candidate(str(tmp_path / "nothing"), {})
    with pytest.raises(MachineError, match="ended with exit status 1; what it said stands above"):
        gpu.Candidate(sys.executable, {"runtime": "abacus"})


def test_a_wrong_answer_shows(gpu: types.ModuleType) -> None:
    reference, fast = next(iter(gpu.CANDIDATES)), "TensorRT, fused, FP16"
    right = np.random.default_rng(0).standard_normal((2, 16, 256), dtype=np.float32)
    rounds = [{reference: [4.0, 6.0, 5.0], fast: [1.0, 2.0, 1.0]}] * 3
    for error, agrees in ((1e-4, True), (0.1, False), (np.nan, False)):
        wrong = right.copy()
        wrong[0, 0, 0] += error
        rows = gpu.summary((2, 30), {reference: right, fast: wrong}, rounds)
        assert [row["agrees"] for row in rows] == [True, agrees]
    assert (rows[1]["median_ms"], rows[1]["p99_ms"], rows[1]["speedup"]) == (1.0, 2.0, 5.0)


def test_shapes_and_the_documents_name(gpu: types.ModuleType) -> None:
    assert gpu.parse_shape("8x30") == (8, 30)
    for wrong in ("8", "0x30", "8x-1", "8x30x2", ""):
        with pytest.raises(InputError, match="a shape is BATCHxFRAMES, as in 8x30, not"):
            gpu.parse_shape(wrong)
    name = gpu.default_name("NVIDIA Jetson AGX Orin (64GB)", datetime.date(2026, 11, 22))
    assert name == FOLDER / "results" / "nvidia-jetson-agx-orin-64gb-2026-11-22.json"
