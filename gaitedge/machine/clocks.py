"""How fast this machine's clocks run at the moment, how hot it is, and whether something holds it back.

Two readings, one before and one after a measurement, say whether it was one machine throughout.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

from gaitedge.errors import MachineError
from gaitedge.machine.jetson import find_jetson
from gaitedge.machine.jetson_state import read_jetson
from gaitedge.machine.nvml import read_gpu
from gaitedge.machine.sysfs import matches, read_number, read_text

__all__ = ["changes", "read_clocks"]

MOVED = 0.05
STOLEN = 0.01
# Cooling devices that slow a processor or a GPU down; a fan is one too, and does not.
_SLOWING = ("cpufreq", "devfreq", "processor", "powerclamp")


def read_clocks(root: Path = Path("/")) -> dict[str, Any]:
    """Clocks, temperatures and what throttles, as JSON can hold them.

    What cannot be read is None or not there, and `absent` says why, by the name that it would have. Whoever
    has no work is clocked down: read while the engine is warm, and again right after the measurement.
    """
    absent: dict[str, str] = {}
    clocks = {
        "cpu": _processor(root, absent),
        "temperatures_c": _temperatures(root, absent),
        "cooling": _cooling(root),
        "gpu": None,
        "jetson": None,
        "absent": absent,
    }
    if find_jetson(root) is not None:
        clocks["jetson"], missing = read_jetson(root)
        absent |= {f"jetson.{name}": why for name, why in missing.items()}
        absent["gpu"] = "a Jetson's is under jetson"
        return clocks
    try:
        gpu = read_gpu(root)
    except MachineError as problem:
        absent["gpu"] = str(problem)
        return clocks
    absent |= {f"gpu.{name}": why for name, why in gpu.pop("absent").items()}
    clocks["gpu"] = gpu
    return clocks


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What moved by more than 5 %, or throttled, between two readings: a line each.

    Of a virtual machine also what its neighbours took, from 1 % up.
    """
    was, now = before["cpu"], after["cpu"]
    lines = _moved(was, now, "mhz_highest", "the clock of the fastest core")
    lines += _moved(was, now, "mhz_limit", "the limit of the processor's clock")
    if was["governor"] != now["governor"]:
        lines.append(f"the processor's governor changed from {was['governor']} to {now['governor']}")
    if (count := _rise(was, now, "throttles")) > 0:
        lines.append(f"the processor was throttled for heat, {count:.0f} times")
    lines += [
        f"{name} slows down what it cools, by {state} steps"
        for name, state in after["cooling"].items()
        if state > 0
    ]
    if (total := _rise(was, now, "total_s")) > 0:
        stolen = _rise(was, now, "steal_s") / total
        if stolen >= STOLEN:
            lines.append(f"neighbours of this virtual machine took {stolen:.1%} of its processors' time")
    if before["gpu"] is not None and after["gpu"] is not None:
        lines += _changes_of_gpu(before["gpu"], after["gpu"])
    if before["jetson"] is not None and after["jetson"] is not None:
        lines += _changes_of_jetson(before["jetson"], after["jetson"])
    return lines


