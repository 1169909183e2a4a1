"""Builds the CUDA kernels and the TensorRT plugins for the GPUs at hand, with nvcc through CMake."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from gaitedge.errors import InputError, MachineError
from gaitedge.files import atomic_write, naming, sync_folder, unfinished, user_cache
from gaitedge.machine import kernels, ptxas
from gaitedge.machine.cpu import usable_cores
from gaitedge.machine.cuda_driver import CudaDriver, probe_driver
from gaitedge.machine.toolkit import (
    Toolkit,
    choose_architectures,
    find_cmake,
    find_headers,
    find_toolkit,
    listed,
    require_plain,
)
from gaitedge.machine.workers import undisturbed

__all__ = ["BuildReport", "build"]

Progress = Callable[[int, int, str], None]

# What ninja and make say of a step, and of what it makes.
_STEP = re.compile(r"^\[\s*(\d+)(?:/(\d+)|%)\] (.*)")
_MADE = re.compile(r"([\w.]+?)(?:\.o)?$")
# A compiler's complaint; not the line of a tool above it, which only counts or passes on.
_ERROR = re.compile(r"\b(?:error|fatal)\b[^:]{0,20}:|^CMake Error|undefined reference|Killed")
_ECHO = re.compile(r"^(?:g?make\b|ninja:|collect2:|FAILED:|--)")


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What was built, and what ptxas said of it."""

    libraries: tuple[kernels.Built, ...]
    toolkit: Toolkit
    architectures: tuple[int, ...]
    tensorrt: dict[int, Path]
    """The headers that plugins were built against, by major version."""
    kernels: tuple[ptxas.Kernel, ...]
    problems: tuple[ptxas.Kernel, ...]
    """Those of the kernels that use local memory."""
    seconds: float


def build(
    out: Path | None = None,
    architectures: Sequence[int] | Literal["all"] | None = None,
    tensorrt_include: Sequence[Path] = (),
    nvcc: Path | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Compile the kernels, and the plugins for every TensorRT whose headers are there.

    out: a folder; the user's cache by default, where GaitEdge looks for them. architectures: compute
    capabilities such as 87; those of this machine's GPUs by default, all where it has none.
    tensorrt_include: folders of NvInferVersion.h, one a major version; where they usually lie by default.
    nvcc: the compiler; by default the one on PATH, below CUDA_HOME or in /usr/local/cuda.
    progress: called with how much is done, of how much, and what.

    A library is replaced as a whole or not at all, and nothing else is left behind but the compilers' log
    in the cache. Raises InputError for an architecture or a folder that cannot be used, MachineError where
    a tool is missing or too old, or where something does not compile.
    """
    begun = time.monotonic()
    require_plain(kernels.sources(), "install GaitEdge in another folder")
    toolkit = find_toolkit(nvcc)
    driver = probe_driver() if architectures is None else CudaDriver("absent")
    wanted = choose_architectures(architectures, toolkit, driver)
    cmake, generator = find_cmake()
    headers = find_headers(tensorrt_include)
    if not any((kernels.sources() / "plugins").glob("*.c*")):
        headers = {}
    with _place(out) as folder, _scratch() as scratch:
        configure = [
            *(str(cmake), "-S", str(kernels.sources()), "-B", str(scratch / "build"), "-G", generator),
            f"-DCMAKE_CUDA_COMPILER={toolkit.nvcc}",
            f"-DGAITEDGE_ARCHITECTURES={';'.join(map(str, wanted))}",
            f"-DGAITEDGE_TENSORRT_INCLUDE={';'.join(map(str, headers.values()))}",
        ]
        compile_all = [str(cmake), "--build", str(scratch / "build"), "--parallel", str(usable_cores())]
        if generator == "Unix Makefiles":
            compile_all += ["--", "--output-sync=target"]  # or two compilers' reports would mix
        report = _run([configure, compile_all], scratch, folder, progress or (lambda *_: None))
        rows = ptxas.parse(report)
        unseen = set(wanted) - {row.architecture for row in rows}
        if unseen:
            raise MachineError(
                f"{toolkit.nvcc} does not say what it made for {listed(unseen)}; see {_log(folder)}"
            )
        libraries = _install(scratch / "build" / "lib", folder)
    seconds = time.monotonic() - begun
    return BuildReport(libraries, toolkit, wanted, headers, rows, ptxas.problems(rows), seconds)


@contextlib.contextmanager
def _place(out: Path | None) -> Iterator[Path]:
    """The folder for the libraries, found to be writable before anything is compiled; gone again where it
    was made here and nothing was put into it."""
    folder = kernels.cache() if out is None else Path(os.path.realpath(out))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{out} is no folder; name one for the libraries")
    if out is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
    elif not folder.parent.is_dir():
        raise InputError(f"there is no folder {folder.parent}, in which {folder.name} could be made")
    made = not folder.exists()
    try:
        with undisturbed():
            folder.mkdir(exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        yield folder
    finally:
        if made:
            with contextlib.suppress(OSError):  # libraries are in it, or it could not be made
                folder.rmdir()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder among the system's temporary ones; gone at the end, whatever happens.

    Not where the libraries go: nvcc and CMake work in no folder whose name has a blank or a quote.
    """
    place = Path(tempfile.gettempdir())
    require_plain(place, "set TMPDIR to another folder", also=" &()<>|*?[]{}!`")
    scratch = place / f"gaitedge-{secrets.token_hex(8)}"
    try:
        with undisturbed(), naming(place, scratch):
            scratch.mkdir(mode=0o700)
            (scratch / "tmp").mkdir()
        yield scratch
    finally:
        with undisturbed():
            for _ in range(100):  # a compiler that was ended a moment ago may still write
                shutil.rmtree(scratch, ignore_errors=True)
                if not scratch.exists():
                    break
                time.sleep(0.05)


def _log(folder: Path) -> Path:
    """Where the compilers' words of the last build are."""
    return (user_cache("kernels") or folder.parent) / "build.log"


def _run(commands: list[list[str]], scratch: Path, folder: Path, progress: Progress) -> str:
    """Run the steps of a build, and keep what they say. Raises MachineError where one fails."""
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "NINJA_STATUS": "[%f/%t] ",
        "TMPDIR": str(scratch / "tmp"),  # what nvcc leaves behind when it is interrupted goes too
    }
    lines: list[str] = []
    for command in commands:
        status = _follow(command, environment, lines, progress)
        if status != 0:
            break
    log, kept = _log(folder), "all that was said is in {}"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(log) as file:
            file.write("".join(lines).encode())
    except OSError as error:  # a log is no reason for a build to fail
        kept = f"what else was said could not be kept in {{}} ({error.strerror})"
    if status != 0:
        raise MachineError(f"the kernels do not compile: {_reason(lines)}; {kept.format(log)}")
    return "".join(lines)


