from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
from machine_fake import orin, write

from gaitedge.machine.cuda_driver import CudaDevice, CudaDriver
from gaitedge.machine.environment import environment

ABSENT = CudaDriver("absent", "no libcuda.so.1")


def test_a_machine_with_a_gpu(tmp_path: Path) -> None:
    write(tmp_path / "proc/cpuinfo", "model name\t: A Processor\nflags\t\t: fpu avx2")
    write(tmp_path / "proc/meminfo", "MemTotal:       32768000 kB\nMemFree: 5 kB")
    write(tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance")
    driver = CudaDriver("ok", "", (12, 6), (CudaDevice("NVIDIA A2", (8, 6), 15 << 30, 10),))
    found = environment(tmp_path, lambda: driver)
    assert json.loads(json.dumps(found)) == found
    assert (found["cpu"], found["memory_bytes"], found["governor"]) == (
        "A Processor",
        32_768_000 * 1024,
        "performance",
    )
    assert (found["virtual"], found["jetson"]) == (None, None)
    assert found["nvidia_driver"] == {"state": "ok", "detail": "", "cuda": "12.6"}
    assert found["gpus"] == [
        {
            "name": "NVIDIA A2",
            "compute_capability": "8.6",
            "memory_bytes": 15 << 30,
            "multiprocessors": 10,
        }
    ]
    assert found["packages"]["numpy"] == np.__version__


def test_a_jetson_and_its_power_mode(tmp_path: Path) -> None:
    found = environment(orin(tmp_path), lambda: ABSENT)
    assert found["jetson"]["model"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found["jetson"]["power_mode"] == "MODE_10W (1)"


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    found = environment(tmp_path, lambda: ABSENT)
    assert [found[key] for key in ("cpu", "memory_bytes", "governor", "virtual", "jetson")] == [None] * 5
    assert found["nvidia_driver"] == {"state": "absent", "detail": "no libcuda.so.1", "cuda": None}
    assert found["gpus"] == []


@pytest.mark.parametrize(
    ("files", "virtual"),
    [
        ({"proc/cpuinfo": "flags : fpu hypervisor"}, "unknown"),
        ({"proc/cpuinfo": "flags : fpu hypervisor", "sys/class/dmi/id/sys_vendor": "QEMU"}, "QEMU"),
        ({"sys/hypervisor/type": "xen", "sys/class/dmi/id/sys_vendor": "Xen"}, "xen"),
        ({"proc/cpuinfo": "flags : fpu", "sys/class/dmi/id/sys_vendor": "Dell Inc."}, None),
    ],
)
def test_a_virtual_machine(tmp_path: Path, files: dict[str, str], virtual: str | None) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    assert environment(tmp_path, lambda: ABSENT)["virtual"] == virtual


def test_tensorrt_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "tensorrt-cu12":
            raise importlib.metadata.PackageNotFoundError(name)
        return "10.16.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    packages = environment(tmp_path, lambda: ABSENT)["packages"]
    assert {name for name, found in packages.items() if found} == {"tensorrt"}
    assert packages["tensorrt"] == "10.16.0"
