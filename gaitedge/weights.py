"""Weights: a safetensors file with the configuration in its header, and its fingerprint."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError, WeightsError
from gaitedge.files import atomic_write

__all__ = [
    "Weights",
    "check_destination",
    "check_weights",
    "fingerprint",
    "load_weights",
    "save_weights",
    "serialize_weights",
    "shipped_calibration",
    "shipped_weights",
]

Weights = dict[str, NDArray[np.float32]]
"""Tensor name -> float32 array; names and shapes as GaitPartConfig.shapes() gives them."""

_CONFIG_KEY = "gaitpart"


def shipped_weights() -> Path:
    """The weights that come with the package, trained on synthetic walkers."""
    return Path(str(resources.files("gaitedge") / "assets" / "walkers.safetensors"))


def shipped_calibration() -> Path:
    """The calibration of these weights for int8, from the walkers that they were trained on."""
    return shipped_weights().with_name("walkers-int8.json")


def load_weights(path: Path) -> tuple[GaitPartConfig, Weights]:
    """Read a weights file.

    Raises WeightsError where the file is missing, damaged, of another network, or holds NaN or
    infinite values.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    if path.suffix == ".onnx":
        raise WeightsError(f"{path} is a graph; give the weights or the bundle that it was exported from")
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            weights = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from None
    if _CONFIG_KEY not in metadata:
        raise WeightsError(
            f"{path} has no GaitPart configuration in its header: not a GaitEdge weights file; "
            "gaitedge train writes one, and gaitedge import-opengait makes one of OpenGait's"
        )
    try:
        config = GaitPartConfig.from_json(metadata[_CONFIG_KEY])
    except InputError as error:
        raise WeightsError(f"{path}: {error}") from None
    try:
        check_weights(config, weights, str(path))
    except WeightsError as error:
        raise WeightsError(f"{error}; take the file as gaitedge train or import-opengait wrote it") from None
    return config, weights


def save_weights(path: Path, config: GaitPartConfig, weights: Weights) -> None:
    """Write a weights file, whole or not at all. Raises WeightsError as load_weights would."""
    data = serialize_weights(config, weights)
    with atomic_write(Path(path)) as file:
        file.write(data)


def serialize_weights(config: GaitPartConfig, weights: Weights) -> bytes:
    """The bytes of a weights file. Raises WeightsError where the weights are not those of `config`."""
    from safetensors.numpy import save

    check_weights(config, weights, "these weights")
    ordered = {name: np.ascontiguousarray(weights[name]) for name in config.shapes()}
    return bytes(save(ordered, metadata={_CONFIG_KEY: config.to_json()}))


def check_destination(path: Path) -> Path:
    """Raise WeightsError unless a weights file can be written at `path`."""
    path = Path(path)
    if path.is_dir():
        raise WeightsError(
            f"{path} is a folder; name the weights to write, as in {path / 'gait.safetensors'}"
        )
    if not path.parent.is_dir():
        raise WeightsError(f"cannot write {path}: there is no folder {path.parent}")
    return path


def check_weights(config: GaitPartConfig, weights: Weights, name: str) -> None:
    """Raise WeightsError unless `weights` holds exactly the tensors of `config`, all finite."""
    shapes = config.shapes()
    missing, unknown = sorted(shapes.keys() - weights.keys()), sorted(weights.keys() - shapes.keys())
    if missing or unknown:
        raise WeightsError(
            f"{name}: "
            + "; ".join(
                f"{what} {', '.join(names)}"
                for what, names in (("missing", missing), ("unknown", unknown))
                if names
            )
        )
    for key, shape in shapes.items():
        if weights[key].shape != shape or weights[key].dtype != np.float32:
            found = f"{weights[key].dtype}{list(weights[key].shape)}"
            raise WeightsError(f"{name}: {key} is {found}, must be float32{list(shape)}")
        if not np.isfinite(weights[key]).all():
            raise WeightsError(f"{name}: {key} holds NaN or infinite values; the training diverged")


def fingerprint(config: GaitPartConfig, weights: Weights) -> str:
    """SHA-256 over the configuration and every tensor: the identity of a model.

    Embeddings of two models can be compared exactly where their fingerprints are equal.
    """
    digest = hashlib.sha256(config.to_json().encode())
    for name in config.shapes():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()
