"""TensorRT beside PyTorch on one GPU: python benchmarks/gpu.py

Builds engines of the shipped weights, naive, fused and with GaitEdge's plugins, and times them and GaitEdge's
own kernels beside PyTorch, eager and compiled: from silhouettes in the host's memory to embeddings in the
host's memory. Plugins and kernels come from `gaitedge plugins build`. Every
candidate lives in a process of its own and they take turns, round after
round (profiling/turns.py says why).
Every candidate's embeddings are compared with those of the first, the paper's letter in PyTorch's FP32.

PyTorch and TensorRT may be installed in two interpreters: name the one that does not run this script.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from documents import save
from numpy.typing import NDArray

from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import GaitEdgeError, InputError, MachineError
from gaitedge.export.agreement import TOLERANCES, measure
from gaitedge.machine.cuda_driver import CudaDevice
from gaitedge.machine.tensorrt import require_gpu
from gaitedge.profiling.figures import percentile
from gaitedge.weights import load_weights, shipped_weights

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(__file__).with_name("gpu_candidates.py")
PAUSE_S = 0.02  # between turns
INPUTS = 4  # different batches of each shape

NAIVE, FUSED = ["split", "per_part"], ["fold", "grouped"]
PLUGINS, TWO_PLUGINS = ["plugin", "plugin"], ["network", "plugin"]
CUDA_GRAPHS = "reduce-overhead"  # as torch.compile calls them

CANDIDATES: dict[str, dict[str, Any]] = {
    # The first one is what the others are compared with.
    "PyTorch eager, the paper's letter": {"letter": True, "compiled": None, "precision": "fp32"},
    "PyTorch eager, fused": {"letter": False, "compiled": None, "precision": "fp32"},
    "torch.compile, fused": {"letter": False, "compiled": "default", "precision": "fp32"},
    "torch.compile + CUDA graphs, fused": {"letter": False, "compiled": CUDA_GRAPHS, "precision": "fp32"},
    "torch.compile + CUDA graphs, FP16": {"letter": False, "compiled": CUDA_GRAPHS, "precision": "fp16"},
    "TensorRT, the paper's letter": {"plan": NAIVE, "precision": "fp32"},
    "TensorRT, fused": {"plan": FUSED, "precision": "fp32"},
    "TensorRT, the paper's letter, FP16": {"plan": NAIVE, "precision": "fp16"},
    "TensorRT, fused, FP16": {"plan": FUSED, "precision": "fp16"},
    "TensorRT, a plugin a layer, FP16": {"plan": PLUGINS, "precision": "fp16"},
    "TensorRT, two plugins, FP16": {"plan": TWO_PLUGINS, "precision": "fp16"},
    "TensorRT, the paper's letter, INT8": {"plan": NAIVE, "precision": "int8"},
    "TensorRT, fused, INT8": {"plan": FUSED, "precision": "int8"},
    "TensorRT, fused, FP8": {"plan": FUSED, "precision": "fp8"},
    "CUDA kernels, FP32": {"runtime": "cuda", "precision": "fp32"},
    "CUDA kernels, two launches, FP16": {"runtime": "cuda", "precision": "fp16"},
    "CUDA kernels, two launches, INT8": {"runtime": "cuda", "precision": "int8"},
}


class Candidate:
    """A process of gpu_candidates.py, under an interpreter of one's choice."""

    def __init__(self, interpreter: str, what: dict[str, Any]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if interpreter != sys.executable:
            environment.pop("PYTHONHOME", None)  # they belong to this interpreter
        elif "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
        try:
            self._process = subprocess.Popen(
                [interpreter, str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=environment,
            )
        except OSError as error:
            raise InputError(f"cannot start the interpreter {interpreter}: {error.strerror}") from None
        self.about: dict[str, Any] = self._ask(what)["about"]
        """What it says of itself."""

    def turn(self, **task: Any) -> list[float]:
        """Milliseconds of each run of one turn."""
        time.sleep(PAUSE_S)
        times: list[float] = self._ask(task)["ms"]
        return times

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Raises MachineError with the candidate's own reason where it has to give up."""
        assert self._process.stdin is not None  # noqa: S101  (for mypy: both are pipes)
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.stop()
            code = self._process.returncode
            raise MachineError(f"it ended with exit status {code}; what it said stands above")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            self.stop()
            raise MachineError(answer["failed"])
        return answer


def main() -> int:
    """Measure, print a table, and write the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default="1x30,8x30,64x30,1x60", help="batch x frames, commas between")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=20, help="timed runs of a turn")
    parser.add_argument("--warmup", type=float, default=0.1, help="seconds before each turn")
    parser.add_argument("--torch-python", default=sys.executable, help="the interpreter that has PyTorch")
    parser.add_argument("--tensorrt-python", default=sys.executable, help="the one that has TensorRT")
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="the document; benchmarks/results/<gpu>-<date>.json if left"
    )
    options = parser.parse_args()
    try:
        device = require_gpu("this benchmark")
        shapes = [parse_shape(text) for text in options.shapes.split(",")]
        return run(options, device, shapes)
    except GaitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace, device: CudaDevice, shapes: list[tuple[int, int]]) -> int:
    """Start all candidates, let them take turns at every shape, and report; 1 where one is wrong."""
    out = options.json or default_name(device.name, datetime.date.today())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running, failed = start(options, shapes, folder)
        reference = next(iter(CANDIDATES))
        for runtime in (reference, "TensorRT"):
            lost = [why for name, why in failed.items() if name.startswith(runtime)]
            if lost and not any(name.startswith(runtime) for name in running):
                raise MachineError(f"{lost[0]}; --torch-python and --tensorrt-python name other interpreters")
        results: list[dict[str, Any]] = []
        for shape in shapes:
            rows = measured(running, failed, shape, options, folder)
            show(shape, rows)
            results += rows
        for candidate in running.values():
            candidate.stop()
    for name, why in failed.items():
        print(f"{name}: {why}")
    save(
        out,
        results,
        gpu={**vars(device), "driver": driver_version()},
        candidates={name: candidate.about for name, candidate in running.items()},
        failed=failed,
        rounds=options.rounds,
        runs=options.runs,
        warmup_s=options.warmup,
    )
    print(f"written to {out}")
    return 1 if failed or not all(row["agrees"] for row in results) else 0


def start(
    options: argparse.Namespace, shapes: list[tuple[int, int]], folder: Path
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """Get every candidate ready, one after the other; those that cannot be had, with the reason."""
    config, weights = load_weights(shipped_weights())
    np.savez(folder / "weights.npz", **weights)
    batch, frames = (max(numbers) for numbers in zip(*shapes, strict=True))
    running, failed = {}, {}
    for name, form in CANDIDATES.items():
        of_torch = "letter" in form
        if "plan" in form:
            what = {"runtime": "tensorrt", "batch": f"1:1:{max(8, batch)}"}
            what["frames"] = f"1:30:{max(300, frames)}"
        elif of_torch:
            what = {"runtime": "torch", "weights": str(folder / "weights.npz"), "config": config.to_json()}
        else:
            what = {}
        interpreter = options.torch_python if of_torch else options.tensorrt_python
        print(f"getting ready: {name}", file=sys.stderr)
        try:
            running[name] = Candidate(interpreter, {**what, **form})
        except MachineError as error:
            failed[name] = str(error)
    return running, failed


def measured(
    running: dict[str, Candidate],
    failed: dict[str, str],
    shape: tuple[int, int],
    options: argparse.Namespace,
    folder: Path,
) -> list[dict[str, Any]]:
    """All candidates at one shape; who fails at it leaves `running` for `failed`."""
    rng = np.random.default_rng(0)
    inputs = folder / "inputs.npy"
    np.save(inputs, np.stack([draw_silhouettes(*shape, rng) for _ in range(INPUTS)]))
    embeddings = {}
    for name in list(running):
        path = folder / "embeddings.npy"
        try:  # this turn compiles and captures where that is due; it counts for nothing
            running[name].turn(inputs=str(inputs), warmup_s=1.0, runs=1, embeddings=str(path))
            embeddings[name] = np.load(path)
        except MachineError as error:
            failed[name] = f"at {shape[0]} x {shape[1]} frames: {error}"
            del running[name]
            if not embeddings:
                raise MachineError(f"{name}, which the others are compared with, {failed[name]}") from None
    task = {"inputs": str(inputs), "warmup_s": options.warmup, "runs": options.runs}
    rounds = [{name: one.turn(**task) for name, one in running.items()} for _ in range(options.rounds)]
    return summary(shape, embeddings, rounds)


def summary(
    shape: tuple[int, int],
    embeddings: dict[str, NDArray[np.float32]],
    rounds: list[dict[str, list[float]]],
) -> list[dict[str, Any]]:
    """A row a candidate: its latency, how many times faster than the first one, and how far from it.

    "agrees" is whether its embeddings are within the tolerance that an export of its precision has.
    """
    reference = next(iter(embeddings))
    rows = []
    for name, found in embeddings.items():
        times = sorted(time for measured in rounds for time in measured[name])
        medians = [
            statistics.median(measured[reference]) / statistics.median(measured[name]) for measured in rounds
        ]
        agreement = measure([found], [embeddings[reference]], reference)
        allowed = TOLERANCES[CANDIDATES[name]["precision"]]
        rows.append(
            {
                "name": name,
                "batch": shape[0],
                "frames": shape[1],
                "median_ms": statistics.median(times),
                "p99_ms": percentile(times, 99),
                "min_ms": times[0],
                "speedup": statistics.median(medians),
                "relative_error": agreement.relative_error,
                "cosine": agreement.cosine,
                "agrees": agreement.relative_error <= allowed.relative_error
                and agreement.cosine >= allowed.cosine,
            }
        )
    return rows


def show(shape: tuple[int, int], rows: list[dict[str, Any]]) -> None:
    """Print the table of one shape."""
    print(f"\n{shape[0]} x {shape[1]} frames")
    print(f"{'':36}{'median ms':>10}{'p99 ms':>10}{'x faster':>10}{'difference':>12}{'cosine':>12}")
    for row in rows:
        print(
            f"{row['name']:36}{row['median_ms']:10.3f}{row['p99_ms']:10.3f}{row['speedup']:10.2f}"
            f"{row['relative_error']:12.1e}{row['cosine']:12.7f}{'' if row['agrees'] else '  WRONG'}"
        )


def parse_shape(text: str) -> tuple[int, int]:
    """Batch and frames: "8x30" is 8 sequences of 30 frames each."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip())
    if found is None:
        raise InputError(f"a shape is BATCHxFRAMES, as in 8x30, not {text!r}")
    return int(found[1]), int(found[2])


def default_name(gpu: str, day: datetime.date) -> Path:
    """benchmarks/results/<gpu>-<date>.json."""
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    return ROOT / "benchmarks" / "results" / f"{slug}-{day.isoformat()}.json"


def driver_version() -> str | None:
    """Of NVIDIA's driver, as the kernel gives it; None where it does not."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)\s", text)
    return found[1] if found else None


if __name__ == "__main__":
    sys.exit(main())
