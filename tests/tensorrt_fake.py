"""A small fake of TensorRT's Python package, in the versions whose real bindings were read.

It has the names that GaitEdge uses and no others: a name that a version lacks is an AttributeError,
as in the real one (tests/export/test_tensorrt_names.py compares the fake's names with the real
bindings). It compiles nothing: a plan is the JSON of what the builder was told.
"""

from __future__ import annotations

import enum
import json
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tensorrt_fake_runtime import add_runtime

VERSIONS = ("8.6.1", "10.3.0", "10.16.1.11", "11.4.0.106")


def _enum(name: str, *members: str) -> type[enum.IntEnum]:
    return enum.IntEnum(name, list(members), start=0)  # type: ignore[return-value]


@dataclass
class Recorded:
    """What was done to the fake, and what it shall do."""

    version: str
    calls: list[str] = field(default_factory=list)
    """Every object of TensorRT that was made, in order."""
    flags: set[str] = field(default_factory=set)
    cleared: set[str] = field(default_factory=set)
    preview: dict[str, bool] = field(default_factory=dict)
    network_flags: int | None = None
    workspace: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """What was assigned to the builder's configuration."""
    precisions: dict[str, str] = field(default_factory=dict)
    """Layer -> the precision that it was held to (8.6)."""
    shapes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    """Input -> minimum, optimum, maximum of the profile."""
    cache_given: bytes | None = None
    """With which contents the timing cache was made that the build used."""

    plugins: set[tuple[str, str, str]] = field(default_factory=set)
    """Name, version, namespace of each plugin that is registered."""
    library: set[tuple[str, str, str]] = field(default_factory=set)
    """What a library of plugins registers when it is loaded; one that registers nothing is none."""
    libraries: list[str] = field(default_factory=list)
    """Those that were to be loaded."""
    logger: Any = None
    """The one that was given last; without any, TensorRT writes to the screen."""
    network_layers: tuple[tuple[str, str, str], ...] = ()
    """Name, kind and data type of each layer that the parser finds."""
    parser_errors: tuple[tuple[str, str, str], ...] = ()
    """Description, node and operator of each error of the parser."""
    build_says: tuple[tuple[str, str], ...] = ()
    """Severity and text of what is logged during a build."""
    build_fails: bool = False
    phases: tuple[tuple[str, int], ...] = (("Tactic Timing", 3),)
    at_step: Callable[[str, int], None] | None = None
    """Called before each step of a build."""
    stopped_at: tuple[str, int] | None = None
    """The step after which a monitor ended the build."""
    layers: tuple[dict[str, Any], ...] = ()
    """What the inspector tells of each layer once shapes are known."""
    runs: list[str] = field(default_factory=list)
    """What execution contexts were told, in order."""
    engines: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)
    """Those that are loaded."""
    most_contexts: int = 1000
    """How many the GPU has room for."""
    runs_fail: str = ""
    """What is logged where a run shall fail."""
    reports_fail: str = ""
    """What is logged where a profiler shall get no report."""
    no_recording: bool = False
    """Whether a run into a CUDA graph fails."""
    mode: str = "works"
    """"no cuda": the CUDA runtime does not start, as with a driver that is too old."""


def fake_tensorrt(version: str) -> tuple[types.ModuleType, Recorded]:
    """The module `tensorrt` of this version and what it records; put it into sys.modules."""
    recorded = Recorded(version)
    major = int(version.partition(".")[0])
    minor = tuple(map(int, version.split(".")[:2]))
    trt: Any = types.ModuleType("tensorrt")
    trt.__version__ = version
    trt.__spec__ = types.SimpleNamespace(name="tensorrt", origin="fake")  # for importlib.util.find_spec
    _add_enums(trt, major, minor)
    _add_logger(trt)
    _add_builder(trt, recorded, major)
    add_runtime(trt, recorded, major)
    return trt, recorded


