"""Reports as nvcc 13.0 and the ptxas of 12.2 wrote them, of kernels that spill on purpose."""

from __future__ import annotations

import shutil

import pytest

from gaitedge.machine.ptxas import Kernel, parse, problems, readable

SPILLS = "_ZN8gaitedge5trial6spillsINS0_4WideELi80ELb1ELNS0_4ModeE1EEEvNS0_4ArgsE"
INDEXED = "_ZN8gaitedge5trial7indexedIfEEvNS0_4ArgsE"
LAST = "_ZN8gaitedge9part_pool13channels_lastI6__halfLi8EEEvNS_8PartPoolE"

STACK, SHARED = "192 bytes cumulative stack size", "1024 bytes smem"

NVCC_13 = f"""\
[3/9] Building CUDA object CMakeFiles/gaitedge_objects.dir/library/trial.cu.o
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{INDEXED}' for 'sm_75'
ptxas info    : Function properties for {INDEXED}
    128 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 38 registers, used 0 barriers, 128 bytes cumulative stack size, 376 bytes cmem[0]
ptxas info    : Compile time = 5.424 ms
ptxas info    : Compiling entry function '{SPILLS}' for 'sm_75'
ptxas info    : Function properties for {SPILLS}
    192 bytes stack frame, 364 bytes spill stores, 388 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, {STACK}, {SHARED}, 376 bytes cmem[0]
ptxas info    : Compile time = 15.980 ms
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{SPILLS}' for 'sm_90'
ptxas info    : Function properties for {SPILLS}
    208 bytes stack frame, 344 bytes spill stores, 348 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 208 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compile time = 21.493 ms
ptxas info    : Compiling entry function 'plain' for 'sm_90'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
ptxas info    : Compile time = 1.050 ms
"""

PTXAS_12 = f"""\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{INDEXED}' for 'sm_87'
ptxas info    : Function properties for {INDEXED}
    128 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 37 registers, 376 bytes cmem[0]
ptxas info    : Compiling entry function '{SPILLS}' for 'sm_87'
ptxas info    : Function properties for {SPILLS}
    192 bytes stack frame, 364 bytes spill stores, 388 bytes spill loads
ptxas info    : Used 64 registers, 1024 bytes smem, 376 bytes cmem[0]
ptxas info    : Compiling entry function 'plain' for 'sm_87'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, 360 bytes cmem[0]
"""


def test_nvcc_13() -> None:
    spills, mode = "trial::spills<Wide, 80, true, (Mode)1>", {SPILLS, INDEXED, "plain"}
    if shutil.which("c++filt") is None:
        spills = readable(mode)[SPILLS]
    assert parse(NVCC_13) == (
        Kernel("plain", 90, 8, 0, 0, 0, 0),
        Kernel("trial::indexed<float>", 75, 38, 0, 128, 0, 0),
        Kernel(spills, 75, 64, 1024, 192, 364, 388),
        Kernel(spills, 90, 64, 1024, 208, 344, 348),
    )


def test_ptxas_12() -> None:
    found = [(row.architecture, row.registers, row.shared, row.stack) for row in parse(PTXAS_12)]
    assert found == [(87, 8, 0, 0), (87, 37, 0, 128), (87, 64, 1024, 192)]


def test_problems_are_what_uses_local_memory() -> None:
    assert [row.architecture for row in problems(parse(NVCC_13))] == [75, 75, 90]
    clean = Kernel("a", 75, 8, 49152, 0, 0, 0)
    for one in (
        Kernel("a", 75, 8, 0, 8, 0, 0),
        Kernel("a", 75, 8, 0, 0, 4, 0),
        Kernel("a", 75, 8, 0, 0, 0, 4),
    ):
        assert problems([clean, one]) == (one,)


def test_a_function_that_was_not_inlined_counts_with_its_kernel() -> None:
    report = NVCC_13.partition("ptxas info    : Compiling entry function 'plain'")[0] + (
        "ptxas info    : Compiling entry function 'plain' for 'sm_90a'\n"
        "ptxas info    : Function properties for plain\n"
        "    16 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Function properties for _Z6helperPf\n"
        "    32 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads\n"
        "ptxas info    : Used 8 registers, used 0 barriers\n"
    )
    assert parse(report)[0] == Kernel("plain", 90, 8, 0, 48, 4, 8)


def test_nothing_in_a_report_of_nothing() -> None:
    assert parse("") == ()
    assert parse("ptxas info    : 0 bytes gmem\n[1/1] Linking CUDA shared library\n") == ()


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        (LAST, "part_pool::channels_last<half, 8>"),
        (LAST.replace("6__halfLi8E", "fLin1E"), "part_pool::channels_last<float, -1>"),
        (LAST.replace("6__halfLi8E", "ahLb0ELb1E"), "part_pool::channels_last<int8, uint8, false, true>"),
        (LAST.replace("6__halfLi8E", "NS0_5ChunkI6__halfEE"), "part_pool::channels_last<Chunk<half>>"),
        ("_ZN8gaitedge9part_pool5plainENS_8PartPoolE", "part_pool::plain"),
        ("plain", "plain"),
    ],
)
@pytest.mark.parametrize("demanglers", [("c++filt",), ()])
def test_names(symbol: str, name: str, demanglers: tuple[str, ...]) -> None:
    """With the system's demangler, and without one."""
    if demanglers and shutil.which(demanglers[0]) is None:
        pytest.skip("there is no c++filt here")
    assert readable({symbol}, demanglers) == {symbol: name}


def test_a_name_that_only_a_demangler_reads_stays_as_it_is() -> None:
    assert readable({SPILLS}, ()) == {SPILLS: SPILLS}


def test_a_demangler_that_fails_is_not_believed() -> None:
    assert readable({LAST}, ("false",)) == {LAST: "part_pool::channels_last<half, 8>"}
