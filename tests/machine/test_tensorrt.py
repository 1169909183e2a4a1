"""What TensorRT needs before it may be touched, and which plans fit where."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorrt_fake import VERSIONS, fake_tensorrt

from gaitedge.errors import MachineError, MissingPackage
from gaitedge.machine import cuda_driver, tensorrt
from gaitedge.machine.cuda_driver import CudaDevice, CudaDriver
from gaitedge.manifest import Build

ORIN = CudaDevice("Orin (nvgpu)", (8, 7), 8 << 30, 16)
ADA = CudaDevice("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, 128)
HERE = CudaDriver("ok", "", (12, 6), (ORIN, ADA))


@pytest.fixture
def no_jetson(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The root of a machine that is no Jetson yet."""
    monkeypatch.setattr(tensorrt, "_ROOT", tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    tensorrt.driver.cache_clear()
    tensorrt.log.cache_clear()


def drive(monkeypatch: pytest.MonkeyPatch, driver: CudaDriver) -> list[str]:
    """Let the driver answer so; returns the list of times that it was asked."""
    asked: list[str] = []
    monkeypatch.setattr(tensorrt, "probe_driver", lambda: asked.append("driver") or driver)
    tensorrt.driver.cache_clear()
    return asked


class Trap:
    """Stands for the module; fails as soon as it is looked up."""

    def find_spec(self, name: str, *_: Any) -> None:
        assert name != "tensorrt", "TensorRT was touched"


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (CudaDriver("absent", "no libcuda.so.1"), "none that can be used here: no libcuda.so.1; run it on"),
        (CudaDriver("ok", "the driver has no device", (12, 6)), "here: the driver has no device; run it on"),
        (CudaDriver("ok"), "the driver has no device"),
        (CudaDriver("broken", "cuInit fails: error 804"), "cuInit fails: error 804; run: gaitedge doctor"),
    ],
)
def test_without_a_gpu_tensorrt_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, driver: CudaDriver, words: str
) -> None:
    drive(monkeypatch, driver)
    monkeypatch.setattr(sys, "meta_path", [Trap(), *sys.meta_path])
    with pytest.raises(MachineError, match="a plan needs an NVIDIA GPU") as caught:
        tensorrt.require_tensorrt("a plan")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_first_gpu_is_taken_and_the_driver_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = drive(monkeypatch, HERE)
    assert [tensorrt.require_gpu("x") for _ in range(3)] == [ORIN] * 3
    assert asked == ["driver"]


@pytest.mark.parametrize("version", VERSIONS)
def test_tensorrt_that_is_there(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    drive(monkeypatch, HERE)
    module, recorded = fake_tensorrt(version)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert tensorrt.require_tensorrt("x") is module
    assert tensorrt.version(module) == tuple(map(int, version.split(".")[:2]))
    assert recorded.calls == []


@pytest.mark.parametrize("jetson", [False, True])
def test_tensorrt_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, no_jetson: Path, jetson: bool
) -> None:
    drive(monkeypatch, HERE)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(sys, "path", [])
    if jetson:
        (no_jetson / "etc").mkdir()
        (no_jetson / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3")
    remedy = "nvidia-jetpack.*--system-site-packages" if jetson else r"pip install 'gaitedge\[tensorrt\]'"
    with pytest.raises(MissingPackage, match=f"a plan needs tensorrt, which is not installed; .*{remedy}"):
        tensorrt.require_tensorrt("a plan")


def test_tensorrt_without_its_libraries_is_one_line(
    monkeypatch: pytest.MonkeyPatch, no_jetson: Path, tmp_path: Path
) -> None:
    drive(monkeypatch, HERE)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tensorrt").mkdir()
    broken = "raise ImportError('libnvinfer.so.10: cannot open shared object file:\\n No such file')"
    (tmp_path / "tensorrt/__init__.py").write_text(broken)
    words = (
        r"^a plan needs tensorrt, which is installed and cannot be imported: libnvinfer\.so\.10: cannot open "
        r"shared object file: No such file; bring that library onto the loader's path .*anew$"
    )
    with pytest.raises(MachineError, match=words):
        tensorrt.require_tensorrt("a plan")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("8.5.2.2", "needs TensorRT 8.6 or newer, not 8.5.2.2"),
        ("9.3.0", "needs TensorRT 8.6, 10 or 11, not 9.3.0"),
        ("12.0.1", "needs TensorRT 8.6, 10 or 11, not 12.0.1"),
    ],
)
def test_a_version_that_is_not_known(monkeypatch: pytest.MonkeyPatch, version: str, words: str) -> None:
    drive(monkeypatch, HERE)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version)[0])
    with pytest.raises(MachineError, match=words):
        tensorrt.require_tensorrt("x")


