"""What a machine reaches at best: multiply-accumulates and bytes a second, measured with the same runtime.

A roofline (Williams, Waterman, Patterson 2009) says what a piece of work could reach at most: its arithmetic
takes as long as at the machine's peak, or its bytes as long as at its memory's. Both are measured here, the
one by products that are large and keep their data near, the other by a copy that no cache holds.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.engines.executed import Executed, in_onnxruntime, in_openvino
from gaitedge.errors import InputError, MachineError, require
from gaitedge.machine.cpu import usable_cores
from gaitedge.profiling.document import Configuration, Roofline

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["Product", "measure_roofline", "product_graph", "products"]

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_DEPTH = 3  # products one after the other: what comes in and goes out weighs less
_SMALLEST, _LARGEST = 64 << 20, 1 << 30  # bytes of a copy
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}
_LEAST_RUNS = 3


@dataclass(frozen=True)
class Product:
    """Work to find the arithmetic peak with: several convolutions of 3 × 3, or matrix products."""

    shape: tuple[int, ...]
    """Of what comes in: [n, channels, rows, columns], or [rows, columns] of a square matrix."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        if len(self.shape) == 2:
            return _DEPTH * self.shape[0] * self.shape[1] ** 2
        n, channels, rows, columns = self.shape
        return _DEPTH * n * channels**2 * rows * columns * 9

    def __str__(self) -> str:
        kind = "matrix products" if len(self.shape) == 2 else "convolutions of 3 × 3"
        return f"{_DEPTH} {kind} of {' × '.join(map(str, self.shape))}"


PRODUCTS = (
    Product((30, 64, 32, 22)),
    Product((30, 128, 16, 11)),
    Product((8, 256, 16, 16)),
    Product((1024, 1024)),
)


def measure_roofline(configuration: Configuration, *, seconds: float = 1.0) -> Roofline:
    """Measure both limits with the configuration's runtime, precision and threads.

    seconds: about, of all; a slow machine takes longer for the few runs that it must make. Each limit is the
    fastest run's. Raises InputError on another engine or no time, MachineError where this machine does not
    compute in that precision or nothing here can measure it, MissingPackage without the runtime.
    """
    if not 0 < seconds < float("inf"):
        raise InputError(f"a measurement of the roofline takes more than 0 seconds, not {seconds}")
    engine, precision = configuration.engine, configuration.precision
    if engine in ("tensorrt", "cuda"):
        from gaitedge.profiling.gpu_roofline import measure_gpu_roofline

        return measure_gpu_roofline(precision, seconds / 2)
    if engine not in ("openvino", "onnxruntime"):
        raise InputError(f"no roofline can be measured with the engine {engine!r}")
    threads = configuration.threads or usable_cores()
    runtime, macs_per_second, product = _arithmetic(engine, precision, threads, seconds * 0.75)
    bytes_per_second, size = _memory(threads, seconds * 0.25, CACHES)
    return Roofline(
        precision,
        macs_per_second,
        bytes_per_second,
        f"{runtime}, {precision}, {'1 thread' if threads == 1 else f'{threads} threads'}: {product}; "
        f"memory: copies of {size >> 20} MiB, what is read and what is written both counted; the fastest run "
        "of each",
    )


def _arithmetic(engine: str, precision: str, threads: int, seconds: float) -> tuple[str, float, Product]:
    """The runtime's name, the multiply-accumulates a second, and of what these are the most."""
    found = list(products(engine, precision, threads))
    if not found:
        raise MachineError(f"{engine} computes no product in {precision} on this machine")
    best = max(
        (product.macs / _fastest(call, seconds / len(found)), number)
        for number, (_, product, call) in enumerate(found)
    )
    runtime, product, _ = found[best[1]]
    return runtime, best[0], product


def products(
    engine: str, precision: str, threads: int
) -> Iterator[tuple[str, Product, Callable[[], object]]]:
    """The runtime's name, a product and how to run it, of each that it really computes in this precision."""
    rng = np.random.default_rng(0)
    for product in PRODUCTS:
        graph = product_graph(product, precision == "int8", rng)
        silhouettes: NDArray[Any] = rng.integers(0, 256, product.shape, np.uint8)
        if precision != "int8":
            silhouettes = silhouettes.astype(np.float32) / np.float32(255)
        make = _in_openvino if engine == "openvino" else _in_onnxruntime
        runtime, executed, call = make(graph.SerializeToString(), silhouettes, precision, threads)
        types = {one.precision or "fp32" for one in executed if one.product}
        if types == {precision}:
            yield runtime, product, call


