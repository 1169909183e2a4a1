"""The histogram and the four methods against plain statements of them, over the values themselves."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gaitedge.calibration.observers import BINS, Histogram, entropy, minmax, mse, percentile
from gaitedge.errors import InputError

Values = NDArray[np.float32]

magnitudes = st.one_of(
    st.floats(-1, 1, width=32), st.floats(width=32, allow_nan=False, allow_infinity=False), st.just(0.0)
)
lists = st.lists(magnitudes, min_size=1, max_size=200).map(lambda found: np.array(found, np.float32))


@st.composite
def drawn(draw: st.DrawFn) -> Values:
    """Some thousand values of a distribution such as layers read: many zeros, a tail, or neither."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 3000))
    scale = 10.0 ** draw(st.integers(-6, 6))
    kind = draw(st.sampled_from(["normal", "laplace", "uniform", "leaky", "lognormal"]))
    values = {
        "normal": lambda: rng.standard_normal(count),
        "laplace": lambda: rng.laplace(size=count),
        "uniform": lambda: rng.uniform(-1, 1, count),
        "leaky": lambda: np.maximum(normal := rng.standard_normal(count), 0.01 * normal),
        "lognormal": lambda: rng.lognormal(sigma=2, size=count),
    }[kind]()
    values[rng.random(count) < draw(st.sampled_from([0, 0.5, 0.99]))] = 0
    return np.append(scale * values, scale).astype(np.float32)  # not all of them zero


def seen(*portions: Values) -> Histogram:
    histogram = Histogram()
    for portion in portions:
        histogram.add(portion)
    return histogram


def same(first: Histogram, second: Histogram) -> bool:
    return (
        bool((first.counts == second.counts).all())
        and first.exponent == second.exponent
        and first.largest == second.largest
    )


# The histogram ------------------------------------------------------------------------------------


@given(lists)
def test_a_histogram_counts_what_lies_in_each_bin(values: Values) -> None:
    histogram, counts = seen(values), [0] * BINS
    for value in values:
        counts[math.floor(abs(float(value)) / histogram.width)] += 1
    assert histogram.counts.tolist() == counts
    assert histogram.largest == max(abs(float(value)) for value in values)
    assert histogram.total == len(values)


@given(lists)
def test_the_bins_end_at_the_smallest_power_of_two_above_the_largest(values: Values) -> None:
    histogram = seen(values)
    end = BINS * histogram.width
    assert math.frexp(end)[0] == 0.5
    if histogram.largest >= 2.0**-100:
        assert end / 2 <= histogram.largest < end
    assert histogram.largest < end


@given(lists, st.randoms(use_true_random=False), st.integers(1, 9))
def test_the_order_and_the_portions_do_not_matter(values: Values, random: object, portions: int) -> None:
    mixed = values.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert same(seen(values), seen(*np.array_split(mixed, portions)))


@given(st.lists(lists, min_size=1, max_size=5))
def test_merged_histograms_are_those_of_all_values(portions: list[Values]) -> None:
    merged = Histogram()
    for portion in portions:
        merged.merge(seen(portion))
    assert same(merged, seen(np.concatenate(portions)))


def test_an_array_of_any_shape_larger_than_a_piece() -> None:
    values = np.random.default_rng(0).standard_normal((3, 70, 1000)).astype(np.float32)
    assert same(seen(values), seen(*values.reshape(-1, 7)[:, :, None]))
    counts, _ = np.histogram(np.abs(values), BINS, (0, BINS * seen(values).width))
    assert seen(values).counts.tolist() == counts.tolist()


def test_nothing_is_nothing() -> None:
    assert same(seen(np.empty((0, 4), np.float32)), Histogram())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_and_not_counted(bad: float) -> None:
    histogram = seen(np.ones(3, np.float32))
    with pytest.raises(InputError, match="NaN or infinite values have no range"):
        histogram.add(np.array([2, bad], np.float32))
    assert same(histogram, seen(np.ones(3, np.float32)))


# The methods --------------------------------------------------------------------------------------


@given(lists)
def test_minmax_is_the_largest_magnitude(values: Values) -> None:
    assert minmax(seen(values)) == max(abs(float(value)) for value in values)


@given(drawn(), st.sampled_from([50.0, 99.0, 99.9, 99.99, 100.0]))
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(values: Values, percent: float) -> None:
    histogram, ordered = seen(values), sorted(abs(float(value)) for value in values)
    wanted = ordered[math.ceil(percent / 100 * len(ordered)) - 1]
    found = percentile(histogram, percent)
    assert wanted <= found <= wanted + histogram.width
    assert sum(value <= found for value in ordered) >= percent / 100 * len(ordered)
    assert found <= histogram.largest


def squared_error(values: Values, candidate: float) -> float:
    """Mean of (x - q(x))², the quantised value q(x) = scale · clip(round(x / scale), -127, 127)."""
    scale = candidate / 127
    quantised = [scale * min(max(round(float(x) / scale), -127), 127) for x in values]
    return sum((float(x) - q) ** 2 for x, q in zip(values, quantised, strict=True)) / len(values)


