"""An interval is worth what it covers: simulated times, whose ratio is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timings import draw_times

from gaitedge.errors import InputError
from gaitedge.profiling.bootstrap import Statistic, paired_interval, ratio_interval, verdict
from gaitedge.profiling.document import Interval

PAIRS = 300


def verdicts(
    starts: int,
    ratio: float = 1.0,
    statistic: Statistic = "median",
    pairs: int = PAIRS,
    runs: int = 100,
    **kind: float,
) -> dict[str, float]:
    """Shares of the verdicts over pairs of simulated measurements."""
    rng = np.random.default_rng(starts)
    before = draw_times(rng, (pairs, starts, runs), 10 * ratio, **kind)
    after = draw_times(rng, (pairs, starts, runs), 10, **kind)
    found = Counter(
        verdict(ratio_interval(one, other, statistic).interval)
        for one, other in zip(before, after, strict=True)
    )
    return {name: count / pairs for name, count in found.items()}


@pytest.mark.parametrize(("starts", "kind"), [(5, {}), (2, {}), (3, {}), (5, {"lucky": 0.3})])
def test_what_is_the_same_is_not_distinguishable(starts: int, kind: dict[str, float]) -> None:
    found = verdicts(starts, **kind)
    assert 0.93 <= found["not distinguishable"] <= 0.985
    assert found.get("faster", 0) <= 0.05  # it errs to both sides
    assert found.get("slower", 0) <= 0.05


def test_the_same_throughput_is_not_distinguishable() -> None:
    assert 0.92 <= verdicts(5, statistic="mean")["not distinguishable"] <= 0.99


def test_the_slowest_runs_are_judged_with_care() -> None:
    """A p99 hangs on a few spikes: its interval errs to the wide side."""
    assert verdicts(5, statistic="p99", pairs=100)["not distinguishable"] >= 0.95


def test_one_start_covers_what_changes_within_it() -> None:
    assert 0.91 <= verdicts(1, between=0.0, runs=200)["not distinguishable"] <= 0.99


@pytest.mark.parametrize(("starts", "ratio"), [(5, 1.035), (10, 1.02)])
def test_a_difference_is_seen(starts: int, ratio: float) -> None:
    found = verdicts(starts, ratio, pairs=60)
    assert found["faster"] >= 0.8
    assert "slower" not in found


def test_percentiles_of_the_ratios_would_be_too_narrow() -> None:
    """Why it is a bootstrap-t: the same resampling without its standard errors misses far too often."""
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(PAIRS):
        medians = np.log(np.median(draw_times(rng, (2, 3, 100)), axis=-1))
        drawn = [one[rng.integers(0, 3, (500, 3))].mean(axis=-1) for one in medians]
        low, high = np.quantile(drawn[0] - drawn[1], (0.025, 0.975))
        missed += not low <= 0 <= high
    assert missed / PAIRS > 0.12


@pytest.mark.parametrize(("starts", "rounds"), [(1, 60), (3, 10), (5, 10)])
def test_turns_cancel_what_both_meet(starts: int, rounds: int) -> None:
    """The machine swings by 20 %, and a difference of nothing is none, one of 5 % is one."""
    rng = np.random.default_rng(rounds)
    between = 0.0 if starts == 1 else 0.003  # what one start cannot tell
    found = []
    for _ in range(200):
        common = draw_times(rng, (starts, rounds), 10, between=0.05, within=0.2, correlation=0.9)
        one, other = (common * draw_times(rng, common.shape, 1, between, 0.01, 0.3) for _ in range(2))
        found.append([paired_interval(rounds_of(one * ratio, other)).interval for ratio in (1.0, 1.05)])
    same, faster = (Counter(verdict(pair[which]) for pair in found) for which in (0, 1))
    assert 0.91 <= same["not distinguishable"] / 200 <= 0.99
    assert faster["faster"] / 200 >= 0.95


def rounds_of(one: np.ndarray, other: np.ndarray) -> list[list[tuple[float, float]]]:
    return [list(zip(a.tolist(), b.tolist(), strict=True)) for a, b in zip(one, other, strict=True)]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_the_inverse_has_the_inverse_ratio(starts: int, others: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = draw_times(rng, (starts, 30), 12), draw_times(rng, (others, 20), 10)
    there, back = ratio_interval(one, other), ratio_interval(other, one)
    assert there.interval.low < there.interval.ratio < there.interval.high
    assert there.interval.ratio == pytest.approx(1 / back.interval.ratio)
    assert there.starts_repeated is back.starts_repeated is (min(starts, others) > 1)


def test_the_typical_time_is_the_mean_of_the_medians_of_the_starts() -> None:
    before = [[4.0, 4.0, 4.0, 90.0], [9.0, 9.0, 9.0]]  # 6, by logarithms
    after = [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0, 0.01]]
    assert ratio_interval(before * 3, after * 3).interval.ratio == pytest.approx(3.0)


def test_the_seed_decides() -> None:
    before, after = np.split(draw_times(np.random.default_rng(0), (10, 50)), 2)
    first, again = ratio_interval(before, after, seed=3), ratio_interval(before, after, seed=3)
    assert first == again
    assert first != ratio_interval(before, after, seed=4)


def test_times_without_any_noise_have_an_interval_without_width() -> None:
    assert ratio_interval([[3.0] * 20] * 5, [[2.0] * 20] * 5).interval == Interval(
        pytest.approx(1.5), pytest.approx(1.5), pytest.approx(1.5)
    )
    assert paired_interval([[(3.0, 2.0)] * 20]).interval.high == pytest.approx(1.5)


def test_however_far_it_reaches_an_interval_is_two_numbers() -> None:
    """A profile is JSON, which has no infinity."""
    interval = ratio_interval([[1e-300], [1e300]], [[1.0], [2.0]]).interval
    assert 0 < interval.low < interval.high < float("inf")
    assert verdict(interval) == "not distinguishable"


def test_verdicts_must_all_agree() -> None:
    faster, slower, either = Interval(1.2, 1.1, 1.3), Interval(0.8, 0.7, 0.9), Interval(1.1, 0.9, 1.3)
    assert [verdict(one) for one in (faster, slower, either)] == ["faster", "slower", "not distinguishable"]
    assert verdict(faster, faster) == "faster"
    assert verdict(slower, slower) == "slower"
    assert (
        verdict(faster, either) == verdict(slower, faster) == verdict(slower, either) == "not distinguishable"
    )


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ([], "no times"),
        ([[], []], "no times"),
        ([[1.0] * 9], "one start of 9 runs is too little"),
        ([[1.0, 0.0] * 9] * 5, r"above 0 ms, not 0\.0"),
        ([[1.0, -2.0] * 9] * 5, r"above 0 ms, not -2\.0"),
        ([[1.0, float("nan")] * 9] * 5, "above 0 ms, not nan"),
        ([[1.0, float("inf")] * 9] * 5, "above 0 ms, not inf"),
    ],
)
def test_what_gives_no_interval_is_refused(times: list[list[float]], why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        ratio_interval(times, [[1.0] * 20] * 5)
    assert "\n" not in str(caught.value)
