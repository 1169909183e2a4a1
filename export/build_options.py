"""What there is to choose when a TensorRT engine is built, and which choices are possible."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from gaitedge.errors import InputError

__all__ = ["BuildOptions", "HardwareCompatibility", "Range"]

HardwareCompatibility = Literal["none", "ampere+", "same-compute-capability"]

_HOW = "write minimum:optimum:maximum, as in 1:30:300"
_LARGEST = 2**31 - 1  # of any dimension in TensorRT


@dataclass(frozen=True)
class Range:
    """A dimension's range in an optimisation profile: an engine takes minimum to maximum, and its kernels
    are the fastest ones at the optimum.

    Raises InputError where they are not in that order, or below 1.
    """

    minimum: int
    optimum: int
    maximum: int

    def __post_init__(self) -> None:
        low, best, high = self.values
        problem = None
        if any(type(value) is not int for value in self.values):
            problem = "these are not three whole numbers"
        elif low < 1:
            problem = f"the minimum {low} is below 1"
        elif best < low:
            problem = f"the optimum {best} is below the minimum {low}"
        elif high < best:
            problem = f"the maximum {high} is below the optimum {best}"
        elif high > _LARGEST:
            problem = f"the maximum {high} is beyond TensorRT's {_LARGEST}"
        if problem is not None:
            raise InputError(f"{self}: {problem}; {_HOW}")

    @classmethod
    def parse(cls, text: str, name: str = "") -> Range:
        """Read "1:30:300". name: what messages begin with, as in "batch". Raises InputError."""
        prefix = f"{name} " if name else ""
        if not re.fullmatch(r"-?[0-9]{1,18}(:-?[0-9]{1,18}){2}", text.strip()):
            raise InputError(f"{prefix}{text.strip()[:40]!r} is no range; {_HOW}")
        try:
            return cls(*(int(part) for part in text.split(":")))
        except InputError as error:
            raise InputError(f"{prefix}{error}") from None

    @property
    def values(self) -> tuple[int, int, int]:
        """Minimum, optimum, maximum."""
        return self.minimum, self.optimum, self.maximum

    def __str__(self) -> str:
        return ":".join(map(str, self.values))


@dataclass(frozen=True)
class BuildOptions:
    """The options of a build. Raises InputError where one is impossible."""

    batch: Range = Range(1, 1, 8)
    """Sequences at once."""
    frames: Range = Range(1, 30, 300)
    """Frames of a sequence: the paper trains with 30, and walks are up to some hundreds long."""
    workspace: float = 0.5
    """Largest part of the memory that is free when the build begins, that a single kernel may use."""
    timing_cache: Path | None = None
    """None: one for each GPU and version of TensorRT, in the user's cache folder."""
    hardware_compatibility: HardwareCompatibility = "none"
    """On which other GPUs the engine shall run too; it gets slower for it."""
    version_compatible: bool = False
    """Whether a newer TensorRT shall run it; it gets larger and slower for it."""
    optimization_level: int = 3
    """0 to 5: how long TensorRT looks for faster kernels; 3 is its own choice."""

    def __post_init__(self) -> None:
        if not 0 < self.workspace <= 1:  # NaN fails too
            raise InputError(
                f"a workspace of {self.workspace} is no fraction of the free memory; "
                "take one above 0, and 1 at most, as in 0.5"
            )
        if type(self.version_compatible) is not bool:
            raise InputError(f"version_compatible is true or false, not {self.version_compatible!r}")
        if type(self.optimization_level) is not int or not 0 <= self.optimization_level <= 5:
            raise InputError(f"an optimisation level is 0 to 5, not {self.optimization_level}")
        if self.hardware_compatibility not in get_args(HardwareCompatibility):
            levels = ", ".join(get_args(HardwareCompatibility))
            raise InputError(
                f"unknown hardware compatibility {self.hardware_compatibility!r}; there are: {levels}"
            )

    def to_json(self) -> dict[str, Any]:
        """What a bundle keeps of it: all but the timing cache, which is this machine's own business."""
        return {
            "batch": list(self.batch.values),
            "frames": list(self.frames.values),
            "workspace": self.workspace,
            "hardware_compatibility": self.hardware_compatibility,
            "version_compatible": self.version_compatible,
            "optimization_level": self.optimization_level,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> BuildOptions:
        """Read what to_json gave. Raises InputError on anything else."""
        try:
            if "timing_cache" in values:  # a file of this machine's, which no bundle may choose
                raise TypeError("a bundle has no timing cache")
            ranges = {name: Range(*values[name]) for name in ("batch", "frames")}
            return cls(**{**values, **ranges})
        except (KeyError, TypeError) as error:
            raise InputError(f"{values} are not the options of a build: {error}") from None
