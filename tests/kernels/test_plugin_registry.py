"""A real TensorRT loads the library of plugins: its registry needs no GPU, the lean runtime has one.

GAITEDGE_TENSORRT_RUNTIME names files as in libnvinfer_lean.so.10, of pip's tensorrt-lean-cu12-libs; they are
tried with the headers of their major version that GAITEDGE_TENSORRT_INCLUDE names.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from host_build import COMPILER, Host, run
from plugin_drivers import ATTRIBUTES, DRIVERS, build_plugins, cuda_include, header_folders, version

RUNTIMES = [Path(name) for name in os.environ.get("GAITEDGE_TENSORRT_RUNTIME", "").split(os.pathsep) if name]


def pairs() -> list[tuple[Path, Path]]:
    """Runtimes, each with the headers of its major version."""
    return [
        (runtime, headers)
        for runtime in RUNTIMES
        for headers in header_folders()
        if runtime.name.partition(".so.")[2].partition(".")[0] == version(headers).partition(".")[0]
    ]


def test_there_is_a_runtime() -> None:
    """Says, where there is no TensorRT, that none was asked to load the plugins."""
    if not pairs():
        pytest.skip(
            "GAITEDGE_TENSORRT_RUNTIME names no TensorRT whose headers GAITEDGE_TENSORRT_INCLUDE names"
        )
    assert all(runtime.is_file() for runtime, _ in pairs())


@pytest.mark.parametrize(("runtime", "headers"), pairs())
def test_the_registry_loads_the_plugins(runtime: Path, headers: Path, host: Host, tmp_path: Path) -> None:
    """Under their own namespace, once, and no longer after they are given back."""
    name = f"plugins-{version(headers)}"
    library, _ = build_plugins(host.path.parent / name, host.path, headers)
    include = ["-isystem", str(headers), "-isystem", str(cuda_include())]
    program = tmp_path / "registry"
    source = DRIVERS / "registry.cpp"
    run([*COMPILER, *include, str(source), "-ldl", "-o", str(program)])
    said = subprocess.run(
        [program, runtime, library], capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()
    found = [f"gaitedge {plugin} 1" for plugin in ATTRIBUTES]
    assert said == ["loaded", "4 more", *found, "not loaded again", "0 more"]
