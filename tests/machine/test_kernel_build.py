from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import nvcc_fake
import pytest
from commands import contents

from gaitedge.cuda import Library
from gaitedge.errors import InputError, MachineError
from gaitedge.machine import kernels
from gaitedge.machine.cuda_driver import CudaDevice, CudaDriver
from gaitedge.machine.kernel_build import build
from gaitedge.machine.kernels import find_library, fingerprint, sources

Tools = Callable[..., None]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Stand-ins for nvcc and cmake; no GPU."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # so that what is left there is seen
    monkeypatch.setattr("gaitedge.machine.kernel_build.probe_driver", lambda: CudaDriver("absent"))
    return lambda **options: nvcc_fake.install(monkeypatch, tmp_path / "bin", **options)


def log(tmp_path: Path) -> str:
    return (tmp_path / "cache" / "gaitedge" / "kernels" / "build.log").read_text()


def test_a_build(tools: Tools, tmp_path: Path) -> None:
    tools()
    steps: list[tuple[int, int, str]] = []
    done = build(tmp_path / "box", [87, 90], progress=lambda *step: steps.append(step))
    assert [(row.name, row.architecture, row.registers) for row in done.kernels] == [
        ("plain<half, 8>", 87, 42),
        ("plain<half, 8>", 90, 42),
    ]
    assert (done.problems, done.architectures, done.toolkit.version) == ((), (87, 90), "13.0.88")
    path = tmp_path / "box" / "libgaitedge_kernels.so"
    assert [library.path for library in done.libraries if library.path.exists()] == [path]
    assert kernels.examine(path) == done.libraries[0]
    assert done.libraries[0].targets[:2] == ("sm_87", "sm_90")
    assert steps == [(1, 2, "part_pool.cu"), (2, 2, "libgaitedge_kernels.so")]
    assert set(contents(tmp_path / "box")) == {path.name}
    assert {entry.name for entry in tmp_path.iterdir()} == {"bin", "box", "cache"}
    assert "Used 42 registers" in log(tmp_path)


def test_by_default_into_the_cache_and_for_the_gpus_here(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools()
    driver = CudaDriver("ok", devices=(CudaDevice("Orin", (8, 7), 1, 1),))
    monkeypatch.setattr("gaitedge.machine.kernel_build.probe_driver", lambda: driver)
    done = build()
    assert done.architectures == (87,)
    assert find_library() == done.libraries[0].path
    assert set(contents(tmp_path / "cache" / "gaitedge" / "kernels")) == {
        "build.log",
        fingerprint()[:16],
        f"{fingerprint()[:16]}/libgaitedge_kernels.so",
    }


def test_spills_are_problems(tools: Tools, tmp_path: Path) -> None:
    tools(spills=(0, 4))
    done = build(tmp_path / "box", "all")
    assert [(row.architecture, row.spill_loads) for row in done.problems] == [
        (number, 4) for number in (75, 86, 87, 90, 110)
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {
                "configured": "-- The CUDA compiler\nCMake Error at CMakeLists.txt:9 (message):\n  no such\n"
                "  thing\n\n\n-- Configuring incomplete, errors occurred!",
                "configure_status": 1,
            },
            "no such thing",
        ),
        (
            {
                "built": "FAILED: a.o\nnvcc -c error.cu\n/x/a.h(3): error: no such word\n/x/b.h(9): error: "
                "this either\n2 errors detected in the compilation of a.cu\nninja: build stopped",
                "build_status": 1,
            },
            r"/x/a.h\(3\): error: no such word",
        ),
        (
            {
                "built": "ptxas fatal   : Unresolved extern function '_Z1fv'\nmake: *** Error 1",
                "build_status": 2,
            },
            "ptxas fatal   : Unresolved extern function '_Z1fv'",
        ),
        (
            {
                "configured": "CMake Error at x.cmake:9 (message):\n  Compiling failed\n\n"
                "  nvcc fatal: /tmp/x: No space left on device\n\n",
                "configure_status": 1,
            },
            "compile: nvcc fatal: /tmp/x: No space left on device; ",
        ),
        (
            {
                "configured": "CMake Error at x.cmake:9 (message):\n  No compiler:\n\n    /none/g++\n\n"
                "  What else\n\n",
                "configure_status": 1,
            },
            "No compiler: /none/g\\+\\+; ",
        ),
        ({"built": "the compiler\nhas gone", "build_status": 1}, "has gone|Linking"),
    ],
)
def test_what_does_not_compile_leaves_the_old_library(
    tools: Tools, tmp_path: Path, options: dict[str, object], reason: str
) -> None:
    tools()
    build(tmp_path / "box", [87])
    before = contents(tmp_path / "box")
    tools(**options)
    with pytest.raises(
        MachineError, match=rf"do not (?=compile).*({reason}).*all that was said is in .*build.log"
    ):
        build(tmp_path / "box", [87])
    assert contents(tmp_path / "box") == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"bin", "box", "cache"}
    assert str(options.get("built", options.get("configured"))) in log(tmp_path)


def test_a_report_that_lacks_an_architecture_is_not_believed(tools: Tools, tmp_path: Path) -> None:
    tools(report=nvcc_fake.REPORT.replace("sm_{0}", "sm_87"))
    with pytest.raises(MachineError, match="does not say what it made for 90; see"):
        build(tmp_path / "box", [87, 90])
    assert not (tmp_path / "box").exists()


