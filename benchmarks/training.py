"""A training step as the trainer runs it against the paper's letter: python benchmarks/training.py

A step is forward, loss, backward and optimiser. The first row is the letter, eager and contiguous in
float32. Every candidate trains on the same batches of synthetic walkers from the same first weights,
each in a process of its own, and they take turns (profiling/turns.py says why). The curves of their losses
are compared: a fast step that trains something else shows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from documents import save

from gaitedge.data.store import Store
from gaitedge.machine.cpu import cpu_features, usable_cores
from gaitedge.machine.memory import keep_freed_memory
from gaitedge.profiling.turns import Worker
from gaitedge.training.presets import Recipe
from gaitedge.walkers.synthesis import synthesise

LETTER = "the paper's letter, contiguous, FP32"
CANDIDATES = {LETTER: None, "the trainer, FP32": "fp32", "the trainer, BF16": "bf16"}
WINDOW = 5  # steps at the end whose mean loss is compared


def main() -> None:
    """Measure, print a table, and write the JSON document if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--batch", default="8,4,30", help="subjects, sequences of each, frames")
    parser.add_argument("--rounds", type=int, default=20, help="steps of each candidate that are timed")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()
    recipe = Recipe(learning_rate=6e-4, precision="fp32").changed(options.batch)
    names = list(CANDIDATES)
    if cpu_features().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"}):
        names.remove("the trainer, BF16")  # without the instructions it is slower than FP32
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        conditions = ("nm-01", "nm-02", "bg-01", "cl-01")
        synthesise(store, subjects=recipe.subjects, views=("054", "090"), conditions=conditions, store=True)
        workers = [Worker(steps, name, options.threads, store, recipe) for name in names]
        rounds = [[worker.turn() for worker in workers] for _ in range(options.rounds)]
        for worker in workers:
            worker.stop()

    rows = []
    for index, name in enumerate(names):
        times = [measured[index][0] for measured in rounds]
        losses = [measured[index][1] for measured in rounds]
        letters = [measured[0][1] for measured in rounds]
        rows.append(
            {
                "name": name,
                "median_ms": statistics.median(times),
                "min_ms": min(times),
                "speedup": statistics.median(measured[0][0] / measured[index][0] for measured in rounds),
                "losses": losses,
                "last_loss": statistics.mean(losses[-WINDOW:]),
                "largest_difference": max(
                    abs(ours - theirs) / theirs for ours, theirs in zip(losses, letters, strict=True)
                ),
            }
        )
    print(f"batches of {options.batch}, {options.threads} threads, {options.rounds} rounds")
    print(
        f"{'':38}{'median ms':>10}{'min ms':>9}{'x faster':>10}{'last losses':>13}{'largest difference':>20}"
    )
    for row in rows:
        print(
            f"{row['name']:38}{row['median_ms']:10.0f}{row['min_ms']:9.0f}{row['speedup']:10.2f}"
            f"{row['last_loss']:13.4f}{row['largest_difference']:20.1e}"
        )
    if options.json:
        save(options.json, rows, batch=options.batch, threads=options.threads, rounds=options.rounds)


def steps(name: str, threads: int, path: Path, recipe: Recipe) -> Generator[Any, None, None]:
    """Milliseconds and loss of one step for each turn, after one that warms up."""
    import torch

    from gaitedge.training.sampling import BatchSampler

    torch.set_num_threads(threads)
    store = Store(path)
    sampler = BatchSampler(store, {sequence.subject for sequence in store.sequences}, recipe)
    precision = CANDIDATES[name]
    step = trainer_step(recipe, precision) if precision else letter_step(recipe)
    iteration = 0
    while True:
        iteration += 1
        silhouettes, labels = map(torch.from_numpy, sampler.batch(iteration))
        start = time.perf_counter()
        loss = step(iteration, silhouettes, labels)
        yield (time.perf_counter() - start) * 1e3, loss


def trainer_step(recipe: Recipe, precision: Any) -> Callable[..., float]:
    """The step of gaitedge.training.trainer."""
    from gaitedge.config import GaitPartConfig
    from gaitedge.training.trainer import Trainer

    keep_freed_memory()  # as gaitedge.training.loop does
    trainer = Trainer(GaitPartConfig(), recipe, precision)
    return lambda *batch: trainer.step(*batch).loss


def letter_step(recipe: Recipe) -> Callable[..., float]:
    """The same step as it is written down: every strip and every part by itself."""
    import torch

    from gaitedge.model import GaitPart
    from gaitedge.training.losses import separate_triplet_loss

    torch.manual_seed(recipe.seed)
    model = GaitPart()
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)

    def step(_: int, silhouettes: Any, labels: Any) -> float:
        loss = separate_triplet_loss(model(silhouettes, letter=True), labels, recipe.margin).loss
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        return float(loss.item())

    return step


if __name__ == "__main__":
    main()
