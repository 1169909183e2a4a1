"""Nearest people in galleries of growing size: python benchmarks/search.py

The search of gaitedge.people.search beside brute force: all distances, sorted. Each runs in a process of
its own that holds the gallery, 16 x 256 a person, and they take turns, probe after probe; their answers
are compared. The embeddings are of three kinds. `walkers`: of synthetic walkers by the weights that come
with GaitEdge, blown up to as many people as are wanted; a new person is one of them and random shares of
how the others differ from the mean, so that the covariance over all parts and features stays theirs.
`random`: independent normal features, which no summary can tell apart. `one person`: all alike but for
noise below float32's rounding of a product, so that nothing can be left out. Half of the probes are
enrolled people's in another walk, half strangers'.

A gallery of 100,000 takes 1.6 GB in each of the two processes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
from documents import save
from numpy.typing import NDArray

from gaitedge.machine.cpu import usable_cores
from gaitedge.profiling.turns import Worker

Array = NDArray[np.float32]
Found = list[tuple[int, float]]

TOP = 10
SHAPE = (16, 256)
BLOCK = 2000
KINDS = ("walkers", "random", "one person")
METHODS = ("brute force", "search")
PERSON, WALK, NOISE = 0.7, 0.45, 0.01
"""Shares of the others in a new person and in another walk of a person: so that distances come out as
they do between walkers, 0.5 to 0.9 to one's own walk and 1.5 to others'."""


def main() -> None:
    """Measure, print a table, and write the JSON document if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,3000,10000,30000,100000", help="people in the gallery")
    parser.add_argument("--rounds", type=int, default=10, help="probes")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the search")
    parser.add_argument("--walkers", type=int, default=40, help="synthetic people to blow up")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        real = Path(folder) / "walkers.npy"
        np.save(real, embed_walkers(Path(folder) / "store", options.walkers))
        print(f"{'':24}{'people':>8}{'median ms':>11}{'worst ms':>10}{'index s':>9}{'peak MB':>9}")
        for kind in KINDS:
            for size in map(int, options.sizes.split(",")):
                for row in measure(kind, size, options.rounds, options.threads, real):
                    rows.append(row)
                    print(
                        f"{row['name']:24}{size:8}{row['median_ms']:11.1f}{row['max_ms']:10.1f}"
                        f"{row['index_s']:9.2f}{row['peak_mb']:9.0f}",
                        flush=True,
                    )
    if options.json:
        save(options.json, rows, top=TOP, shape=SHAPE, rounds=options.rounds, threads=options.threads)


def embed_walkers(store: Path, people: int) -> Array:
    """Embeddings [n, 16, 256] of synthetic people whom the shipped weights were not trained on."""
    from gaitedge.data.store import Store
    from gaitedge.engines import embed_all, load
    from gaitedge.export.exporter import open_model
    from gaitedge.walkers.synthesis import synthesise
    from gaitedge.weights import shipped_weights

    views = ("036", "090", "144")
    synthesise(store, subjects=people, views=views, conditions=("nm-01", "cl-01"), seed=7, store=True)
    walks = Store(store)
    return embed_all(load(open_model(shipped_weights())), [walks[number] for number in range(len(walks))])


def measure(kind: str, size: int, rounds: int, threads: int, real: Path) -> list[dict[str, Any]]:
    """A row for each method."""
    workers = [Worker(candidate, method, kind, size, threads, str(real)) for method in METHODS]
    turns: list[list[tuple[float, Found, float]]] = [[] for _ in METHODS]
    for number in range(rounds + 1):
        for place in range(len(METHODS)):
            which = (place + number) % len(METHODS)
            turns[which].append(workers[which].turn())
    for brute, found in zip(*turns, strict=True):
        check(brute[1], found[1])
    rows = []
    for method, worker, taken in zip(METHODS, workers, turns, strict=True):
        times = [milliseconds for milliseconds, _, _ in taken[1:]]  # the first one warms up
        rows.append(
            {
                "name": f"{kind}, {method}",
                "people": size,
                "median_ms": float(np.median(times)),
                "min_ms": min(times),
                "max_ms": max(times),
                "index_s": worker.ready,
                "peak_mb": taken[-1][2],
            }
        )
        worker.stop()
    return rows


def check(brute: Found, found: Found) -> None:
    """Stop where the answers differ by more than float32's last digit; `brute` has one person more."""
    for (row, distance), (other, again) in zip(brute[:TOP], found, strict=True):
        digit = float(np.spacing(np.float32(distance)))
        tied = any(abs(distance - near) <= digit for place, near in brute if place != row)
        if abs(distance - again) > digit or (row != other and not tied):
            raise SystemExit(f"different answers: {brute} and {found}")


def candidate(method: str, kind: str, size: int, threads: int, real: str) -> Generator[Any, None, None]:
    """Gives the seconds that the index took, then for each probe milliseconds, answer and peak memory."""
    from gaitedge.people.identification import distances
    from gaitedge.people.search import build_index, nearest

    rng = np.random.default_rng(size)
    draw = drawing(kind, rng, np.load(real))
    gallery = np.empty((size, *SHAPE), np.float32)
    for start in range(0, size, BLOCK):
        block = gallery[start : start + BLOCK]
        block[...] = draw(len(block), None)
    started = time.perf_counter()
    index = build_index(gallery, list(map(str, range(size))), threads) if method == "search" else None
    yield time.perf_counter() - started
    for number in range(1 << 30):
        probe = draw(1, gallery[rng.integers(size)][None] if number % 2 else None)[0]
        started = time.perf_counter()
        if index is None:
            row = distances(probe[None], gallery)[0]
            found = [(int(place), float(row[place])) for place in np.argsort(row, kind="stable")[: TOP + 1]]
        else:
            found = [(one.row, one.distance) for one in nearest(gallery, index, probe, TOP)]
        yield (time.perf_counter() - started) * 1e3, found, peak_mb()


Draw = Callable[[int, "Array | None"], Array]
"""People, or another walk of each of some people."""


def drawing(kind: str, rng: np.random.Generator, real: Array) -> Draw:
    """How people of a kind are drawn."""
    apart = (real - real.mean(axis=0)).reshape(len(real), -1)

    def draw(count: int, people: Array | None) -> Array:
        noise = rng.standard_normal((count, *SHAPE), dtype=np.float32)
        if kind == "one person":
            return real[:1] + np.float32(1e-5) * noise
        if kind == "random":
            return noise if people is None else people + np.float32(0.3) * noise
        base = real[rng.integers(0, len(real), count)] if people is None else people
        shares = rng.standard_normal((count, len(real)), dtype=np.float32) / np.float32(len(real) ** 0.5)
        shares *= np.float32(PERSON if people is None else WALK)
        return base + (shares @ apart).reshape(count, *SHAPE) + np.float32(NOISE) * noise

    return draw


def peak_mb() -> float:
    """The most memory that this process has held, in MB of 10⁶ bytes; NaN where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    lines = [line.split() for line in status.splitlines()]
    return next(int(words[1]) * 1024 / 1e6 for words in lines if words and words[0] == "VmHWM:")


if __name__ == "__main__":
    main()
