"""Every error that GaitEdge raises on purpose.

GaitEdgeError                what happened, with which value, and what to do: one line
├── InputError               something that the user gave
│   ├── SilhouetteError      an image, an array or a pickle that is no silhouette sequence
│   ├── StoreError           a store that is damaged, unfinished or of another version
│   ├── WeightsError         a weights file that does not hold this network
│   ├── BundleError          a .gait file that is damaged, of another version, or lacks a part
│   ├── GalleryError         a gallery that is damaged, of another model, or lacks a subject
│   └── VideoError           a video, a camera or a stream that gives no frames, or none any more
└── MachineError             something that this machine lacks
    └── MissingPackage       an optional package; names the command that installs it

The command line prints the message of any of these on one line and exits with 1. Everything else
is a bug and keeps its traceback.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = [
    "BundleError",
    "GaitEdgeError",
    "GalleryError",
    "InputError",
    "MachineError",
    "MissingPackage",
    "SilhouetteError",
    "StoreError",
    "VideoError",
    "WeightsError",
    "one_line",
    "require",
]


class GaitEdgeError(Exception):
    """Base class of every error that GaitEdge raises on purpose."""


class InputError(GaitEdgeError):
    """Something that the user gave cannot be used."""


class SilhouetteError(InputError):
    """An image, an array or a pickle is not a silhouette sequence."""


class StoreError(InputError):
    """A store is damaged, unfinished or of another version."""


class WeightsError(InputError):
    """A weights file does not hold this network."""


class BundleError(InputError):
    """A .gait bundle is damaged, of another version, or lacks a part."""


class GalleryError(InputError):
    """A gallery is damaged, belongs to another model, or lacks a subject."""


class VideoError(InputError):
    """A video, a camera or a stream gives no usable frames, or stopped giving them."""


class MachineError(GaitEdgeError):
    """This machine lacks something: a device, a driver, memory, disk space."""


class MissingPackage(MachineError):
    """An optional package is not installed."""


# Module -> the extra of this project that brings it.
_EXTRAS = {
    "cryptography": "encryption",
    "cv2": "video",
    "matplotlib": "plot",
    "onnxruntime": "onnxruntime",
    "openvino": "cpu",
    "polygraphy": "tensorrt",
    "pycuda": "cuda",
    "pynvml": "cuda",
    "scipy": "video",
    "tensorboard": "train",
    "tensorrt": "tensorrt",
    "torch": "train",
}


def require(name: str, why: str) -> ModuleType:
    """Import an optional module or say how to install it.

    name: a module, `openvino` or `onnxruntime.quantization`; why: what needs it, as in "training".
    Raises MissingPackage where the module is not installed. A module that is installed and fails
    to import keeps its own traceback: that is a broken installation, not a missing extra.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        extra = _EXTRAS.get(top)
        command = f"pip install 'gaitedge[{extra}]'" if extra else f"pip install {top}"
        raise MissingPackage(f"{why} needs {top}, which is not installed; run: {command}") from None


def one_line(error: BaseException) -> str:
    """What an error says, without its line breaks; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