def product_graph(product: Product, quantised: bool, rng: np.random.Generator) -> ModelProto:
    """The product as an ONNX graph, `x` → `y`; quantised: uint8 in and out, with pairs around each."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []

    def constant(name: str, value: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    def node(kind: str, name: str, inputs: Sequence[str], **options: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **options))
        return name

    square = len(product.shape) == 2
    width = product.shape[1]
    shape = (width, width) if square else (width, width, 3, 3)
    scale = constant("scale", np.float32(1 / 64))
    zeros = constant("zero", np.uint8(0)), constant("weight.zero", np.int8(0))
    tensor = "x"
    for number in range(_DEPTH):
        name = f"product{number}"
        if quantised:
            weight = constant(f"{name}.quantised", rng.integers(-127, 128, shape, np.int8))
            by = constant(f"{name}.scale", np.float32(1 / 64 / width**0.5))
            weight = node("DequantizeLinear", f"{name}.weight", (weight, by, zeros[1]))
            tensor = node("DequantizeLinear", f"{name}.dequantised", (tensor, scale, zeros[0]))
        else:
            size = (width if square else 9 * width) ** -0.5
            weight = constant(f"{name}.weight", (rng.standard_normal(shape) * size).astype(np.float32))
        options = {} if square else {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        tensor = node("MatMul" if square else "Conv", name, (tensor, weight), **options)
        if quantised:
            tensor = node("QuantizeLinear", f"{name}.output", (tensor, scale, zeros[0]))
    nodes[-1].output[0] = "y"
    kind = TensorProto.UINT8 if quantised else TensorProto.FLOAT
    ports = [helper.make_tensor_value_info(name, kind, product.shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "product", ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _in_openvino(
    graph: bytes, x: NDArray[Any], precision: str, threads: int
) -> tuple[str, list[Executed], Callable[[], object]]:
    from gaitedge.engines.openvino import import_openvino, settings_for, shared_core

    version, core = import_openvino().__version__.partition("-")[0], shared_core()
    compiled = core.compile_model(core.read_model(graph), "CPU", settings_for(precision, threads))
    request = compiled.create_infer_request()
    return (
        f"OpenVINO {version}",
        in_openvino(compiled),
        lambda: request.infer([x], share_inputs=True, share_outputs=True),
    )


def _in_onnxruntime(
    graph: bytes,
    x: NDArray[Any],
    precision: str,  # noqa: ARG001  # it is in the graph
    threads: int,
) -> tuple[str, list[Executed], Callable[[], object]]:
    import onnx

    from gaitedge.engines.onnxruntime import options_for

    runtime = require("onnxruntime", "measuring what ONNX Runtime reaches")
    options = options_for(threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        executed = in_onnxruntime(onnx.load(path))
    return f"ONNX Runtime {runtime.__version__}", executed, lambda: session.run(["y"], {"x": x})


def _memory(threads: int, seconds: float, caches: Path) -> tuple[float, int]:
    """Bytes a second, read and written, that so many threads copy, and how many bytes a copy has."""
    size = _copy_size(caches)
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)  # so that each page is there
    edges = [size * number // threads for number in range(threads + 1)]
    parts = [slice(*ends) for ends in itertools.pairwise(edges)]
    with ThreadPoolExecutor(threads) as pool:  # NumPy lets other threads run while it copies

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))

        return 2 * size / _fastest(copy, seconds), size


def _copy_size(caches: Path) -> int:
    """Four times the largest cache, within reason and an eighth of the memory."""
    texts = [path.read_text().strip() for path in sorted(caches.glob("index*/size"))]
    found = [match for text in texts if (match := re.fullmatch(r"(\d+)([KMG]?)", text))]
    sizes = [int(match[1]) << _UNITS[match[2]] for match in found]
    wanted = min(max(_SMALLEST, 4 * max(sizes, default=0)), _LARGEST)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(wanted, memory // 8)


def _fastest(call: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest run; the first, which allocates, is not among them."""
    call()
    end, best, runs = time.perf_counter() + seconds, float("inf"), 0
    while runs < _LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return best
