"""What the processor calls itself, which instruction sets programs may use, and how many cores."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["CPUINFO", "cpu_features", "cpu_model", "usable_cores"]

CPUINFO = Path("/proc/cpuinfo")

_FEATURE_LINES = ("flags", "features")  # x86 and Arm
_MODEL_LINES = ("model name", "hardware", "cpu model")
# An Arm core says only numbers: implementer 0x41 is Arm, 0x4e NVIDIA, 0xc0 Ampere.
_ARM_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse N1",
    ("0x41", "0xd40"): "Neoverse V1",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse N2",
    ("0x41", "0xd4f"): "Neoverse V2",
    ("0x41", "0xd83"): "Neoverse V3AE",
    ("0x4e", "0x003"): "Denver 2",
    ("0x4e", "0x004"): "Carmel",
    ("0xc0", "0xac3"): "Ampere-1",
}


def cpu_features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Instruction sets that every core has, by Linux' lower-case names.

    Such as `avx2`, `avx512_vnni`, `avx512_bf16`, `amx_bf16` on x86, and `asimd`, `asimddp`,
    `i8mm`, `bf16` on Arm. Empty where the system does not say: on anything but Linux.
    """
    per_core = [
        frozenset(value.lower().split()) for key, value in _lines(cpuinfo) if key in _FEATURE_LINES and value
    ]
    return frozenset.intersection(*per_core) if per_core else frozenset()


def cpu_model(cpuinfo: Path = CPUINFO) -> str | None:
    """The processor's name, or None where the system does not say."""
    lines = _lines(cpuinfo)
    for wanted in _MODEL_LINES:
        for key, value in lines:
            if key == wanted and value:
                return value
    makers = [value.lower() for key, value in lines if key == "cpu implementer"]
    parts = [value.lower() for key, value in lines if key == "cpu part"]
    cores = dict.fromkeys(
        _ARM_CORES.get(core, f"Arm core {core[0]}/{core[1]}") for core in zip(makers, parts, strict=False)
    )
    return " + ".join(cores) or None


def _lines(cpuinfo: Path) -> list[tuple[str, str]]:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []  # no Linux, or a sandbox that hides it: unknown is an answer here
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return [(key.strip().lower(), value.strip()) for key, _, value in pairs]


def usable_cores() -> int:
    """Cores that this process may keep busy: physical ones, within its affinity and its cgroup's quota.

    Two hyper-threads of a core share its arithmetic units, which one thread fills.
    """
    try:
        cpus = os.sched_getaffinity(0)
    except AttributeError:  # no Linux
        return os.cpu_count() or 1
    siblings = {
        _read_line(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", str(cpu))
        for cpu in cpus
    }
    return max(1, math.ceil(min(len(siblings), _quota())))


def _quota() -> float:
    """Processors' worth of time that the cgroup grants, infinite where it sets no limit."""
    quota, _, period = _read_line("/sys/fs/cgroup/cpu.max", "max").partition(" ")  # cgroup 2: "150000 100000"
    if not period:
        quota = _read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "max")  # cgroup 1: "-1" for none
        period = _read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else math.inf


def _read_line(path: str, otherwise: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return otherwise  # another kernel or a sandbox: no such limit is known
