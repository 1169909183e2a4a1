"""Builds TensorRT engines: one way for 8.6 to 11.4, from a graph that holds its own precision.

What differs between the versions is in gaitedge/machine/tensorrt_versions.py, by name. All of TensorRT
runs in a thread of its own: it calls back into Python, where nothing may be raised then, and Ctrl-C is
raised in the main thread. That one waits, hands the progress on, and tells the build to stop.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gaitedge.config import HEIGHT, WIDTH
from gaitedge.engines.tensorrt_contexts import contexts
from gaitedge.engines.tensorrt_inspector import inspect, read_layers
from gaitedge.errors import InputError, MachineError
from gaitedge.export.build_options import BuildOptions, HardwareCompatibility, Range
from gaitedge.export.inspector import fell_back
from gaitedge.export.timing_cache import default_cache, keep_cache, use_cache
from gaitedge.machine.cuda_driver import CudaDevice
from gaitedge.machine.tensorrt import (
    REBUILD_PLUGINS,
    driver,
    free_memory,
    load_plugins,
    log,
    on_jetson,
    platform,
    require_gpu,
    require_tensorrt,
    uses_plugins,
)
from gaitedge.machine.tensorrt_versions import Dialect, dialect

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["BuildOptions", "Built", "HardwareCompatibility", "Range", "build"]

WHY = "building a TensorRT engine"

Progress = Callable[[str, int, int], None]

_LOOK = 0.1  # seconds
# What TensorRT says of a failure: what to do about it.
_REMEDIES = (
    (
        r"no low-precision conv kernel",
        "no kernel for a convolution in this precision; give --micro-motion per_part or --precision fp32",
    ),
    (
        r"out[ _]?of[ _]?memory|could not be allocated|bad_alloc|insufficient memory|memory is insufficient",
        "out of memory; give a smaller --workspace, or smaller maxima of --batch and --frames",
    ),
    (
        r"(sufficient|enough) workspace",
        "no kernel fits into the workspace; give a larger --workspace",
    ),
    (
        r"could not find any implementation",
        "no kernel does what one layer asks; give --micro-motion per_part or --precision fp32",
    ),
)


@dataclass(frozen=True)
class Built:
    """An engine, and how it came about."""

    plan: bytes
    device: CudaDevice
    versions: dict[str, str]
    """"tensorrt", "cuda" (the newest that the driver runs) and "platform", as in "10.3.0", "12.6" and
    "linux-aarch64"."""
    layers: dict[str, str]
    """Layer -> the precision that TensorRT chose; without layers that handle nothing but indices."""
    fell_back: tuple[str, ...]
    """Layers that compute in a higher precision than the graph asks for."""
    seconds: float


def build(
    graph: bytes, precision: str, options: BuildOptions | None = None, progress: Progress | None = None
) -> Built:
    """Compile a graph for the GPU of this machine.

    graph: ONNX, with the single input `silhouettes` [batch, frames, 64, 44]; plugin nodes without
    functions. precision: what the graph was written in, or "int8". progress: called in this thread with
    a phase of TensorRT's, its steps done and its steps in all, from TensorRT 10 on.

    Raises InputError where the timing cache is a folder, or plugins are to be compatible with other versions;
    MachineError where there is no usable GPU, where
    GPU or TensorRT lack what the graph or the options ask for, our plugins among it, and with TensorRT's
    own words where it fails; MissingPackage without TensorRT. On Ctrl-C the build ends at its next step;
    that of TensorRT 8 cannot be ended, and is waited for.
    """
    start = time.perf_counter()
    options = options or BuildOptions()
    device = require_gpu(WHY)
    module = require_tensorrt(WHY)
    here = dialect(module)
    if (refusal := here.refusal(precision, device)) is not None:
        raise MachineError(f"no {precision} engine can be built here: {refusal}")
    if options.hardware_compatibility != "none" and on_jetson():
        raise MachineError(
            f"engines built on a Jetson run on no other GPU: TensorRT has no hardware compatibility "
            f"{options.hardware_compatibility} there; leave it at none"
        )
    if options.version_compatible and uses_plugins(graph):
        raise InputError(
            "a version-compatible engine cannot have plugins, whose library is for one major version of "
            "TensorRT: leave --version-compatible out, or export --fconv fold --micro-motion grouped"
        )
    cache = options.timing_cache
    if cache is not None and cache.exists() and not cache.is_file():
        what = "a folder" if cache.is_dir() else "a device or a pipe"
        raise InputError(f"{cache} is {what}; name the file of the timing cache")
    if cache is not None:  # to be told before minutes of building
        folder = next(above for above in cache.absolute().parents if above.exists())
        if not os.access(folder, os.W_OK):
            raise InputError(f"{cache} cannot be written: {folder} is not writable")
    job = _Job(graph, precision, options, device, module, here)
    plan, information = _attended(job, progress or (lambda *_: None))
    layers = read_layers(information)
    cuda = driver().cuda
    return Built(
        plan=plan,
        device=device,
        versions={
            "tensorrt": module.__version__,
            "cuda": "unknown" if cuda is None else f"{cuda[0]}.{cuda[1]}",
            "platform": platform(),
        },
        layers={layer.name: layer.precision for layer in layers if layer.precision is not None},
        fell_back=fell_back(layers, graph),
        seconds=time.perf_counter() - start,
    )


def _attended(job: _Job, progress: Progress) -> tuple[bytes, str]:
    """Run a build and hand its progress on; on Ctrl-C, or any error of `progress`, stop it."""
    with ThreadPoolExecutor(1, thread_name_prefix="tensorrt") as pool:
        try:
            future = pool.submit(job.run)
            future.add_done_callback(lambda _: job.steps.put(None))
            while True:
                with contextlib.suppress(Empty):
                    # Not for ever: a Ctrl-C that another thread was given is seen between two looks.
                    if (step := job.steps.get(timeout=_LOOK)) is None:
                        return future.result()
                    progress(*step)
        except BaseException as error:
            job.stop.set()
            if isinstance(error, KeyboardInterrupt) and not job.dialect.stoppable:
                progress(f"TensorRT {job.version} cannot be stopped: waiting for it", 0, 0)
            raise  # once the thread has ended


@dataclass
class _Job:
    """One build, in the thread of TensorRT."""

    graph: bytes
    precision: str
    options: BuildOptions
    device: CudaDevice
    module: ModuleType
    dialect: Dialect
    steps: SimpleQueue[tuple[str, int, int] | None] = field(default_factory=SimpleQueue)
    """What is to be reported; None once all is over."""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def version(self) -> str:
        """TensorRT's."""
        return str(self.module.__version__)

    def run(self) -> tuple[bytes, str]:
        """The plan, and what the inspector says of it. Raises MachineError."""
        log().clear()
        builder = self._builder()
        network: trt.INetworkDefinition = builder.create_network(self.dialect.network_flags())
        self._check_plugins(builder.get_plugin_registry(), load_plugins(self.module, self.graph))
        parser = self._parse(network)
        config = self._configure(builder, network)
        path = self.options.timing_cache or default_cache(self.device, self.version)
        use_cache(config, path)
        log().clear()  # of what was wrong with the cache
        monitor = self.dialect.watch(config, self._report, self.stop.is_set)
        made: trt.IHostMemory | None = builder.build_serialized_network(network, config)
        del parser, monitor  # the network's weights were the parser's
        timings: trt.ITimingCache | None = config.get_timing_cache()
        if timings is not None and path is not None:  # of a build that failed or was stopped too
            self._keep(_bytes(timings.serialize()), path)
        if made is None:
            raise self._failure("cannot build the engine")
        plan = _bytes(made)
        if self.stop.is_set():
            raise MachineError("the build was stopped")
        return plan, self._inspect(plan)

    def _report(self, phase: str, done: int, of: int) -> None:
        self.steps.put((phase, done, of))

    def _builder(self) -> trt.Builder:
        import tensorrt as trt

        try:
            builder = trt.Builder(log().logger)
        except TypeError:  # 8.6, where CUDA does not start
            raise self._failure("does not start on this GPU") from None
        if log().errors:  # newer ones give a builder that must not be touched
            raise self._failure("does not start on this GPU")
        return builder

    def _check_plugins(self, registry: trt.IPluginRegistry, library: Path | None) -> None:
        """Raise MachineError where the graph has a plugin that TensorRT does not know: its own words for
        that name neither the plugin's version nor what to do. library: of our plugins, once loaded."""
        import onnx

        missing = {}
        for node in onnx.load_from_string(self.graph).graph.node:
            values = {each.name: each.s.decode() for each in node.attribute}
            if "plugin_version" not in values:
                continue
            version, namespace = values["plugin_version"], values.get("plugin_namespace", "")
            if not self.dialect.has_plugin(registry, node.op_type, version, namespace):
                missing[node.op_type] = f"{node.op_type} (version {version}, namespace {namespace!r})"
        if missing:
            remedy = (
                f"{library} lacks it, and is loaded; {REBUILD_PLUGINS.format('it')}"
                if library
                else "load the library that registers it first"
            )
            raise MachineError(
                f"TensorRT {self.version} knows no plugin {', '.join(missing.values())}; {remedy}, or export "
                "a plan without plugins: --fconv fold --micro-motion grouped"
            )

    def _parse(self, network: trt.INetworkDefinition) -> trt.OnnxParser:
        import tensorrt as trt

        parser = trt.OnnxParser(network, log().logger)
        if parser.parse(self.graph):
            return parser
        found = []
        for index in range(parser.num_errors):
            error: trt.ParserError = parser.get_error(index)
            found.append(f"{self.dialect.place(error)}: {' '.join(error.desc().split())}")
        reason = "; ".join(found) or log().last_error
        raise MachineError(f"TensorRT {self.version} cannot read the graph: {reason}")

    def _configure(self, builder: trt.Builder, network: trt.INetworkDefinition) -> trt.IBuilderConfig:
        import tensorrt as trt

        options = self.options
        config: trt.IBuilderConfig = builder.create_builder_config()
        # TF32 rounds what FP32 layers multiply to 10 bits, is on by default, and would be in none of the
        # names that we give a precision: FP32 means FP32.
        config.clear_flag(trt.BuilderFlag.TF32)
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        level = self.dialect.level(options.hardware_compatibility)
        if level is None:
            raise MachineError(
                f"TensorRT {self.version} has no hardware compatibility {options.hardware_compatibility}; "
                "take ampere+ or none"
            )
        config.hardware_compatibility_level = level
        config.builder_optimization_level = options.optimization_level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector knows no types
        workspace = int(options.workspace * free_memory(self.device))
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
        profile: trt.IOptimizationProfile = builder.create_optimization_profile()
        shapes = [
            trt.Dims([batch, frames, HEIGHT, WIDTH])
            for batch, frames in zip(options.batch.values, options.frames.values, strict=True)
        ]
        profile.set_shape(network.get_input(0).name, *shapes)
        config.add_optimization_profile(profile)
        self.dialect.settle(config, network, self.precision)
        return config

    def _keep(self, timings: bytes, path: Path) -> None:
        try:
            keep_cache(timings, path)
        except OSError:
            return  # the engine counts, after minutes; build() has looked whether the file can be written

    def _inspect(self, plan: bytes) -> str:
        """What the inspector tells of an engine, at the optimum of its profile."""
        import tensorrt as trt

        runtime = trt.Runtime(log().logger)
        # A version-compatible plan brings a runtime of its own, which is code; we have just built it.
        runtime.engine_host_code_allowed = self.options.version_compatible
        engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._failure("cannot load the engine that it has just built")
        # Without memory, since it runs nothing: the largest shape's would lie beside what the build took.
        context = contexts(trt, self.version).make(engine)
        if context is not None:  # without one 8.6 tells no types, which is no reason to fail
            optimum = trt.Dims([self.options.batch.optimum, self.options.frames.optimum, HEIGHT, WIDTH])
            context.set_input_shape(engine.get_tensor_name(0), optimum)
        return inspect(engine, context)

    def _failure(self, what: str) -> MachineError:
        """TensorRT's own last error, and what to do about it where that is known."""
        said = " ".join([*log().errors, *log().warnings])
        for pattern, remedy in _REMEDIES:
            if re.search(pattern, said, re.IGNORECASE):
                return MachineError(f"TensorRT {self.version} {what}: {remedy} ({log().last_error})")
        return MachineError(f"TensorRT {self.version} {what}: {log().last_error}")


def _bytes(memory: Any) -> bytes:
    """IHostMemory has the buffer protocol, which its type does not say."""
    return bytes(memory)
