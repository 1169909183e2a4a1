"""How fast this machine's clocks run at the moment, how hot it is, and whether something holds it back.

Two readings, one before and one after a measurement, say whether it was one machine throughout.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

from gaitedge.machine.sysfs import matches, read_number, read_text

__all__ = ["changes", "read_clocks"]

MOVED = 0.05
STOLEN = 0.01
# Cooling devices that slow a processor or a GPU down; a fan is one too, and does not.
_SLOWING = ("cpufreq", "devfreq", "processor", "powerclamp")


def read_clocks(root: Path = Path("/")) -> dict[str, Any]:
    """Clocks, temperatures and what throttles, as JSON can hold them.

    What cannot be read is None, and `absent` says why. A processor without work clocks down: read once
    the engine is warm, and again right after the measurement.
    """
    absent: dict[str, str] = {}
    return {
        "cpu": _processor(root, absent),
        "temperatures_c": _temperatures(root, absent),
        "cooling": _cooling(root),
        "absent": absent,
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What moved by more than 5 %, or throttled, between two readings: a line each."""
    lines: list[str] = []
    was, now = before["cpu"], after["cpu"]
    for key, name in (
        ("mhz_highest", "the processor's clock"),
        ("mhz_limit", "the processor's highest clock"),
    ):
        lines += _moved(name, was[key], now[key])
    if was["governor"] != now["governor"]:
        lines.append(f"the governor changed from {was['governor']} to {now['governor']}")
    if was["throttles"] is not None and now["throttles"] is not None and now["throttles"] > was["throttles"]:
        lines.append(f"the processor was throttled for heat {now['throttles'] - was['throttles']} times")
    lines += [
        f"{name} holds the clocks back, in state {state}"
        for name, state in after["cooling"].items()
        if state > 0
    ]
    total = _difference(was, now, "total_s")
    if total and (stolen := _difference(was, now, "steal_s") / total) >= STOLEN:
        lines.append(f"neighbours of this virtual machine took {stolen:.1%} of its processors' time")
    return lines


def _moved(name: str, was: float | None, now: float | None) -> list[str]:
    if was is None or now is None or not was or abs(now / was - 1) <= MOVED:
        return []
    return [f"{name} moved from {was:.0f} to {now:.0f} MHz ({now / was - 1:+.0%})"]


def _difference(was: dict[str, Any], now: dict[str, Any], key: str) -> float:
    return 0.0 if was[key] is None or now[key] is None else float(now[key] - was[key])


def _processor(root: Path, absent: dict[str, str]) -> dict[str, Any]:
    folders = matches(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    now = _numbers(folders, "scaling_cur_freq")
    if not now:
        absent["cpu.mhz"] = "the kernel offers no cpufreq: most virtual machines and containers have none"
    governors = sorted({text for folder in folders if (text := read_text(folder / "scaling_governor"))})
    counts = matches(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
    throttles = [count for path in counts if (count := read_number(path)) is not None]
    if not throttles:
        absent["cpu.throttles"] = "the kernel counts none here: x86 without a virtual machine does"
    load = (read_text(root / "proc/loadavg") or "").split()[:3]
    total, steal = _times(root)
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
