"""Where the CUDA kernels are: their sources, and the libraries that were built from them on this machine.

A library says in itself what it was built from and for (`gaitedge_build` of kernels/library/library.cu).
That is read from the file, which is not loaded for it: it may be for another GPU, or need a TensorRT that is
not here.
"""

from __future__ import annotations

import os
import re
import shlex
import struct
from dataclasses import dataclass
from pathlib import Path

from gaitedge.errors import MachineError
from gaitedge.files import sha256, user_cache

__all__ = [
    "Built",
    "build_command",
    "cache",
    "examine",
    "find_all",
    "find_library",
    "find_plugins",
    "fingerprint",
    "sources",
]

VARIABLE = "GAITEDGE_KERNELS"
"""In the environment: the folder of the libraries, or the library of the kernels itself."""
LIBRARY = "libgaitedge_kernels.so"
PLUGINS = "libgaitedge_plugins_trt{}.so"

_MARK = re.compile(rb"gaitedge-build sources=([0-9a-f]{64}|unknown) targets=([\w.,]+)\0")


@dataclass(frozen=True)
class Built:
    """A library, as its file says."""

    path: Path
    sources: str
    """The fingerprint of what it was built from."""
    targets: tuple[str, ...]
    """sm_87: native code for compute capability 8.7; compute_90: PTX, for newer GPUs than those;
    nvcc_12.6.68: by what. "host" for a processor."""
    current: bool
    """Whether its sources are those of this GaitEdge."""


def sources() -> Path:
    """The folder of the kernels, with their CMakeLists.txt."""
    folder = (Path(__file__).parents[1] / "kernels").resolve()
    if not (folder / "CMakeLists.txt").is_file():
        raise MachineError(f"{folder} lacks the kernels' sources; install GaitEdge again")
    return folder


def fingerprint() -> str:
    """What the kernels are built from: the SHA-256 of what `sha256sum` prints for all sources by name.

    CMakeLists.txt computes the same, so that a library which was built by hand is known too.
    """
    folder = sources()
    found = {
        path
        for part in ("host", "include", "library", "plugins")
        for kind in ("*.h", "*.cu", "*.cpp", "CMakeLists.txt")
        for path in (folder / part).rglob(kind)
    }
    names = sorted(path.relative_to(folder).as_posix() for path in {*found, folder / "CMakeLists.txt"})
    sums = "".join(f"{sha256((folder / name).read_bytes())}  {name}\n" for name in names)
    return sha256(sums.encode())


def cache() -> Path:
    """Where `gaitedge plugins build` puts what it builds from these sources."""
    folder = user_cache("kernels")
    if folder is None:
        raise MachineError(f"this user has no home folder: name one for the libraries in {VARIABLE}")
    return folder / fingerprint()[:16]


def find_library() -> Path:
    """The built kernels, $GAITEDGE_KERNELS or in the user's cache.

    Raises MachineError, which names the command that builds them, where they are not there or were
    built from other sources.
    """
    return _find(LIBRARY, "the CUDA kernels are built on the machine that they run on", "")


def find_plugins(major: int) -> Path:
    """The built plugins for a major version of TensorRT, as find_library."""
    why = f"the plugins are built against the headers of TensorRT {major}"
    return _find(PLUGINS.format(major), why, " --tensorrt-include FOLDER")


def find_all() -> list[Built]:
    """Every library where find_library and find_plugins look, and what older builds left in the cache."""
    places = []
    if (given := _given()) is not None:
        place = Path(given)
        places += [place] if place.is_file() else sorted(place.glob("libgaitedge_*.so"))
    if (folder := user_cache("kernels")) is not None:
        places += sorted(folder.glob("*/libgaitedge_*.so"))
    found = (examine(path) for path in places if path.is_file())
    return [built for built in found if built is not None]


def examine(path: Path) -> Built | None:
    """What a library says of itself; None where the file is no library of GaitEdge's kernels, or cut off."""
    data = path.read_bytes()
    match = _MARK.search(data)
    if match is None or len(data) < _length(data):
        return None
    made_of = match[1].decode()
    return Built(path, made_of, tuple(match[2].decode().split(",")), made_of == fingerprint())


def _length(data: bytes) -> int:
    """What an ELF file of 64 bits says of its own length: the table of its sections is the last thing in it.

    To load one that is shorter ends the process with SIGBUS.
    """
    if len(data) < 64 or data[:6] != b"\x7fELF\x02\x01":
        return 0
    table, size, count = struct.unpack_from("<40xQ10x2H", data)
    return int(table + size * count)


def _given() -> str | None:
    """The variable; an empty one counts as none."""
    return os.environ.get(VARIABLE) or None


def build_command() -> str:
    """What builds the libraries to where they are looked for."""
    given = _given()
    if given is None:
        return "gaitedge plugins build"
    place = Path(given)
    return f"gaitedge plugins build --out {shlex.quote(str(place.parent if place.is_file() else place))}"


def _find(name: str, why: str, option: str) -> Path:
    given, command = _given(), f"{build_command()}{option}"
    if given is None:
        path = cache() / name
        missing = f"there is no {name} here: {why}; run: {command}"
    else:
        place = Path(given)
        folder = place.parent if place.is_file() else place
        path = place if place.is_file() and name == LIBRARY else folder / name
        missing = f"{VARIABLE} is {given}, and there is no {path}: {why}; run: {command}"
    if not path.is_file():
        raise MachineError(missing)
    built = examine(path)
    if built is None:
        raise MachineError(f"{path} is no library of GaitEdge's kernels, or a part of one; run: {command}")
    if not built.current:
        theirs, ours = built.sources[:12], fingerprint()[:12]
        raise MachineError(
            f"{path} was built from other sources ({theirs}) than this GaitEdge's ({ours}); run: {command}"
        )
    return path
