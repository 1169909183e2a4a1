"""Latencies are what a clock says, summed up by stated rules."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import InputError
from gaitedge.machine.environment import environment
from gaitedge.profiling.figures import percentile
from gaitedge.profiling.measuring import Measurement, bench


class SleepyEngine:
    """Sleeps a known time a frame, longer at the first call of a shape, and keeps what it was given."""

    name, description, precision, fingerprint = "sleepy", "a clock", "fp32", "0" * 64
    config = GaitPartConfig()

    def __init__(self, milliseconds_a_frame: float) -> None:
        self.pause = milliseconds_a_frame / 1e3
        self.seen: dict[tuple[int, ...], list[NDArray[np.uint8]]] = {}

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        calls = self.seen.setdefault(silhouettes.shape, [])
        batch, frames = silhouettes.shape[:2]
        time.sleep(self.pause * batch * frames * (1 if calls else 20))
        calls.append(silhouettes)
        return np.zeros((batch, 16, 256), np.float32)


def test_every_shape_is_measured_in_order() -> None:
    seen: list[Measurement] = []
    results = bench(
        SleepyEngine(0.01),
        (1, 2),
        (3, 30),
        warmup_s=0,
        seconds=0,
        minimum_runs=7,
        progress=seen.append,
    )
    assert [(result.batch, result.frames) for result in results] == [(1, 3), (1, 30), (2, 3), (2, 30)]
    assert [result.runs for result in results] == [7] * 4
    assert seen == results


def test_the_figures_are_those_of_the_clock() -> None:
    (result,) = bench(SleepyEngine(0.1), (1,), (30,), warmup_s=0, seconds=0.3, minimum_runs=10)
    assert result.runs >= 10
    assert (
        3
        <= result.min_ms
        <= result.median_ms
        <= result.p90_ms
        <= result.p95_ms
        <= result.p99_ms
        <= result.max_ms
    )
    assert result.min_ms <= result.mean_ms <= result.max_ms
    assert result.first_run_ms >= 60  # twenty times as long, and in no other figure
    assert result.sequences_per_second == pytest.approx(1e3 / result.mean_ms)
    assert result.frames_per_second == pytest.approx(30e3 / result.mean_ms)


def test_a_measurement_lasts_as_long_as_asked() -> None:
    start = time.perf_counter()
    (result,) = bench(SleepyEngine(0.1), (1,), (1,), warmup_s=0.1, seconds=0.3, minimum_runs=1)
    assert time.perf_counter() - start >= 0.4
    assert result.runs > 1
    assert result.runs * result.mean_ms <= 300 + result.max_ms  # the warm-up is in no figure


def test_inputs_are_silhouettes_that_differ_and_come_from_the_seed() -> None:
    def inputs(seed: int) -> list[NDArray[np.uint8]]:
        engine = SleepyEngine(0)
        bench(engine, (2,), (3,), warmup_s=0, seconds=0, minimum_runs=8, seed=seed)
        return engine.seen[2, 3, 64, 44]

    first, again, other = inputs(1), inputs(1), inputs(2)
    assert len({array.tobytes() for array in first}) == 4
    assert [array.tobytes() for array in first] == [array.tobytes() for array in again]
    assert not {array.tobytes() for array in first} & {array.tobytes() for array in other}


def test_drawn_silhouettes_look_like_silhouettes() -> None:
    drawn = draw_silhouettes(2, 20, np.random.default_rng(0))
    assert drawn.shape == (2, 20, 64, 44)
    assert drawn.dtype == np.uint8
    white, black = (drawn == 255).mean(axis=(2, 3)), (drawn == 0).mean(axis=(2, 3))
    assert white.min() > 0.1
    assert black.min() > 0.2
    assert (white + black).max() < 1  # soft edges
    assert len(np.unique(drawn.reshape(40, -1), axis=0)) == 40


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [
        (10, 90, 8),
        (10, 95, 9),
        (10, 99, 9),
        (100, 99, 98),
        (200, 99, 197),
        (1, 99, 0),
        (1000, 90, 899),
        (2, 50, 0),
    ],
)
def test_percentiles_follow_the_rule_of_trtexec(count: int, percent: int, rank: int) -> None:
    assert percentile(range(count), percent) == rank


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300).map(sorted), st.sampled_from([50, 90, 95, 99]))
def test_at_most_the_stated_share_lies_above_a_percentile(ordered: list[float], percent: int) -> None:
    value = percentile(ordered, percent)
    assert value in ordered
    assert sum(other > value for other in ordered) <= len(ordered) * (100 - percent) / 100


@pytest.mark.parametrize(
    "bad",
    [
        {"batches": ()},
        {"batches": (0,)},
        {"frames": (30, -1)},
        {"seconds": -1.0},
        {"warmup_s": -0.1},
        {"minimum_runs": 0},
    ],
)
def test_impossible_measurements_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match=str(next(iter(bad)))):
        bench(SleepyEngine(0), **bad)  # type: ignore[arg-type]


def test_results_and_machine_are_json() -> None:
    results = bench(SleepyEngine(0), warmup_s=0, seconds=0, minimum_runs=1)
    text = json.dumps(
        {"machine": environment(), "results": [dataclasses.asdict(result) for result in results]}
    )
    read = json.loads(text)
    assert Measurement(**read["results"][0]) == results[0]
    assert read["machine"]["cores"] >= 1
    assert read["machine"]["packages"]["numpy"] == np.__version__
    assert read["machine"]["gaitedge"]
