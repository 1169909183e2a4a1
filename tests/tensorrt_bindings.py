"""Type stubs of TensorRT, made from NVIDIA's real Python bindings, on a machine without TensorRT.

The bindings alone are small wheels. They import over stand-ins for the libraries that they link, since
an import calls nothing; stubgen then reads every class, method, signature and enumeration off them.
"""

from __future__ import annotations

import ast
import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

BINDINGS = {
    "8.6.1": "tensorrt-bindings",  # JetPack 6.0 has 8.6.2
    "10.3.0": "tensorrt-cu12-bindings",  # JetPack 6.1 to 6.2
    "10.16.1.11": "tensorrt-cu13-bindings",  # JetPack 7.2
    "11.4.0.106": "tensorrt-cu13-bindings",
}

# What pybind11's docstrings name and no module defines.
_ALIASES = "from typing_extensions import Buffer as buffer\ncapsule = object\n"
_STUBGEN = "import sys; from mypy.stubgen import main; main(sys.argv[1:])"


class Unavailable(Exception):
    """Why there are no stubs on this machine."""


@dataclass(frozen=True)
class Stubs:
    """The stubs of one version; `folder` is for MYPYPATH."""

    version: str
    folder: Path
    tree: ast.Module
    mended: tuple[str, ...]
    """Functions whose signature is no Python, as pybind11 documents it; any arguments pass."""

    def run(self, code: str) -> str:
        """What code prints that finds the real bindings as `tensorrt_bindings`."""
        return _run([sys.executable, "-c", code], _environment(self.folder.parent))

    def members(self, name: str) -> dict[str, ast.stmt]:
        """What the stub says of each attribute of a class, as in "ILogger.Severity", or of the module."""
        body: list[ast.stmt] = self.tree.body
        for part in filter(None, name.split(".")):
            body = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == part).body
        found: dict[str, ast.stmt] = {}
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                found[ast.unparse(target)] = node
        return found

    def vague(self) -> set[str]:
        """Methods of which the stub knows no signature, as "Class.method"."""
        found = set()
        for cls in (node for node in self.tree.body if isinstance(node, ast.ClassDef)):
            for node in cls.body:
                if isinstance(node, ast.FunctionDef) and node.args.vararg and node.args.kwarg:
                    found.add(f"{cls.name}.{node.name}")
        return found


def make_stubs(version: str, folder: Path) -> Stubs:
    """Fetch the bindings of a version and write their stubs. Raises Unavailable where that cannot be."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable("the bindings are read on Linux on x86-64")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which("nm") is None or shutil.which("readelf") is None:
        raise Unavailable("needs a C compiler and binutils")
    wheel = _download(f"{BINDINGS[version]}=={version}", folder)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    binding = folder / "tensorrt_bindings" / "tensorrt.so"
    assert "__version__ =" in (binding.parent / "__init__.py").read_text()
    _write_stand_ins(binding, compiler)
    raw = folder / "raw"
    command = ["--inspect-mode", "-m", "tensorrt_bindings.tensorrt", "-o", str(raw)]
    _run([sys.executable, "-c", _STUBGEN, *command], _environment(folder))
    text, mended = _mend((raw / "tensorrt_bindings" / "tensorrt.pyi").read_text())
    # The package's own __init__ takes everything from the binding, and adds the version.
    (folder / "stubs" / "tensorrt").mkdir(parents=True)
    # TensorRT's own `bool`, a data type, would be taken for Python's in every signature; we do not use it.
    text, count = re.subn(r"^bool: DataType\n", "", text, flags=re.MULTILINE)
    assert count == 1
    text = f"{text}\n{_ALIASES}__version__: str\n"
    (folder / "stubs" / "tensorrt" / "__init__.pyi").write_text(text)
    return Stubs(version, folder / "stubs", ast.parse(text), mended)


def _environment(folder: Path) -> dict[str, str]:
    """In which the bindings of a folder import, over their stand-ins."""
    return {**os.environ, "PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(folder / "tensorrt_bindings")}


def _download(requirement: str, folder: Path) -> Path:
    """The wheel for this Python from the package index."""
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--retries=1",
        "--timeout=30",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", folder, requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["pip does not run"])[-1]
        raise Unavailable(f"{requirement} cannot be fetched: {last}")
    return next(folder.glob("*.whl"))


def _write_stand_ins(binding: Path, compiler: str) -> None:
    """Libraries beside the binding for all of NVIDIA's that it links, with every function that it wants of
    them; none of these is ever called."""
    present = ctypes.CDLL(None)  # Python itself and the C library
    rows = [line.split() for line in _run(["nm", "-D", "--undefined-only", str(binding)]).splitlines()]
    # What carries a version is GNU's own.
    wanted = [name for kind, name in rows if kind == "U" and "@" not in name and not hasattr(present, name)]
    source = binding.with_name("stand_in.c")
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in wanted))
    for library in re.findall(r"\[(libnv[^\]]+)\]", _run(["readelf", "-d", str(binding)])):
        shape = ["-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(binding.with_name(library))]
        _run([compiler, *shape, str(source)])


def _mend(text: str) -> tuple[str, tuple[str, ...]]:
    """Let signatures that are no Python, an optional argument before a required one, take anything."""
    lines, mended = text.splitlines(), []
    while (number := _first_error("\n".join(lines))) is not None:
        found = re.fullmatch(r"( *)def (\w+)\(.*\) -> (.*)", lines[number - 1])
        assert found is not None, lines[number - 1]
        indent, name, rest = found.groups()
        lines[number - 1] = f"{indent}def {name}(self, *args: Any, **kwargs: Any) -> {rest}"
        mended.append(name)
    return "\n".join(lines), tuple(mended)


def _first_error(text: str) -> int | None:
    try:
        ast.parse(text)
    except SyntaxError as error:
        return error.lineno
    return None


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
