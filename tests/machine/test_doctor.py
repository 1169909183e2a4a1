from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from gaitedge.machine.doctor import Finding, Machine, examine

NO_DRIVER = {"state": "absent", "detail": "no libcuda.so.1", "cuda": None, "devices": []}
ORIN = {"name": "Orin", "compute_capability": [8, 7], "memory": 16 << 30, "multiprocessors": 8}
GPU = {"state": "ok", "detail": "", "cuda": [12, 6], "devices": [ORIN]}
TOPICS = [
    "system",
    "python",
    "processor",
    "arithmetic",
    "memory",
    "openvino",
    "onnxruntime",
    "torch",
    "cv2",
    "tensorrt",
    "polygraphy",
    "pycuda",
    "nvidia driver",
    "cuda toolkit",
    "cuda kernels",
    "engine",
]


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def answer(driver: dict[str, Any]) -> tuple[str, ...]:
    return python(f"print({json.dumps(driver)!r})")


def machine(root: Path, driver: dict[str, Any] | tuple[str, ...] = NO_DRIVER, **others: Any) -> Machine:
    probe = driver if isinstance(driver, tuple) else answer(driver)
    return Machine(root=root, driver_probe=probe, **{"path": str(root / "usr/bin"), **others})


def look(machine: Machine) -> dict[str, Finding]:
    findings = examine(machine)
    for finding in findings:
        assert finding.state in ("ok", "absent", "broken")
        assert finding.detail
        assert "\n" not in finding.detail + (finding.remedy or "")
        assert finding.state != "broken" or finding.remedy
    assert len({finding.topic for finding in findings}) == len(findings)
    return {finding.topic: finding for finding in findings}


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which modules are installed and in which version; None is "known to nobody"."""

    def pretend(**versions: str | None) -> None:
        def find_spec(name: str) -> ModuleSpec | None:
            return ModuleSpec(name, None, origin=f"{name}.py") if name in versions else None

        def version(name: str) -> str:
            if (found := versions.get(name)) is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        monkeypatch.setattr(importlib.metadata, "version", version)

    return pretend


def test_this_machine() -> None:
    found = {finding.topic: finding for finding in examine()}
    assert [topic for topic in found if topic != "jetpack"] == TOPICS
    assert found["system"].state == found["python"].state == found["processor"].state == "ok"
    for name in ("openvino", "onnxruntime"):
        installed = importlib.util.find_spec(name) is not None
        assert (found[name].state == "ok") is installed, found[name]
        if installed:
            assert importlib.metadata.version(name) in found[name].detail
            assert "CPU" in found[name].detail


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from gaitedge.machine.doctor import examine; examine(); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"openvino", "onnxruntime", "torch", "tensorrt", "polygraphy", "pycuda", "cv2"}


def test_a_machine_that_says_nothing(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    found = look(machine(tmp_path))
    assert list(found) == TOPICS
    assert found["arithmetic"].state == found["memory"].state == "absent"
    assert found["processor"].state == "ok"
    assert found["nvidia driver"] == Finding(
        "nvidia driver", "absent", "no NVIDIA driver and no NVIDIA device"
    )
    assert found["tensorrt"].remedy is None  # nothing to gain without a GPU
    assert found["engine"].state == "absent"
    assert found["engine"].remedy == "pip install 'gaitedge[cpu]'"


@pytest.mark.parametrize(
    ("architecture", "line", "words"),
    [
        ("x86_64", "flags : avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8", "AMX"),
        ("x86_64", "flags : avx2 avx512f avx512_vnni avx512_bf16", "BF16 and VNNI"),
        ("x86_64", "flags : avx2 avx512f avx512_vnni", "INT8 runs fast, no BF16"),
        ("x86_64", "flags : avx2 avx512f", "AVX-512: FP32"),
        ("x86_64", "flags : avx2 avx_vnni", "AVX2 with VNNI"),
        ("x86_64", "flags : avx2", "AVX2: FP32"),
        ("x86_64", "flags : sse4_2", "no AVX2"),
        ("aarch64", "Features : asimd asimddp bf16 i8mm", "matrix instructions"),
        ("aarch64", "Features : asimd asimddp", "dot products"),
        ("aarch64", "Features : asimd", "NEON: FP32"),
    ],
)
def test_what_a_processor_is_good_for(
    tmp_path: Path, packages: Callable[..., None], architecture: str, line: str, words: str
) -> None:
    packages()
    write(tmp_path / "proc/cpuinfo", f"model name : Some CPU\n{line}\n")
    found = look(machine(tmp_path, architecture=architecture))
    assert words in found["arithmetic"].detail
    assert "Some CPU" in found["processor"].detail


def test_system_and_memory(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    write(tmp_path / "etc/os-release", 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n')
    write(tmp_path / "proc/meminfo", "MemTotal:  8388608 kB\nMemFree: 9 kB\nMemAvailable:  2097152 kB\n")
    found = look(machine(tmp_path, architecture="aarch64"))
    assert found["system"].detail == "Ubuntu 22.04.5 LTS on aarch64"
    assert found["memory"].detail == "8.0 GiB, 2.0 free"


def test_an_old_python(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    finding = look(machine(tmp_path, python=(3, 8)))["python"]
    assert finding.state == "broken"
    assert "3.8 is too old" in finding.detail


def test_packages(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages(**{"torch": "2.9.1", "cv2": None, "opencv-python": "4.10.0", "tensorrt": None})
    found = look(machine(tmp_path))
    assert found["torch"] == Finding("torch", "ok", "2.9.1; for training")
    assert found["cv2"].detail.startswith("4.10.0")
    assert found["tensorrt"].detail.startswith("of unknown version")
    assert found["openvino"].state == "absent"
    assert found["openvino"].remedy == "pip install 'gaitedge[cpu]'"


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pycuda").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    if importlib.util.find_spec("pycuda").origin is not None:  # type: ignore[union-attr]
        pytest.skip("pycuda itself is installed")
    assert look(machine(tmp_path))["pycuda"].state == "absent"


@pytest.mark.parametrize(
    ("code", "timeout", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", 60, "crashed (SIGILL)"),
        ("raise SystemExit('ImportError: no libopenvino.so.2540')", 60, "no libopenvino.so.2540"),
        ("import time; time.sleep(60)", 3, "gave no answer within 3 s"),
    ],
)
def test_an_engine_that_does_not_load(
    tmp_path: Path, packages: Callable[..., None], code: str, timeout: float, words: str
) -> None:
    packages(openvino="2026.1.0", onnxruntime="1.30.0")
    # An interpreter that runs `code` in place of what it is told, for openvino alone.
    (tmp_path / "interpreter.py").write_text(
        f"import sys\nif 'import openvino' in sys.argv[2]:\n    {code}\nprint('providers CPU')\n"
    )
    found = look(
        machine(tmp_path, interpreter=(sys.executable, str(tmp_path / "interpreter.py")), timeout=timeout)
    )
    assert found["openvino"].state == "broken"
    assert found["openvino"].detail.startswith("2026.1.0, but loading it ")
    assert words in found["openvino"].detail
    assert found["openvino"].remedy == "pip install --force-reinstall 'gaitedge[cpu]'"
    assert found["onnxruntime"].state == "ok"
    # `load` picks by what is installed: the broken one is what it would take.
    assert found["engine"].state == "broken"
    assert found["engine"].detail.startswith("openvino is installed and would be taken")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_the_engine_is_the_one_that_load_would_take(
    tmp_path: Path, packages: Callable[..., None], name: str
) -> None:
    packages(**{name: "1.2.3"})
    found = look(machine(tmp_path, interpreter=python("print('devices CPU')")))
    assert found["engine"] == Finding("engine", "ok", f"{name} runs bundles here")


def test_with_a_gpu_tensorrt_comes_first(tmp_path: Path, packages: Callable[..., None]) -> None:
    """Where all that it takes is installed; a new engine needs a CPU's engine to be checked with."""
    needed = {"tensorrt": "10.3.0", "pycuda": "2026.1"}
    packages(openvino="2026.4.1", **needed)
    here = {"interpreter": python("print('devices CPU')")}
    found = look(machine(tmp_path, GPU, **here))["engine"]
    assert found.detail == "tensorrt runs bundles that hold an engine for this GPU, openvino the others"
    assert (
        look(machine(tmp_path, {**GPU, "devices": []}, **here))["engine"].detail
        == "openvino runs bundles here"
    )
    packages(**needed)
    found = look(machine(tmp_path, GPU, **here))["engine"]
    assert (found.state, found.remedy) == ("ok", "pip install 'gaitedge[cpu]'")
    packages(tensorrt="10.3.0")
    assert look(machine(tmp_path, GPU, **here))["engine"].state == "absent"


