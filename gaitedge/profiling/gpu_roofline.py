"""What a GPU reaches at best: copies within its memory, and large matrix products, by CUDA events."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.engines.cuda_memory import DeviceBuffer, gpu, make_stream
from gaitedge.errors import MachineError, require
from gaitedge.machine.tensorrt import (
    free_memory,
    log,
    require_gpu,
    require_library,
    require_tensorrt,
    version,
)
from gaitedge.machine.tensorrt_versions import dialect
from gaitedge.profiling.document import Roofline

if TYPE_CHECKING:
    import tensorrt as trt
    from onnx import ModelProto

__all__ = ["matrix_graph", "measure_gpu_roofline"]

WHY = "the roofline of a GPU"
_SIZE = 4096  # rows and columns of a matrix
_DEPTH = 3  # products one after the other
_COPIED = 1 << 30  # bytes, beyond any cache
_LEAST_RUNS = 3
_WAY_OUT = "end what else uses it"


def measure_gpu_roofline(precision: str, seconds: float) -> Roofline:
    """The fastest of several copies and of several products in `precision`, about so many seconds of each.

    The products are TensorRT's where it is installed, else PyTorch's. Raises MachineError without a usable
    GPU, or where neither computes in this precision; MissingPackage without pycuda.
    """
    device = require_gpu(WHY)
    require_library("pycuda.driver", WHY)
    if importlib.util.find_spec("tensorrt") is not None:
        name, macs = _tensorrt_products(precision, seconds)
    elif importlib.util.find_spec("torch") is not None:
        name, macs = _torch_products(precision, seconds)
    else:
        raise MachineError(f"{WHY} is measured with TensorRT or PyTorch, and neither is installed")
    size = min(_COPIED, free_memory(device) // 8)
    return Roofline(
        precision,
        macs,
        _copies(size, seconds),
        f"{name} on {device.name}, {precision}: products of matrices of {_SIZE} × {_SIZE}; memory: copies of "
        f"{size >> 20} MiB within it, what is read and what is written both counted; the fastest run of each",
    )


def matrix_graph(precision: str, major: int) -> ModelProto:
    """Products of square matrices as TensorRT of this major version takes them, `x` → `y`.

    In int8 with a pair of QuantizeLinear and DequantizeLinear before each, in FP16 around them, or in FP32
    for TensorRT 8, which reads no scales of 16 bits.
    """
    from onnx import TensorProto, helper, numpy_helper

    plain = "FLOAT" if precision == "fp32" or (precision == "int8" and major == 8) else "FLOAT16"
    kind = TensorProto.BFLOAT16 if precision == "bf16" else TensorProto.DataType.Value(plain)
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((_SIZE, _SIZE)) * _SIZE**-0.5).astype(np.float32)
    constants, nodes = [], []

    def node(operator: str, name: str, inputs: Sequence[str], **options: Any) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **options))
        return name

    def constant(name: str, value: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    float_type = np.float32 if plain == "FLOAT" else np.float16
    quantised = precision == "int8"
    scale = constant("scale", np.asarray(1 / 32, float_type)) if quantised else ""
    zero = constant("zero", np.int8(0)) if quantised else ""
    tensor = "x"
    for number in range(_DEPTH):
        name = f"product{number}"
        if quantised:
            stored = constant(f"{name}.quantised", rng.integers(-127, 128, (_SIZE, _SIZE), np.int8))
            by = constant(f"{name}.scale", np.asarray(1 / 64 / _SIZE**0.5, float_type))
            weight = node("DequantizeLinear", f"{name}.weight", (stored, by, zero))
            tensor = node("QuantizeLinear", f"{name}.quantise", (tensor, scale, zero))
            tensor = node("DequantizeLinear", f"{name}.dequantise", (tensor, scale, zero))
        elif precision == "bf16":
            weight = node("Cast", f"{name}.weight", (constant(f"{name}.value", values),), to=kind)
        else:
            weight = constant(f"{name}.weight", values.astype(float_type))
        tensor = node("MatMul", name, (tensor, weight))
    nodes[-1].output[0] = "y"
    ports = [helper.make_tensor_value_info(name, kind, [_SIZE, _SIZE]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "products", ports[:1], ports[1:], constants)
    opset, ir_version = (17, 8) if major == 8 else (19, 9)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def _tensorrt_products(precision: str, seconds: float) -> tuple[str, float]:
    """Name of the runtime, multiply-accumulates a second."""
    device, module = require_gpu(WHY), require_tensorrt(WHY)
    import tensorrt as trt

    here, name = dialect(module), f"TensorRT {module.__version__}"
    if (refusal := here.refusal(precision, device)) is not None:
        raise MachineError(f"{WHY} cannot be measured in {precision}: {refusal}")
    log().clear()
    builder = trt.Builder(log().logger)
    network: trt.INetworkDefinition = builder.create_network(here.network_flags())
    parser = trt.OnnxParser(network, log().logger)
    if not parser.parse(matrix_graph(precision, version(module)[0]).SerializeToString()):
        raise MachineError(f"{name} does not read matrix products in {precision}: {log().last_error}")
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 means FP32, as in our engines
    here.settle(config, network, precision)
    # IHostMemory or None; it has the buffer protocol, which its type does not say.
    plan: Any = builder.build_serialized_network(network, config)
    runtime = trt.Runtime(log().logger)
    engine: trt.ICudaEngine | None = None if plan is None else runtime.deserialize_cuda_engine(bytes(plan))
    if engine is None:
        raise MachineError(f"{name} does not build matrix products in {precision}: {log().last_error}")
    with gpu(_WAY_OUT):
        return name, _DEPTH * _SIZE**3 / _run_plan(name, engine, seconds)


def _run_plan(name: str, engine: trt.ICudaEngine, seconds: float) -> float:
    """Seconds of the fastest run. It needs the context of CUDA, as TensorRT's own does that ends here."""
    context: trt.IExecutionContext | None = engine.create_execution_context()
    if context is None:
        raise MachineError(f"{name} gives no execution context: {log().last_error}")
    execute = context.execute_async_v3
    stream, buffers = make_stream(), (DeviceBuffer(), DeviceBuffer())

    def run() -> None:
        if not execute(stream.handle):
            raise MachineError(f"{name} does not run matrix products: {log().last_error}")

    try:
        for port, buffer in zip(("x", "y"), buffers, strict=True):
            buffer.grow(_SIZE * _SIZE * 4)
            context.set_tensor_address(port, buffer.address)
        return _fastest(run, stream, seconds)
    finally:
        for buffer in buffers:
            buffer.free()


