"""How a Jetson is set at the moment: power mode, clocks of GPU and memory, whether they are held fast.

`nvpmodel` sets the power mode, `jetson_clocks` holds every clock at the mode's maximum; both last until they
are set anew, or the machine restarts. Source: NVIDIA's Jetson Linux Developer Guide, "Power and Performance".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gaitedge.machine.isolation import run_apart
from gaitedge.machine.sysfs import matches, read_number, read_text

__all__ = ["NVPMODEL", "power_mode", "read_jetson"]

NVPMODEL = ("nvpmodel", "-q")

# The GPU in /sys/class/devfreq: "17000000.gpu" on Orin, or "17000000.ga10b", and "gpu-gpc-0" on Thor.
_GPU = re.compile(r"gpu|\bg[abpv]\d\d[a-z]$")
_MEMORY = "sys/kernel/debug/bpmp/debug/clk/emc/rate"


def power_mode(root: Path = Path("/"), command: Sequence[str] = NVPMODEL) -> str | None:
    """As in "MAXN (0)" or "15W (2)"; None where the Jetson does not say.

    What nvpmodel wrote down is read; only without it nvpmodel is asked, which some releases leave to root.
    """
    found = re.search(r"pmode:0*(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    if found is not None:
        number = found[1]
        modes = read_text(root / "etc/nvpmodel.conf") or ""
        name = re.search(rf"^\s*<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+)", modes, re.MULTILINE)
        return f"{name[1]} ({number})" if name else f"mode {number}"
    said = re.search(r"NV Power Mode:\s*(\S+)(?:\s+(\d+))?", run_apart(command, 5).output)
    if said is None:
        return None
    return f"{said[1]} ({said[2]})" if said[2] else said[1]


def read_jetson(
    root: Path = Path("/"), command: Sequence[str] = NVPMODEL
) -> tuple[dict[str, Any], dict[str, str]]:
    """Of a Jetson, its power mode and the clocks of GPU and memory; and why what is None is absent."""
    absent: dict[str, str] = {}
    mode = power_mode(root, command)
    if mode is None:
        absent["power_mode"] = "neither /var/lib/nvpmodel/status nor nvpmodel -q says; try: sudo nvpmodel -q"
    folders = [path for path in matches(root, "sys/class/devfreq/*") if _GPU.search(path.name)]
    gpus = [now for folder in folders if (now := read_number(folder / "cur_freq")) is not None]
    if not gpus:
        absent["gpu_mhz"] = "no GPU under /sys/class/devfreq"
    memory = read_number(root / _MEMORY)
    if memory is None:
        absent["memory_mhz"] = f"/{_MEMORY} can be read by root alone"
    held = _held(root, folders)
    if held is None:
        absent["clocks_held"] = "the kernel shows no limits of the clocks"
    alarms = [
        count
        for path in matches(root, "sys/class/hwmon/hwmon*/oc*_event_cnt")
        if (count := read_number(path)) is not None
    ]
    if not alarms:
        absent["overcurrents"] = "the kernel counts none (/sys/class/hwmon/hwmon*/oc*_event_cnt)"
    limits = [limit for folder in folders if (limit := read_number(folder / "max_freq")) is not None]
    return {
        "power_mode": mode,
        "clocks_held": held,
        "gpu_mhz": max(gpus) / 1e6 if gpus else None,
        "gpu_mhz_limit": max(limits) / 1e6 if limits else None,
        "memory_mhz": None if memory is None else memory / 1e6,
        "overcurrents": sum(alarms) if alarms else None,
    }, absent


def _held(root: Path, gpus: list[Path]) -> bool | None:
    """Whether each clock's lower limit is its upper one, which is what jetson_clocks does.

    Its own `--show` needs root.
    """
    limits = [(read_number(folder / "min_freq"), read_number(folder / "max_freq")) for folder in gpus] + [
        (read_number(folder / "scaling_min_freq"), read_number(folder / "scaling_max_freq"))
        for folder in matches(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    ]
    known = [(low, high) for low, high in limits if low is not None and high is not None]
    return all(low == high for low, high in known) if known else None