@pytest.mark.parametrize(("jetson", "remedy"), [(False, "pip install --force-reinstall"), (True, "sudo apt")])
def test_a_tensorrt_whose_library_is_missing(
    tmp_path: Path, packages: Callable[..., None], jetson: bool, remedy: str
) -> None:
    """It is tried where there is a GPU; without one it would not be used anyway."""
    packages(tensorrt="10.3.0", pycuda="2026.1")
    if jetson:
        make_jetson(tmp_path, 36, "4.3")
    broken = {"interpreter": python("raise SystemExit('ImportError: libnvinfer.so.10: cannot open')")}
    found = look(machine(tmp_path, GPU, **broken))["tensorrt"]
    assert found.state == "broken"
    assert "libnvinfer.so.10: cannot open" in found.detail
    assert (found.remedy or "").startswith(remedy)
    without = look(machine(tmp_path, {**GPU, "devices": []}, **broken))["tensorrt"]
    assert without.state == "ok"


def test_a_gpu(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    write(
        tmp_path / "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n",
    )
    found = look(machine(tmp_path, GPU))
    assert found["nvidia driver"] == Finding(
        "nvidia driver",
        "ok",
        "driver 550.54.15, CUDA up to 12.6: Orin, compute capability 8.7, 16.0 GiB, 8 multiprocessors",
    )
    assert found["tensorrt"].remedy == "pip install 'gaitedge[tensorrt]'"
    assert found["cuda toolkit"].remedy == "install NVIDIA's CUDA toolkit"


def test_a_driver_without_a_device(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    finding = look(machine(tmp_path, {**GPU, "devices": []}))["nvidia driver"]
    assert finding.state == "absent"
    assert "no device that this process may use" in finding.detail


def test_a_card_without_a_driver(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    for number, (vendor, kind) in enumerate([("0x8086", "0x030000"), ("0x10de", "0x040300")]):
        write(tmp_path / f"sys/bus/pci/devices/0000:0{number}:00.0/vendor", vendor + "\n")
        write(tmp_path / f"sys/bus/pci/devices/0000:0{number}:00.0/class", kind + "\n")
    assert look(machine(tmp_path))["nvidia driver"].remedy is None  # NVIDIA's sound device is no GPU
    write(tmp_path / "sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n")
    assert look(machine(tmp_path))["nvidia driver"].remedy == "install NVIDIA's driver"


@pytest.mark.parametrize(
    ("code", "timeout", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 60, "crashed (SIGSEGV)"),
        ("import time; time.sleep(60)", 1, "gave no answer within 1 s"),
        ("print('garbage')", 60, "garbage"),
        ("raise SystemExit('AttributeError: cuInit')", 60, "AttributeError: cuInit"),
    ],
)
def test_a_driver_that_misbehaves(
    tmp_path: Path, packages: Callable[..., None], code: str, timeout: float, words: str
) -> None:
    packages()
    found = look(machine(tmp_path, python(code), timeout=timeout))
    assert list(found) == TOPICS
    assert found["nvidia driver"].state == "broken"
    assert words in found["nvidia driver"].detail


def test_the_toolkit_by_its_file(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    version = {"cuda": {"name": "CUDA SDK", "version": "12.6.11"}, "cuda_cudart": {"version": "12.6.68"}}
    write(tmp_path / "usr/local/cuda-12.6/version.json", json.dumps(version, indent=3))
    assert look(machine(tmp_path))["cuda toolkit"] == Finding(
        "cuda toolkit", "ok", f"12.6.11 in {tmp_path / 'usr/local/cuda-12.6'}"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script")
@pytest.mark.parametrize(
    ("script", "state", "words"),
    [
        ("echo 'Cuda compilation tools, release 13.0, V13.0.88'", "ok", "13.0, "),
        ("echo nothing of use", "broken", "does not say its version"),
        ("echo 'libnvvm.so: not found' >&2; exit 127", "broken", "libnvvm.so: not found"),
    ],
)
def test_the_toolkit_by_nvcc(
    tmp_path: Path, packages: Callable[..., None], script: str, state: str, words: str
) -> None:
    packages()
    write(tmp_path / "usr/bin/nvcc", f"#!/bin/sh\n{script}\n")
    (tmp_path / "usr/bin/nvcc").chmod(0o755)
    finding = look(machine(tmp_path))["cuda toolkit"]
    assert finding.state == state
    assert words in finding.detail


def make_jetson(root: Path, major: int, revision: str) -> None:
    write(root / "etc/nv_tegra_release", f"# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: x\n")
    write(root / "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")


def test_a_jetson(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages(tensorrt="10.3.0")
    make_jetson(tmp_path, 36, "4.3")
    found = look(machine(tmp_path, GPU, architecture="aarch64", interpreter=python("")))
    assert found["jetpack"] == Finding(
        "jetpack",
        "ok",
        "NVIDIA Jetson Orin Nano Developer Kit, Jetson Linux 36.4.3, JetPack 6.2, with TensorRT 10.3",
    )
    assert found["tensorrt"] == Finding("tensorrt", "ok", "10.3.0; for NVIDIA GPUs")


def test_a_bare_jetson_is_sent_to_jetpack_and_not_to_pip(
    tmp_path: Path, packages: Callable[..., None]
) -> None:
    packages()
    make_jetson(tmp_path, 36, "3.0")
    found = look(machine(tmp_path))
    for topic in ("tensorrt", "nvidia driver", "cuda toolkit"):
        assert found[topic].state == "absent"
        assert (found[topic].remedy or "").startswith("sudo apt install nvidia-jetpack")
    assert all("gaitedge[tensorrt]" not in (finding.remedy or "") for finding in found.values())


def test_a_jetson_that_is_too_old(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    make_jetson(tmp_path, 35, "4.1")
    found = look(machine(tmp_path, python=(3, 8)))
    assert found["jetpack"].state == "broken"
    assert "JetPack 5.1.2: its Python is older than 3.10" in found["jetpack"].detail
    assert found["jetpack"].remedy == found["python"].remedy == "flash JetPack 6 or newer"


def test_a_jetson_of_the_future(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    make_jetson(tmp_path, 45, "1.0")
    finding = look(machine(tmp_path))["jetpack"]
    assert finding.state == "ok"
    assert "Jetson Linux 45.1.0, a JetPack that this GaitEdge does not know" in finding.detail


def test_a_container_on_a_jetson(tmp_path: Path, packages: Callable[..., None]) -> None:
    packages()
    write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson AGX Orin\0")
    finding = look(machine(tmp_path))["jetpack"]
    assert finding.state == "absent"
    assert "/etc/nv_tegra_release" in (finding.remedy or "")
