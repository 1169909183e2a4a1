"""TensorRT on this machine: whether it may be touched, which plans it can run, and what it says.

Without a usable GPU TensorRT must not be touched at all: the Runtime of 8.6 crashes the process, the
Builder of 10 and 11 gives a pointer to nowhere. So the driver is asked first, in another process.

Where its versions differ: tensorrt_versions.py. Code that uses TensorRT calls require_tensorrt and
then imports it inside the function, so that a type checker sees every name:
tests/export/test_tensorrt_names.py holds them against the real bindings.
"""

from __future__ import annotations

import functools
import importlib.util
import platform as system
import re
import sys
import threading
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gaitedge.errors import MachineError, MissingPackage, one_line, require
from gaitedge.machine import cuda_driver
from gaitedge.machine.cuda_driver import CudaDevice, CudaDriver, probe_driver
from gaitedge.machine.jetson import find_jetson

if TYPE_CHECKING:
    import tensorrt as trt

    from gaitedge.manifest import Build

__all__ = [
    "Log",
    "describe",
    "driver",
    "free_memory",
    "gpu_lacking",
    "lacking",
    "load_plugins",
    "log",
    "require_gpu",
    "require_library",
    "require_tensorrt",
    "uses_plugins",
    "version",
    "why_unfit",
]

OLDEST = (8, 6)
AMPERE = (8, 0)
_ROOT = Path("/")  # below which a Jetson is looked for
# How ONNX stores a plugin node's attribute plugin_namespace where it is "gaitedge".
_OUR_PLUGIN = b"plugin_namespace\x22\x08gaitedge"
REBUILD_PLUGINS = "build {} anew: gaitedge plugins build --tensorrt-include FOLDER"
_loading = threading.Lock()


@functools.cache
def driver() -> CudaDriver:
    """What NVIDIA's driver says, asked once a process, in a process of its own."""
    return probe_driver()


def require_gpu(why: str) -> CudaDevice:
    """The GPU that CUDA takes by default, before anything of TensorRT is touched.

    why: what needs it, as in "a TensorRT engine". Raises MachineError where there is no usable one.
    """
    found = driver()
    if found.state == "broken":
        raise MachineError(f"{why} needs an NVIDIA GPU: {found.detail}; run: gaitedge doctor")
    if not found.devices:
        detail = found.detail or "the driver has no device"
        raise MachineError(
            f"{why} needs an NVIDIA GPU, and there is none that can be used here: {detail}; "
            "run it on the device itself, or take the target cpu or onnxruntime"
        )
    return found.devices[0]


def require_tensorrt(why: str) -> ModuleType:
    """TensorRT, once there is a GPU for it.

    Raises MachineError without a usable GPU or on a version outside 8.6 to 11, MissingPackage with
    the command that installs it where it is not installed: on a Jetson it comes with JetPack.
    """
    require_gpu(why)
    if importlib.util.find_spec("tensorrt") is None and on_jetson():
        raise MissingPackage(
            f"{why} needs tensorrt, which is not installed; on a Jetson it comes with JetPack: "
            "sudo apt install nvidia-jetpack, then use a virtual environment made with --system-site-packages"
        )
    module = require_library("tensorrt", why)
    if version(module) < OLDEST:
        raise MachineError(
            f"{why} needs TensorRT 8.6 or newer, not {module.__version__}; JetPack 6 and newer bring one"
        )
    if version(module)[0] not in (8, 10, 11):
        raise MachineError(
            f"{why} needs TensorRT 8.6, 10 or 11, not {module.__version__}; install one, or update GaitEdge"
        )
    return module


def require_library(name: str, why: str) -> ModuleType:
    """An optional module over NVIDIA's libraries, `tensorrt` or `pycuda.driver`.

    Raises MissingPackage where it is not installed, and MachineError where a library that it links is
    missing or is another version: the commonest fault of such an installation.
    """
    try:
        return require(name, why)
    except ModuleNotFoundError:
        raise  # a package without one of its own parts
    except ImportError as error:
        package, reason = name.partition(".")[0], one_line(error)
        raise MachineError(
            f"{why} needs {package}, which is installed and cannot be imported: {reason}; "
            "bring that library onto the loader's path (LD_LIBRARY_PATH), or install the package anew"
        ) from None


def on_jetson() -> bool:
    """Whether this is a Jetson: TensorRT comes with JetPack there, and memory is shared."""
    return find_jetson(_ROOT) is not None


def platform() -> str:
    """System and architecture, as in "linux-x86_64": no plan runs on another."""
    return f"{sys.platform}-{system.machine().lower()}"


def free_memory(device: CudaDevice) -> int:
    """Bytes of the device's memory that are free.

    A Jetson's is the system's, of which the driver counts what files are cached in as taken; the
    system says what it would give up. Where neither is to be learnt, it is all that the device has.
    """
    if on_jetson():
        try:
            text = (_ROOT / "proc/meminfo").read_text()
        except OSError:
            text = ""  # a sandbox
        if (found := re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)) is not None:
            return int(found[1]) * 1024
    free = cuda_driver.free_memory()
    return device.memory if free is None else free


