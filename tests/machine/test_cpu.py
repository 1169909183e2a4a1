from __future__ import annotations

from pathlib import Path

import pytest

from gaitedge.machine import cpu
from gaitedge.machine.cpu import CPUINFO, cpu_features, cpu_model, usable_cores

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8480C
flags\t\t: fpu sse avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8480C
flags\t\t: fpu sse avx2 avx512f avx512_vnni avx512_bf16
"""
ORIN = """processor\t: 0
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes crc32 atomics asimddp uscat
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd42
"""


def test_a_feature_counts_where_every_core_has_it(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(XEON)
    features = cpu_features(tmp_path / "cpuinfo")
    assert features == {"fpu", "sse", "avx2", "avx512f", "avx512_vnni", "avx512_bf16"}
    assert cpu_model(tmp_path / "cpuinfo") == "Intel(R) Xeon(R) Platinum 8480C"


def test_arm(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(ORIN)
    assert {"asimd", "asimddp"} <= cpu_features(tmp_path / "cpuinfo")
    assert cpu_model(tmp_path / "cpuinfo") == "Cortex-A78AE"


def test_big_and_little_cores_are_both_named(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(ORIN + ORIN.replace("0xd42", "0xfff"))
    assert cpu_model(tmp_path / "cpuinfo") == "Cortex-A78AE + Arm core 0x41/0xfff"


@pytest.mark.parametrize("text", [None, "", "processor\t: 0\n", "flags\t:\nmodel name\t:\n"])
def test_unknown_where_the_system_does_not_say(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert cpu_features(tmp_path / "cpuinfo") == frozenset()
    assert cpu_model(tmp_path / "cpuinfo") is None


def test_undecodable_bytes_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_bytes(b"model name : \xff\xfe\nflags : avx2 \xff\n")
    assert "avx2" in cpu_features(tmp_path / "cpuinfo")


@pytest.mark.skipif(not CPUINFO.exists(), reason="only Linux has /proc/cpuinfo")
def test_this_machine_says_something() -> None:
    assert cpu_features()


@pytest.mark.parametrize(
    ("quota", "siblings", "cores"),
    [
        ({"cpu.max": "max 100000"}, 4, 4),
        ({"cpu.max": "150000 100000"}, 4, 2),
        ({"cpu.max": "10000 100000"}, 4, 1),
        ({"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"}, 4, 3),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 4, 4),
        ({}, 2, 2),  # four hyper-threads on two cores
    ],
)
def test_cores_are_physical_and_within_the_quota(
    monkeypatch: pytest.MonkeyPatch, quota: dict[str, str], siblings: int, cores: int
) -> None:
    def read(path: str, otherwise: str) -> str:
        if path.endswith("thread_siblings_list"):
            return str(int(Path(path).parts[-3].removeprefix("cpu")) % siblings)
        return quota.get(Path(path).name, otherwise)

    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cpu, "_read_line", read)
    assert usable_cores() == cores
