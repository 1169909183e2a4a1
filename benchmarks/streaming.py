"""One frame of a stream beside the whole walk computed anew: python benchmarks/streaming.py

After each frame somebody wants the embedding of all so far. "whole walk" runs the bundle's network over all
frames again, "one push" takes the new frame into a stream, "its embedding" asks the stream for it. Then
several streams: their frames in one micro-batch beside each by itself. Each of the two ways has a process
of its own, and they take turns, round after round (profiling/turns.py says why).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
from documents import save
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.engines import load
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.export.exporter import export
from gaitedge.machine.cpu import usable_cores
from gaitedge.profiling.turns import Worker
from gaitedge.streaming.scheduler import Scheduler
from gaitedge.streaming.stream import Network, Stream, take_features
from gaitedge.weights import shipped_weights

Times = dict[str, float]

LENGTHS = (30, 300, 3000)
STREAMS = (1, 2, 4, 8)
PUSHES = 8  # of a turn; their median counts. One more goes before them, to warm the caches.


def main() -> None:
    """Measure, print a table, and write the JSON document if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the engine")
    parser.add_argument("--frames", type=numbers, default=LENGTHS, help="lengths, as in 30,300,3000")
    parser.add_argument("--streams", type=numbers, default=STREAMS, help="how many at once, as in 1,2,4,8")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "walkers.gait"
        export(shipped_weights(), bundle)
        whole = Worker(whole_walks, bundle, options.threads, options.frames)
        streams = Worker(pushes, bundle, options.threads, options.frames, options.streams)
        rounds: list[Times] = [{**whole.turn(), **streams.turn()} for _ in range(options.rounds)]
        engine = streams.ready
        for worker in (whole, streams):
            worker.stop()

    rows = []
    for name in rounds[0]:
        times = [measured[name] for measured in rounds]
        rows.append({"name": name, "median_ms": statistics.median(times), "min_ms": min(times)})
    print(f"{engine}, {options.rounds} rounds")
    print(f"{'':44}{'median ms':>10}{'min ms':>10}")
    for row in rows:
        print(f"{row['name']:44}{row['median_ms']:10.3f}{row['min_ms']:10.3f}")
    if options.json:
        save(options.json, rows, engine=engine, threads=options.threads, rounds=options.rounds)


def numbers(text: str) -> tuple[int, ...]:
    """1 or more whole numbers, as in 30,300."""
    return tuple(int(number) for number in text.split(","))


def whole_walks(bundle: Path, threads: int, lengths: Sequence[int]) -> Generator[str | Times, None, None]:
    """The engine, then milliseconds of embedding a walk of each length for each turn."""
    engine, rng = load(Bundle.open(bundle), threads=threads), np.random.default_rng(0)
    walks = {length: draw_silhouettes(1, length, rng) for length in lengths}
    for walk in walks.values():
        engine.embed(walk)
    yield engine.description
    while True:
        yield {
            f"whole walk of {length} frames": milliseconds(lambda walk=walk: engine.embed(walk))
            for length, walk in walks.items()
        }


def pushes(
    bundle: Path, threads: int, lengths: Sequence[int], counts: Sequence[int]
) -> Generator[str | Times, None, None]:
    """The engine, then milliseconds of a push after each length, and of one of each of several streams."""
    network, rng = Network.load(bundle, threads=threads), np.random.default_rng(0)
    silhouettes = draw_silhouettes(1, PUSHES + 1, rng)[0]
    features = network.frames.part_features(silhouettes)
    yield network.frames.description
    while True:
        times: Times = {}
        for length in lengths:
            stream = Stream(network)
            for number in range(length - 1):
                take_features([stream], features[number % len(features)][None])
            for name, timed in timed_pushes(stream, silhouettes).items():
                times[f"{name} after {length} frames"] = timed
        for count in counts:
            scheduler = Scheduler(network, largest=count, latency=60.0)
            several = [Stream(network) for _ in range(count)]
            together, alone = [], []
            for silhouette in silhouettes:
                start = time.perf_counter()
                for stream in several:
                    stream.push(silhouette)
                alone.append((time.perf_counter() - start) * 1e3)
                for stream in several:
                    scheduler.submit(stream, silhouette)
                together.append(milliseconds(scheduler.poll))
            times[f"a frame of each of {count}, one by one"] = statistics.median(alone[1:])
            times[f"a frame of each of {count}, in one batch"] = statistics.median(together[1:])
        yield times


def timed_pushes(stream: Stream, silhouettes: NDArray[np.uint8]) -> Times:
    """Milliseconds of a push and of the embedding after it."""
    pushed, asked = [], []
    for silhouette in silhouettes:
        pushed.append(milliseconds(lambda s=silhouette: stream.push(s)))
        asked.append(milliseconds(stream.embedding))
    return {"one push": statistics.median(pushed[1:]), "its embedding": statistics.median(asked[1:])}


def milliseconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    main()
