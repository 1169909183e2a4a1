"""How fast batches come from a store, nothing else running: python benchmarks/loader.py

The store is as large as CASIA-B: 124 subjects, 110 walks of each, 84 frames a walk unless said
otherwise, in a temporary folder. The time from one batch to the next is taken as the trainer's loop
sees it, with one worker process and with none.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from documents import save

from gaitedge.data.store import Store, StoreWriter
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.training.distributed import Team
from gaitedge.training.loop import RunOptions, batches
from gaitedge.training.presets import Recipe
from gaitedge.training.sampling import BatchSampler

LIKE_CASIA_B = "124,110,84"


def main() -> None:
    """Measure, print a table, and write the JSON document if asked."""
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, help="take this store, draw none")
    parser.add_argument("--size", default=LIKE_CASIA_B, help="subjects, walks of each, frames of each")
    parser.add_argument("--batch", default="8,16,30", help="subjects, sequences of each, frames")
    parser.add_argument("--rounds", type=int, default=100, help="batches that are timed")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()
    recipe = Recipe().changed(options.batch)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(options.store or draw_store(Path(folder) / "store", options.size))
        sampler = BatchSampler(store, {sequence.subject for sequence in store.sequences}, recipe)
        for workers in (0, 1):
            crew, run = Team(torch.device("cpu")), RunOptions(workers=workers)
            times = []
            last = time.perf_counter()
            for _ in batches(sampler, 1, options.rounds + options.rounds // 2, run, crew):
                times.append((time.perf_counter() - last) * 1e3)
                last = time.perf_counter()
            times = times[-options.rounds :]  # the first ones warm up: the worker starts, the disk is read
            rows.append(
                {
                    "name": f"{workers} worker{'' if workers == 1 else 's'}",
                    "mean_ms": statistics.mean(times),
                    "median_ms": statistics.median(times),
                    "p95_ms": float(np.percentile(times, 95)),
                }
            )
        about = {"sequences": len(store), "frames": len(store.frames)}
    print(f"batches of {options.batch} from {about['sequences']} sequences, {about['frames']} frames")
    print(f"{'':12}{'mean ms':>10}{'median ms':>11}{'p95 ms':>10}")
    for row in rows:
        print(f"{row['name']:12}{row['mean_ms']:10.1f}{row['median_ms']:11.1f}{row['p95_ms']:10.1f}")
    if options.json:
        save(options.json, rows, **about, batch=options.batch, rounds=options.rounds)


def draw_store(path: Path, size: str) -> Path:
    """A store of silhouettes drawn at random; what they show does not change the speed."""
    subjects, walks, frames = (int(number) for number in size.split(","))
    drawn = draw_silhouettes(walks, frames, np.random.default_rng(0))
    with StoreWriter(path) as writer:
        for subject in range(subjects):
            for walk in range(walks):
                writer.append(f"{subject + 1:03d}", f"nm-{walk + 1:02d}", "090", drawn[walk])
    return path


if __name__ == "__main__":
    main()
