"""The TensorRT plugins over the host build of the kernels, driven from Python.

By themselves ("bare"), without TensorRT; and through TensorRT's own interface, where its public headers are:
GAITEDGE_TENSORRT_INCLUDE names their folders, separated as in PATH, and CUDA's own headers are found through
CUDA_HOME. Neither TensorRT's library nor a GPU is needed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_build import COMPILER, KERNELS, address, run
from numpy.typing import NDArray

PLUGINS = KERNELS / "plugins"
DRIVERS = Path(__file__).resolve().parent / "kernels" / "plugins"
TYPES: dict[type, int] = {np.float32: 0, np.float16: 1, np.int8: 2}
LINEAR, HWC8, CHW32 = range(3)
INT32, INT64, FLOAT32, FLOAT64, CHAR, DIMS = range(6)
FIELDS = {"int32": INT32, "int64": INT64, "float32": FLOAT32, "float64": FLOAT64}


SLOPE = 0.01
POOL: dict[str, Any] = {"parts": 4}
CONV: dict[str, Any] = {"strips": 4, "slope": SLOPE, "pool": 1}
FRAME: dict[str, Any] = {"slope": SLOPE}
MOTION: dict[str, Any] = {"templates": [1, 2], "attention": 1, "pooling": "max", "slope": SLOPE, "fc": 1}
ATTRIBUTES = {
    "GaitEdgePartPool": POOL,
    "GaitEdgeFocalConv": CONV,
    "GaitEdgeFrameNetwork": FRAME,
    "GaitEdgeMicroMotion": MOTION,
}
"""Attributes of each plugin, as an ONNX node gives them."""
PACKED = 287616  # halves of the packed frame network


def header_folders() -> list[Path]:
    """The include folders of TensorRT that the user names; none is no error."""
    return [Path(name) for name in os.environ.get("GAITEDGE_TENSORRT_INCLUDE", "").split(os.pathsep) if name]


def cuda_include() -> Path:
    return Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"


def version(folder: Path) -> str:
    """What TensorRT the headers in this folder are of, such as 10.16."""
    text = (folder / "NvInferVersion.h").read_text()
    found = dict(re.findall(r"#define (?:NV_TENSORRT|TRT)_(MAJOR|MINOR)(?:_ENTERPRISE)? (\d+)", text))
    return f"{found['MAJOR']}.{found['MINOR']}"


def interfaces() -> list[Path | None]:
    """What a test of plugins runs over: None is the plugins by themselves, else TensorRT's headers."""
    return [None, *header_folders()]


def interface_name(headers: Path | None) -> str:
    return version(headers) if headers else "bare"


def open_driver(headers: Path | None, host: Path) -> Driver:
    """Build what drives the plugins through one interface, beside the host build of the kernels."""
    if headers and not (cuda_include() / "cuda_runtime_api.h").exists():
        pytest.skip(f"TensorRT's headers need CUDA's, which are not in {cuda_include()}")
    name = interface_name(headers)
    return Driver(name, *build_plugins(host.parent / f"plugins-{name}", host, headers))


def build_plugins(folder: Path, host: Path, headers: Path | None) -> tuple[Path, Path]:
    """Compile a plugin library and its driver once; returns the library's path and the driver's.

    host: the host build of the kernels, which is linked; headers: TensorRT's include folder, or none for the
    plugins by themselves.
    """
    folder.mkdir(parents=True, exist_ok=True)
    driver = folder / "driver.so"
    # A name of its own: of two libraries with one name a process loads the first, whatever their folders.
    library = folder / f"libgaitedge_plugins-{version(headers)}.so" if headers else driver
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not driver.exists():
            sources = [path for path in sorted(PLUGINS.glob("*.cpp")) if headers or path.stem != "creators"]
            own = [DRIVERS / "common.cpp", DRIVERS / ("tensorrt.cpp" if headers else "bare.cpp")]
            include = [f"-I{KERNELS / 'include'}", f"-I{PLUGINS}"]
            if headers:
                include += ["-isystem", str(headers), "-isystem", str(cuda_include())]
            else:
                include.append(f"-I{KERNELS / 'host'}")
            compile_ = [*COMPILER, "-O1", *include]
            link = [
                "-shared",
                f"-L{host.parent}",
                f"-l:{host.name}",
                f"-Wl,-rpath,{host.parent}",
                "-Wl,-z,defs",
            ]
            part = folder / "unfinished.so"
            if headers:
                run([*compile_, *map(str, sources), *link, "-Wl,-Bsymbolic", "-o", str(library)])
                link += [f"-L{folder}", f"-l:{library.name}", f"-Wl,-rpath,{folder}"]
                sources = []
            run([*compile_, *map(str, own), *map(str, sources), *link, "-o", str(part)])
            part.replace(driver)
    return library, driver