def _torch_products(precision: str, seconds: float) -> tuple[str, float]:
    """Name of the runtime, multiply-accumulates a second."""
    torch = require("torch", WHY)
    types = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision not in types:
        raise MachineError(f"{WHY} in {precision} is measured with TensorRT, which is not installed")
    if not torch.cuda.is_available():
        raise MachineError(
            f"{WHY} needs a PyTorch that sees the GPU, and PyTorch {torch.__version__} sees none"
        )
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        a, b = (torch.randn(_SIZE, _SIZE, device="cuda", dtype=types[precision]) for _ in range(2))

        def once() -> float:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            torch.matmul(a, b)
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3

        fastest = _least(once, seconds)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return f"PyTorch {torch.__version__}", _SIZE**3 / fastest


def _copies(size: int, seconds: float) -> float:
    """Bytes a second, read and written, of copies within the device's memory."""
    cuda = require("pycuda.driver", WHY)
    with gpu(_WAY_OUT):
        stream, source, target = make_stream(), DeviceBuffer(), DeviceBuffer()
        try:
            source.grow(size)
            target.grow(size)

            def run() -> None:
                cuda.memcpy_dtod_async(target.address, source.address, size, stream)

            return 2 * size / _fastest(run, stream, seconds)
        finally:
            source.free()
            target.free()


def _fastest(run: Callable[[], None], stream: Any, seconds: float) -> float:
    """Seconds of the fastest run on a stream, by events around each. It needs the context."""
    event = require("pycuda.driver", WHY).Event

    def once() -> float:
        start, end = event(), event()
        start.record(stream)
        run()
        end.record(stream)
        end.synchronize()
        return float(end.time_since(start)) / 1e3

    return _least(once, seconds)


def _least(once: Callable[[], float], seconds: float) -> float:
    """The least of what it gives, the first one aside."""
    once()
    end = time.perf_counter() + seconds
    found: list[float] = []
    while len(found) < _LEAST_RUNS or time.perf_counter() < end:
        found.append(once())
    return min(found)
