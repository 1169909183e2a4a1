"""Training as a command, of the whole network for a few iterations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from commands import Done, in_process

from gaitedge.weights import load_weights

QUICK = ["--subjects", "all", "--batch", "2,2,2", "--precision", "fp32", "--device", "cpu"]
SHORT = [*QUICK, "--iterations", 4, "--checkpoint-every", 2]


def trains(*arguments: object) -> Done:
    """Train, in this process; it must end well."""
    done = in_process("train", *arguments)
    assert done.status == 0, done
    return done


def weights_of(run: Path) -> dict[str, Any]:
    return load_weights(run / "weights.safetensors")[1]


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = weights_of(first), weights_of(second)
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


def losses(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["iteration"], line["loss"]) for line in lines if "loss" in line]
