"""Time and memory of an evaluation, without the embedding: python benchmarks/evaluation.py

Embeddings are drawn, 16 parts of 256 features, as many as a data set's test half has: of CASIA-B 50
subjects at 11 views and 10 conditions, 5,500 sequences; of OU-MVLP 5,154 subjects at 14 views, each
sequence there with the probability that gives about 134,000 of them. `square` compares 5,500 probes
with 5,500 gallery sequences. The figures include everything that `evaluate_embeddings` finds: ranks,
CMC, ROC, EER. Every size has a process of its own; peak memory is that process's, with Python and the
embeddings themselves.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from documents import save
from numpy.typing import NDArray

from gaitedge.evaluation import evaluate_embeddings
from gaitedge.evaluation.protocols import CASIA_B, OU_MVLP, Protocol
from gaitedge.machine.cpu import usable_cores

PARTS, DIM = 16, 256


class Walk(NamedTuple):
    """A sequence that was never walked."""

    subject: str
    condition: str
    view: str


class Size(NamedTuple):
    """How many sequences are drawn."""

    protocol: Protocol
    subjects: int
    conditions: tuple[str, ...]
    present: float
    """Share of the sequences that there are; the others were never recorded."""


EVERY_CASIA_B = (*CASIA_B.gallery, *(name for names in CASIA_B.probes.values() for name in names))
SIZES = {
    "small": Size(CASIA_B, 4, EVERY_CASIA_B, 1.0),
    "casia-b": Size(CASIA_B, 50, EVERY_CASIA_B, 1.0),
    # 11 views of 125 subjects' 4 gallery and 4 probe sequences.
    "square": Size(CASIA_B, 125, (*CASIA_B.gallery, "nm-05", "nm-06", "bg-01", "cl-01"), 1.0),
    "oumvlp": Size(OU_MVLP, 5154, ("00", "01"), 134_000 / (5154 * 14 * 2)),
}


def main() -> None:
    """Draw, evaluate, print a line, and write the JSON document if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["square"])
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()

    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for row in pool.imap(measure, options.size):
            print(
                f"{row['name']}: {row['probes']} probes x {row['gallery']} gallery sequences, {row['pairs']} "
                f"pairs of different views: {row['seconds']:.1f} s, peak {row['peak_bytes'] / 1e9:.2f} GB, "
                f"of which {row['embeddings_bytes'] / 1e9:.2f} GB are embeddings",
                flush=True,
            )
            rows.append(row)
    if options.json:
        threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
        save(options.json, rows, cores=usable_cores(), threads=threads, parts=PARTS, dim=DIM)


def measure(name: str) -> dict[str, Any]:
    """Draw and evaluate one size."""
    embeddings, walks = draw(SIZES[name])
    before = peak_bytes()
    start = time.perf_counter()
    result = evaluate_embeddings(embeddings, walks, progress=show if sys.stderr.isatty() else None)
    seconds = time.perf_counter() - start
    found = [figures.verification for figures in result.probe_sets.values() if figures.verification]
    return {
        "name": name,
        "gallery": result.gallery,
        "probes": result.probes,
        "pairs": sum(each.genuine + each.impostor for each in found),
        "rank1": {name: figures.all_probes.mean for name, figures in result.probe_sets.items()},
        "seconds": seconds,
        "embeddings_bytes": embeddings.nbytes,
        "peak_bytes_before": before,
        "peak_bytes": peak_bytes(),
    }


def draw(size: Size) -> tuple[NDArray[np.float32], list[Walk]]:
    """Embeddings about a centre of each subject, so far from it that rank-1 is neither 0 nor 1."""
    rng = np.random.default_rng(0)
    walks = [
        Walk(f"{subject:05d}", condition, view)
        for subject in range(size.subjects)
        for condition in size.conditions
        for view in size.protocol.views
        if rng.random() < size.present
    ]
    embeddings = np.empty((len(walks), PARTS, DIM), np.float32)
    centre, subject = np.zeros((PARTS, DIM), np.float32), ""
    for number, walk in enumerate(walks):
        if walk.subject != subject:
            subject, centre = walk.subject, rng.standard_normal((PARTS, DIM), np.float32)
        rng.standard_normal(out=embeddings[number], dtype=np.float32)
        embeddings[number] *= 5
        embeddings[number] += centre
    return embeddings, walks


def peak_bytes() -> int:
    """The most memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def show(done: int, total: int, name: str) -> None:
    """One line on stderr that is written over."""
    print(f"\r{name} {100 * done // total} %", end="\n" if done == total else "", file=sys.stderr)


if __name__ == "__main__":
    main()