def test_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cheap checks first: the driver is not asked for what is not installed."""
    asked = drive(monkeypatch, CudaDriver("absent", "no libcuda.so.1"))
    found: set[str] = set()
    monkeypatch.setattr(tensorrt.importlib.util, "find_spec", lambda name: name if name in found else None)
    assert tensorrt.lacking() == "TensorRT is not installed"
    found.add("tensorrt")
    assert tensorrt.lacking() == "pycuda is not installed"
    assert asked == []
    found.add("pycuda")
    assert tensorrt.lacking() == "no NVIDIA GPU can be used"
    drive(monkeypatch, CudaDriver("broken", "it hangs"))
    assert tensorrt.lacking() == "NVIDIA's driver is broken: it hangs"
    drive(monkeypatch, HERE)
    assert tensorrt.lacking() is None


def plan(version: str = "10.3.0", capability: tuple[int, int] = (8, 7), **options: object) -> Build:
    return Build("p", "g", "Orin", capability, {"tensorrt": version, "cuda": "12.6"}, options, 1.0)


def test_a_plan_of_another_platform_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it was built to be compatible with; one that does not say where it is from may fit."""
    build = plan(hardware_compatibility="ampere+", version_compatible=True)
    there = dataclasses.replace(build, versions={**build.versions, "platform": "linux-aarch64"})
    monkeypatch.setattr(tensorrt, "platform", lambda: "linux-x86_64")
    assert tensorrt.why_unfit(build, ADA, "10.3.0") is None
    assert (
        tensorrt.why_unfit(there, ADA, "10.3.0") == "it was built on linux-aarch64, and this is linux-x86_64"
    )
    monkeypatch.setattr(tensorrt, "platform", lambda: "linux-aarch64")
    assert tensorrt.why_unfit(there, ADA, "10.3.0") is None


@pytest.mark.parametrize(
    ("build", "device", "version", "words"),
    [
        (plan(), ORIN, "10.3.0", None),
        (plan(), ORIN, "10.3.0.26", "built with TensorRT 10.3.0, and this is 10.3.0.26"),
        (plan(), ADA, "10.3.0", r"built for Orin \(compute capability 8\.7\), and this is .*4090.* 8\.9"),
        (plan(hardware_compatibility="ampere+"), ADA, "10.3.0", None),
        (plan(hardware_compatibility="same-compute-capability"), ADA, "10.3.0", r"8\.7.*8\.9"),
        (plan(hardware_compatibility="same-compute-capability"), ORIN, "10.3.0", None),
        (plan(capability=(7, 5), hardware_compatibility="ampere+"), ADA, "10.3.0", r"7\.5.*8\.9"),
        (plan(capability=(12, 1)), CudaDevice("GB", (12, 10), 1, 1), "10.3.0", r"12\.1\).*12\.10"),
        (plan(version_compatible=True), ORIN, "10.16.1", None),
        (plan("10.16.1", version_compatible=True), ORIN, "10.3.0", "10.16.1, and 10.3.0 is older"),
        (plan("8.6.1", version_compatible=True), ORIN, "10.3.0", None),
        (plan("10.3.0", version_compatible=True), ORIN, "11.4.0.106", None),
        (plan("8.6.1", version_compatible=True), ORIN, "11.4.0.106", "cannot bring to 11.4.0.106"),
        (plan("8.6.1"), ORIN, "10.3.0", "8.6.1, and this is 10.3.0"),
        (plan("11.4.0", version_compatible=True), ORIN, "8.6.1", "8.6.1 is older"),
    ],
)
def test_why_a_plan_is_unfit(build: Build, device: CudaDevice, version: str, words: str | None) -> None:
    why = tensorrt.why_unfit(build, device, version)
    if words is None:
        assert why is None
    else:
        assert why is not None
        assert re.search(words, why), why


def test_free_memory(monkeypatch: pytest.MonkeyPatch, no_jetson: Path) -> None:
    monkeypatch.setattr(cuda_driver, "free_memory", lambda: 5 << 30)
    assert tensorrt.free_memory(ADA) == 5 << 30
    monkeypatch.setattr(cuda_driver, "free_memory", lambda: None)
    assert tensorrt.free_memory(ADA) == ADA.memory


@pytest.mark.parametrize(
    ("meminfo", "expected"),
    [("MemTotal: 16 kB\nMemFree: 1 kB\nMemAvailable:    7000 kB\n", 7000 * 1024), (None, 5 << 30)],
)
def test_a_jetsons_memory_is_the_systems(
    monkeypatch: pytest.MonkeyPatch, no_jetson: Path, meminfo: str | None, expected: int
) -> None:
    """The driver counts the page cache as taken; in a container that hides it, its word is the only one."""
    monkeypatch.setattr(cuda_driver, "free_memory", lambda: 5 << 30)
    for folder in ("etc", "proc"):
        (no_jetson / folder).mkdir()
    (no_jetson / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3")
    if meminfo is not None:
        (no_jetson / "proc/meminfo").write_text(meminfo)
    assert tensorrt.free_memory(ORIN) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_the_log_keeps_errors_and_warnings(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], version: str
) -> None:
    module: Any = fake_tensorrt(version)[0]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    log = tensorrt.log()
    assert log is tensorrt.log()
    assert log.last_error == "it did not say why"
    for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
        log.logger.log(module.ILogger.Severity[name], f"an {name}\n  of two lines")
    assert list(log.errors) == ["an INTERNAL_ERROR of two lines", "an ERROR of two lines"]
    assert list(log.warnings) == ["an WARNING of two lines"]
    assert log.last_error == "an ERROR of two lines"
    log.clear()
    assert not log.errors
    assert not log.warnings
    for number in range(1000):
        log.logger.log(module.ILogger.Severity.ERROR, str(number))
    assert log.last_error == "999"
    assert len(log.errors) == 100
    assert capfd.readouterr() == ("", "")
