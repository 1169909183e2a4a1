"""How GaitPart was trained: the recipes of Sec. 4.1 and the one for synthetic walkers."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError

__all__ = ["PRESETS", "Order", "Precision", "Preset", "Recipe", "Schedule"]

Order = Literal["sorted", "shuffled"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Schedule = Literal["constant", "cosine"]

_WARM_UP = 0.03  # of the iterations, where the schedule is a cosine

_RANGES = (
    ("iterations", 1, 99_999_999),  # a checkpoint's name has eight digits
    ("subjects", 2, 1_000_000),
    ("samples", 2, 1_000_000),
    ("frames", 1, 1_000_000),
    ("seed", 0, 2**64 - 1),  # PyTorch's own limit
)


@dataclass(frozen=True)
class Recipe:
    """What decides the weights that come out, besides the data. The defaults are Sec. 4.1's for CASIA-B.

    Raises InputError where a value is impossible.
    """

    iterations: int = 120_000
    """Steps of the optimiser."""
    subjects: int = 8
    """P: subjects in a batch."""
    samples: int = 16
    """K: sequences of each."""
    frames: int = 30
    """Frames of each sequence."""
    order: Order = "sorted"
    """Of these frames (Tab. 7)."""
    margin: float = 0.2
    """Of the triplet loss."""
    learning_rate: float = 1e-4
    """Of Adam, at its highest."""
    schedule: Schedule = "constant"
    """constant: falls to a tenth after each of `drops`. cosine: warms up, then falls to zero."""
    drops: tuple[int, ...] = ()
    """Iterations after which the learning rate is a tenth of what it was."""
    precision: Precision = "auto"
    """Of forward and backward under autocast; auto: bf16 where the device computes
    in it, else fp16 on a GPU and fp32 on a CPU."""
    clip: float | None = None
    """Largest norm of all gradients together; None leaves them alone."""
    seed: int = 0
    """Of the first weights and of every batch."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "drops", tuple(self.drops))

        def check(good: bool, message: str) -> None:
            if not good:
                raise InputError(f"impossible training: {message}")

        for name, least, most in _RANGES:
            value = getattr(self, name)
            check(value >= least, f"{name} must be {least} or more, not {value}")
            check(value <= most, f"{name} must be {most} or less, not {value}")
        for name in ("margin", "learning_rate"):
            value = getattr(self, name)
            check(0 < value < math.inf, f"{name} must be above 0 and finite, not {value}")
        clip = self.clip
        check(clip is None or 0 < clip < math.inf, f"clip must be above 0 and finite, not {clip}")
        for name, choices in (("order", Order), ("precision", Precision), ("schedule", Schedule)):
            value = getattr(self, name)
            check(
                value in get_args(choices), f"{name} must be {' or '.join(get_args(choices))}, not {value!r}"
            )

    def rate(self, iteration: int) -> float:
        """Adam's learning rate at an iteration, counted from 1."""
        if self.schedule == "constant":
            return float(self.learning_rate * 0.1 ** sum(iteration > drop for drop in self.drops))
        warm_up = max(1, round(_WARM_UP * self.iterations))
        if iteration <= warm_up:
            return self.learning_rate * iteration / warm_up
        share = (iteration - warm_up) / max(1, self.iterations - warm_up + 1)
        return self.learning_rate * (1 + math.cos(math.pi * share)) / 2

    def changed(self, batch: str | None = None, **values: Any) -> Recipe:
        """A recipe with some values replaced; those that are None stay.

        batch: subjects, samples and frames, as in "8,16,30". Raises InputError where it is no such text.
        """
        if batch is not None:
            values |= _batch_of(batch)
        return dataclasses.replace(self, **{key: value for key, value in values.items() if value is not None})


@dataclass(frozen=True)
class Preset:
    """A network, how to train it, and on whom."""

    config: GaitPartConfig = field(default_factory=GaitPartConfig)
    recipe: Recipe = field(default_factory=Recipe)
    split: str = "casia-b"
    """A split of gaitedge.data.splits: its train side is trained on, its test side evaluated."""


_OUMVLP = Recipe(iterations=250_000, subjects=32, samples=16, drops=(150_000,))

PRESETS = {
    "casia-b": Preset(),  # Sec. 4.1
    "oumvlp": Preset(  # Sec. 4.1: a fourth block, p = 1, 1, 3, 3
        GaitPartConfig(channels=(32, 64, 128, 256), strips=(1, 1, 1, 1, 3, 3, 3, 3)),
        _OUMVLP,
        "oumvlp",
    ),
    "oumvlp-opengait": Preset(  # as the authors' own code has it: p = 1, 1, 8, 8
        GaitPartConfig(channels=(32, 64, 128, 256), strips=(1, 1, 1, 1, 8, 8, 8, 8)),
        _OUMVLP,
        "oumvlp",
    ),
    "walkers": Preset(  # minutes on a CPU: small batches of short clips, few iterations
        GaitPartConfig(),
        Recipe(iterations=600, samples=6, frames=12, learning_rate=6e-4, schedule="cosine"),
        "walkers",
    ),
}


def _batch_of(text: str) -> dict[str, int]:
    numbers = text.split(",")
    if len(numbers) != 3 or not all(number.strip().isdecimal() for number in numbers):
        raise InputError(f"a batch is subjects,samples,frames, as in 8,16,30, not {text!r}")
    return dict(zip(("subjects", "samples", "frames"), map(int, numbers), strict=True))