def _add_enums(trt: Any, major: int, minor: tuple[int, ...]) -> None:
    flags = ["TF32", "REFIT", "VERSION_COMPATIBLE", "DISABLE_TIMING_CACHE"]
    if major < 11:
        flags = ["FP16", "INT8", "PREFER_PRECISION_CONSTRAINTS", *flags]
    trt.BuilderFlag = _enum("BuilderFlag", *flags)
    trt.NetworkDefinitionCreationFlag = _enum(
        "NetworkDefinitionCreationFlag",
        *(["EXPLICIT_BATCH"] if major < 11 else []),
        *(["STRONGLY_TYPED"] if major >= 10 else []),
    )
    trt.PreviewFeature = _enum(
        "PreviewFeature", *(["PROFILE_SHARING_0806"] if major < 11 else ["ALIASED_PLUGIN_IO_10_03"])
    )
    trt.HardwareCompatibilityLevel = _enum(
        "HardwareCompatibilityLevel",
        "NONE",
        "AMPERE_PLUS",
        *(["SAME_COMPUTE_CAPABILITY"] if minor >= (10, 16) else []),
    )
    trt.ProfilingVerbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "NONE", "DETAILED")
    trt.MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE", "TACTIC_DRAM")
    trt.LayerType = _enum("LayerType", "CONVOLUTION", "MATRIX_MULTIPLY", "POOLING", "SHUFFLE")
    trt.DataType = _enum("DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8")
    trt.LayerInformationFormat = _enum("LayerInformationFormat", "ONELINE", "JSON")
    trt.TensorIOMode = _enum("TensorIOMode", "NONE", "INPUT", "OUTPUT")


def _add_logger(trt: Any) -> None:
    class ILogger:
        Severity = _enum("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")

        def __init__(self) -> None:
            self.initialised = True  # the real one crashes where a subclass forgot to call this

        def log(self, severity: Any, msg: str) -> None:
            raise NotImplementedError

    class IProfiler:
        def __init__(self) -> None:
            self.initialised = True  # as above

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            raise NotImplementedError

    class IHostMemory(bytes):
        @property
        def nbytes(self) -> int:
            return len(self)

    class Dims(tuple[int, ...]):
        __slots__ = ()

    trt.ILogger, trt.IProfiler, trt.IHostMemory, trt.Dims = ILogger, IProfiler, IHostMemory, Dims


def _say(trt: Any, logger: Any, severity: str, text: str) -> None:
    assert logger.initialised
    logger.log(trt.ILogger.Severity[severity], text)


