"""What building the CUDA kernels needs: nvcc, CMake, a C++ compiler, TensorRT's headers.

Each is found, or one line says what is missing and the command that brings it.
"""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaitedge.errors import InputError, MachineError
from gaitedge.files import printable
from gaitedge.machine.cuda_driver import CudaDriver
from gaitedge.machine.isolation import run_apart
from gaitedge.machine.jetson import find_jetson

__all__ = [
    "ARCHITECTURES",
    "Toolkit",
    "choose_architectures",
    "find_cmake",
    "find_headers",
    "find_toolkit",
    "listed",
    "require_plain",
]

ARCHITECTURES = (75, 80, 86, 87, 89, 90, 110, 120)
"""Compute capabilities that "all" stands for, as far as nvcc knows them: Turing to Blackwell, Orin, Thor."""
OLDEST_CAPABILITY = 75
OLDEST_CUDA = (11, 8)
TIMEOUT = 60.0
"""Seconds in which nvcc must say what it is."""

_HEADER = "NvInferVersion.h"


@dataclass(frozen=True)
class Toolkit:
    """An nvcc."""

    nvcc: Path
    version: str
    knows: tuple[int, ...]
    """The compute capabilities that it compiles for."""


def find_toolkit(nvcc: Path | None = None) -> Toolkit:
    """An nvcc: the given one, else on PATH, below CUDA_HOME, CUDA_PATH or CUDA_ROOT, in /usr/local/cuda."""
    path = _find_nvcc() if nvcc is None else nvcc.expanduser().absolute()
    if nvcc is not None and not path.is_file():
        missing = f"{nvcc} is no file" if path.exists() else f"there is no {nvcc}"
        raise InputError(f"{missing}: --nvcc is the compiler's own path, …/bin/nvcc")
    require_plain(path, "name another one with --nvcc")
    said = run_apart([str(path), "--version"], TIMEOUT)
    match = re.search(r"release (\d+)\.(\d+), V([\d.]+)", said.output)
    if match is None:
        raise MachineError(
            f"{path} {said.problem or 'does not say its version'}; install NVIDIA's CUDA toolkit again"
        )
    if (int(match[1]), int(match[2])) < OLDEST_CUDA:
        raise MachineError(
            f"{path} is CUDA {match[3]}, which is too old: the kernels need {_dotted(OLDEST_CUDA)} or newer, "
            "and 12.2 (JetPack 6.0) to 13.0 is what they are written for; name another one with --nvcc"
        )
    code = run_apart([str(path), "--list-gpu-code"], TIMEOUT)
    knows = tuple(sorted({int(number) for number in re.findall(r"\bsm_(\d+)\b", code.output)}))
    if not knows:
        raise MachineError(f"{path} --list-gpu-code {code.problem or 'names no GPU'}; install CUDA again")
    return Toolkit(path, match[3], knows)


def _find_nvcc() -> Path:
    folders = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT") if os.environ.get(name)]
    path = os.pathsep.join(
        [os.environ.get("PATH", os.defpath), *(f"{folder}/bin" for folder in folders), "/usr/local/cuda/bin"]
    )
    found = shutil.which("nvcc", path=path)
    if found is None:
        remedy = (
            "run: sudo apt install nvidia-jetpack"
            if find_jetson(Path("/"))
            else "install NVIDIA's CUDA toolkit"
        )
        raise MachineError(f"there is no nvcc, which compiles the CUDA kernels; {remedy}, or set CUDA_HOME")
    return Path(found)


def find_cmake() -> tuple[Path, str]:
    """CMake, and the generator that it can use here. Without a C++ compiler both are of no use."""
    cmake = shutil.which("cmake")
    if cmake is None:
        raise MachineError("there is no cmake; run: sudo apt install cmake, or: pip install cmake")
    compiler = os.environ.get("CXX", "").split()
    if compiler and not shutil.which(compiler[0]):
        raise MachineError(
            f"CXX is {compiler[0]}, and there is no such compiler: unset CXX, or set it to one"
        )
    if not any(map(shutil.which, [*compiler[:1], "c++", "g++"])):
        raise MachineError("there is no C++ compiler, which nvcc needs; run: sudo apt install g++")
    if shutil.which("ninja"):
        return Path(cmake), "Ninja"
    if shutil.which("make"):
        return Path(cmake), "Unix Makefiles"
    raise MachineError("there is neither ninja nor make; run: sudo apt install ninja-build")


