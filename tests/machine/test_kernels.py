from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gaitedge.errors import MachineError
from gaitedge.machine import kernels
from gaitedge.machine.kernels import examine, find_all, find_library, find_plugins, fingerprint, sources

LIBRARY, PLUGINS = "libgaitedge_kernels.so", "libgaitedge_plugins_trt10.so"


def library(path: Path, made_of: str | None = None, targets: str = "sm_87,compute_87,nvcc_12.6.68") -> Path:
    """A file that says of itself what a library says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f"gaitedge-build sources={made_of or fingerprint()} targets={targets}"
    path.write_bytes(b"\x7fELF\x00" + bytes(range(256)) + mark.encode() + b"\0gaitedge-build\0")
    return path


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, which GaitEdge then takes for its own."""
    folder = tmp_path / "sources"
    shutil.copytree(sources(), folder)
    monkeypatch.setattr(kernels, "sources", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GAITEDGE_KERNELS", raising=False)
    return tmp_path / "cache" / "gaitedge" / "kernels"


def test_the_sources_are_the_checkouts_and_no_python_package() -> None:
    folder = sources()
    assert folder == Path(__file__).resolve().parents[2] / "kernels"
    assert {"CMakeLists.txt", "include", "library", "host"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.rglob("*.py"))


def test_the_fingerprint_is_that_of_sha256sum(copy: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum here")
    kinds = "-name '*.h' -o -name '*.cu' -o -name '*.cpp' -o -name CMakeLists.txt"
    command = f"find * -type f \\( {kinds} \\) | LC_ALL=C sort | xargs sha256sum"
    listed = subprocess.run(["sh", "-c", command], cwd=copy, capture_output=True, check=True).stdout
    assert listed.count(b"\n") > 8
    assert fingerprint() == hashlib.sha256(listed).hexdigest()


def test_cmake_computes_the_same_fingerprint(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("there is no cmake with a compiler here")
    build = tmp_path / "build"
    command = ["cmake", "-S", sources(), "-B", build, "-DGAITEDGE_CUDA=OFF"]
    subprocess.run(command, capture_output=True, check=True)
    files = [path for path in build.rglob("*") if path.name in ("flags.make", "build.ninja", "build.make")]
    said = {
        name for path in files for name in re.findall(r"GAITEDGE_SOURCES=\W*([0-9a-f]{64})", path.read_text())
    }
    assert said == {fingerprint()}


@pytest.mark.parametrize(
    "name", ["CMakeLists.txt", "library/library.cu", "include/gaitedge/arguments.h", "host/host.cpp"]
)
def test_every_source_counts(copy: Path, name: str) -> None:
    before = fingerprint()
    assert before == fingerprint()
    with (copy / name).open("a") as file:
        file.write("\n")
    changed = fingerprint()
    assert changed != before
    (copy / "include" / "gaitedge" / "more.h").touch()
    assert fingerprint() not in (before, changed)


def test_a_name_counts_and_what_is_no_source_does_not(copy: Path) -> None:
    before = fingerprint()
    for name in ("README.md", "build/CMakeFiles/id.cpp", "library/notes.txt"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    assert fingerprint() == before
    (copy / "library" / "part_pool.cu").rename(copy / "library" / "pool.cu")
    assert fingerprint() != before


def test_a_library_says_what_it_is(tmp_path: Path) -> None:
    path = library(tmp_path / LIBRARY)
    assert examine(path) == kernels.Built(path, fingerprint(), ("sm_87", "compute_87", "nvcc_12.6.68"), True)
    other = examine(library(tmp_path / "other.so", 64 * "0", "host"))
    assert other == kernels.Built(tmp_path / "other.so", 64 * "0", ("host",), False)
    (tmp_path / "libc.so").write_bytes(b"\x7fELF gaitedge-build sources=a targets=b\0")
    assert examine(tmp_path / "libc.so") is None


def test_libraries_in_the_cache(cache: Path) -> None:
    folder = cache / fingerprint()[:16]
    kernels_path, plugins_path = library(folder / LIBRARY), library(folder / PLUGINS)
    assert (find_library(), find_plugins(10)) == (kernels_path, plugins_path)
    old = library(cache / "0123456789abcdef" / LIBRARY, 64 * "1")
    assert {built.path: built.current for built in find_all()} == {
        kernels_path: True,
        plugins_path: True,
        old: False,
    }


def test_libraries_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = library(tmp_path / "box" / LIBRARY), library(tmp_path / "box" / PLUGINS)
    named = library(tmp_path / "box" / "mine.so")
    monkeypatch.setenv("GAITEDGE_KERNELS", str(tmp_path / "box"))
    assert (find_library(), find_plugins(10)) == (one, other)
    assert [built.path for built in find_all()] == [one, other]
    monkeypatch.setenv("GAITEDGE_KERNELS", str(named))
    assert (find_library(), find_plugins(10)) == (named, other)
    assert [built.path for built in find_all()] == [named]


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match=rf"no {LIBRARY} here.*run: gaitedge plugins build$"):
        find_library()
    with pytest.raises(MachineError, match=r"TensorRT 8; run: .* build --tensorrt-include FOLDER$"):
        find_plugins(8)
    monkeypatch.setenv("GAITEDGE_KERNELS", str(tmp_path / "box"))
    with pytest.raises(
        MachineError, match=rf"GAITEDGE_KERNELS is .*box, .*run: gaitedge plugins build --out {tmp_path}/box$"
    ):
        find_library()
    assert find_all() == []


def test_what_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = library(tmp_path / LIBRARY, 64 * "a")
    monkeypatch.setenv("GAITEDGE_KERNELS", str(tmp_path))
    with pytest.raises(MachineError, match=r"built from other sources \(aaaaaaaaaaaa\) than this GaitEdge's"):
        find_library()
    path.write_bytes(b"no library")
    with pytest.raises(
        MachineError, match=r"is no library of GaitEdge's kernels, or a part of one; run: gaitedge"
    ):
        find_library()
    monkeypatch.setenv("GAITEDGE_KERNELS", str(path))
    with pytest.raises(MachineError, match="is no library of GaitEdge's kernels"):
        find_library()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_a_library_that_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To load one would end Python with SIGBUS."""
    source, path = tmp_path / "mark.cpp", tmp_path / LIBRARY
    mark = f"gaitedge-build sources={fingerprint()} targets=sm_87"
    source.write_text(f'extern "C" const char mark[] = "{mark}";\nextern "C" char room[100000] = {{1}};\n')
    subprocess.run(["g++", "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
    monkeypatch.setenv("GAITEDGE_KERNELS", str(tmp_path))
    assert find_library() == path
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) - 50_000):
        path.write_bytes(whole[:length])
        assert mark.encode() in path.read_bytes()
        with pytest.raises(MachineError, match="is no library of GaitEdge's kernels, or a part of one"):
            find_library()
        assert find_all() == []


def test_an_empty_variable_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAITEDGE_KERNELS", "")
    path = library(cache / fingerprint()[:16] / LIBRARY)
    assert find_library() == path


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "user_cache", lambda _: None)
    with pytest.raises(MachineError, match="name one for the libraries in GAITEDGE_KERNELS"):
        find_library()
    assert find_all() == []
