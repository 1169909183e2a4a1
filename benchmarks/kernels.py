"""The CUDA kernels on one GPU: python benchmarks/kernels.py

Each kernel by itself, with its share of what this GPU was seen to copy and to multiply in the same run; then
the whole network, two launches in a CUDA graph, beside PyTorch, eager and compiled, from silhouettes to
embeddings, both on the device. Candidates take turns, and their embeddings are compared with those of the
first, the paper's letter in FP32. benchmarks/gpu.py has TensorRT.

Needs PyTorch with CUDA, and the kernels: gaitedge plugins build.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from documents import save
from gpu import default_name, driver_version, parse_shape
from kernel_work import Memory, Work, frame_network, kernels, micro_motion, two_launches

from gaitedge import cuda
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import GaitEdgeError, MachineError, require
from gaitedge.export.agreement import TOLERANCES, measure
from gaitedge.machine.cuda_driver import CudaDevice
from gaitedge.machine.tensorrt import require_gpu
from gaitedge.profiling.figures import percentile
from gaitedge.weights import load_weights, shipped_weights

INPUTS = 4  # different sets of every launch, taken in turn
BURST = 10  # calls between two events: what an event costs is shared among them
COPIED = 1 << 30  # bytes
PRODUCTS = (4096, 8192, 16384)  # rows and columns of the matrices whose product is timed
REFERENCE = "PyTorch eager, the paper's letter, FP32"
TORCH: dict[str, tuple[bool, str | None, str]] = {
    # What is printed: whether it is the letter, the mode of torch.compile, the precision.
    REFERENCE: (True, None, "fp32"),
    "PyTorch eager, the paper's letter, FP16": (True, None, "fp16"),
    "PyTorch eager, fused, FP16": (False, None, "fp16"),
    "torch.compile, fused, FP16": (False, "default", "fp16"),
    "torch.compile + CUDA graphs, FP16": (False, "reduce-overhead", "fp16"),
}
KERNELS = {"CUDA kernels, FP16": cuda.FLOAT16, "CUDA kernels, INT8": cuda.INT8}

Embed = Callable[[Any], Any]
"""Silhouettes [batch, frames, 64, 44] to embeddings, both tensors of the device."""


def main() -> int:
    """Measure, print tables, and write the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default="1x30,8x30,64x30", help="batch x frames, with commas between")
    parser.add_argument("--entries", type=int, default=10_000, help="of part_distance's gallery")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="benchmarks/results/<gpu>-kernels-<date>.json if left"
    )
    options = parser.parse_args()
    try:
        device = require_gpu("this benchmark")
        torch = require("torch", "this benchmark")
        if not torch.cuda.is_available():
            raise MachineError(
                f"this benchmark needs an NVIDIA GPU, and PyTorch {torch.__version__} sees none"
            )
        from gaitedge.machine.kernels import find_library

        shapes = [parse_shape(text) for text in options.shapes.split(",")]
        return run(options, device, cuda.Library(find_library()), shapes)
    except GaitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(
    options: argparse.Namespace, device: CudaDevice, library: cuda.Library, shapes: list[tuple[int, int]]
) -> int:
    """Measure everything and report; 1 where a candidate's embeddings are wrong."""
    torch = require("torch", "this benchmark")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    out = options.json or default_name(f"{device.name} kernels", datetime.date.today())
    limits = ceilings(options.rounds)
    print(f"copies {limits['copy_gb_s']:.0f} GB/s, FP16 products {limits['fp16_tflops']:.1f} TFLOP/s")
    batch, frames = max(shapes, key=lambda shape: shape[0] * shape[1])
    single = [
        kernel_row(work, time_kernel(library, work, options.rounds), limits)
        for work in kernels(batch * frames, batch, options.entries)
    ]
    show_kernels(single)
    whole: list[dict[str, Any]] = []
    for shape in shapes:
        rows = network_rows(shape, *take_turns(library, shape, options.rounds), limits)
        show_network(shape, rows)
        whole += rows
    save(
        out,
        {"kernels": single, "network": whole},
        gpu={**vars(device), "driver": driver_version()},
        torch={"version": torch.__version__, "cuda": torch.version.cuda, "tf32": False},
        library={"sources": library.sources},
        ceilings=limits,
        rounds=options.rounds,
    )
    print(f"written to {out}")
    return 0 if all(row["agrees"] for row in whole) else 1


# On the device ---------------------------------------------------------------------------------------


def milliseconds(call: Callable[[], object], rounds: int, times: int = 1) -> list[float]:
    """Of one call, on the device, in each round; a round is `times` calls, one after the other."""
    import torch

    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    call()
    torch.cuda.synchronize()
    for start, end in events:
        start.record()
        for _ in range(times):
            call()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / times for start, end in events]


def ceilings(rounds: int) -> dict[str, float]:
    """What this GPU does at best: bytes read and written by a large copy, operations of a matrix product."""
    import torch

    def copy() -> float:
        source = torch.empty(COPIED, dtype=torch.uint8, device="cuda").random_(0, 255)
        target = torch.empty_like(source)
        return min(milliseconds(lambda: target.copy_(source), rounds))

    def product(size: int) -> float:
        a, b = (torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(2))
        return min(milliseconds(lambda: torch.matmul(a, b), rounds))

    return {
        "copy_gb_s": 2 * COPIED / copy() / 1e6,
        "fp16_tflops": max(2 * size**3 / product(size) / 1e9 for size in PRODUCTS),
    }


def record(call: Callable[[int], object]) -> Any:
    """A CUDA graph of a call, which gets the stream's handle."""
    import torch

    call(torch.cuda.current_stream().cuda_stream)  # loads the kernel, which no graph may hold
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call(torch.cuda.current_stream().cuda_stream)
    return graph


