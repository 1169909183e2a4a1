"""A row sums its repeats up and warns where its figures speak against themselves."""

from __future__ import annotations

import dataclasses

import pytest
from profiling_cases import CLOCKS, LOADED, repeat_of, wanted

from gaitedge.profiling.document import Configuration, Energy, Figures, Memory
from gaitedge.profiling.figures import Distribution, summarize
from gaitedge.profiling.row import failed_row, find_warnings, make_row


def always(ms: float) -> Distribution:
    return summarize([ms] * 10)


def test_a_row_is_all_of_its_repeats() -> None:
    energy = Energy("a sensor", seconds=1.0)
    repeats = [
        repeat_of([1.0, 2.0], 1000.0, load_ms=80.0, energy=None),
        repeat_of([3.0] * 6, 300.0, load_ms=90.0, memory=Memory(500, 90, 7), energy=energy, control_ms=6.0),
        repeat_of([2.0] * 2, 500.0, load_ms=400.0),
    ]
    row = make_row(wanted(batch=4), repeats)
    assert row.configuration == Configuration("openvino", "fp32", "exported", 4, 30, 2, 1)
    assert row.failed is None
    assert row.figures is not None
    assert row.figures.end_to_end == summarize([1.0, 2.0, *[3.0] * 6, 2.0, 2.0])
    assert row.figures.compute == always(2.0).__class__(**{**vars(always(2.0)), "runs": 3})
    assert (row.load_ms, row.first_run_ms, row.warmup_runs) == (90.0, 30.0, 12)
    assert row.calls_per_second == pytest.approx(10 / (0.002 + 0.02 + 0.004))
    assert row.sequences_per_second == pytest.approx(4 * (row.calls_per_second or 0))
    assert row.frames_per_second == pytest.approx(120 * (row.calls_per_second or 0))
    assert row.memory == Memory(500, 100, 7)
    assert row.energy == energy
    assert row.samples_ms == [[1.0, 2.0], [3.0] * 6, [2.0] * 2]
    assert row.control_ms == [5.0, 6.0, 5.0]
    assert row.description == LOADED.description


def test_long_samples_are_thinned_evenly_and_the_figures_know_all() -> None:
    times = [float(number) for number in range(1, 5001)]
    row = make_row(wanted(), [repeat_of(times)])
    assert row.figures is not None
    assert row.figures.end_to_end.runs == 5000
    assert row.samples_ms == [times[::5]]


def test_a_gpu_has_no_control_and_an_unknown_system_no_memory() -> None:
    row = make_row(wanted(), [repeat_of([1.0], control_ms=None, memory=Memory(None, None))])
    assert row.control_ms == []
    assert row.memory == Memory(None, None, None)


def test_a_row_that_failed_says_what_is_known() -> None:
    row = failed_row(wanted(threads=1), None, "no such thing")
    assert row.configuration == Configuration("openvino", "as exported", "exported", 1, 30, 1, 1)
    assert (row.failed, row.figures, row.description) == ("no such thing", None, "")
    row = failed_row(wanted(), LOADED, "no memory")
    assert row.configuration.precision == "fp32"
    assert row.description == LOADED.description


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Figures(always(9)), []),
        (Figures(always(9), always(1), always(5), always(1), always(4)), []),
        (Figures(always(9), always(1), always(5), always(1), always(4.1)), ["enqueue takes 4.1 ms"]),
        (Figures(always(9), always(3), always(5), always(2.5), always(1)), ["copies take 5.5 ms"]),
        (Figures(always(9), always(6), always(5), None, None), ["copies take 6 ms"]),
        (Figures(summarize([1.0, 1.06])), ["the end-to-end time varies by 2.9%"]),
        (Figures(summarize([1.0, 1.04])), []),
        (Figures(summarize([1.0, 2.0]), compute=always(1)), []),  # the device is steady
        (Figures(always(9), compute=summarize([1.0, 2.0])), ["the compute time varies by 33.3%"]),
    ],
)
def test_warnings(found: Figures, said: list[str]) -> None:
    warnings = find_warnings(found)
    assert [warning[: len(start)] for warning, start in zip(warnings, said, strict=True)] == said
    assert all(":" in warning and ";" not in warning.partition(":")[0] for warning in warnings)


def test_clocks_that_moved_are_one_warning() -> None:
    def at(mhz: float) -> dict[str, object]:
        return {**CLOCKS, "cpu": {**CLOCKS["cpu"], "mhz_highest": mhz}}

    moved = [repeat_of([1.0], before=at(2000), after=at(1500)) for _ in range(3)]
    (warning,) = make_row(wanted(), moved).warnings
    assert "moved from 2000 to 1500 MHz" in warning
    assert "2 more such in 3 repeats" in warning
    assert "lock the clocks" in warning
    steady = [dataclasses.replace(one, after=at(2090)) for one in moved]
    assert make_row(wanted(), steady).warnings == []
    assert make_row(wanted(), moved).clocks == {"before": at(2000), "after": at(1500)}
