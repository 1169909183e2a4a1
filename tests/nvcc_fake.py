"""An nvcc and a cmake that only say what the real ones say, for tests of what drives them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN8gaitedge5plainI6__halfLi8EEEvNS_8PartPoolE' for 'sm_{0}'
ptxas info    : Function properties for _ZN8gaitedge5plainI6__halfLi8EEEvNS_8PartPoolE
    0 bytes stack frame, {1} bytes spill stores, {2} bytes spill loads
ptxas info    : Used 42 registers, used 0 barriers, 400 bytes cmem[0]
ptxas info    : Compile time = 22.985 ms
"""

# The cmake: configures nothing; builds a file that says of itself what a library says, and reports.
CMAKE = """\
import os, pathlib, subprocess, sys, time
sys.path[:0] = {path!r}
from gaitedge.machine import kernels
arguments = sys.argv[1:]
where = pathlib.Path(arguments[arguments.index("-B" if "-B" in arguments else "--build") + 1])
options = dict(item[2:].split("=", 1) for item in arguments if item.startswith("-D"))
kept = where / "options"
if "-B" in arguments:
    where.mkdir(parents=True)
    kept.write_text(repr(options))
    print({configured!r}, flush=True)
    sys.exit({configure_status})
options = eval(kept.read_text())
names = options["GAITEDGE_ARCHITECTURES"].split(";")
(pathlib.Path(os.environ["TMPDIR"]) / "tmpxft").write_text("left behind")
print("[1/2] Building CUDA object CMakeFiles/gaitedge_objects.dir/library/part_pool.cu.o", flush=True)
print({built!r}, flush=True)
if {hang}:
    # as ninja does: the compiler in a group of its own, which it ends when it is ended
    import signal
    compiler = subprocess.Popen(["sleep", "600"], start_new_session=True)
    def stop(*_):
        os.kill(compiler.pid, signal.SIGKILL); os._exit(2)
    signal.signal(signal.SIGTERM, stop)
    (pathlib.Path({mark!r})).write_text(str(compiler.pid))
    compiler.wait()
for name in names:
    print({report!r}.format(name, *{spills!r}), end="")
print("[2/2] Linking CUDA shared library lib/libgaitedge_kernels.so", flush=True)
if {build_status} == 0:
    (where / "lib").mkdir()
    targets = ",sm_".join(["", *names])[1:] + ",nvcc_13.0.88"
    mark = "gaitedge-build sources=%s targets=%s" % (kernels.fingerprint(), targets)
    for library in ["kernels"] + ["plugins_trt10"] * bool(options["GAITEDGE_TENSORRT_INCLUDE"]):
        (where / "lib" / ("libgaitedge_%s.so" % library)).write_bytes(b"\\x7fELF\\0" + mark.encode() + b"\\0")
sys.exit({build_status})
"""


def program(folder: Path, name: str, text: str) -> Path:
    """An executable; text: a shell's, unless it says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


def nvcc(folder: Path, version: str = "13.0.88", knows: Sequence[int] = (75, 86, 87, 90, 110)) -> Path:
    """An nvcc that says its version and what it knows, and compiles nothing."""
    release = version.rpartition(".")[0]
    codes = "\n".join(f"sm_{number}" for number in knows)
    return program(
        folder,
        "nvcc",
        f'case "$1" in\n--version) echo "Cuda compilation tools, release {release}, V{version}" ;;\n'
        f'--list-gpu-code) echo "{codes}" ;;\n*) exit 9 ;;\nesac\n',
    )


def cmake(
    folder: Path,
    *,
    spills: tuple[int, int] = (0, 0),
    configured: str = "-- Configuring done",
    built: str = "ptxas info    : 0 bytes gmem",
    configure_status: int = 0,
    build_status: int = 0,
    report: str = REPORT,
    hang: Path | None = None,
) -> Path:
    """A cmake; hang: a file that it writes when its compiler runs, which then takes ten minutes."""
    text = CMAKE.format(
        path=[entry for entry in sys.path if entry],
        configured=configured,
        built=built,
        configure_status=configure_status,
        build_status=build_status,
        report=report,
        spills=spills,
        hang=hang is not None,
        mark=str(hang),
    )
    return program(folder, "cmake", f"#!{sys.executable}\n{text}")


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, **options: object) -> None:
    """Both, with a compiler and ninja that are there, as all that PATH has besides the system's own."""
    nvcc(folder)
    cmake(folder, **options)  # type: ignore[arg-type]
    for name in ("c++", "ninja"):
        program(folder, name, "exit 9")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for name in (
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDA_ROOT",
        "CUDACXX",
        "CXX",
        "TENSORRT_ROOT",
        "GAITEDGE_KERNELS",
    ):
        monkeypatch.delenv(name, raising=False)
