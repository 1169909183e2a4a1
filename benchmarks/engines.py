"""Every way to run GaitPart on this processor, side by side: python benchmarks/engines.py

The first row is the paper's letter in eager PyTorch; the others are compared with it. Every candidate
lives in a process of its own and they take turns, round after round (profiling/turns.py says why).
Every candidate's embeddings are compared with the first one's: a fast wrong answer shows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
from documents import save
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, Bundle, make_bundle
from gaitedge.calibration.applying import find_quantization
from gaitedge.engines import load
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.export.exporter import export
from gaitedge.export.graph import LETTER, Plan, build_graph
from gaitedge.machine.cpu import cpu_features, usable_cores
from gaitedge.profiling.turns import Worker
from gaitedge.weights import load_weights, shipped_weights

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

TIMED_RUNS = 3  # a turn; their median counts. One more goes before them, to warm the caches.

CANDIDATES: dict[str, tuple[str, Plan | bool, str]] = {
    # What is printed: the runtime, the graph's plan or PyTorch's `letter`, the precision. The form of an INT8
    # graph is the exporter's own choice.
    "PyTorch eager, the paper's letter": ("torch", True, "fp32"),
    "PyTorch eager, fused": ("torch", False, "fp32"),
    "ONNX Runtime, the paper's letter": ("onnxruntime", LETTER, "fp32"),
    "ONNX Runtime, fused": ("onnxruntime", Plan(), "fp32"),
    "OpenVINO, the paper's letter": ("openvino", LETTER, "fp32"),
    "OpenVINO, fused": ("openvino", Plan(), "fp32"),
    "OpenVINO, fused, BF16": ("openvino", Plan(), "bf16"),
    "ONNX Runtime, INT8": ("onnxruntime", Plan(), "int8"),
    "OpenVINO, INT8": ("openvino", Plan(), "int8"),
}


def main() -> None:
    """Measure, print a table, and write the JSON document if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of every runtime")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()
    names = list(CANDIDATES)
    if cpu_features().isdisjoint({"avx512_bf16", "amx_bf16"}):
        names.remove("OpenVINO, fused, BF16")  # without the instructions it is slower than FP32
    shape = (options.batch, options.frames)

    workers = [Worker(turns, name, options.threads, shape) for name in names]
    errors = [relative_error(worker.ready, workers[0].ready) for worker in workers]
    rounds = [[worker.turn() for worker in workers] for _ in range(options.rounds)]
    for worker in workers:
        worker.stop()

    rows = []
    for index, name in enumerate(names):
        times = [measured[index] for measured in rounds]
        speedups = [measured[0] / measured[index] for measured in rounds]
        rows.append(
            {
                "name": name,
                "median_ms": statistics.median(times),
                "min_ms": min(times),
                "speedup": statistics.median(speedups),
                "relative_error": errors[index],
            }
        )
    print(f"{shape[0]} x {shape[1]} frames, {options.threads} threads, {options.rounds} rounds")
    print(f"{'':36}{'median ms':>10}{'min ms':>10}{'x faster':>10}{'difference':>12}")
    for row in rows:
        print(
            f"{row['name']:36}{row['median_ms']:10.1f}{row['min_ms']:10.1f}"
            f"{row['speedup']:10.2f}{row['relative_error']:12.1e}"
        )
    if options.json:
        save(
            options.json,
            rows,
            batch=shape[0],
            frames=shape[1],
            threads=options.threads,
            rounds=options.rounds,
        )


def turns(name: str, threads: int, shape: tuple[int, int]) -> Generator[Any, None, None]:
    """The embeddings of the first input, then milliseconds of one inference for each turn."""
    embed = candidate(name, threads)
    rng = np.random.default_rng(0)
    inputs = [draw_silhouettes(*shape, rng) for _ in range(TIMED_RUNS)]
    yield embed(inputs[0])
    while True:
        embed(inputs[0])
        times = []
        for silhouettes in inputs:
            start = time.perf_counter()
            embed(silhouettes)
            times.append((time.perf_counter() - start) * 1e3)
        yield statistics.median(times)


def candidate(name: str, threads: int) -> Embed:
    """Get one candidate ready; the weights are the shipped ones for all."""
    runtime, form, precision = CANDIDATES[name]
    config, weights = load_weights(shipped_weights())
    if precision == "int8":  # as a bundle has it
        with tempfile.TemporaryDirectory() as folder:
            source, out = shipped_weights(), Path(folder) / "walkers.gait"
            target: Any = {"openvino": "cpu"}.get(runtime, runtime)
            export(source, out, target, "int8", quantization=find_quantization(source))
            return load(Bundle.open(out), runtime, threads, precision).embed
    if isinstance(form, Plan):
        graph = build_graph(config, weights, form).SerializeToString()
        bundle = make_bundle(config, weights, {FOLD_GRAPH: graph}, {})
        return load(bundle, runtime, threads, precision).embed
    import torch

    from gaitedge.model import GaitPart

    torch.set_num_threads(threads)
    model = GaitPart(config).load(weights).eval()

    def embed(silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(silhouettes), letter=form).numpy())

    return embed


def relative_error(embeddings: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Largest absolute difference over the largest magnitude."""
    return float(np.abs(embeddings - reference).max() / np.abs(reference).max())


if __name__ == "__main__":
    main()