def find_headers(folders: Sequence[Path] = ()) -> dict[int, Path]:
    """TensorRT's headers by its major version: in the given folders, else where they usually lie."""
    found: dict[int, Path] = {}
    for folder in folders:
        version = _version(folder)
        if version is None:
            raise InputError(f"{folder} has no {_HEADER}: it is not TensorRT's include folder")
        if not _served(version):
            said = f"are of TensorRT {_dotted(version)}" if version else "do not say of which TensorRT"
            raise InputError(f"the headers in {folder} {said}: the plugins need 8.6, 10 or 11")
        major = version[0]
        if major in found:
            raise InputError(f"{found[major]} and {folder} are both of TensorRT {major}: give one of them")
        found[major] = folder.absolute()
        require_plain(found[major], "give a copy or a link elsewhere")
    if folders:
        return found
    root, platform = os.environ.get("TENSORRT_ROOT"), sysconfig.get_config_var("MULTIARCH")
    usual = [f"{root}/include"] if root else []
    usual += [f"/usr/include/{platform}"] if platform else []
    for folder in map(Path, [*usual, "/usr/include", "/usr/src/tensorrt/include"]):
        if (version := _version(folder)) is not None and _served(version):
            found.setdefault(version[0], folder.absolute())
    for folder in found.values():
        require_plain(folder, "give a copy or a link elsewhere with --tensorrt-include")
    return found


def _version(folder: Path) -> tuple[int, ...] | None:
    """Major and minor, as the headers there say; () where they do not, None without headers."""
    try:
        text = (folder / _HEADER).read_text(errors="replace")
    except OSError:
        return None
    wanted = (
        rf"#define\s+(?:NV_TENSORRT_{part}|TRT_{part}_ENTERPRISE)\s+(\d+)" for part in ("MAJOR", "MINOR")
    )
    major, minor = (re.search(each, text) for each in wanted)
    return (int(major[1]), int(minor[1]) if minor else 0) if major else ()


def _served(version: tuple[int, ...]) -> bool:
    """As kernels/plugins/creators.cpp has it."""
    return version[:1] >= (10,) or (8, 6) <= version < (9,)


def require_plain(path: Path, remedy: str, also: str = "") -> None:
    r"""Raise MachineError where a path has what CMake, ninja or nvcc do not pass on: \ " ' $ , ; and others.

    also: more of these. remedy: what to do then.
    """
    odd = next((each for each in str(path) if each in "\\\"'$,;" + also or not each.isprintable()), None)
    if odd is not None:
        raise MachineError(f"nvcc and CMake cannot work in {printable(str(path))}, for its {odd!r}; {remedy}")


def choose_architectures(
    wanted: Sequence[int] | Literal["all"] | None, toolkit: Toolkit, driver: CudaDriver
) -> tuple[int, ...]:
    """The compute capabilities to compile for.

    wanted: these; "all": ARCHITECTURES; None: those of the driver's devices, all where it has none. A
    device that nvcc does not know yet gets the newest before it, whose PTX the driver compiles further.
    """
    every = tuple(number for number in ARCHITECTURES if number in toolkit.knows)
    if wanted == "all" or (wanted is None and not driver.devices):
        return every
    if wanted is None:
        here = {10 * major + minor for major, minor in (each.compute_capability for each in driver.devices)}
        fit = {number for number in here if number >= OLDEST_CAPABILITY}
        if not fit:
            raise MachineError(
                f"the GPU here has compute capability {listed(here)}: the kernels need {OLDEST_CAPABILITY} "
                "or newer"
            )
        return tuple(sorted({max(known for known in toolkit.knows if known <= number) for number in fit}))
    for number in wanted:
        if number < OLDEST_CAPABILITY:
            raise InputError(
                f"{number} is too old an architecture: the kernels need {OLDEST_CAPABILITY} or newer"
            )
        if number not in toolkit.knows:
            raise InputError(
                f"nvcc {toolkit.version} does not know architecture {number}; "
                f"it knows {listed(toolkit.knows)}"
            )
    if not wanted:
        raise InputError("name an architecture at least, such as 87, or all")
    return tuple(sorted(set(wanted)))


def listed(numbers: Sequence[int] | set[int]) -> str:
    """As in 75, 80, 86."""
    return ", ".join(map(str, sorted(numbers)))


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
