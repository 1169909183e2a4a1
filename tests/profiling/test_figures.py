"""Times are summed up by stated rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaitedge.errors import InputError
from gaitedge.profiling.figures import percentile, summarize


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


def test_a_summary_in_any_order() -> None:
    found = summarize([4.0, 1.0, 3.0, 2.0])
    assert (found.runs, found.min_ms, found.max_ms) == (4, 1.0, 4.0)
    assert (found.mean_ms, found.median_ms) == (2.5, 2.5)
    assert found.variation == pytest.approx(1.25**0.5 / 2.5)
    with pytest.raises(InputError, match="no times"):
        summarize([])
