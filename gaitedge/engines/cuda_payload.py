"""The member of a bundle that the CUDA engine runs from: weights as the kernels take them.

safetensors, with one JSON object in its header: format, form, precision and the model's fingerprint. No
GPU is in it: it runs on every one that the kernels were compiled for. gaitedge.export.cuda writes it.

Tensors, in a network of n parts, C channels, S of the attention's middle, embeddings of e:

    frame_network                     uint8 [bytes], form "two launches": packed for the kernel frame_network
    frame.0, frame.1 …                [out, k, k, in], form "layers": each FConv's for the kernel focal_conv
    mtb1.squeeze, mtb2.squeeze        [n, S, 3, C]
    mtb1.excite, mtb2.excite          [n, C, 1, S] and [n, C, 3, S]
    fc                                [n, C, e]
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.errors import BundleError, one_line

__all__ = ["FRAME_NETWORK", "LAYERS", "TWO_LAUNCHES", "Form", "Payload", "expected", "scalar"]

Form = Literal["two launches", "layers"]
TWO_LAUNCHES, LAYERS = get_args(Form)
FRAME_NETWORK = "frame_network"

_FORMAT = 1  # counts with every change of what lies in the tensors, the packing of frame_network too
_KEY = "gaitedge_cuda"
_PACKED = {"fp16": 575_232, "int8": 290_336}
"""Bytes of frame_network: packed_bytes of kernels/include/gaitedge/frame_network_weights.h. The kernel reads
them all, whatever lies there."""
_PRECISIONS = {TWO_LAUNCHES: ("fp16", "int8"), LAYERS: ("fp32", "fp16")}


def scalar(precision: str) -> type[np.floating[Any]]:
    """What part features and the temporal head are computed from: FP16 beside INT8 too."""
    return np.float32 if precision == "fp32" else np.float16


def expected(config: GaitPartConfig, form: Form, precision: str) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Name -> type and shape of every tensor."""
    real = scalar(precision)
    found: dict[str, tuple[Any, tuple[int, ...]]] = {}
    for name, shape in config.shapes().items():
        if name.startswith("frame."):
            out, inputs, height, width = shape
            if form == LAYERS:
                found[name] = (real, (out, height, width, inputs))
        elif name == "fc":
            found[name] = (real, shape)
        else:
            parts, out, inputs, window = shape
            found[name] = (real, (parts, out, window, inputs))
    if form == TWO_LAUNCHES:
        found[FRAME_NETWORK] = (np.uint8, (_PACKED[precision],))
    return found


@dataclass(frozen=True)
class Payload:
    """Weights for the kernels, and how they are run."""

    form: Form
    """"two launches": the kernels frame_network and micro_motion; "layers": a launch an FConv, then HP, then
    micro_motion."""
    precision: str
    fingerprint: str
    """The model's."""
    tensors: dict[str, NDArray[Any]]

    def to_bytes(self) -> bytes:
        """The member."""
        from safetensors.numpy import save

        header = {
            "format": _FORMAT,
            "form": self.form,
            "precision": self.precision,
            "fingerprint": self.fingerprint,
        }
        tensors = {name: np.ascontiguousarray(array) for name, array in self.tensors.items()}
        return bytes(save(tensors, metadata={_KEY: json.dumps(header, sort_keys=True)}))

    @classmethod
    def read(cls, data: bytes, config: GaitPartConfig, fingerprint: str, precision: str) -> Payload:
        """Read what to_bytes wrote.

        Raises BundleError, a reason without the file's name, where it is of another format, another model
        or precision, or malformed.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            header: Any = json.loads(_header(data)[_KEY])
            version, form = header["format"], header["form"]
            if version != _FORMAT:
                raise BundleError(f"its format is {version!r}, and this GaitEdge runs {_FORMAT}")
            found = (header["fingerprint"], header["precision"])
            tensors = dict(load(data))
        except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"it is not readable: {one_line(error)}") from None
        if found != (fingerprint, precision):
            raise BundleError("it was packed for another model or precision")
        if form not in _PRECISIONS or precision not in _PRECISIONS[form]:
            raise BundleError(f"it has the form {form!r} in {precision}, which there is not")
        _check(tensors, expected(config, form, precision))
        return cls(form, precision, fingerprint, tensors)


def _header(data: bytes) -> dict[str, str]:
    """The metadata of safetensors, which their loader of bytes does not give."""
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + length])["__metadata__"]
    return dict(found)


def _check(tensors: dict[str, NDArray[Any]], wanted: dict[str, tuple[Any, tuple[int, ...]]]) -> None:
    if odd := sorted(tensors.keys() ^ wanted.keys()):
        raise BundleError(f"its tensors are not those of this network: {', '.join(odd)}"[:200])
    for name, (kind, shape) in wanted.items():
        array = tensors[name]
        if array.dtype != kind or array.shape != shape:
            raise BundleError(f"its {name} is {array.dtype}{list(array.shape)}, not what this network has")