def _add_builder(trt: Any, recorded: Recorded, major: int) -> None:
    class IOptimizationProfile:
        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
            assert all(isinstance(shape, trt.Dims) for shape in (min, opt, max))
            recorded.shapes[input] = [tuple(min), tuple(opt), tuple(max)]

    class ITimingCache:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def serialize(self) -> Any:
            return trt.IHostMemory(f"timings of {recorded.version}".encode())

    class IBuilderConfig:
        _names = ("builder_optimization_level", "hardware_compatibility_level", "profiling_verbosity") + (
            ("progress_monitor",) if major >= 10 else ()
        )

        def __init__(self, logger: Any) -> None:
            super().__setattr__("logger", logger)

        def __setattr__(self, name: str, value: object) -> None:
            if name not in self._names:
                raise AttributeError(f"'IBuilderConfig' object has no attribute {name!r}")
            recorded.settings[name] = value

        def set_flag(self, flag: Any) -> None:
            recorded.flags.add(flag.name)

        def clear_flag(self, flag: Any) -> None:
            recorded.cleared.add(flag.name)

        def set_preview_feature(self, feature: Any, enable: bool) -> None:
            recorded.preview[feature.name] = enable

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            assert pool is trt.MemoryPoolType.WORKSPACE
            recorded.workspace = pool_size

        def add_optimization_profile(self, profile: Any) -> int:
            assert isinstance(profile, IOptimizationProfile)
            return 0

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            if serialized_timing_cache and not serialized_timing_cache.startswith(b"timings of"):
                _say(trt, self.logger, "ERROR", "the timing cache cannot be deserialised")
                return None
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            if cache.data and cache.data != f"timings of {recorded.version}".encode():
                _say(trt, self.logger, "ERROR", "the timing cache is of another version")
                return False
            recorded.cache_given = cache.data
            return True

        def get_timing_cache(self) -> Any:
            return None if recorded.cache_given is None else ITimingCache(recorded.cache_given)

    class Layer:
        def __init__(self, name: str, kind: str, dtype: str) -> None:
            self.__dict__["name"] = name
            self.__dict__["type"] = trt.LayerType[kind]
            self.__dict__["_dtype"] = trt.DataType[dtype]

        def __setattr__(self, name: str, value: Any) -> None:
            if name != "precision" or major >= 11:
                raise AttributeError(name)
            recorded.precisions[self.name] = value.name

        def get_output(self, index: int) -> Any:
            assert index == 0
            return types.SimpleNamespace(dtype=self._dtype)

    class INetworkDefinition:
        num_inputs = 1

        @property
        def num_layers(self) -> int:
            return len(recorded.network_layers)

        def get_layer(self, index: int) -> Any:
            return Layer(*recorded.network_layers[index])

        def get_input(self, index: int) -> Any:
            assert index == 0
            return types.SimpleNamespace(name="silhouettes")

    class ParserError:
        def __init__(self, desc: str, node: str, operator: str) -> None:
            self._desc, self._name, self._operator = desc, node, operator
            if major >= 10:
                self.node_name = lambda: node
                self.node_operator = lambda: operator

        def desc(self) -> str:
            return self._desc

        def node(self) -> int:
            return 7

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            assert isinstance(network, INetworkDefinition)
            assert logger.initialised
            recorded.calls.append("OnnxParser")
            network._parser = weakref.ref(self)

        def parse(self, model: bytes) -> bool:
            return not recorded.parser_errors

        @property
        def num_errors(self) -> int:
            return len(recorded.parser_errors)

        def get_error(self, index: int) -> Any:
            return ParserError(*recorded.parser_errors[index])

    class IPluginRegistry:
        def load_library(self, plugin_path: str) -> object | None:
            recorded.calls.append("load_library")
            recorded.libraries.append(plugin_path)
            if not recorded.library or recorded.library & recorded.plugins:  # nor a second time
                _say(trt, recorded.logger, "ERROR", f"cannot load {plugin_path}")
                return None
            recorded.plugins |= recorded.library
            return object()

    def look_up(_: Any, type: str, version: str, plugin_namespace: str = "") -> Any:  # noqa: A002
        return object() if (type, version, plugin_namespace) in recorded.plugins else None

    if major < 11:
        IPluginRegistry.get_plugin_creator = look_up  # type: ignore[attr-defined]
    if major >= 10:
        IPluginRegistry.get_creator = look_up  # type: ignore[attr-defined]

    def get_plugin_registry() -> Any:
        return IPluginRegistry()

    class Builder:
        def __init__(self, logger: Any) -> None:
            recorded.calls.append("Builder")
            self.logger = recorded.logger = logger
            if recorded.mode == "no cuda":
                _say(trt, logger, "ERROR", "CUDA initialization failure with error: 35")
                if major < 10:
                    raise TypeError("pybind11::init(): factory function returned nullptr")

        def create_network(self, flags: int = 0) -> Any:
            recorded.network_flags = flags
            return INetworkDefinition()

        def create_builder_config(self) -> Any:
            return IBuilderConfig(self.logger)

        def create_optimization_profile(self) -> Any:
            return IOptimizationProfile()

        def get_plugin_registry(self) -> Any:
            return IPluginRegistry()

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            assert network._parser() is not None, "the parser, whose the weights are, is gone"
            for severity, text in recorded.build_says:
                _say(trt, self.logger, severity, text)
            if recorded.build_fails or not self._run(recorded.settings.get("progress_monitor")):
                return None
            shapes = {name: list(map(list, found)) for name, found in recorded.shapes.items()}
            plan = {"version": recorded.version, "shapes": shapes, "flags": sorted(recorded.flags)}
            return trt.IHostMemory(json.dumps(plan).encode())

        def _run(self, monitor: Any) -> bool:
            """Go through the phases; False where the monitor ends it."""
            for phase, steps in recorded.phases:
                if monitor is not None:
                    monitor.phase_start(phase, None, steps)
                for step in range(steps):
                    if recorded.at_step is not None:
                        recorded.at_step(phase, step)
                    if monitor is not None and not monitor.step_complete(phase, step):
                        recorded.stopped_at = (phase, step)
                        return False
                if monitor is not None:
                    monitor.phase_finish(phase)
            return True

    if major >= 10:

        class IProgressMonitor:
            def __init__(self) -> None:
                self.initialised = True

        trt.IProgressMonitor = IProgressMonitor
    trt.Builder, trt.OnnxParser, trt.get_plugin_registry = Builder, OnnxParser, get_plugin_registry
    trt.IBuilderConfig, trt.INetworkDefinition = IBuilderConfig, INetworkDefinition
    trt.IPluginRegistry, trt.IOptimizationProfile = IPluginRegistry, IOptimizationProfile
    trt.ITimingCache, trt.ParserError = ITimingCache, ParserError
