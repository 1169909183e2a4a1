"""What the profiler itself costs: python benchmarks/profiler.py

The profiler's loop makes calls of an engine in turns with a bare loop, which makes as many of the same calls
and looks at no clock; the ratio of their times, turn by turn, is what measuring costs, the calls that tell
what their time went into included. Its interval is by bootstrap over the turns. Times are the processor's
for this process, which other programs lengthen less than the clock on the wall. The same with an engine that
does nothing gives the loop's own cost a call, which the noise of real calls would hide. The shorter a call,
the larger the share: the default is a short one.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from documents import save
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import Embedder, load
from gaitedge.engines.timing import CallTimes
from gaitedge.export.exporter import export
from gaitedge.profiling.inputs import make_inputs
from gaitedge.profiling.measuring import TIMED_EVERY, run
from gaitedge.weights import shipped_weights

Inputs = Sequence[NDArray[np.uint8]]

PLAIN = TIMED_EVERY - 1  # calls of a turn that are not timed ones, beside one that is
RESAMPLES = 10_000
LIMIT = 0.01


class Nothing:
    """An engine that takes no time, and tells so."""

    largest_batch = None
    config = GaitPartConfig()

    def __init__(self) -> None:
        self._embeddings = np.zeros((1, 16, 256), np.float32)
        self._times = CallTimes(compute=0.0)

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:  # noqa: ARG002
        return self._embeddings

    def embed_timed(self, silhouettes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], CallTimes]:  # noqa: ARG002
        return self._embeddings, self._times


def main() -> None:
    """Measure, print, and write the JSON document if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="openvino", choices=["openvino", "onnxruntime"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "walkers.gait"
        export(shipped_weights(), bundle)
        engine = load(Bundle.open(bundle), options.engine, options.threads, "fp32")
    inputs = make_inputs(None, options.batch, options.frames, 0, 0)

    gc.collect()
    gc.freeze()  # run() collects before it measures; here it shall find nothing
    turns = take_turns(engine, inputs, options.rounds)
    nothing = take_turns(Nothing(), inputs, 50 * options.rounds)

    call_ms = statistics.median(bare for bare, _ in turns)
    own_us = 1e3 * statistics.median(ours - bare for bare, ours in nothing)
    ratio, low, high = interval([ours / bare for bare, ours in turns])
    rows = [
        {"name": "profiler's loop over a bare one", "ratio": ratio, "low": low, "high": high},
        {
            "name": "the loop's own cost",
            "microseconds_a_call": own_us,
            "share": own_us / 1e3 / call_ms,
        },
    ]
    print(f"{engine.description}: {options.batch} x {options.frames} frames, {options.rounds} rounds")
    print(f"a bare call: {call_ms:.2f} ms")
    print(f"{rows[0]['name']}: {ratio:.4f}, 95 % within {low:.4f} to {high:.4f}")
    print(f"{rows[1]['name']}: {own_us:.2f} microseconds a call, {own_us / 10 / call_ms:.4f} % of it")
    print("below 1 %" if high < 1 + LIMIT else "not shown to be below 1 %: too few rounds, or too much noise")
    if options.json:
        save(
            options.json,
            rows,
            engine=engine.description,
            batch=options.batch,
            frames=options.frames,
            rounds=options.rounds,
            call_ms=call_ms,
            calls_a_turn=PLAIN + 1,
        )


def take_turns(engine: Embedder, inputs: Inputs, rounds: int) -> list[tuple[float, float]]:
    """Milliseconds a call of a bare loop and of the profiler's, for each round; each is first in turn."""

    def bare() -> None:
        for number in range(PLAIN + 1):
            engine.embed(inputs[number % len(inputs)])

    def ours() -> None:
        _, times, timed = run([engine], inputs, 0.0, PLAIN)
        if len(times) + len(timed) != PLAIN + 1:
            raise SystemExit(f"a turn made {len(times) + len(timed)} calls, not {PLAIN + 1}")

    bare()
    ours()
    found = []
    for number in range(rounds):
        order = (bare, ours) if number % 2 == 0 else (ours, bare)
        took = {loop: timed(loop) for loop in order}
        found.append((took[bare] / (PLAIN + 1), took[ours] / (PLAIN + 1)))
    return found


def timed(loop: Callable[[], None]) -> float:
    """Milliseconds of the processor."""
    before = time.process_time_ns()
    loop()
    return (time.process_time_ns() - before) / 1e6


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval by bootstrap."""
    rng, values = np.random.default_rng(0), np.array(ratios)
    drawn = np.array([np.median(rng.choice(values, len(values))) for _ in range(RESAMPLES)])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(np.median(values)), float(low), float(high)


if __name__ == "__main__":
    main()
