"""The kernels on a GPU against PyTorch; and that these checks are right, by the host build on a CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from host_build import Host
from kernels_cases import CASES, SMALL, Case
from kernels_reference import Place, compare

from gaitedge.cuda import Library
from gaitedge.errors import MachineError

TESTS = Path(__file__).resolve().parents[1]


def names(cases: list[Case]) -> list[str]:
    return [case.name for case in cases]


# On a CPU --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SMALL, ids=names(SMALL))
def test_the_same_checks_pass_on_the_host_build(host: Host, case: Case) -> None:
    case.check(Place(host, "cpu", "cpu"))


def test_every_kernel_is_checked() -> None:
    from gaitedge.cuda import _FUNCTIONS

    kernels = {function.removeprefix("gaitedge_") for function in _FUNCTIONS.values()}
    for cases in (CASES, SMALL):
        assert {case.name.split()[0] for case in cases} - {"two_launches"} == kernels
    assert len(set(names(CASES))) == len(CASES)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x: x + 0.01, "largest error"),
        (lambda x: torch.where(x == x[0, 0], x + 0.01, x), "largest error"),
        (lambda x: torch.where(x == x[0, 0], torch.nan, x), "NaN or infinite"),
    ],
)
def test_a_wrong_result_shows(damage: Callable[[torch.Tensor], torch.Tensor], message: str) -> None:
    exact = torch.randn(8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = exact.half()
    compare(exact.half(), exact, plain)
    with pytest.raises(AssertionError, match=message):
        compare(damage(exact.half()), exact, plain)


# On a GPU --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library() -> Path:
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU here")
    from gaitedge.machine.kernels import find_library

    try:
        return find_library()
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def gpu(library: Path) -> Place:
    return Place(Library(library), "cuda", "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_agrees_with_pytorch(gpu: Place, case: Case) -> None:
    case.check(gpu)


@pytest.mark.gpu
def test_launches_can_be_captured(gpu: Place) -> None:
    """A graph of a launch gives, replayed over other inputs, what a launch does."""
    from gaitedge.cuda import CHANNELS_LAST, FLOAT16, PartPool

    x = torch.randn(4, 16, 11, 128, device="cuda", dtype=torch.float16)
    y, again = (torch.empty(4, 16, 128, device="cuda", dtype=torch.float16) for _ in range(2))
    sizes = (FLOAT16, CHANNELS_LAST, 4, 128, 16, 11, 16)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        stream = torch.cuda.current_stream().cuda_stream
        gpu.library.launch(PartPool(x.data_ptr(), y.data_ptr(), *sizes), stream)
    x.copy_(torch.randn_like(x))
    graph.replay()
    gpu.launch(PartPool(x.data_ptr(), again.data_ptr(), *sizes))
    assert torch.equal(y, again)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_compute_sanitizer_finds_nothing(library: Path, tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if sanitizer is None:
        pytest.skip("there is no compute-sanitizer here; it comes with the CUDA toolkit")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    done = subprocess.run(
        [
            sanitizer,
            "--tool",
            tool,
            "--error-exitcode",
            "9",
            sys.executable,
            "kernels_cases.py",
            str(library),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=TESTS,
        env=environment,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr[-2000:]}"
    assert f"{len(SMALL)} cases" in done.stdout
