"""benchmarks/kernels.py: what it launches is right, by the host build, and so are its figures."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from host_build import Host
from networks import random_silhouettes

from gaitedge import cuda
from gaitedge.machine.tensorrt import driver
from gaitedge.model import GaitPart
from gaitedge.weights import load_weights, shipped_weights

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
LIMITS = {"copy_gb_s": 1000.0, "fp16_tflops": 100.0}


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import kernel_work

    return kernel_work


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "kernels", raising=False)  # a folder's, to Python
    import kernels

    return kernels


def test_every_kernel_is_launched_as_it_can_be(host: Host, work: types.ModuleType) -> None:
    launched: set[type[ctypes.Structure]] = set()
    for one in work.kernels(frames=2, batch=2, entries=600):
        memory = work.Memory("cpu")
        arguments = one.make(memory)
        before = host.workspace(arguments) if isinstance(arguments, cuda.PartDistance) else 0
        host.launch(arguments)
        if isinstance(arguments, cuda.PartDistance):
            result = memory.find(arguments.distance)
            assert before <= memory.find(arguments.workspace).numel()
        else:
            result = memory.find(getattr(arguments, "features" if "frame_network" in one.name else "y"))
        assert torch.isfinite(result).all(), one.name
        assert result.abs().max() > 0, one.name
        launched.add(type(arguments))
    assert launched == set(cuda._FUNCTIONS)


@pytest.mark.parametrize(("kind", "error"), [(cuda.FLOAT16, 0.01), (cuda.INT8, 0.2)])
def test_two_launches_are_the_network(host: Host, work: types.ModuleType, kind: int, error: float) -> None:
    memory = work.Memory("cpu")
    first, second = work.two_launches(memory, kind, 1, 2)
    silhouettes = torch.from_numpy(random_silhouettes(1, 2, 0))
    memory.find(first.silhouettes).copy_(silhouettes[0])
    host.launch(first)
    host.launch(second)
    config, weights = load_weights(shipped_weights())
    with torch.inference_mode():
        expected = GaitPart(config).load(weights).eval()(silhouettes)
    difference = (memory.find(second.y) - expected).abs().max() / expected.abs().max()
    assert difference < error


def test_bytes_and_operations_are_the_paper_s(work: types.ModuleType) -> None:
    found = {one.name: one for one in work.kernels(frames=30, batch=1, entries=1000)}
    network = found["frame_network, FP16"]
    # 106 million multiply-adds a frame, 286,496 weights, 16 x 128 features.
    layers = [one for name, one in found.items() if name.startswith("focal_conv")]
    assert network.operations == sum(one.operations for one in layers)
    assert round(network.operations / 30 / 2e6) == 106
    assert network.bytes == 30 * (64 * 44 + 2 * 16 * 128) + 2 * 286_496
    assert found["frame_network, INT8"].bytes == network.bytes - 286_496
    assert found["micro_motion, FP16"].operations == 2 * (30 * 655_360 + 524_288)
    assert found["micro_motion, FP16"].bytes == 2 * (30 * 2048 + 655_360 + 524_288) + 4 * 16 * 256
    single = found["part_distance, 1 of 1000, FP16"]
    assert (single.bytes, single.operations) == (4 * 4096 + 2 * 4096 * 1000 + 80, 2 * 4096 * 1000)
    assert found["part_pool, FP16, NHWC"].bytes == 30 * 2 * (16 * 11 * 128 + 16 * 128)
    assert found["focal_conv, FConv2, FP16"].bytes == 2 * (
        30 * 64 * 44 * 32 + 32 * 32 * 9 + 30 * 32 * 22 * 32
    )


def test_shares_of_the_ceilings(benchmark: types.ModuleType, work: types.ModuleType) -> None:
    one = work.Work("part_pool", bytes=500_000_000, operations=10_000_000_000, make=None)
    row = benchmark.kernel_row(one, [1.5, 1.0, 0.9], LIMITS)
    assert (row["median_us"], row["min_us"]) == (1000, 900)
    assert row["share_of_copy"] == pytest.approx(0.5)
    assert row["share_of_fp16_product"] == pytest.approx(0.1)


def test_a_wrong_answer_shows(benchmark: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    first, fast = benchmark.REFERENCE, "CUDA kernels, FP16"
    right = np.random.default_rng(0).standard_normal((2, 16, 256), dtype=np.float32)
    times = {first: [4.0, 6.0, 5.0], fast: [1.0, 2.0, 1.0]}
    for error, agrees in ((1e-4, True), (0.2, False), (np.nan, False)):
        wrong = right.copy()
        wrong[0, 0, 0] += error
        rows = benchmark.network_rows((2, 30), {first: right, fast: wrong}, times, LIMITS)
        assert [row["agrees"] for row in rows] == [True, agrees]
        benchmark.show_network((2, 30), rows)
        assert ("WRONG" in capsys.readouterr().out) is not agrees
    assert (rows[1]["median_us"], rows[1]["p99_us"], rows[1]["speedup"]) == (1000.0, 2000.0, 4.0)
    operations = 2 * (60 * 106_006_528 + 2 * (30 * 655_360 + 524_288))
    assert rows[1]["share_of_fp16_product"] == pytest.approx(operations / 1e-3 / 1e14, rel=0.01)


def test_every_candidate_has_a_tolerance(benchmark: types.ModuleType) -> None:
    from gaitedge.export.agreement import TOLERANCES

    for name in (*benchmark.TORCH, *benchmark.KERNELS):
        assert name.rpartition(", ")[2].lower() in TOLERANCES


def test_without_a_gpu_it_is_one_line(tmp_path: Path) -> None:
    if driver().devices:
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        [sys.executable, str(FOLDER / "kernels.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "error: this benchmark needs an NVIDIA GPU" in done.stderr
