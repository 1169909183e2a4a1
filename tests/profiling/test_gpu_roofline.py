"""What a GPU reaches, by a clock of its own: against fakes of TensorRT and pycuda that keep one."""

from __future__ import annotations

import sys
import types
from typing import Any

import onnx
import pytest
from gpu_box import H200

from gaitedge.engines import cuda_memory
from gaitedge.errors import MachineError
from gaitedge.machine import tensorrt as machine
from gaitedge.machine.cuda_driver import CudaDriver
from gaitedge.profiling import gpu_roofline as module
from gaitedge.profiling.document import Configuration
from gaitedge.profiling.gpu_roofline import matrix_graph
from gaitedge.profiling.roofline import measure_roofline

SIZE = 64


class FakeCuda(types.ModuleType):
    """pycuda.driver, of a GPU that copies 1 GB/ms and has a queue of one stream."""

    class Error(Exception):
        """CUDA's errors."""

    class MemoryError(Error):  # noqa: A001  # its name in pycuda
        """That of memory."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        gpu = self
        self.now, self.allocated, self.pushed = 0.0, 0, 0

        class Event:
            def record(self, stream: Any) -> None:
                self.at = gpu.now

            def synchronize(self) -> None:
                """All is done at once here."""

            def time_since(self, start: Any) -> float:
                return self.at - float(start.at)

        class Allocation:
            def __init__(self, size: int) -> None:
                assert gpu.pushed, "no context"
                self.size = size
                gpu.allocated += size

            def __int__(self) -> int:
                return 256

            def free(self) -> None:
                gpu.allocated -= self.size

        self.Event, self.mem_alloc = Event, Allocation
        self.Stream = lambda flags: types.SimpleNamespace(handle=7)

    def memcpy_dtod_async(self, dest: int, src: int, size: int, stream: Any) -> None:
        self.now += size / 1e9

    def push(self) -> None:
        self.pushed += 1

    def pop(self) -> None:
        self.pushed -= 1


class FakeTensorRT(types.ModuleType):
    """What of TensorRT 10.3 is used, of a GPU that takes 2 ms for all products."""

    __version__ = "10.3.0"

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__("tensorrt")
        self.read: list[bytes] = []
        self.cleared: list[str] = []
        self.addresses: dict[str, int] = {}
        self.fails = ""
        trt, nothing = self, types.SimpleNamespace

        def parse(data: bytes) -> bool:
            trt.read.append(data)
            return trt.fails != "parse"

        def execute(stream: int) -> bool:
            assert stream == 7
            assert trt.addresses == {"x": 256, "y": 256}
            cuda.now += 2
            return trt.fails != "execute"

        def set_tensor_address(name: str, address: int) -> None:
            trt.addresses[name] = address

        context = nothing(execute_async_v3=execute, set_tensor_address=set_tensor_address)
        engine = nothing(create_execution_context=lambda: None if trt.fails == "context" else context)
        builder = nothing(
            create_network=lambda flags: nothing(),
            create_builder_config=lambda: nothing(clear_flag=trt.cleared.append),
            build_serialized_network=lambda network, config: None if trt.fails == "build" else b"plan",
        )
        self.Builder = lambda logger: builder
        self.OnnxParser = lambda network, logger: nothing(parse=parse)
        self.Runtime = lambda logger: nothing(deserialize_cuda_engine=lambda plan: engine)
        self.BuilderFlag = nothing(TF32="tf32")
        self.NetworkDefinitionCreationFlag = nothing(STRONGLY_TYPED=1)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setitem(sys.modules, "pycuda", types.ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    monkeypatch.setattr(cuda_memory, "_primary_context", lambda: fake)
    monkeypatch.setattr(machine, "driver", lambda: CudaDriver("ok", "", (13, 0), (H200,)))
    monkeypatch.setattr(module, "free_memory", lambda device: 8 << 20)
    monkeypatch.setattr(module, "_SIZE", SIZE)
    return fake


@pytest.fixture
def tensorrt(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    fake = FakeTensorRT(cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    log = types.SimpleNamespace(logger=None, last_error="it said so", clear=lambda: None)
    monkeypatch.setattr(module, "log", lambda: log)
    installed(monkeypatch, "tensorrt")
    return fake


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Of what is looked for, these alone are there."""
    finder = types.SimpleNamespace(find_spec=lambda name: name if name in names else None)
    monkeypatch.setattr(module, "importlib", types.SimpleNamespace(util=finder))
    monkeypatch.setattr(machine.importlib.util, "find_spec", finder.find_spec)


