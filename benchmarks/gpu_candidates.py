"""One candidate of gpu.py in a process of its own, under whichever interpreter has its packages.

PyTorch and TensorRT may live in two interpreters that share neither versions nor packages. So what
goes between them is a line of JSON a message, on standard input and output, and arrays in .npy files:
first what to be, then one line for each turn; a line answers each. gpu.py starts this file as a program.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.errors import GaitEdgeError, MachineError, require

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def main() -> None:
    """Answer on standard output until there is no more to read; libraries print on standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        embed, about = candidate(**json.loads(sys.stdin.readline()))
        say({"about": {**about, "python": platform.python_version()}})
        for line in sys.stdin:
            say({"ms": turn(embed, **json.loads(line))})
    except GaitEdgeError as error:
        say({"failed": str(error)})


def candidate(runtime: str, **form: Any) -> tuple[Embed, dict[str, Any]]:
    """Get one ready: what embeds silhouettes in the host's memory, and what it says of itself."""
    return {"torch": of_torch, "tensorrt": of_tensorrt, "cuda": of_kernels}[runtime](**form)


def turn(embed: Embed, inputs: str, warmup_s: float, runs: int, embeddings: str | None = None) -> list[float]:
    """Milliseconds of each run over the batches of a file, [n, batch, frames, 64, 44], in their order.

    A warm-up goes before, for the clocks of the GPU sink while others have their turn; its first run
    compiles where that is due. embeddings: where to write those of the first batch.
    """
    batches = np.load(inputs)
    end = time.perf_counter() + warmup_s
    first = embed(batches[0])
    while time.perf_counter() < end:
        embed(batches[0])
    if embeddings is not None:
        np.save(embeddings, first)
    times = []
    for number in range(runs):
        batch = batches[number % len(batches)]
        start = time.perf_counter()
        embed(batch)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def of_torch(
    weights: str, config: str, letter: bool, compiled: str | None, precision: str, device: str = "cuda"
) -> tuple[Embed, dict[str, Any]]:
    """PyTorch, in FP32 without TF32, or in FP16 throughout.

    weights: an .npz of them; compiled: the mode of torch.compile, or None for eager.
    """
    torch = require("torch", "a PyTorch candidate")
    if device == "cuda" and not torch.cuda.is_available():
        raise MachineError(f"PyTorch {torch.__version__} of {sys.executable} sees no GPU")
    from gaitedge.model import GaitPart

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    with np.load(weights) as arrays:
        model = GaitPart(GaitPartConfig.from_json(config)).load(dict(arrays)).eval()
    model = model.to(device, torch.float16 if precision == "fp16" else torch.float32)
    run = torch.compile(model, mode=compiled) if compiled else model

    def embed(silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            embeddings = run(torch.from_numpy(silhouettes).to(device), letter=letter)
            return np.asarray(embeddings.float().cpu().numpy())  # which waits for the GPU

    return embed, {"runtime": f"PyTorch {torch.__version__}", "tf32": False}


def of_tensorrt(plan: list[str], precision: str, batch: str, frames: str) -> tuple[Embed, dict[str, Any]]:
    """An engine of the shipped weights, built and held against the letter as every export is."""
    from gaitedge.bundle import Bundle
    from gaitedge.calibration.applying import find_quantization
    from gaitedge.engines import load_target
    from gaitedge.export.exporter import export
    from gaitedge.export.graph import Plan
    from gaitedge.export.plan import EIGHT_BITS
    from gaitedge.export.tensorrt import BuildOptions, Range
    from gaitedge.weights import shipped_weights

    fconv, micro_motion = plan
    options = BuildOptions(batch=Range.parse(batch), frames=Range.parse(frames))
    with tempfile.TemporaryDirectory() as folder:
        report = export(
            shipped_weights(),
            Path(folder) / "engine.gait",
            target="tensorrt",
            precision=precision,
            plan=Plan(fconv, micro_motion),
            options=options,
            quantization=find_quantization(shipped_weights()) if precision in EIGHT_BITS else None,
        )
        engine = load_target(Bundle.open(report.path), f"tensorrt-{precision}")
    build = report.build
    return engine.embed, {
        "runtime": engine.description,
        "agreement_at_export": report.agreement and vars(report.agreement),
        "build_s": build and build.seconds,
        "layers": build and len(build.layers),
        "fell_back": build and list(build.fell_back),
    }


def of_kernels(precision: str) -> tuple[Embed, dict[str, Any]]:
    """GaitEdge's own kernels on the shipped weights, held against the letter as every export is."""
    from gaitedge.bundle import Bundle
    from gaitedge.calibration.applying import find_quantization
    from gaitedge.engines import load_target
    from gaitedge.export.exporter import export
    from gaitedge.weights import shipped_weights

    with tempfile.TemporaryDirectory() as folder:
        report = export(
            shipped_weights(),
            Path(folder) / "engine.gait",
            target="cuda",
            precision=precision,
            quantization=find_quantization(shipped_weights()) if precision == "int8" else None,
        )
        engine = load_target(Bundle.open(report.path), f"cuda-{precision}")
    return engine.embed, {
        "runtime": engine.description,
        "agreement_at_export": report.agreement and vars(report.agreement),
    }


if __name__ == "__main__":
    main()
