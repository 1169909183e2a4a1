"""Bugs planted in copies of the real kernels: the host build and the checks of every day see them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from host_build import COMPILER, KERNELS, ORDERS, Host, run
from kernels_cases import SMALL
from kernels_reference import Place

from gaitedge.errors import MachineError

INCLUDE = KERNELS / "include" / "gaitedge"
LIBRARIES = sorted(path.stem for path in (KERNELS / "library").glob("*.cu") if path.stem != "library")
BARRIER = "__syncthreads();"

EARLY = ("? strip : height % strips)", "? strip : height % strips - (height % strips > 0))")
BUGS = {
    "a strip of an FConv begins a row too early": ("focal_conv", "platform.h", *EARLY),
    "HP reads a map before it is there": (
        "part_pool",
        "part_pool.h",
        f"""  }}
  {BARRIER}
  for (int i = threadIdx.x; i < channels * a.parts""",
        """  }
  for (int i = threadIdx.x; i < channels * a.parts""",
    ),
    "a part begins a row too early": ("part_pool", "platform.h", *EARLY),
    "keys are taken in before they are there": (
        "part_distance",
        "part_distance.h",
        f"    {BARRIER}\n    if (has_probe) take_in",
        "    if (has_probe) take_in",
    ),
    "a row of features is read past its end": (
        "part_distance",
        "part_distance.h",
        "first < a.dim; first",
        "first <= a.dim; first",
    ),
    "the tickets stay": ("part_distance", "part_distance.h", "*ticket = 0;", "*ticket = 1;"),
}


def plant(host: Host, folder: Path, library: str, header: str, text: str) -> Host:
    """One kernel's library, with `text` for one of its headers."""
    copy = folder / "include"
    if not copy.exists():
        shutil.copytree(KERNELS / "include", copy)
    shutil.copy(INCLUDE / header, copy / "gaitedge")
    (copy / "gaitedge" / header).write_text(text)
    made = folder / f"{library}.so"
    machine = [str(host.path.with_name(name)) for name in ("host.o", "library.o")]
    source = ["-x", "c++", str(KERNELS / "library" / f"{library}.cu"), "-x", "none"]
    include = [f"-I{copy}", f"-I{KERNELS / 'host'}"]
    run([*COMPILER, "-O1", *include, "-shared", *source, *machine, "-o", str(made)])
    return Host(made)


def is_seen(planted: Host, library: str) -> bool:
    cases = [case for case in SMALL if case.name.split()[0].startswith(library)]
    assert cases
    for case in cases:
        for order in ORDERS:
            with planted.order(order):
                try:
                    case.check(Place(planted, "cpu", "cpu"))
                except (AssertionError, MachineError):
                    return True
    return False


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_seen(host: Host, name: str, tmp_path: Path) -> None:
    library, header, right, wrong = BUGS[name]
    text = (INCLUDE / header).read_text()
    assert text.count(right) == 1, f"{header} has changed: plant this bug anew"
    assert is_seen(plant(host, tmp_path, library, header, text.replace(right, wrong)), library)


QUICK = {("focal_conv_tensor.h", 0), ("frame_network.h", 1), ("micro_motion_tensor.h", 0)}
"""Barriers that are tried every day, by header and number; the others in the slow tests."""
UNSEEN = {
    ("part_distance.h", 1),  # before the ticket: it keeps blocks apart, and here they run one after the other
    ("micro_motion.h", 0),  # before the first tile, whose load has a barrier of its own
}


def barriers() -> list[object]:
    """Every barrier of every kernel: its library, its header, which one of that header."""
    found: list[object] = []
    for path in sorted(INCLUDE.glob("*.h")):
        for library in LIBRARIES:
            for number in range(path.read_text().count(BARRIER) if path.stem.startswith(library) else 0):
                if (path.name, number) not in UNSEEN:
                    marks = () if (path.name, number) in QUICK else pytest.mark.slow
                    found.append(pytest.param(library, path.name, number, marks=marks))
    return found


@pytest.mark.parametrize(("library", "header", "number"), barriers())
def test_a_missing_barrier_is_seen(
    host: Host, library: str, header: str, number: int, tmp_path: Path
) -> None:
    text = (INCLUDE / header).read_text()
    where = [match.start() for match in re.finditer(re.escape(BARRIER), text)][number]
    planted = plant(host, tmp_path, library, header, text[:where] + text[where + len(BARRIER) :])
    assert is_seen(planted, library), "is it needed? If it is, kernels_cases.py lacks a case"
