"""The CUDA kernels from Python: kernels/library through ctypes, over pointers that somebody else allocated.

The same functions serve a GPU, with pycuda's memory and streams, and the host build of the kernels, with
NumPy's memory. The structs mirror kernels/include/gaitedge/arguments.h, which says what their fields mean.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from gaitedge.errors import InputError, MachineError

__all__ = [
    "CHANNELS32",
    "CHANNELS_FIRST",
    "CHANNELS_LAST",
    "FLOAT16",
    "FLOAT32",
    "INT8",
    "MAXIMUM",
    "MEAN",
    "UINT8",
    "UNSUPPORTED",
    "FocalConv",
    "FrameNetwork",
    "Library",
    "MicroMotion",
    "MicroMotionStream",
    "MicroMotionWeights",
    "PartDistance",
    "PartPool",
]

FLOAT32, FLOAT16, INT8, UINT8 = range(4)
CHANNELS_FIRST, CHANNELS_LAST, CHANNELS32 = range(3)
MAXIMUM, MEAN = range(2)
UNSUPPORTED = -1

_P, _I, _F = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float


def _integers(*names: str) -> list[tuple[str, Any]]:
    return [(name, _I) for name in names]


class PartPool(ctypes.Structure):
    """HP (Eq. 2)."""

    _fields_ = [
        ("x", _P),
        ("y", _P),
        *_integers("type", "layout", "count", "channels", "height", "width", "parts"),
    ]


class FocalConv(ctypes.Structure):
    """FConv (Sec. 3.2), LeakyReLU and max-pool."""

    _fields_ = [
        ("x", _P),
        ("weight", _P),
        ("bias", _P),
        ("scale", _P),
        ("y", _P),
        ("slope", _F),
        ("inverse_scale", _F),
        *_integers(
            "type", "x_type", "layout", "count", "in_", "out", "height", "width", "kernel", "strips", "pool"
        ),
    ]


class FrameNetwork(ctypes.Structure):
    """All FConvs and HP (Tab. 1)."""

    _fields_ = [
        ("silhouettes", _P),
        ("weights", _P),
        ("features", _P),
        *_integers("pixels", "type", "frames"),
        ("slope", _F),
    ]


class MicroMotionWeights(ctypes.Structure):
    """The weights of the temporal head (Tab. 2)."""

    _fields_ = [
        ("squeeze", _P * 2),
        ("excite", _P * 2),
        ("fc", _P),
        *_integers("type", "parts", "channels", "squeezed", "dim", "templates", "attention", "pooling"),
        ("slope", _F),
    ]


class MicroMotion(ctypes.Structure):
    """MTBs, TP and FC (Eq. 4 to 12) of whole sequences."""

    _fields_ = [
        ("weights", MicroMotionWeights),
        ("features", _P),
        ("offsets", _P),
        ("y", _P),
        *_integers("y_type", "batch", "frames"),
    ]


class MicroMotionStream(ctypes.Structure):
    """The same, one frame a call."""

    _fields_ = [
        ("weights", MicroMotionWeights),
        *(
            (name, _P)
            for name in (
                "features",
                "history",
                "pooled",
                "seen",
                "history_after",
                "pooled_after",
                "seen_after",
                "y",
            )
        ),
        *_integers("y_type", "streams"),
    ]


class PartDistance(ctypes.Structure):
    """The mean over parts of the Euclidean distance (Sec. 3.4), and the nearest of a gallery."""

    _fields_ = [
        *((name, _P) for name in ("probes", "gallery", "distance", "index", "workspace")),
        *_integers("type", "probe_count", "entries", "parts", "dim", "k"),
    ]


_FUNCTIONS: dict[type[ctypes.Structure], str] = {
    PartPool: "gaitedge_part_pool",
    FocalConv: "gaitedge_focal_conv",
    FrameNetwork: "gaitedge_frame_network",
    MicroMotion: "gaitedge_micro_motion",
    MicroMotionStream: "gaitedge_micro_motion_stream",
    PartDistance: "gaitedge_part_distance",
}


class Library:
    """A built library of the kernels. Raises MachineError where it cannot be loaded."""

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
            for function in ("gaitedge_sources", "gaitedge_error"):
                getattr(self._library, function).restype = ctypes.c_char_p
        except (OSError, AttributeError) as error:
            raise MachineError(f"{path} is no library of GaitEdge's kernels: {error}") from None
        self.path = path

    @property
    def sources(self) -> str:
        """What it was built from: the SHA-256 of the kernels' sources."""
        return str(self._library.gaitedge_sources().decode())

    def launch(self, arguments: ctypes.Structure, stream: int = 0) -> None:
        """Queue a kernel in the stream with this handle; returns at once.

        arguments: one of this module's structs; what its pointers name must live until the stream is
        through. Raises InputError where no kernel takes such arguments, MachineError where CUDA fails.
        """
        function = _FUNCTIONS[type(arguments)]
        status = getattr(self._library, function)(ctypes.byref(arguments), ctypes.c_void_p(stream))
        if status == UNSUPPORTED:
            given = ", ".join(
                f"{name}={getattr(arguments, name)}"
                for name, kind, *_ in type(arguments)._fields_
                if kind in (_I, _F)
            )
            raise InputError(f"no kernel of {function} takes {given}")
        if status != 0:
            raise MachineError(f"{function} failed: {self._explain(status)}")

    def workspace(self, arguments: PartDistance) -> int:
        """Bytes that PartDistance.workspace must have."""
        function = self._library.gaitedge_part_distance_workspace
        function.restype = ctypes.c_int64
        return int(function(ctypes.byref(arguments)))

    def _explain(self, status: int) -> str:
        return str(self._library.gaitedge_error(status).decode())