def row(engine: str, precision: str) -> Configuration:
    return Configuration(engine, precision, "exported", 1, 30, None, 1)


@pytest.mark.parametrize("engine", ["tensorrt", "cuda"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_both_limits_are_the_gpus_own_times(
    engine: str, precision: str, tensorrt: FakeTensorRT, cuda: FakeCuda
) -> None:
    found = measure_roofline(row(engine, precision), seconds=0.001)
    assert found.macs_per_second == pytest.approx(3 * SIZE**3 / 2e-3)
    assert found.bytes_per_second == pytest.approx(2e12)  # each byte is read and written
    assert found.precision == precision
    assert found.how.startswith("TensorRT 10.3.0 on NVIDIA H200, ")
    assert "copies of 1 MiB" in found.how
    assert tensorrt.read == [matrix_graph(precision, 10).SerializeToString()]
    assert tensorrt.cleared == ["tf32"]
    assert (cuda.allocated, cuda.pushed) == (0, 0)


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("parse", "does not read matrix products in fp16: it said so"),
        ("build", "does not build matrix products in fp16: it said so"),
        ("context", "gives no execution context: it said so"),
        ("execute", "does not run matrix products: it said so"),
    ],
)
def test_what_fails_is_said_and_nothing_stays(
    fails: str, said: str, tensorrt: FakeTensorRT, cuda: FakeCuda
) -> None:
    tensorrt.fails = fails
    with pytest.raises(MachineError, match=f"TensorRT 10.3.0 {said}"):
        measure_roofline(row("tensorrt", "fp16"), seconds=0.001)
    assert (cuda.allocated, cuda.pushed) == (0, 0)


def test_without_tensorrt_pytorch_multiplies(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = cuda.now

        def synchronize(self) -> None:
            """All is done at once here."""

        def elapsed_time(self, end: Event) -> float:
            return end.at - self.at

    def matmul(a: object, b: object) -> None:
        assert not matmul_flags.allow_tf32
        cuda.now += 0.5

    matmul_flags = types.SimpleNamespace(allow_tf32=True)
    torch = types.ModuleType("torch")
    vars(torch).update(
        __version__="2.13.0",
        float32="fp32",
        float16="fp16",
        bfloat16="bf16",
        backends=types.SimpleNamespace(cuda=types.SimpleNamespace(matmul=matmul_flags)),
        cuda=types.SimpleNamespace(Event=Event, is_available=lambda: True),
        randn=lambda *size, device, dtype: (size, device, dtype),
        matmul=matmul,
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    installed(monkeypatch, "torch")
    found = measure_roofline(row("cuda", "fp16"), seconds=0.001)
    assert found.macs_per_second == pytest.approx(SIZE**3 / 0.5e-3)
    assert found.how.startswith("PyTorch 2.13.0 on NVIDIA H200, fp16")
    assert matmul_flags.allow_tf32
    with pytest.raises(MachineError, match="in int8 is measured with TensorRT, which is not installed"):
        measure_roofline(row("cuda", "int8"), seconds=0.001)


@pytest.mark.usefixtures("cuda")
def test_with_neither_there_is_no_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(MachineError, match="with TensorRT or PyTorch, and neither is installed"):
        measure_roofline(row("cuda", "fp16"), seconds=0.001)


def test_without_a_gpu_there_is_no_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "driver", lambda: CudaDriver("absent", "no driver", None, ()))
    with pytest.raises(MachineError, match="the roofline of a GPU needs an NVIDIA GPU"):
        measure_roofline(row("tensorrt", "fp16"), seconds=0.001)


@pytest.mark.parametrize("major", [8, 10, 11])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_the_products_are_valid_graphs(precision: str, major: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIZE", SIZE)
    graph = matrix_graph(precision, major)
    onnx.checker.check_model(graph, full_check=True)
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("MatMul") == 3
    assert kinds.count("QuantizeLinear") == (3 if precision == "int8" else 0)