def time_kernel(library: cuda.Library, work: Work, rounds: int) -> list[float]:
    """Milliseconds of a launch, within a graph of several over different inputs."""
    memories = [Memory("cuda", seed) for seed in range(INPUTS)]
    launches = [work.make(memory) for memory in memories]
    graph = record(lambda stream: [library.launch(one, stream) for one in launches])
    return [time / INPUTS for time in milliseconds(graph.replay, rounds)]


def of_torch(name: str) -> Embed:
    """A candidate of TORCH, with the shipped weights."""
    import torch

    from gaitedge.model import GaitPart

    letter, compiled, precision = TORCH[name]
    config, weights = load_weights(shipped_weights())
    model = GaitPart(config).load(weights).eval().requires_grad_(requires_grad=False)
    model = model.to("cuda", torch.float16 if precision == "fp16" else torch.float32)
    call = torch.compile(model, mode=compiled) if compiled else model

    def embed(silhouettes: Any) -> Any:
        with torch.inference_mode():
            return call(silhouettes, letter=letter)

    return embed


def of_kernels(library: cuda.Library, kind: int, batch: int, frames: int) -> Embed:
    """Two launches in a CUDA graph, with the shipped weights."""
    memory = Memory("cuda")
    first, second = two_launches(memory, kind, batch, frames)
    answer = memory.find(second.y)
    graph = record(lambda stream: [library.launch(one, stream) for one in (first, second)])

    def embed(silhouettes: Any) -> Any:
        given = memory.find(first.silhouettes)
        given.copy_(silhouettes.view(given.shape))
        graph.replay()
        return answer

    return embed


def take_turns(
    library: cuda.Library, shape: tuple[int, int], rounds: int
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Of every candidate the embeddings of the first input, and milliseconds of a call in each round."""
    import torch

    rng = np.random.default_rng(0)
    inputs = [torch.from_numpy(draw_silhouettes(*shape, rng)).cuda() for _ in range(INPUTS)]
    candidates = {name: of_torch(name) for name in TORCH}
    candidates |= {name: of_kernels(library, kind, *shape) for name, kind in KERNELS.items()}
    embeddings, times = {}, {name: list[float]() for name in candidates}
    for name, embed in candidates.items():
        for silhouettes in inputs * 2:  # compiles and records where that is due
            embed(silhouettes)
        embeddings[name] = embed(inputs[0]).float().cpu().numpy()
    for number in range(rounds):
        for name, embed in candidates.items():
            turn = inputs[number % INPUTS]
            times[name] += milliseconds(lambda embed=embed, turn=turn: embed(turn), 1, BURST)  # type: ignore[misc]
    return embeddings, times


# Figures ---------------------------------------------------------------------------------------------


def kernel_row(work: Work, times: list[float], limits: dict[str, float]) -> dict[str, Any]:
    """A kernel's median, and its shares of the two ceilings; the larger one says what binds it."""
    median = statistics.median(times)
    return {
        "name": work.name,
        "median_us": median * 1e3,
        "min_us": min(times) * 1e3,
        "bytes": work.bytes,
        "operations": work.operations,
        "share_of_copy": work.bytes / median / 1e6 / limits["copy_gb_s"],
        "share_of_fp16_product": work.operations / median / 1e9 / limits["fp16_tflops"],
    }


def network_rows(
    shape: tuple[int, int],
    embeddings: dict[str, Any],
    times: dict[str, list[float]],
    limits: dict[str, float],
) -> list[dict[str, Any]]:
    """A row a candidate: its latency, how many times faster than the first one, and how far from it."""
    batch, frames = shape
    operations = frame_network(batch * frames, cuda.FLOAT16).operations + micro_motion(*shape).operations
    rows = []
    for name, own in times.items():
        median = statistics.median(own)
        agreement = measure([embeddings[name]], [embeddings[REFERENCE]], REFERENCE)
        allowed = TOLERANCES[name.rpartition(", ")[2].lower()]
        rows.append(
            {
                "name": name,
                "batch": batch,
                "frames": frames,
                "median_us": median * 1e3,
                "p99_us": percentile(sorted(own), 99) * 1e3,
                "min_us": min(own) * 1e3,
                "speedup": statistics.median(
                    first / other for first, other in zip(times[REFERENCE], own, strict=True)
                ),
                "share_of_fp16_product": operations / median / 1e9 / limits["fp16_tflops"],
                "relative_error": agreement.relative_error,
                "cosine": agreement.cosine,
                "agrees": agreement.relative_error <= allowed.relative_error
                and agreement.cosine >= allowed.cosine,
            }
        )
    return rows


def show_kernels(rows: list[dict[str, Any]]) -> None:
    """Print the table of single kernels."""
    print(f"\n{'':36}{'median us':>11}{'of copy':>10}{'of FP16 product':>17}")
    for row in rows:
        shares = f"{row['share_of_copy']:10.1%}{row['share_of_fp16_product']:17.1%}"
        print(f"{row['name']:36}{row['median_us']:11.1f}{shares}")


def show_network(shape: tuple[int, int], rows: list[dict[str, Any]]) -> None:
    """Print the table of one shape."""
    print(f"\n{shape[0]} x {shape[1]} frames")
    print(f"{'':42}{'median us':>11}{'x faster':>10}{'of FP16 product':>17}{'difference':>12}")
    for row in rows:
        print(
            f"{row['name']:42}{row['median_us']:11.1f}{row['speedup']:10.2f}{row['share_of_fp16_product']:17.1%}"
            f"{row['relative_error']:12.1e}{'' if row['agrees'] else '  WRONG'}"
        )


if __name__ == "__main__":
    sys.exit(main())
