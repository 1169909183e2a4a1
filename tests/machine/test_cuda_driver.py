"""The probe against real shared libraries: small ones in C that behave as drivers have been seen to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gaitedge.machine.cuda_driver import (
    COMMAND,
    CudaDevice,
    CudaDriver,
    first_bus_id,
    free_memory,
    probe_driver,
)

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

# What cuda.h declares, with a device of which the tests know everything.
DRIVER = r"""
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int cuInit(unsigned flags) { INIT; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return COUNT_CODE; }
int cuDeviceGet(int *device, int ordinal) { *device = 10 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 10 ? "Orin (nvgpu)" : "second", length);
    return device == 10 || device == 11 ? 0 : 101;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = device == 10 ? (size_t)9 << 30 : 1234;
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 16 ? 16 : -1;
    return 0;
}
static int current = 0;
int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)(size_t)0x77;
    return device == 10 ? CONTEXT_CODE : 101;
}
int cuCtxSetCurrent(void *context) { current = context == (void *)(size_t)0x77; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
    *free = (size_t)5 << 30;
    *total = (size_t)9 << 30;
    return current ? 0 : 201;
}
int cuDeviceGetPCIBusId(char *place, int length, int device) {
    strncpy(place, "0000:41:00.0", length);
    return device == 10 ? 0 : 101;
}
int cuGetErrorString(int code, const char **text) {
    if (code != 999) return 1;
    *text = "unknown error";
    return 0;
}
"""


def build(
    folder: Path, monkeypatch: pytest.MonkeyPatch, init: str, count_code: int = 0, context_code: int = 0
) -> None:
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    source = folder / "driver.c"
    source.write_text(DRIVER)
    macros = (f"-DINIT={init}", f"-DCOUNT_CODE={count_code}", f"-DCONTEXT_CODE={context_code}")
    library = folder / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", *macros, "-o", library, source], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, monkeypatch, "return 0")
    assert probe_driver() == CudaDriver(
        "ok",
        "",
        (12, 6),
        (CudaDevice("Orin (nvgpu)", (8, 7), 9 << 30, 16), CudaDevice("second", (8, 7), 1234, 16)),
    )


def test_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, monkeypatch, "return 0")
    assert free_memory() == 5 << 30


@pytest.mark.parametrize(
    ("init", "context_code"), [("return 100", 0), ("return 0", 2), ("abort(); return 0", 0)]
)
def test_free_memory_that_cannot_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str, context_code: int
) -> None:
    """No device, no room for a context, a crash."""
    build(tmp_path, monkeypatch, init, context_code=context_code)
    assert free_memory() is None


def test_no_driver_has_no_free_memory(tmp_path: Path) -> None:
    assert free_memory((*COMMAND[:2], str(tmp_path / "nothing.py"), "free")) is None


def test_the_first_device_s_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, monkeypatch, "return 0")
    assert first_bus_id() == "0000:41:00.0"


@pytest.mark.parametrize("init", ["return 100", "abort(); return 0"])
def test_no_place_without_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str) -> None:
    build(tmp_path, monkeypatch, init)
    assert first_bus_id() is None


def test_a_driver_without_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, monkeypatch, "return 100")
    assert probe_driver() == CudaDriver("ok", "the driver has no device", (12, 6))


@pytest.mark.parametrize(
    ("code", "detail"), [(999, "unknown error (error 999)"), (804, "error 804")], ids=["named", "nameless"]
)
def test_an_initialisation_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, detail: str
) -> None:
    build(tmp_path, monkeypatch, f"return {code}")
    assert probe_driver() == CudaDriver("broken", f"cuInit fails: {detail}", (12, 6))


def test_a_count_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, monkeypatch, "return 0", count_code=999)
    assert probe_driver().detail == "cuDeviceGetCount fails: unknown error (error 999)"


def test_a_driver_that_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, monkeypatch, "abort(); return 0")
    assert probe_driver() == CudaDriver("broken", "the probe of the NVIDIA driver crashed (SIGABRT)")


def test_a_driver_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, monkeypatch, "for (;;) sleep(1); return 0")
    driver = probe_driver(timeout=1)
    assert driver == CudaDriver("broken", "the probe of the NVIDIA driver gave no answer within 1 s")


def test_a_library_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("needs Linux")
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    driver = probe_driver()
    assert driver.state == "broken"
    assert "cannot be loaded" in driver.detail


def test_a_driver_of_which_a_part_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: libcuda.so.1 is there, and a library that it needs is not."""
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    (tmp_path / "empty.c").write_text("int nothing(void) { return 0; }\n")
    for name, more in (("libnvrm.so", []), ("libcuda.so.1", ["-Wl,--no-as-needed", "-L.", "-l:libnvrm.so"])):
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", name, "empty.c", *more], cwd=tmp_path, check=True)
    (tmp_path / "libnvrm.so").unlink()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    driver = probe_driver()
    assert driver.state == "broken"
    assert "libnvrm.so" in driver.detail


@pytest.mark.parametrize(
    "answer",
    ["", "[]", "no JSON", '{"state": "ok"}', '{"devices": 3}', '{"devices": [], "cuda": 5, "more": 1}'],
)
def test_an_answer_that_is_none(answer: str) -> None:
    command = (sys.executable, "-c", f"print({answer!r})")
    driver = probe_driver(command)
    assert driver.state == "broken"
    assert "\n" not in driver.detail


def test_the_program_needs_nothing_of_this_package() -> None:
    """It runs with the standard library alone, so that it also works beside a bare checkout."""
    done = subprocess.run(
        [COMMAND[0], "-I", "-S", COMMAND[2]],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert b'"state"' in done.stdout