def _follow(command: list[str], environment: dict[str, str], lines: list[str], progress: Progress) -> int:
    """Run a command to its end and collect its lines; its status. When we are interrupted it is ended
    first, with all that it started."""
    with undisturbed():
        process = subprocess.Popen(  # noqa: S603  (cmake, with arguments made here)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,  # Ctrl-C comes to us alone, and we end the whole group
        )
    assert process.stdout is not None  # noqa: S101  (for the type checker)
    try:
        for line in process.stdout:
            lines.append(line)
            if (step := _STEP.match(line)) is not None and step[1] != "0":
                made = _MADE.search(step[3])
                progress(int(step[1]), int(step[2] or 100), made[1] if made else step[3])
        return process.wait()
    except BaseException:
        with undisturbed():
            _end(process, process.stdout.fileno())
        raise
    finally:
        process.stdout.close()


def _end(process: subprocess.Popen[str], output: int) -> None:
    """End a process with all that it started. Ninja ends its compilers by itself, when it is asked to: they
    are in groups of their own. It is gone when nobody holds the other end of the pipe any more."""
    limit = time.monotonic() + 10
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    while time.monotonic() < limit:
        if select.select([output], [], [], 0.1)[0] and not os.read(output, 1 << 16):
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reason(lines: Sequence[str]) -> str:
    """The first complaint in what the compilers said: those after it mostly follow from it, but not a full
    disk, of which CMake speaks last."""
    if full := [line.strip() for line in lines if "No space left" in line]:
        return full[0]
    for number, line in enumerate(lines):
        if _ERROR.search(line) and not _ECHO.match(line):
            if line.startswith("CMake Error"):  # the message is in the next paragraph
                rest = re.split(r"\n\n+", "".join(lines[number + 1 :]).lstrip("\n"))
                said = rest[0] + (" ".join(rest[1:2]) if rest[0].rstrip().endswith(":") else "")
                return " ".join(said.split()) or line.strip()
            return line.strip()
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "nothing was said"


def _install(made: Path, folder: Path) -> tuple[kernels.Built, ...]:
    """Copy finished libraries to where they are looked for; only when all are there they take their names."""
    libraries = []
    for path in sorted(made.glob("libgaitedge_*.so")):
        built = kernels.examine(path)
        if built is None or not built.current:
            raise MachineError("the kernels' sources changed while they were compiled; build them again")
        libraries.append(dataclasses.replace(built, path=folder / path.name))
    with contextlib.ExitStack() as parts:
        ready = []
        for library in libraries:
            part = parts.enter_context(unfinished(library.path))
            parts.enter_context(naming(library.path, part))
            folder.mkdir(exist_ok=True)  # another build may have made it, failed and taken it away
            with (made / library.path.name).open("rb") as source, part.open("xb") as file:
                shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(file.fileno())
            ready.append((part, library.path))
        for part, path in ready:
            part.replace(path)
    sync_folder(folder)
    return tuple(libraries)
