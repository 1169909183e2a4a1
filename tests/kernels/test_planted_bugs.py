"""Bugs planted in copies of the real kernels: the host build and the checks of every day see them."""

from __future__ import annotations

import ctypes
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


def plant(host: Host, folder: Path, library: str, texts: dict[str, str]) -> Host:
    """One kernel's library, with other texts for some of its headers."""
    copy = folder / "include"
    shutil.copytree(KERNELS / "include", copy)
    for header, text in texts.items():
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
    assert is_seen(plant(host, tmp_path, library, {header: text.replace(right, wrong)}), library)


UNSEEN = {
    ("part_distance.h", 1),  # before the ticket: it keeps blocks apart, and here they run one after the other
    ("micro_motion.h", 0),  # before the first tile, whose load has a barrier of its own
}
SWITCH = """
extern "C" {
__attribute__((visibility("default"))) int gaitedge_missing = -1;
}
"""


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_barrier_is_seen(host: Host, library: str, tmp_path: Path) -> None:
    """Each of a kernel's barriers has a number; the library that is built runs without one that is chosen."""
    numbered: list[tuple[str, int]] = []
    texts: dict[str, str] = {}
    for path in sorted(INCLUDE.glob(f"{library}*.h")):
        first, *rest = path.read_text().split(BARRIER)
        for number, part in enumerate(rest):
            first += f"if (gaitedge_missing != {len(numbered)}) {BARRIER}{part}"
            numbered.append((path.name, number))
        texts[path.name] = first
    texts["platform.h"] = (INCLUDE / "platform.h").read_text() + SWITCH
    planted = plant(host, tmp_path, library, texts)
    missing = ctypes.c_int.in_dll(ctypes.CDLL(str(planted.path)), "gaitedge_missing")
    assert numbered
    assert not is_seen(planted, library)  # with all of them
    unseen = []
    for missing.value, barrier in enumerate(numbered):
        if barrier not in UNSEEN and not is_seen(planted, library):
            unseen.append(barrier)
    assert unseen == [], "are they needed? If they are, kernels_cases.py lacks a case"
