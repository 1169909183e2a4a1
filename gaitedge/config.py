"""What there is to choose in a GaitPart network: one frozen dataclass, and the sizes that follow."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from gaitedge.errors import InputError

__all__ = ["HEIGHT", "WIDTH", "GaitPartConfig", "strip_heights"]

HEIGHT, WIDTH = 64, 44  # of an aligned silhouette, in pixels (Sec. 4.1)
MAX_POOLS = 2  # 2x2 max-pools of the frame network: after block 1 and after block 2 (Tab. 1)


def strip_heights(height: int, strips: int) -> list[int]:
    """Rows of each horizontal strip, top to bottom; where they cannot be equal the upper ones get
    a row more: 16 rows in 3 strips are 6, 5, 5."""
    rows, extra = divmod(height, strips)
    return [rows + (index < extra) for index in range(strips)]


@dataclass(frozen=True)
class GaitPartConfig:
    """The choices of Tables 1, 2, 5 and 6; the defaults are the paper's network for CASIA-B.

    Raises InputError where a value is impossible.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    """Output channels of each block of two FConvs (Tab. 1)."""
    strips: tuple[int, ...] = (1, 1, 4, 4, 8, 8)
    """p of each FConv, two a block (Tab. 1, Tab. 5). Need not divide the height."""
    parts: int = 16
    """n, the rows of the PR-Matrix (Sec. 3.1)."""
    templates: tuple[int, ...] = (1, 2)
    """The micro-motion template builders used: 1 is MTB1 (window 3), 2 is MTB2 (window 5); Tab. 6."""
    attention: bool = True
    """Re-weight the micro-motion features by channel (Eq. 6, Tab. 6)."""
    temporal_pooling: Literal["max", "mean"] = "max"
    """TP (Eq. 11 or Eq. 9, Tab. 6)."""
    squeeze: int = 4
    """s, the squeeze ratio of the attention's first convolution (Tab. 2)."""
    embedding_dim: int = 256
    """Output of each part's fully connected layer. 256 gives the paper's 1.47 M parameters."""

    def __post_init__(self) -> None:
        for name in ("channels", "strips", "templates"):
            object.__setattr__(self, name, tuple(int(value) for value in getattr(self, name)))

        def check(good: bool, message: str) -> None:
            if not good:
                raise InputError(f"impossible network: {message}")

        check(len(self.channels) >= 1, "it needs at least one block of channels")
        for name, value in [
            *(("channels", value) for value in self.channels),
            *(("strips", value) for value in self.strips),
            ("parts", self.parts),
            ("squeeze", self.squeeze),
            ("embedding_dim", self.embedding_dim),
        ]:
            check(value >= 1, f"{name} must be 1 or more, not {value}")
        layers = 2 * len(self.channels)
        check(len(self.strips) == layers, f"{layers} FConvs need {layers} strip counts, not {self.strips}")
        for layer, strips in enumerate(self.strips):
            rows = self.height(layer)
            check(strips <= rows, f"FConv{layer + 1} has {rows} rows and cannot be cut into {strips} strips")
        rows = self.height(layers - 1)
        check(self.parts <= rows, f"{rows} rows cannot be pooled into {self.parts} parts")
        check(
            self.templates in ((1,), (2,), (1, 2)),
            f"templates must be (1,), (2,) or (1, 2), not {self.templates}",
        )
        check(
            self.channels[-1] % self.squeeze == 0,
            f"squeeze {self.squeeze} does not divide {self.channels[-1]} channels",
        )
        check(
            self.temporal_pooling in ("max", "mean"),
            f"temporal_pooling must be 'max' or 'mean', not {self.temporal_pooling!r}",
        )

    def height(self, layer: int) -> int:
        """Rows of the feature map that FConv `layer` (from 0) reads and writes."""
        return int(HEIGHT >> min(layer // 2, MAX_POOLS))

    def width(self, layer: int) -> int:
        """Columns of the feature map that FConv `layer` (from 0) reads and writes."""
        return int(WIDTH >> min(layer // 2, MAX_POOLS))

    def pooled_after(self, layer: int) -> bool:
        """Whether a 2x2 max-pool follows FConv `layer` (from 0)."""
        block, second = divmod(layer, 2)
        return bool(second) and block < min(MAX_POOLS, len(self.channels) - 1)

    @property
    def features(self) -> int:
        """C, the length of a part feature (Eq. 2)."""
        return self.channels[-1]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight tensor, in the order in which the network uses them.

        `frame.0` to `frame.5` are FConv1 to FConv6, [out, in, k, k]. Of each MTB used, `squeeze`
        is Conv1d_1 of Tab. 2, [parts, C/s, C, 3], and `excite` is Conv1d_2, [parts, C, C/s, k].
        `fc` is [parts, C, embedding_dim].
        """
        shapes: dict[str, tuple[int, ...]] = {}
        inputs = 1
        for layer in range(2 * len(self.channels)):
            outputs, kernel = self.channels[layer // 2], 5 if layer == 0 else 3
            shapes[f"frame.{layer}"] = (outputs, inputs, kernel, kernel)
            inputs = outputs
        squeezed = self.features // self.squeeze
        for template in self.templates if self.attention else ():
            shapes[f"mtb{template}.squeeze"] = (self.parts, squeezed, self.features, 3)
            shapes[f"mtb{template}.excite"] = (self.parts, self.features, squeezed, 2 * template - 1)
        shapes["fc"] = (self.parts, self.features, self.embedding_dim)
        return shapes

    def to_json(self) -> str:
        """The configuration as one JSON object, keys sorted."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> GaitPartConfig:
        """Read what to_json wrote. Raises InputError on anything else."""
        try:
            values: Any = json.loads(text)
            return cls(**values)
        except (OverflowError, TypeError, ValueError) as error:
            raise InputError(f"not a GaitPart configuration: {error}") from None
