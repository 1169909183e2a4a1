"""What an x86 processor and its memory take, by RAPL's counters under /sys/class/powercap.

AMD's processors are there too, under Intel's name. Since 2020 only root may read the counters: what a
processor draws tells something of what it computes (CVE-2020-8694).
Source: Documentation/power/powercap/powercap.rst of Linux.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gaitedge.errors import MachineError
from gaitedge.machine.cpu import cpu_features
from gaitedge.machine.sysfs import matches, read_number, read_text, why_unreadable

__all__ = ["Rapl", "find_rapl"]

_INTERVAL_S = 10.0
_MOST_WATTS = (
    2000.0  # of one counter: how soon it may run over; the smallest hold 65 kJ, and so half a minute
)


@dataclass
class _Zone:
    """One counter, which begins again at 0 where it ends."""

    name: str
    counter: Path
    range: int | None
    """In microjoules; None where the kernel does not say."""
    last: int | None = None
    microjoules: int = 0
    """Since the first reading."""

    def read(self) -> int:
        value = read_number(self.counter)
        if value is None:
            raise MachineError(f"{self.counter} cannot be read any more")
        if self.last is not None:
            step = value - self.last
            if step < 0:
                if self.range is None:
                    raise MachineError(f"{self.counter} ran over, and its range is not known")
                step += self.range
            self.microjoules += step
        self.last = value
        return self.microjoules


class Rapl:
    """The packages of this machine, and their memory where it is counted apart."""

    def __init__(self, zones: list[_Zone]) -> None:
        self.name = "RAPL, " + " + ".join(zone.name for zone in zones)
        ranges = [zone.range for zone in zones if zone.range is not None]
        self.interval_s = min([_INTERVAL_S, *(range_ / 1e6 / _MOST_WATTS for range_ in ranges)])
        self._zones = zones

    def joules(self) -> float:
        """Since the first call. Raises MachineError where a counter cannot be read any more."""
        return sum(zone.read() for zone in self._zones) / 1e6

    def close(self) -> None:
        """Nothing is held."""


def find_rapl(root: Path = Path("/")) -> Rapl:
    """RAPL's counters. Raises MachineError where there is none, or none that this user may read."""
    zones = []
    package = ""
    # "intel-rapl:0" is a package and "intel-rapl:0:1" a part of it, of which the memory alone is not in the
    # package's figure; "psys" is the whole board, and "intel-rapl-mmio:0" the same package again.
    for folder in sorted(matches(root, "sys/class/powercap/intel-rapl:*"), key=lambda path: path.name):
        name = read_text(folder / "name") or ""
        if name.startswith("package"):
            package = name
        elif name == "dram":
            name = f"{package} dram".lstrip()
        else:
            continue
        counter = folder / "energy_uj"
        problem = why_unreadable(counter)
        if problem is not None:
            raise MachineError(
                f"RAPL's counter cannot be read ({counter}: {problem}); run as root, or let everyone read it "
                "until the next restart: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
            )
        zones.append(_Zone(name, counter, read_number(folder / "max_energy_range_uj")))
    if not any(zone.name.startswith("package") for zone in zones):
        if "hypervisor" in cpu_features(root / "proc/cpuinfo"):
            raise MachineError(
                "this is a virtual machine, which sees no energy counter of the processor (RAPL); "
                "measure on the machine itself"
            )
        raise MachineError(
            "the kernel shows no energy counter of the processor (RAPL, /sys/class/powercap); "
            "on x86 load it: sudo modprobe intel_rapl_msr; other processors have none"
        )
    return Rapl(zones)
