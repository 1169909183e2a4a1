"""What a Jetson takes, by the power monitors on its board: INA3221 and, on Thor, INA238.

Each rail has a voltage and a current under /sys/class/hwmon, which every user may read. Which rails together
are the whole module differs from board to board:

- Orin Nano, Orin NX: VDD_IN is the module's input, and holds the others.
- AGX Orin: the module has two inputs. VDD_GPU_SOC and VDD_CPU_CV hang on the first, VIN_SYS_5V0 is the
  second, which feeds VDDQ_VDD2_1V8AO (of the memory) as well.
- Thor: the board's INA238 measures VIN, module and carrier; without it VDD_GPU + VDD_CPU_SOC_MSS +
  VIN_SYS_5V0 are the module.

Sources: NVIDIA's Jetson Linux Developer Guide, "Power and Performance"; Documentation/hwmon/ina3221.rst and
ina238.rst of Linux.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gaitedge.errors import MachineError
from gaitedge.machine.sysfs import matches, read_number, read_text

__all__ = ["Rail", "find_rails", "whole"]

# What the whole is the sum of; the first set that a board has all of counts.
_WHOLE = (
    ("VDD_IN",),
    ("VIN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
)


@dataclass(frozen=True)
class Rail:
    """One supply and its monitor."""

    name: str
    monitor: str
    """"INA3221" or "INA238"."""
    power: Path | None
    """Microwatts, where the monitor multiplies itself."""
    voltage: Path
    """Millivolts."""
    current: Path
    """Milliamperes. A little below 0 on a rail that takes nothing."""

    def watts(self) -> float:
        """At the moment. Raises MachineError where the monitor does not answer."""
        if self.power is not None:
            microwatts = read_number(self.power)
            if microwatts is not None:
                return microwatts / 1e6
        voltage, current = read_number(self.voltage), read_number(self.current)
        if voltage is None or current is None:
            raise MachineError(f"the power monitor of {self.name} cannot be read ({self.voltage.parent})")
        return voltage * current / 1e6


def find_rails(root: Path = Path("/")) -> dict[str, Rail]:
    """The rails of this Jetson that have a monitor, by name."""
    rails = {}
    for folder in matches(root, "sys/class/hwmon/hwmon[0-9]*"):
        chip = read_text(folder / "name") or ""
        if chip == "ina3221":
            for channel in (1, 2, 3):
                name = (read_text(folder / f"in{channel}_label") or "").replace(" ", "_")
                if name and name != "NC" and (folder / f"curr{channel}_input").exists():  # NC: not connected
                    rails[name] = Rail(
                        name,
                        "INA3221",
                        None,
                        folder / f"in{channel}_input",
                        folder / f"curr{channel}_input",
                    )
        elif chip == "ina238":
            # One channel, at the board's input; in0 is the shunt.
            rails["VIN"] = Rail(
                "VIN", "INA238", folder / "power1_input", folder / "in1_input", folder / "curr1_input"
            )
    return rails


def whole(names: Mapping[str, object]) -> tuple[str, ...]:
    """The rails that together are the whole module. Raises MachineError on a board that is not known here."""
    for wanted in _WHOLE:
        if all(name in names for name in wanted):
            return wanted
    if not names:
        raise MachineError("this Jetson shows no power monitor under /sys/class/hwmon")
    raise MachineError(f"which of this Jetson's rails are the whole module is not known: {', '.join(names)}")
