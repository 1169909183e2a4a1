from __future__ import annotations

from pathlib import Path

import nvcc_fake
import pytest

from gaitedge.errors import InputError, MachineError
from gaitedge.machine.cuda_driver import CudaDevice, CudaDriver
from gaitedge.machine.toolkit import (
    ARCHITECTURES,
    Toolkit,
    choose_architectures,
    find_cmake,
    find_headers,
    find_toolkit,
    require_plain,
)

NO_DRIVER = CudaDriver("absent")
CUDA_13 = Toolkit(Path("nvcc"), "13.0.88", (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121))
CUDA_12 = Toolkit(Path("nvcc"), "12.2.140", (50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90))


def devices(*capabilities: tuple[int, int]) -> CudaDriver:
    return CudaDriver("ok", devices=tuple(CudaDevice("a GPU", pair, 1, 1) for pair in capabilities))


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but this folder."""
    for name in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CXX", "TENSORRT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"])
def test_nvcc_below_a_folder_of_the_environment(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nvcc_fake.nvcc(tmp_path / "cuda" / "bin", "12.6.68", (75, 87, 90))
    monkeypatch.setenv(variable, str(tmp_path / "cuda"))
    assert find_toolkit() == Toolkit(path, "12.6.68", (75, 87, 90))


def test_nvcc_on_the_path_comes_first_and_a_given_one_before_it(
    tmp_path: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc_fake.nvcc(tmp_path / "cuda" / "bin")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    on_path = nvcc_fake.nvcc(bare)
    assert find_toolkit().nvcc == on_path
    given = nvcc_fake.nvcc(tmp_path / "given")
    assert find_toolkit(given).nvcc == given


def test_no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(MachineError, match=r"no nvcc, which compiles the CUDA kernels; .*CUDA_HOME"):
        find_toolkit()
    with pytest.raises(InputError, match=r"there is no /none/nvcc"):
        find_toolkit(Path("/none/nvcc"))
    with pytest.raises(InputError, match=r"^/ is no file: --nvcc is the compiler's own path"):
        find_toolkit(Path("/"))


def test_an_nvcc_that_is_too_old_or_broken(bare: Path) -> None:
    with pytest.raises(MachineError, match=r"is CUDA 11.4.315, which is too old: .* 11.8 or newer"):
        find_toolkit(nvcc_fake.nvcc(bare, "11.4.315"))
    assert find_toolkit(nvcc_fake.nvcc(bare, "11.8.89")).version == "11.8.89"
    with pytest.raises(MachineError, match="failed with exit status 3 and said: no libc; install"):
        find_toolkit(nvcc_fake.program(bare, "nvcc", "echo no libc >&2; exit 3"))
    with pytest.raises(MachineError, match="does not say its version"):
        find_toolkit(nvcc_fake.program(bare, "nvcc", "echo hello"))
    with pytest.raises(MachineError, match="--list-gpu-code names no GPU"):
        find_toolkit(nvcc_fake.nvcc(bare, knows=()))


def test_what_cmake_needs(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="no cmake; run: sudo apt install cmake"):
        find_cmake()
    cmake = nvcc_fake.program(bare, "cmake", "")
    with pytest.raises(
        MachineError, match=r"no C\+\+ compiler, which nvcc needs; run: sudo apt install g\+\+"
    ):
        find_cmake()
    monkeypatch.setenv("CXX", "clang++-18 -stdlib=libc++")
    nvcc_fake.program(bare, "c++", "")  # which CMake does not take where CXX names another
    with pytest.raises(MachineError, match=r"CXX is clang\+\+-18, and there is no such compiler: unset"):
        find_cmake()
    nvcc_fake.program(bare, "clang++-18", "")
    with pytest.raises(MachineError, match="neither ninja nor make"):
        find_cmake()
    nvcc_fake.program(bare, "make", "")
    assert find_cmake() == (cmake, "Unix Makefiles")
    nvcc_fake.program(bare, "ninja", "")
    assert find_cmake() == (cmake, "Ninja")


def headers(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "NvInferVersion.h").write_text(f"#define NV_TENSORRT_SONAME_MAJOR 7\n{text}\n")
    return folder


def test_headers_of_every_version(tmp_path: Path) -> None:
    """As 8.6, 10.3 and 10.16 word it."""
    eight = headers(
        tmp_path / "8",
        "#define NV_TENSORRT_MAJOR 8 //!< TensorRT major version.\n"
        "#define NV_TENSORRT_MINOR 6 //!< TensorRT minor version.",
    )
    ten = headers(tmp_path / "10", "#define NV_TENSORRT_MAJOR 10 //!< TensorRT major version.")
    newer = headers(
        tmp_path / "newer", "#define TRT_MAJOR_ENTERPRISE 10\n#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE"
    )
    assert find_headers([eight, ten]) == {8: eight, 10: ten}
    assert find_headers([newer]) == {10: newer}
    with pytest.raises(InputError, match=r"are both of TensorRT 10: give one"):
        find_headers([ten, newer])
    with pytest.raises(InputError, match=r"has no NvInferVersion.h: it is not TensorRT's include folder"):
        find_headers([ten, tmp_path])


def test_headers_where_they_usually_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = headers(tmp_path / "trt" / "include", "#define NV_TENSORRT_MAJOR 99")
    monkeypatch.setenv("TENSORRT_ROOT", str(tmp_path / "trt"))
    assert find_headers()[99] == folder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#define NV_TENSORRT_MAJOR 7\n#define NV_TENSORRT_MINOR 2", "are of TensorRT 7.2"),
        ("#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 5", "are of TensorRT 8.5"),
        ("#define NV_TENSORRT_MAJOR 9\n#define NV_TENSORRT_MINOR 3", "are of TensorRT 9.3"),
        ("nothing that is known", "do not say of which TensorRT"),
    ],
)
def test_headers_that_do_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    """An error where they are named; where they only lie there, the kernels are built without them."""
    folder = headers(tmp_path / "include", text)
    with pytest.raises(InputError, match=rf"{folder} {said}: the plugins need 8.6, 10 or 11"):
        find_headers([folder])
    monkeypatch.setenv("TENSORRT_ROOT", str(tmp_path))
    assert folder not in find_headers().values()


@pytest.mark.parametrize("odd", ["\\", '"', "'", "$", ",", ";", "\n"])
def test_a_path_that_the_tools_do_not_pass_on(tmp_path: Path, odd: str) -> None:
    require_plain(tmp_path / "a b (c) ü#", "")
    with pytest.raises(MachineError, match=r"cannot work in .*, for its .*; go elsewhere$") as caught:
        require_plain(tmp_path / f"a{odd}b", "go elsewhere")
    assert "\n" not in str(caught.value)
    with pytest.raises(MachineError, match="with --nvcc"):
        find_toolkit(nvcc_fake.nvcc(tmp_path / f"a{odd}b"))
    with pytest.raises(MachineError, match="a copy or a link"):
        find_headers([headers(tmp_path / f"trt{odd}", "#define NV_TENSORRT_MAJOR 10")])


def test_all_is_what_this_nvcc_knows() -> None:
    assert choose_architectures("all", CUDA_13, devices((9, 0))) == ARCHITECTURES
    assert choose_architectures("all", CUDA_12, NO_DRIVER) == (75, 80, 86, 87, 89, 90)
    assert choose_architectures(None, CUDA_13, NO_DRIVER) == ARCHITECTURES


@pytest.mark.parametrize(
    ("toolkit", "here", "wanted"),
    [
        (CUDA_13, [(8, 7)], (87,)),
        (CUDA_13, [(9, 0), (7, 5), (9, 0)], (75, 90)),
        (CUDA_13, [(10, 3)], (103,)),  # not of ours, and known
        (CUDA_12, [(12, 0)], (90,)),  # newer than nvcc: PTX
        (CUDA_12, [(8, 8)], (87,)),
        (CUDA_12, [(7, 0), (8, 6)], (86,)),  # the old one stays aside
    ],
)
def test_architectures_of_the_gpus_here(
    toolkit: Toolkit, here: list[tuple[int, int]], wanted: tuple[int, ...]
) -> None:
    assert choose_architectures(None, toolkit, devices(*here)) == wanted


def test_architectures_that_were_asked_for() -> None:
    assert choose_architectures([90, 87, 90], CUDA_13, devices((7, 5))) == (87, 90)
    with pytest.raises(InputError, match=r"12.2.140 does not know architecture 120; it knows 50, 52"):
        choose_architectures([87, 120], CUDA_12, NO_DRIVER)
    with pytest.raises(InputError, match="72 is too old an architecture: the kernels need 75"):
        choose_architectures([72], CUDA_12, NO_DRIVER)
    with pytest.raises(InputError, match="name an architecture"):
        choose_architectures([], CUDA_12, NO_DRIVER)
    with pytest.raises(MachineError, match="GPU here has compute capability 72: the kernels need 75"):
        choose_architectures(None, CUDA_12, devices((7, 2)))
