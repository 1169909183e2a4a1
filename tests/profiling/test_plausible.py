"""What no measurement can have given is named, before anything is made of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from profiles import make_document, make_row

from gaitedge.profiling.document import Document, Interval
from gaitedge.profiling.plausible import check_plausible


def row_with(**changes: Any) -> Document:
    return dataclasses.replace(make_document(), rows=[dataclasses.replace(make_row(), **changes)], best=None)


def configured(**changes: Any) -> Document:
    return row_with(configuration=dataclasses.replace(make_row().configuration, **changes))


def part(name: str, **changes: Any) -> Document:
    document = make_document()
    return dataclasses.replace(document, **{name: dataclasses.replace(getattr(document, name), **changes)})


def median(ms: float) -> Document:
    figures = make_row().figures
    assert figures is not None
    changed = dataclasses.replace(figures.end_to_end, median_ms=ms)
    return row_with(figures=dataclasses.replace(figures, end_to_end=changed))


def test_a_measured_profile_passes() -> None:
    check_plausible(make_document())
    nothing = dataclasses.replace(
        make_document(),
        rows=[
            dataclasses.replace(make_row(), figures=None, samples_ms=[], control_ms=[], failed="no memory")
        ],
    )
    check_plausible(dataclasses.replace(nothing, best=None, against=None, layers=None))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (row_with(samples_ms=[[15.0], [0.0]]), r"rows\[0\]\.samples_ms\[1\] holds 0.0 ms"),
        (row_with(samples_ms=[[-1.0]]), "holds -1.0 ms, and a time is from 1e-06 to 1e.12 ms"),
        (row_with(samples_ms=[[1e13]]), r"holds 1e\+13|holds 10000000000000"),
        (row_with(samples_ms=[[1.0] * 20_001]), "holds 20001 times, and 20000 are the most"),
        (row_with(control_ms=[5e-324]), r"rows\[0\]\.control_ms holds 5e-324 ms"),
        (median(-3.0), r"rows\[0\]\.figures\.end_to_end holds -3.0 ms"),
        (configured(batch=-5), r"rows\[0\]\.configuration\.batch is -5, and must be 1 or more"),
        (configured(threads=0), "threads is 0"),
        (part("best", latency=-1), r"best\.latency is -1"),
        (part("best", within_bound=10**6), "best.within_bound is 1000000, and there are"),
        (part("against", row=55), "against.row is 55"),
        (part("against", samples_ms=[[0.0]]), r"against\.samples_ms\[0\] holds 0.0 ms"),
        (part("against", speedup=Interval(0.0, 0.0, 0.0)), "against.speedup is no ratio within its interval"),
        (part("against", speedup=Interval(2.0, 2.1, 2.2)), "against.speedup is no ratio within its interval"),
        (part("layers", row=99), "layers.row is 99"),
        (part("layers", total_ms=0.0), "layers.total_ms is 0.0"),
    ],
)
def test_what_no_measurement_gives_is_named(document: Document, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_plausible(document)