class Tensor(ctypes.Structure):
    """DriverTensor of driver.h."""

    _fields_ = [
        ("rank", ctypes.c_int32),
        ("size", ctypes.c_int64 * 8),
        ("known", ctypes.c_int64),
        ("type", ctypes.c_int32),
        ("format", ctypes.c_int32),
    ]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.size[: self.rank])

    @property
    def shown(self) -> tuple[int, ...]:
        """The shape, -1 for what is not known before the network runs."""
        return tuple(size if self.known >> axis & 1 else -1 for axis, size in enumerate(self.shape))


def tensor(
    shape: Sequence[int], dtype: type = np.float32, layout: int = LINEAR, unknown: Sequence[int] = ()
) -> Tensor:
    """unknown: the axes whose sizes are not known before the network runs."""
    known = sum(1 << axis for axis in range(len(shape)) if axis not in unknown)
    size = (ctypes.c_int64 * 8)(*shape)
    return Tensor(len(shape), size, known, TYPES[dtype], layout)


class _Field(ctypes.Structure):
    """DriverField of driver.h."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("type", ctypes.c_int32),
        ("length", ctypes.c_int32),
    ]


@dataclass
class Raw:
    """A field as it is, good or not: what `data` holds, its type and its length."""

    data: bytes | None
    type: int
    length: int


def _field(name: str | None, value: Any, alive: list[Any]) -> _Field:
    """A field as TensorRT's ONNX parser makes it out of an attribute."""
    if isinstance(value, str):
        value = Raw(value.encode(), CHAR, len(value))
    elif not isinstance(value, Raw):
        array = np.asarray(value)
        if array.dtype in (np.int64, np.float64) and not isinstance(value, np.ndarray | np.generic):
            array = array.astype(np.int32 if array.dtype == np.int64 else np.float32)
        value = Raw(array.tobytes(), FIELDS[str(array.dtype)], array.size)
    data = None if value.data is None else ctypes.create_string_buffer(b"-" + value.data)
    alive.append(data)  # the data is at an odd address, as nothing says that it may not be
    place = None if data is None else ctypes.addressof(data) + 1
    return _Field(None if name is None else name.encode(), place, value.type, value.length)