def test_sources_that_change_meanwhile(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools()
    monkeypatch.setattr("gaitedge.machine.kernels.fingerprint", lambda: 64 * "0")
    with pytest.raises(MachineError, match="changed while they were compiled"):
        build(tmp_path / "box", [87])
    assert not (tmp_path / "box").exists()


def test_a_place_that_cannot_be(tools: Tools, tmp_path: Path) -> None:
    tools()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is no folder; name one"):
        build(tmp_path / "file", [87])
    with pytest.raises(InputError, match=r"there is no folder .*none, in which box could be made"):
        build(tmp_path / "none" / "box", [87])


@pytest.mark.parametrize("name", ["a b", "it's; $HOME", 'q"(,)'])
def test_a_place_of_any_name(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """CMake and nvcc never see it: they would take few of these."""
    tools()
    commands: list[object] = []
    popen = subprocess.Popen

    def note(command: list[str], **options: Any) -> subprocess.Popen[str]:
        commands.append((command, options.get("env", {}).get("TMPDIR")))
        return popen(command, **options)

    monkeypatch.setattr("subprocess.Popen", note)
    (tmp_path / name).mkdir()
    (tmp_path / name / "other").touch()
    build(tmp_path / name, [87])
    assert set(contents(tmp_path / name)) == {"libgaitedge_kernels.so", "other"}
    options = "".join(map(str, commands))
    assert options
    assert name not in options


def test_a_link_to_nowhere_and_the_root(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools()
    (tmp_path / "link").symlink_to(tmp_path / "none" / "box")
    with pytest.raises(InputError, match=r"there is no folder .*none, in which box"):
        build(tmp_path / "link", [87])
    monkeypatch.setattr("gaitedge.machine.kernel_build._install", lambda *_: ())
    assert build(Path("/"), [87]).libraries == ()


def test_a_place_that_cannot_be_written_is_found_before_anything_is_compiled(
    tools: Tools, tmp_path: Path
) -> None:
    tools()
    place = Path("/proc/sys")
    if not place.is_dir():
        pytest.skip("there is no /proc here")
    with pytest.raises(OSError, match=str(place)):
        build(place, [87])
    assert not (tmp_path / "cache").exists()


def test_libraries_come_all_or_none(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at the second one; then there is room."""
    tools()
    trt = tmp_path / "trt"
    trt.mkdir()
    (trt / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 10\n")
    box, copy, copied = tmp_path / "box", shutil.copyfileobj, []

    def full(source: BinaryIO, file: BinaryIO) -> None:
        copy(source, file)
        copied.append(file.name)
        if len(copied) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*box/libgaitedge_plugins_trt10.so'"):
        build(box, [87], [trt])
    assert len(copied) == 2
    assert not box.exists()
    build(box, [87], [trt])
    assert set(contents(box)) == {"libgaitedge_kernels.so", "libgaitedge_plugins_trt10.so"}
    assert {entry.name for entry in tmp_path.iterdir()} == {"bin", "box", "cache", "trt"}


def test_temporary_folders_that_nvcc_does_not_take(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a b"))
    with pytest.raises(MachineError, match=r"cannot work in .*a b, for its ' '; set TMPDIR to another"):
        build(tmp_path / "box", [87])
    assert {entry.name for entry in tmp_path.iterdir()} == {"bin"}


def test_a_log_that_cannot_be_written(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").touch()
    tools()
    assert build(tmp_path / "box", [87]).libraries
    tools(built="a.cu(3): error: no such word", build_status=1)
    with pytest.raises(
        MachineError, match=r"no such word; what else was said could not be kept in .*build.log"
    ):
        build(tmp_path / "box", [87])


@pytest.mark.slow
@pytest.mark.parametrize("generator", ["ninja", "make"])
def test_with_the_real_tools(tmp_path: Path, generator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HP alone; make must keep the reports of compilers that run side by side apart."""
    for name in ("nvcc", "cmake", "c++", generator):
        if shutil.which(name) is None:
            pytest.skip(f"there is no {name} here")
    which = shutil.which
    if generator == "make":
        monkeypatch.setattr(
            "shutil.which", lambda name, **options: name != "ninja" and which(name, **options)
        )
    folder = tmp_path / "sources"
    ours = shutil.ignore_patterns("plugins", "*_*.cu")
    shutil.copytree(sources(), folder, ignore=ours)
    shutil.copy(sources() / "library" / "part_pool.cu", folder / "library")
    monkeypatch.setattr("gaitedge.machine.kernels.sources", lambda: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    box = tmp_path / "a place; it's mine"
    done = build(box, [75, 90])
    assert {row.architecture for row in done.kernels} == {75, 90}
    assert len(done.kernels) == 12
    assert done.problems == ()
    built = done.libraries[0]
    assert built.targets[:3] == ("sm_75", "sm_90", "compute_90")
    assert Library(built.path).sources == fingerprint()  # needs no driver to be loaded
    code = built.path.read_bytes()
    assert b"gaitedge_part_pool" in code
    (folder / "library" / "part_pool.cu").write_text("not C++;\n")
    with pytest.raises(MachineError, match=r"part_pool.cu.*error"):
        build(box, [90])
    assert built.path.read_bytes() == code
    assert {entry.name for entry in tmp_path.iterdir()} == {box.name, "cache", "sources"}
