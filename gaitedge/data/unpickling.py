"""Reading pickled arrays without running what a pickle may contain.

OpenGait keeps silhouettes as pickles, and a pickle is a program. Here the names that NumPy's own
pickles use lead to small stand-ins below, which take nothing but plain arrays of numbers; any other
name is refused, so nothing of NumPy's or Python's ever runs on a stranger's values.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import SilhouetteError

__all__ = ["unpickle_array"]

_LARGEST = 256 << 20  # bytes of a file and of an array: an hour at 30 frames/s is not half of it
_MOST_STEPS = 2_000_000  # of a pickle; a list of arrays takes some 25 an array
_MOST_AXES = 4
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


def unpickle_array(path: str | Path) -> NDArray[Any]:
    """Read the array of numbers, or the list of equal arrays, that a pickle holds.

    Protocols 0 to 5, of NumPy 1 and 2 and of Python 2. A list of arrays is stacked along a new
    first axis. The result is read-only. Raises SilhouetteError where the file is missing, too
    large, cut off or no pickle, and, naming it, where the pickle calls for anything else.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise SilhouetteError(f"{path} has {size >> 20} MiB, more than the {_LARGEST >> 20} MiB read")
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise SilhouetteError(f"{path} cannot be read: {error.strerror}") from None
    try:
        _check_steps(data)
        value = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        return _result(value)
    except _Refused as error:
        raise SilhouetteError(f"{path} is refused: {_one_line(error)}") from None
    except _BROKEN as error:
        raise SilhouetteError(f"{path} is not a readable pickle: {_one_line(error)}") from None


class _Refused(Exception):
    """The pickle holds something other than arrays of numbers."""


# What the pickle module raises on bytes that are no pickle, or one that was tampered with.
_BROKEN = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class _StandIn:
    """What one of NumPy's names leads to. A pickle can call it, and fill it by a state where that is
    overridden; having __setstate__, it keeps a pickle from setting attributes of the class itself."""

    def __setstate__(self, state: Any) -> None:
        raise _Refused(f"it fills a value of type {type(self).__name__.lstrip('_').lower()}")


class _DType(_StandIn):
    """numpy.dtype: one kind of number, and its byte order."""

    def __init__(self, kind: Any, *_: Any) -> None:
        if not isinstance(kind, str) or not _DTYPE.fullmatch(kind):
            raise _Refused(f"it holds an array of type {str(kind)[:40]!r}, only numbers are read")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: Any) -> None:
        _, order, subarray, names, *_ = state
        if order not in ("<", ">", "|", "=") or subarray is not None or names is not None:
            raise _Refused("it holds an array of a compound type, only numbers are read")
        self.dtype = self.dtype.newbyteorder(order)


class _NDArray(_StandIn):
    """numpy.ndarray, which pickles only name, for _reconstruct."""

    def __init__(self, *_: Any) -> None:
        raise _Refused("it makes an array without values")


class _Encoded(_StandIn):
    """_codecs.encode: the bytes that protocols below 3 keep as text of Latin-1."""

    def __init__(self, text: Any, encoding: Any) -> None:
        if not isinstance(text, str) or encoding != "latin1":
            raise _Refused("it encodes text, only NumPy arrays are read")
        self.text = text


class _Array(_StandIn):
    """numpy's _reconstruct: an array that is empty at first, whatever shape is claimed."""

    def __init__(self, kind: Any, *_: Any) -> None:
        if kind is not _NDArray:
            raise _Refused("it reconstructs something other than an array")
        self.parts: tuple[Any, Any, Any, bool] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.parts = raw, dtype, shape, bool(fortran)

    def values(self) -> NDArray[Any]:
        """The array itself, seen in place where the pickle holds bytes."""
        if self.parts is None:
            raise _Refused("it holds an array without its values")
        raw, dtype, shape, fortran = self.parts
        raw = raw.text if isinstance(raw, _Encoded) else raw
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # text also of Python 2
        if not isinstance(dtype, _DType) or not isinstance(raw, bytes | bytearray):
            raise _Refused("it holds an array of objects, only numbers are read")
        if not isinstance(shape, tuple) or len(shape) > _MOST_AXES:
            raise _Refused(f"it holds an array of shape {str(shape)[:60]}")
        if not all(type(length) is int and 0 <= length <= _LARGEST for length in shape):
            raise _Refused(f"it holds an array of shape {str(shape)[:60]}")
        if math.prod(shape) * dtype.dtype.itemsize != len(raw):
            raise _Refused(f"it claims {dtype.dtype}{list(shape)} and holds {len(raw)} bytes")
        return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")


class _FromBuffer(_Array):
    """numpy's _frombuffer, the way of protocol 5: the bytes, and how to see them."""

    def __init__(self, raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> None:
        super().__init__(_NDArray)
        self.parts = raw, dtype, shape, order == "F"


_NAMES: dict[tuple[str, str], type[_StandIn]] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _NDArray,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
    ("_codecs", "encode"): _Encoded,
}


class _Unpickler(pickle.Unpickler):
    """Resolves the names above, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _Refused(f"it calls for {module}.{name}, only NumPy arrays are read")
        return _NAMES[module, name]

    def persistent_load(self, _: Any) -> Any:
        raise _Refused("it refers to an object outside itself, only NumPy arrays are read")


def _check_steps(data: bytes) -> None:
    """Walk through the pickle without running it: a step that lies about a size is found here, before
    Python reserves memory for it."""
    for number, (step, argument, _) in enumerate(pickletools.genops(data)):
        if number > _MOST_STEPS:
            raise _Refused(f"it has more than {_MOST_STEPS} steps")
        if step.name in ("PUT", "LONG_BINPUT") and (argument or 0) > _MOST_STEPS:
            raise _Refused(f"it keeps a value as number {argument}")


def _result(value: Any) -> NDArray[Any]:
    """The value of the whole pickle as one read-only array."""
    if isinstance(value, _Array):
        array = value.values()
    elif isinstance(value, list | tuple):
        array = _stack(value)
    else:
        raise _Refused(f"it holds {_kind(value)}, must hold an array or a list of arrays")
    array.flags.writeable = False
    return array


def _stack(items: list[Any] | tuple[Any, ...]) -> NDArray[Any]:
    if not items:
        raise _Refused("it holds an empty list")
    arrays: list[NDArray[Any]] = []
    for number, item in enumerate(items):
        if not isinstance(item, _Array):
            raise _Refused(f"item {number} of its list is {_kind(item)}, must be an array")
        array = item.values()
        arrays.append(array)
        if (array.dtype, array.shape) != (arrays[0].dtype, arrays[0].shape):
            raise _Refused(
                f"item {number} of its list is {array.dtype}{list(array.shape)}, "
                f"item 0 is {arrays[0].dtype}{list(arrays[0].shape)}: they must be alike"
            )
        if (number + 1) * array.nbytes > _LARGEST:  # the same array over and over
            raise _Refused(f"it unpacks to more than {_LARGEST >> 20} MiB")
    return np.stack(arrays)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__.lstrip('_').lower()}"


def _one_line(error: Exception) -> str:
    """The message, which may quote the file, as one short line of harmless characters."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return " ".join(text.split())[:300] or type(error).__name__