class Plugin:
    """A plugin that a creator made."""

    def __init__(self, driver: Driver, handle: int, creator: int) -> None:
        self.driver, self.handle, self.creator = driver, handle, creator

    def output(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """The output's shape and type; nothing where the plugin refuses."""
        out = Tensor()
        status = self.driver.call("output", self.handle, _array(inputs), len(inputs), ctypes.byref(out))
        return out if status == 0 else None

    def configure(self, inputs: Sequence[Tensor], out: Tensor) -> int:
        given = _array(inputs)
        return self.driver.call("configure", self.handle, given, len(inputs), ctypes.byref(out))

    def supports(self, position: int, tensors: Sequence[Tensor]) -> bool:
        """tensors: the inputs and the output."""
        return bool(self.driver.call("supports", self.handle, position, _array(tensors), len(tensors) - 1))

    def supports_all(self, tensors: Sequence[Tensor]) -> bool:
        return all(self.supports(position, tensors) for position in range(len(tensors)))

    def serialize(self) -> bytes:
        room = (ctypes.c_ubyte * 4096)(*[0xA5] * 4096)
        count = self.driver.call("serialize", self.handle, room, ctypes.c_int64(4096))
        assert set(room[count:]) == {0xA5}, "more was written than announced"
        return bytes(room[:count])

    def clone(self) -> Plugin:
        return Plugin(self.driver, self.driver.make("clone", self.handle), self.creator)

    def enqueue(
        self,
        inputs: Sequence[Tensor],
        out: Tensor,
        arrays: Sequence[NDArray[Any]],
        result: NDArray[Any],
        times: int = 1,
    ) -> int:
        pointers = (ctypes.c_void_p * len(arrays))(*map(address, arrays))
        given = _array(inputs)
        to = ctypes.c_void_p(address(result))
        return self.driver.call(
            "enqueue", self.handle, given, len(inputs), ctypes.byref(out), pointers, to, times
        )

    def destroy(self) -> None:
        self.driver.library.driver_destroy(ctypes.c_void_p(self.handle))


def _array(tensors: Sequence[Tensor]) -> Any:
    return (Tensor * len(tensors))(*tensors)


class Driver:
    """Plugins through one interface."""

    def __init__(self, interface: str, plugins: Path, driver: Path) -> None:
        self.interface, self.path = interface, plugins
        # Its own operator new, which counts, goes before that of what the process has loaded for all.
        self.library = ctypes.CDLL(str(driver), mode=os.RTLD_LOCAL | os.RTLD_DEEPBIND)
        for name in ("name", "fields", "log"):
            getattr(self.library, f"driver_{name}").restype = ctypes.c_char_p
        for name in ("create", "deserialize", "clone"):
            getattr(self.library, f"driver_{name}").restype = ctypes.c_void_p
        for name in ("serialize", "allocations", "allocated"):
            getattr(self.library, f"driver_{name}").restype = ctypes.c_int64
        count = self.library.driver_count()
        self.names = [self.library.driver_name(index).decode() for index in range(count)]
        self.library.driver_log()

    def call(self, function: str, handle: int, *arguments: Any) -> int:
        return int(getattr(self.library, f"driver_{function}")(ctypes.c_void_p(handle), *arguments))

    def make(self, function: str, handle: int) -> int:
        made = getattr(self.library, f"driver_{function}")(ctypes.c_void_p(handle))
        assert made, self.log()
        return int(made)

    def creator(self, name: str) -> int:
        return [known.split()[1] for known in self.names].index(name)

    def fields(self, name: str) -> dict[str, int]:
        """The attributes that a creator takes, and their types."""
        text = self.library.driver_fields(self.creator(name)).decode()
        return {key: int(kind) for key, kind in (pair.split(":") for pair in text.split())}

    def try_create(self, name: str, attributes: Sequence[tuple[str | None, Any]]) -> Plugin | None:
        alive: list[Any] = []
        fields = [_field(key, value, alive) for key, value in attributes]
        creator = self.creator(name)
        handle = self.library.driver_create(creator, (_Field * len(fields))(*fields), len(fields))
        return Plugin(self, handle, creator) if handle else None

    def create(self, name: str, **attributes: Any) -> Plugin:
        plugin = self.try_create(name, list(attributes.items()))
        assert plugin is not None, self.log()
        return plugin

    def deserialize(self, name: str, data: bytes) -> Plugin | None:
        creator = self.creator(name)
        given = ctypes.create_string_buffer(data, len(data))
        handle = self.library.driver_deserialize(creator, given, ctypes.c_int64(len(data)))
        return Plugin(self, handle, creator) if handle else None

    def log(self) -> str:
        """What plugins said since this was last asked."""
        return str(self.library.driver_log().decode())


def through_a_plan(
    driver: Driver, name: str, attributes: dict[str, Any], inputs: list[Tensor], out: Tensor
) -> Plugin:
    """Create, ask, configure, serialise, deserialise, clone; all but the last are destroyed."""
    first = driver.create(name, **attributes)
    assert first.output(inputs) is not None, driver.log()
    assert first.supports_all([*inputs, out])
    built = first.clone()
    first.destroy()
    assert built.configure(inputs, out) == 0
    data = built.serialize()
    built.destroy()
    read = driver.deserialize(name, data)
    assert read is not None, driver.log()
    assert read.serialize() == data
    clone = read.clone()
    read.destroy()
    return clone