@settings(max_examples=20)
@given(drawn())
def test_mse_is_the_best_of_its_candidates(values: Values) -> None:
    """A value is at most half a bin from where the histogram has it, so no root of a mean is further off."""
    values, histogram = values[-300:], seen(values[-300:])
    found = mse(histogram)
    best = min(squared_error(values, histogram.largest * k / 512) for k in range(1, 513))
    assert found * 512 / histogram.largest == pytest.approx(round(found * 512 / histogram.largest))
    assert math.sqrt(squared_error(values, found)) <= math.sqrt(best) + histogram.width * (1 + 1e-6)


def divergence(p: list[float], q: list[float]) -> float:
    """Kullback and Leibler's, in nats."""
    return sum((a * math.log(a / b) if b else math.inf) for a, b in zip(p, q, strict=True) if a)


def published_distance(counts: list[int], i: int, levels: int) -> float:
    """How far Q is from P where the first i bins are kept, line by line as the talk has it."""
    reference = [float(count) for count in counts[:i]]
    reference[i - 1] += sum(counts[i:])
    merged, filled = [0.0] * levels, [0] * levels
    for k in range(i):
        merged[k * levels // i] += counts[k]
        filled[k * levels // i] += counts[k] > 0
    expanded = [merged[k * levels // i] / filled[k * levels // i] if counts[k] else 0.0 for k in range(i)]
    if not sum(expanded):
        return math.inf
    p = [value / sum(reference) for value in reference]
    q = [value / sum(expanded) for value in expanded]
    return divergence(p, q)


def published(counts: list[int], levels: int) -> dict[int, float]:
    """How many of the bins are kept -> how far that is."""
    last = max((index for index, count in enumerate(counts) if count), default=-1)
    return {i: published_distance(counts, i, levels) for i in range(levels, last + 2)}


@settings(max_examples=60)
@given(drawn(), st.sampled_from([(16, 2), (32, 4), (64, 8), (64, 7)]))
def test_entropy_is_the_published_procedure(values: Values, sizes: tuple[int, int]) -> None:
    bins, levels = sizes
    histogram = seen(values)
    width = BINS // bins * histogram.width
    counts = [0] * bins
    for value in values:
        counts[math.floor(abs(float(value)) / width)] += 1
    counts[0] = counts[1]
    found = entropy(histogram, bins, levels)
    distances = published(counts, levels)
    nearest = min(distances.values(), default=0.0)
    # Where two are equally near, rounding decides.
    near = [i for i, distance in distances.items() if distance <= nearest + 1e-12]
    expected = [min((i + 0.5) * width, histogram.largest) for i in near] or [histogram.largest]
    assert any(found == pytest.approx(value, rel=1e-12) for value in expected)


def test_entropy_as_in_the_example_of_the_talk() -> None:
    """Eight bins 1, 0, 2, 3, 5, 3, 1, 7 in two levels, 6 and 16, are spread as 2, 0, 2, 2, 4, 4, 4, 4."""
    q = [2, 0, 2, 2, 4, 4, 4, 4]
    counts = [1, 0, 2, 3, 5, 3, 1, 7]
    expected = divergence([count / 22 for count in counts], [value / 22 for value in q])
    assert published_distance(counts, 8, 2) == pytest.approx(expected)


@pytest.mark.parametrize("method", [minmax, percentile, entropy, mse])
def test_outliers_are_clipped_by_all_methods_but_minmax(method: Callable[[Histogram], float]) -> None:
    """A million normal values and one that is thirty deviations out: int8 is for the million."""
    values = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    found = method(seen(values, np.full(1, 30, np.float32)))
    assert found == 30 if method is minmax else 3 <= found <= 8


@pytest.mark.parametrize("method", [minmax, percentile, entropy, mse])
def test_of_evenly_spread_values_nearly_nothing_is_clipped(method: Callable[[Histogram], float]) -> None:
    values = np.random.default_rng(0).uniform(-3, 3, 1_000_000).astype(np.float32)
    assert 2.9 < method(seen(values)) <= 3


@pytest.mark.parametrize("method", [minmax, percentile, entropy, mse])
@given(lists)
def test_a_range_is_positive_and_at_most_the_largest_magnitude(
    method: Callable[[Histogram], float], values: Values
) -> None:
    histogram = seen(values)
    if histogram.largest:
        assert 0 < method(histogram) <= histogram.largest


@pytest.mark.parametrize("method", [minmax, percentile, entropy, mse])
@given(drawn(), st.integers(-20, 20))
def test_a_range_grows_with_the_values(
    method: Callable[[Histogram], float], values: Values, power: int
) -> None:
    """By a power of two, which moves nothing from one bin to another."""
    scaled = np.ldexp(values, power)
    assert method(seen(scaled)) == pytest.approx(math.ldexp(method(seen(values)), power))
