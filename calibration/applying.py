"""A calibration as the exporter takes it: held against the weights, its corrections carried out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gaitedge.calibration.calibration import LEVELS, Calibration
from gaitedge.calibration.correction import apply_factors
from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.exporter import open_model
from gaitedge.export.quantization import Quantization
from gaitedge.export.targets import CALIBRATION
from gaitedge.weights import Weights, shipped_calibration

__all__ = ["find_quantization", "quantization"]


def quantization(calibration: Calibration, config: GaitPartConfig, weights: Weights) -> Quantization:
    """Scales, biases and equalised weights of a calibration. Raises InputError for another model's."""
    calibration.check(config, weights)
    if not calibration.scales():
        raise InputError("it leaves every layer in floating point: there is no int8 in it")
    return Quantization(
        weights=apply_factors(config, weights, calibration.factors) if calibration.factors else weights,
        scales=calibration.scales(),
        # What the first convolution of an MTB reads is what HP gives: the sum of an average and a maximum.
        pooled=next(
            (value / LEVELS for layer, value in calibration.ranges.items() if layer.endswith("squeeze")), None
        ),
        biases={
            layer: np.asarray(values, np.float32)
            for layer, values in calibration.biases.items()
            if layer not in calibration.floating
        },
        record=calibration.to_json().encode(),
    )


def find_quantization(source: Path, calibration: Path | None = None) -> Quantization:
    """That of a weights file or a bundle: by a calibration file, or by the one that lies in the bundle, or
    by the one that comes with the shipped weights.

    Raises InputError where there is neither, or where it is of other weights.
    """
    model = open_model(source)
    if calibration is not None:
        found, where = Calibration.load(calibration), str(calibration)
    elif CALIBRATION in model.manifest.members:
        where = f"{CALIBRATION} in {source}"
        with _naming(where):
            found = Calibration.from_json(model.read(CALIBRATION))
    elif (found := Calibration.load(shipped_calibration())).weights != model.fingerprint:
        raise InputError(
            f"{source} has no calibration; run: gaitedge calibrate {source} STORE calibration.json, "
            "then export with --calibration calibration.json"
        )
    else:
        where = "the shipped calibration"
    with _naming(where):
        return quantization(found, model.config, model.weights())


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """Say where a calibration is that cannot be used."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
