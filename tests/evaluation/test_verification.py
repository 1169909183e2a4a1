from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gaitedge.evaluation.results import Verification
from gaitedge.evaluation.verification import verify

Counts = NDArray[np.int64]


def counted(*distances: float) -> Counts:
    return np.bincount((np.array(distances) * 4).astype(int), minlength=100)


def found(genuine: Counts, impostor: Counts, resolution: float = 0.25) -> Verification:
    result = verify(genuine, impostor, resolution)
    assert result is not None
    return result


def test_where_a_threshold_tells_all_apart_it_is_in_the_middle() -> None:
    result = found(counted(1, 2, 3), counted(*[10] * 60, *[11] * 60))
    assert (result.genuine, result.impostor) == (3, 120)
    assert (result.eer, result.threshold) == (0, 6.75)  # 3.25 tells 3 from 10, so do all up to 10
    assert result.tar_at_far["1e-1"] == 1


def test_an_overlap() -> None:
    """Of 4 genuine pairs one is beyond 5, of 4 impostor pairs one is before it."""
    result = found(counted(1, 2, 3, 8), counted(4, 6, 7, 9))
    assert result.eer == 0.25
    assert 4 < result.threshold <= 6


def test_a_rate_that_too_few_pairs_support_is_none() -> None:
    rng = np.random.default_rng(0)
    result = found(counted(*rng.uniform(0, 10, 50)), counted(*rng.uniform(5, 20, 1000)))
    assert {far for far, tar in result.tar_at_far.items() if tar is None} == {"1e-3", "1e-4"}
    assert min(point.far for point in result.roc) <= 0.01
    assert len(result.roc) <= 21


def test_without_pairs_of_both_kinds_there_is_nothing_to_say() -> None:
    assert verify(counted(), counted(1), 0.25) is None
    assert verify(counted(1), counted(), 0.25) is None


def test_a_fine_histogram_is_shown_in_a_hundred_bins() -> None:
    rng = np.random.default_rng(1)
    genuine, impostor = rng.integers(0, 5, 12345), rng.integers(0, 5, 12345)
    genuine[9000:] = impostor[9000:] = 0
    shown = found(genuine, impostor, 2.0).histogram
    assert (len(shown.genuine), len(shown.impostor), shown.width) == (100, 100, 180)
    assert shown.genuine[3] == genuine[270:360].sum()
    assert sum(shown.genuine) == genuine.sum()
    assert sum(shown.impostor) == impostor.sum()


some = st.lists(st.integers(0, 30), min_size=1, max_size=80).map(np.array)


@given(some, some)
def test_rates_as_they_are_stated(genuine: Counts, impostor: Counts) -> None:
    """Against all thresholds tried one by one on the distances themselves."""
    result = found(np.bincount(genuine, minlength=40), np.bincount(impostor, minlength=40), 1.0)
    rates = {edge: ((impostor < edge).mean(), (genuine < edge).mean()) for edge in range(33)}
    for point in result.roc:
        assert (point.far, point.tar) == pytest.approx(rates[int(point.threshold)])
    assert (result.roc[0].far, result.roc[0].tar) == (1, 1)
    for far in ("1e-1", "1e-2"):
        best = max(tar for rate, tar in rates.values() if rate <= float(far))
        assert result.tar_at_far[far] == (pytest.approx(best) if float(far) * len(impostor) >= 10 else None)

    gaps = {edge: abs(far - (1 - tar)) for edge, (far, tar) in rates.items()}
    smallest = min(gaps.values())
    far, tar = rates[int(result.threshold)]
    assert gaps[int(result.threshold)] == pytest.approx(smallest)
    assert result.eer == pytest.approx((far + 1 - tar) / 2)
    near = [sum((far, 1 - tar)) / 2 for edge, (far, tar) in rates.items() if gaps[edge] <= smallest + 1e-12]
    assert result.eer <= min(near) + 1e-12


def test_the_resolution_bounds_the_error() -> None:
    """EER by a histogram against the one by the sorted distances."""
    rng = np.random.default_rng(2)
    genuine, impostor = rng.normal(5, 1, 4000).clip(0), rng.normal(8, 1.5, 40000).clip(0)
    resolution = 2.0**-10
    counts = [np.bincount((each / resolution).astype(int), minlength=1 << 15) for each in (genuine, impostor)]
    result = found(*counts, resolution)
    thresholds = np.sort(np.concatenate([genuine, impostor]))
    frr = 1 - np.searchsorted(np.sort(genuine), thresholds) / len(genuine)
    far = np.searchsorted(np.sort(impostor), thresholds) / len(impostor)
    best = np.abs(far - frr).argmin()
    assert result.eer == pytest.approx((far[best] + frr[best]) / 2, abs=5e-4)
    assert result.threshold == pytest.approx(thresholds[best], abs=0.01)
    assert result.tar_at_far["1e-2"] == pytest.approx(
        (genuine < np.quantile(impostor, 0.01)).mean(), abs=2e-3
    )