def _changes_of_gpu(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    lines = _moved(was, now, "mhz", "the GPU's clock") + _moved(was, now, "memory_mhz", "its memory's clock")
    held = {text: _rise(was["held_back_s"], now["held_back_s"], text) for text in now["held_back_s"]}
    lines += [f"the GPU was held back for {s:.2g} s by: {text}" for text, s in held.items() if s > 0]
    if now["slowed_by"]:
        lines.append(f"the GPU is slowed down by: {', '.join(now['slowed_by'])}")
    return lines


def _changes_of_jetson(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    lines = _moved(was, now, "gpu_mhz", "the GPU's clock") + _moved(
        was, now, "memory_mhz", "the memory's clock"
    )
    if was["power_mode"] != now["power_mode"]:
        lines.append(f"the power mode changed from {was['power_mode']} to {now['power_mode']}")
    if (count := _rise(was, now, "overcurrents")) > 0:
        lines.append(f"the module was throttled for its current, {count:.0f} times")
    return lines


def _moved(was: dict[str, Any], now: dict[str, Any], key: str, name: str) -> list[str]:
    first, last = was[key], now[key]
    if first is None or last is None or not first or abs(last / first - 1) <= MOVED:
        return []
    return [f"{name} moved from {first:.0f} to {last:.0f} MHz ({last / first - 1:+.0%})"]


def _rise(was: dict[str, Any], now: dict[str, Any], key: str) -> float:
    """Of a counter; 0 where it is not there."""
    return 0.0 if was[key] is None or now[key] is None else float(now[key] - was[key])


def _processor(root: Path, absent: dict[str, str]) -> dict[str, Any]:
    folders = matches(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    now = _numbers(folders, "scaling_cur_freq")
    if not now:
        absent["cpu.mhz"] = (
            "the kernel offers no cpufreq (clocks, limits, governor): most virtual machines have none"
        )
    governors = sorted({text for folder in folders if (text := read_text(folder / "scaling_governor"))})
    counts = matches(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
    throttles = [count for path in counts if (count := read_number(path)) is not None]
    if not throttles:
        absent["cpu.throttles"] = "the kernel counts none here; it does on x86 outside of virtual machines"
    load = (read_text(root / "proc/loadavg") or "").split()[:3]
    total, steal = _times(root)
    if not load or total is None:
        absent["cpu.load"] = absent["cpu.steal_s"] = "the system has no /proc as Linux has it"
    return {
        "mhz": _mhz(statistics.fmean(now)) if now else None,
        "mhz_lowest": _mhz(min(now)) if now else None,
        "mhz_highest": _mhz(max(now)) if now else None,
        "mhz_floor": _mhz(min(_numbers(folders, "scaling_min_freq"), default=None)),
        "mhz_limit": _mhz(max(_numbers(folders, "scaling_max_freq"), default=None)),
        "governor": ", ".join(governors) or None,
        "throttles": sum(throttles) if throttles else None,
        "load": [float(each) for each in load] or None,
        "total_s": total,
        "steal_s": steal,
    }


def _mhz(khz: float | None) -> float | None:
    return None if khz is None else round(khz / 1e3, 1)


def _numbers(folders: list[Path], name: str) -> list[int]:
    return [number for folder in folders if (number := read_number(folder / name)) is not None]


def _times(root: Path) -> tuple[float | None, float | None]:
    """Seconds of all processors since the machine started: in all, and those that neighbours took."""
    fields = (read_text(root / "proc/stat") or "").split("\n", 1)[0].split()
    # "cpu" user nice system idle iowait irq softirq steal; guest times are in user already
    if len(fields) < 9 or fields[0] != "cpu":
        return None, None
    ticks = [int(field) for field in fields[1:9]]
    second = os.sysconf("SC_CLK_TCK")
    return sum(ticks) / second, ticks[7] / second


def _temperatures(root: Path, absent: dict[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for zone in matches(root, "sys/class/thermal/thermal_zone[0-9]*"):
        degrees = read_number(zone / "temp")
        if degrees is not None:
            name = read_text(zone / "type") or zone.name
            found[name if name not in found else f"{name} ({zone.name})"] = degrees / 1e3
    if not found:
        absent["temperatures_c"] = "the kernel offers no thermal zone"
    return found


def _cooling(root: Path) -> dict[str, int]:
    """Devices that slow down what they cool, and the state that each is in; 0 is not at all."""
    found = {}
    for device in matches(root, "sys/class/thermal/cooling_device[0-9]*"):
        name, state = read_text(device / "type") or "", read_number(device / "cur_state")
        if state is not None and any(word in name.lower() for word in _SLOWING):
            found[f"{name} ({device.name})"] = state
    return found
