"""Where a training starts that does not start from random weights.

A calibration's ranges stay as they are while the network is fine-tuned for them. The weights change, and
with them the fingerprint that a calibration is bound to: the training therefore writes one beside them,
of the same ranges and the new fingerprint.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.correction import apply_factors
from gaitedge.config import GaitPartConfig
from gaitedge.files import sha256
from gaitedge.weights import Weights, fingerprint, load_weights

if TYPE_CHECKING:
    from gaitedge.model import GaitPart

__all__ = ["Start"]


@dataclass(frozen=True)
class Start:
    """Weights that a training starts from, and the calibration that it fine-tunes them for, if any.

    Where the calibration equalises the network, the training goes on with the equalised weights. Its
    corrections of biases are left behind: what they correct, the weights learn.
    """

    config: GaitPartConfig
    weights: Weights
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        """Raises InputError where the calibration is of other weights."""
        if self.calibration is not None:
            self.calibration.check(self.config, self.weights)

    @classmethod
    def read(cls, weights: Path, calibration: Path | None = None) -> Start:
        """From files. Raises InputError where one is missing, damaged, or the two do not belong together."""
        found = None if calibration is None else Calibration.load(calibration)
        return cls(*load_weights(weights), found)

    def describe(self) -> dict[str, str]:
        """What of it decides the weights that come out, for run.json."""
        about = {"started_from": fingerprint(self.config, self.weights)}
        if self.calibration is not None:
            decides = [self.calibration.scales(), self.calibration.factors]
            about["calibration"] = sha256(json.dumps(decides, sort_keys=True).encode())
        return about

    def model(self) -> GaitPart:
        """The network to train, on the CPU."""
        from gaitedge.model import GaitPart
        from gaitedge.training.quantization import QuantizedGaitPart

        if self.calibration is None:
            return GaitPart(self.config).load(self.weights)
        equal = apply_factors(self.config, self.weights, self.calibration.factors)
        return QuantizedGaitPart(self.config, self.calibration.scales()).load(equal)

    def calibration_of(self, weights: Weights) -> Calibration | None:
        """The calibration of what these weights have become: the same ranges, the new fingerprint."""
        if self.calibration is None:
            return None
        found = fingerprint(self.config, weights)
        return dataclasses.replace(self.calibration, weights=found, factors={}, biases={})