def uses_plugins(graph: bytes) -> bool:
    """Whether an ONNX graph has a node of our plugins."""
    return _OUR_PLUGIN in graph


def load_plugins(module: ModuleType, graph: bytes) -> Path | None:
    """Load the library of our plugins into TensorRT, once a process, where a graph has one of them.

    graph: ONNX, of an engine that is to be built or was built. Returns the library's file, or None where
    nothing is needed. Raises MachineError where it is not there, with the command that builds it, or
    TensorRT does not load it. Call it once TensorRT has a log: with a Builder or a Runtime.
    """
    if not uses_plugins(graph):
        return None
    from gaitedge.machine.kernels import find_plugins

    library = find_plugins(version(module)[0])
    with _loading:  # a second load fails, of what is there already
        _load_library(library)
    return library


@functools.cache
def _load_library(library: Path) -> object:
    """Load a library of plugins; what is returned, its handle as a rule, is kept."""
    import tensorrt as trt

    from gaitedge.machine.tensorrt_versions import dialect

    registry: trt.IPluginRegistry = trt.get_plugin_registry()  # the process's own, which all others ask
    if dialect(trt).has_plugin(registry, "GaitEdgePartPool", "1", "gaitedge"):
        return library  # somebody else has loaded them
    what = f"TensorRT {trt.__version__} does not load the plugins of {library}"
    handle = registry.load_library(str(library))
    if handle is None:
        raise MachineError(f"{what}: {log().last_error}; {REBUILD_PLUGINS.format('them')}")
    return handle


def lacking() -> str | None:
    """What is missing for running a TensorRT engine here, in a few words; None where nothing is."""
    return gpu_lacking(tensorrt="TensorRT", pycuda="pycuda")


def gpu_lacking(**packages: str) -> str | None:
    """The same for whatever else runs on the GPU. packages: module -> what it is called."""
    for name, title in packages.items():
        if importlib.util.find_spec(name) is None:
            return f"{title} is not installed"
    found = driver()
    if found.state == "broken":
        return f"NVIDIA's driver is broken: {found.detail}"
    return None if found.devices else "no NVIDIA GPU can be used"


def version(module: ModuleType) -> tuple[int, int]:
    """Major and minor version of TensorRT."""
    major, minor, *_ = _version(module.__version__)
    return major, minor


def why_unfit(build: Build, device: CudaDevice, version: str) -> str | None:
    """Why a plan cannot run on this device with this TensorRT; None where it can.

    A plan is bound to the system and architecture, and to the compute capability and the exact version
    that it was built with, unless it was built to be compatible. A version-compatible plan runs in a
    newer TensorRT of the same or of the next major version: 8 to 10 and 10 to 11, not 8 to 11.
    """
    there, here = build.compute_capability, device.compute_capability
    anywhere = build.options.get("hardware_compatibility") == "ampere+" and min(there, here) >= AMPERE
    if there != here and not anywhere:
        return f"it was built for {describe(build.device, there)}, and this is {describe(device.name, here)}"
    place = build.versions.get("platform", platform())
    if place != platform():
        return f"it was built on {place}, and this is {platform()}"
    built = build.versions["tensorrt"]
    if built == version:
        return None
    if not build.options.get("version_compatible", False):
        return f"it was built with TensorRT {built}, and this is {version}"
    if _version(built) > _version(version):
        return f"it was built with TensorRT {built}, and {version} is older"
    majors = (_version(built)[0], _version(version)[0])
    if majors[0] != majors[1] and majors not in ((8, 10), (10, 11)):
        return f"it was built with TensorRT {built}, which even a compatible plan cannot bring to {version}"
    return None


def describe(name: str, capability: tuple[int, int]) -> str:
    """A GPU as messages name it."""
    return f"{name} (compute capability {capability[0]}.{capability[1]})"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


class Log:
    """What TensorRT says; nothing of it goes to the user's screen.

    TensorRT keeps the first logger of a process for good, so that there is one: log().
    """

    def __init__(self) -> None:
        import tensorrt as trt

        self.errors: deque[str] = deque(maxlen=100)
        self.warnings: deque[str] = deque(maxlen=100)
        kept = {
            trt.ILogger.Severity.INTERNAL_ERROR: self.errors,
            trt.ILogger.Severity.ERROR: self.errors,
            trt.ILogger.Severity.WARNING: self.warnings,
        }

        class Collector(trt.ILogger):  # type: ignore[misc]  # a class once TensorRT is there
            def __init__(self) -> None:
                trt.ILogger.__init__(self)  # not super(): the bindings need their own

            def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
                if severity in kept:
                    kept[severity].append(" ".join(msg.split()))

        self.logger: trt.ILogger = Collector()

    def clear(self) -> None:
        """Forget what was said, before something new begins."""
        self.errors.clear()
        self.warnings.clear()

    @property
    def last_error(self) -> str:
        """TensorRT's last error, on one line."""
        return self.errors[-1] if self.errors else "it did not say why"


@functools.cache
def log() -> Log:
    """The log of this process. Call require_tensorrt first."""
    return Log()
