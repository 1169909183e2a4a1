"""Which Jetson this is, which JetPack it runs, and what comes with that one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Jetson", "find_jetson"]

# Jetson Linux -> JetPack and its TensorRT; the longest prefix counts. JetPack 5 and older have
# Python 3.8 or 3.6.
_RELEASES = {
    "32": ("4", "8.2 or older"),
    "34": ("5.0 developer preview", "8.4"),
    "35": ("5", "8.4 or 8.5"),
    "35.1": ("5.0.2", "8.4.1"),
    "35.2.1": ("5.1", "8.5.2"),
    "35.3.1": ("5.1.1", "8.5.2"),
    "35.4.1": ("5.1.2", "8.5.2"),
    "35.5": ("5.1.3", "8.5.2"),
    "35.6": ("5.1.4 or newer", "8.5.2"),
    "36.2": ("6.0 developer preview", "8.6.2"),
    "36.3": ("6.0", "8.6.2"),
    "36.4": ("6.1 to 6.2.1", "10.3"),
    "36.4.0": ("6.1", "10.3"),
    "36.4.3": ("6.2", "10.3"),
    "36.4.4": ("6.2.1", "10.3"),
    "36.5": ("6.2.2", "10.3"),
    "38.2": ("7.0", "10.13"),
    "38.4": ("7.1", "10.13"),
    "39.2": ("7.2", "10.16"),
}
_OLDEST = 36  # Jetson Linux 36 is JetPack 6, the first one with Python 3.10


@dataclass(frozen=True)
class Jetson:
    """A Jetson and its software."""

    model: str
    """As the board names itself."""
    linux: str | None
    """Release of Jetson Linux (L4T), such as "36.4.3"; None where the system does not say."""
    jetpack: str | None
    """None where the release is not known to this version of GaitEdge."""
    tensorrt: str | None
    """The TensorRT that belongs to it."""
    supported: bool


def find_jetson(root: Path) -> Jetson | None:
    """Look for a Jetson under the file system's root; None where this is none."""
    try:
        text = (root / "etc/nv_tegra_release").read_text(errors="replace")
    except OSError:
        text = ""  # in a container the file may be missing
    try:
        model = (root / "proc/device-tree/model").read_text(errors="replace").strip("\0\n ")
    except OSError:
        model = ""
    if not text and not ("jetson" in model.lower() and "nvidia" in model.lower()):
        return None
    found = re.search(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", text)
    model = model or "Jetson of an unknown model"
    if found is None:
        return Jetson(model, None, None, None, supported=True)
    linux = f"{found[1]}.{found[2]}"
    numbers = linux.split(".")
    jetpack = tensorrt = None
    for length in range(len(numbers), 0, -1):
        if (release := _RELEASES.get(".".join(numbers[:length]))) is not None:
            jetpack, tensorrt = release
            break
    return Jetson(model, linux, jetpack, tensorrt, int(numbers[0]) >= _OLDEST)
