"""What a calibration found: the range of every layer's input, bound to the weights that it was found for.

The file is JSON. Nothing in it depends on the machine, so that a calibration can be made on a server and
used on a device, and two of them can be compared by eye.
"""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaitedge.calibration.observers import LEVELS, OBSERVERS
from gaitedge.calibration.tensors import layer_inputs, same_values
from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError, one_line
from gaitedge.export.graph import build_graph
from gaitedge.export.plan import layer_names
from gaitedge.files import atomic_write
from gaitedge.weights import Weights, fingerprint

__all__ = ["LEVELS", "METHODS", "Calibration"]

METHODS = tuple(OBSERVERS)
"""How a range is chosen."""

_FORMAT = 1
_LARGEST = 1e30  # of a number in the file: well within float32, of which the graph is
_SMALLEST = 1e-6  # of a factor; equalize gives none below 1/16
_LAYER = re.compile(r"fconv[1-9]\d*|mtb[12]\.(squeeze|excite)|fc")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"8\.(\d)(?:\.(\d{1,2}))?(?:\.\d+)*")


@dataclass(frozen=True)
class Calibration:
    """The ranges of a network's inputs, layer by layer, and where they are from.

    Raises InputError where a value is impossible.
    """

    weights: str
    """The model's identity, as gaitedge.weights.fingerprint gives it. Of the weights as they were trained:
    `factors` are not yet in them."""
    data: str
    """SHA-256 over the names and the frames of the sequences that were shown."""
    method: str
    """One of METHODS."""
    sequences: int
    """How many were shown."""
    ranges: dict[str, float]
    """Layer -> the largest magnitude of its input that int8 represents; anything larger is clipped to it.
    Names as gaitedge.export.plan.layer_names gives them; the range of "fconv1" is 255."""
    floating: tuple[str, ...] = ()
    """Layers that stay in floating point although their range is known."""
    factors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Equalisation, FConv -> the factor of each of its output channels."""
    biases: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Correction, layer -> the bias of each of its output channels."""
    versions: dict[str, str] = field(default_factory=dict)
    """What computed it, as in {"gaitedge": "0.5.0", "onnxruntime": "1.20.1"}."""

    def __post_init__(self) -> None:
        for name in ("weights", "data"):
            _demand(_SHA256.fullmatch(str(getattr(self, name))), f"{name} must be a SHA-256 in hexadecimal")
        _demand(self.method in METHODS, f"its method {self.method!r} is none of {', '.join(METHODS)}")
        _demand(
            type(self.sequences) is int and self.sequences >= 1,
            f"sequences must be 1 or more, not {self.sequences!r}",
        )
        _demand(bool(self.ranges), "it has no ranges")
        object.__setattr__(self, "floating", tuple(dict.fromkeys(self.floating)))
        for layer, value in self.ranges.items():
            good = _is_number(value) and value > 0
            _demand(good, f"the range of {layer} must be above 0, not {value!r:.40}")
        object.__setattr__(self, "ranges", {layer: float(value) for layer, value in self.ranges.items()})
        for name in ("factors", "biases"):
            lists = {layer: tuple(values) for layer, values in getattr(self, name).items()}
            object.__setattr__(self, name, lists)
            for layer, values in lists.items():
                good = all(_is_number(value) and (name == "biases" or value >= _SMALLEST) for value in values)
                _demand(good, f"the {name} of {layer} hold a value that is none")
        for layer in (*self.ranges, *self.floating, *self.factors, *self.biases):
            _demand(_LAYER.fullmatch(str(layer)), f"no network has a layer {layer!r}")
        for layer in self.floating:
            _demand(layer in self.ranges, f"{layer} is to stay in floating point and has no range")
        texts = (text for pair in self.versions.items() for text in pair)
        _demand(all(isinstance(text, str) for text in texts), "its versions must be texts")

    def scales(self) -> tuple[tuple[str, float], ...]:
        """Layer -> scale of its input, for gaitedge.export.plan.Plan: of those that are quantised."""
        quantised = sorted({*self.ranges} - {*self.floating})
        return tuple((layer, self.ranges[layer] / LEVELS) for layer in quantised)

    def check(self, config: GaitPartConfig, weights: Weights) -> None:
        """Raise InputError unless this calibration is of these weights and fits their network."""
        found = fingerprint(config, weights)
        _demand(
            found == self.weights,
            f"it is of other weights: made for {self.weights[:12]}, these are {found[:12]}; "
            "run: gaitedge calibrate WEIGHTS STORE calibration.json",
        )
        layers, shapes = layer_names(config), config.shapes()
        for layer in (*self.ranges, *self.factors, *self.biases):
            _demand(layer in layers, f"it speaks of {layer}; this network has {', '.join(layers)}")
        missing = [layer for layer in layers if layer not in self.ranges]
        _demand(not missing, f"it has no range of {', '.join(missing)}")
        for name in ("factors", "biases"):
            for layer, values in getattr(self, name).items():
                wanted = _output_channels(shapes, layer)
                _demand(
                    len(values) == wanted,
                    f"the {name} of {layer} must be {wanted}, one an output channel, not {len(values)}",
                )

    # The file -------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The calibration as JSON text, keys sorted. Numbers are read back exactly."""
        values = {"format": _FORMAT, **dataclasses.asdict(self)}
        return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Calibration:
        """Read what to_json wrote. Raises InputError on another format or anything malformed."""
        try:
            values: Any = json.loads(text)
            version = values.pop("format")
            if version != _FORMAT:
                raise InputError(f"its format is {version!r}, this GaitEdge reads {_FORMAT}; calibrate again")
            return cls(**values)
        except (
            AttributeError,
            KeyError,
            OverflowError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            reason = one_line(error)
            raise InputError(f"not a calibration: {type(error).__name__}: {reason}") from None

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        with atomic_write(Path(path)) as file:
            file.write(self.to_json().encode())

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a file. Raises InputError, naming it, where it is missing or malformed."""
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the calibration {path}: {error.strerror}") from None
        try:
            return cls.from_json(text)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    # TensorRT 8.x ---------------------------------------------------------------------------------

    def tensorrt_cache(self, config: GaitPartConfig, weights: Weights, version: str = "8.6.1") -> str:
        """The ranges as a calibration cache of TensorRT 8.x, for `trtexec --int8 --calib=FILE` on the FP32
        graph, the bundle's graphs/fold.onnx.

        A header line names TensorRT's version and the calibrator, IInt8EntropyCalibrator2 here. Then a line
        a tensor: its name in the graph, a colon, and its scale, the range over 127, as the eight hexadecimal
        digits of a float32, most significant first. A tensor from which a layer's input is made by nothing
        but moving values or by max-pooling has that input's scale, so that int8 reaches through both. The
        tensors of layers that stay in floating point are not named; TensorRT warns of each that it lacks and
        computes it in floating point. `biases` have no place in a cache.
        version: TensorRT's; it takes a cache of its own version only without calibrating anew.
        Raises InputError where the calibration is not of these weights, where it has factors, which the FP32
        graph lacks, and for a version that is not 8.x.
        """
        self.check(config, weights)
        _demand(not self.factors, "its ranges are of equalised weights, the FP32 graph's are not")
        number = _VERSION.fullmatch(version)
        if number is None:
            raise InputError(f"TensorRT {version} reads no calibration cache: 8.x does, as in 8.6.1")
        header = f"TRT-8{number[1]}{int(number[2] or 0):02}-EntropyCalibration2"
        graph = build_graph(config, weights).graph
        inputs, lines = layer_inputs(graph, config), {}
        for layer, scale in self.scales():
            for tensor in inputs[layer]:
                for name in same_values(graph, tensor):
                    lines[name] = f"{name}: {struct.pack('>f', scale).hex()}"
        return "\n".join([header, *lines.values()]) + "\n"


def _output_channels(shapes: dict[str, tuple[int, ...]], layer: str) -> int:
    """Of an FConv its filters; of a layer with weights of its own for each part, those of all parts."""
    if layer.startswith("fconv"):
        return shapes[f"frame.{int(layer.removeprefix('fconv')) - 1}"][0]
    parts, first, last = shapes[layer][:3]
    return parts * (last if layer == "fc" else first)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _demand(good: object, message: str) -> None:
    if not good:
        raise InputError(f"impossible calibration: {message}")
