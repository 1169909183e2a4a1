"""Drawings are well-formed, say what they show, and put their marks where the numbers are."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaitedge.profiling.page.charts import (
    Bar,
    Point,
    bars,
    histogram,
    interval,
    roofline,
    run_order,
    stacks,
    ticks,
)

SAMPLES = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=300)


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314  (our own text)


def numbers(svg: str) -> list[float]:
    return [float(each) for each in re.findall(r'(?:x|y|x1|x2|y1|y2|cx|cy)="(-?[\d.]+)"', svg)]


@given(SAMPLES)
def test_every_run_is_in_a_bar_or_said_to_be_left_out(samples: list[float]) -> None:
    svg = histogram(samples, "Latency")
    parse(svg)
    shown = sum(int(each) for each in re.findall(r"ms: (\d+) of", svg))
    left_out = re.search(r"; (\d+) slower runs", svg)
    assert shown + (int(left_out[1]) if left_out else 0) == len(samples)
    assert all(-20 <= each <= 760 for each in numbers(svg))


@given(st.lists(SAMPLES, min_size=1, max_size=6))
def test_every_repeat_has_its_median(repeats: list[list[float]]) -> None:
    svg = run_order(repeats, "Runs")
    parse(svg)
    assert len(re.findall(r"repeat \d+: median", svg)) == len(repeats)


def test_a_bar_is_as_long_as_its_number() -> None:
    svg = bars([Bar("FConv1", 2.0, "2 ms", "…"), Bar("FConv2", 4.0, "4 ms", "…")], "Blocks", "ms")
    first, second = (float(each) for each in re.findall(r'class="bar"[^>]* width="([\d.]+)"', svg))
    assert second == pytest.approx(2 * first)


def test_names_cannot_leave_the_drawing() -> None:
    evil = '"><script>alert(1)</script>'
    point = Point(evil, 1.0, 1e9, evil)
    svgs = [bars([Bar(evil, 1.0, evil, evil)], evil, "ms"), roofline([point], 1e11, 1e10, evil)]
    for svg in svgs:
        assert "<script" not in svg
        parse(svg)


def test_a_point_on_the_roof_lies_on_it() -> None:
    svg = roofline([Point("FConv2", 100.0, 2e11, "…")], 2e11, 2e10, "Roofline")
    (roof,) = re.findall(r'class="roof" d="M[\d. ]+L[\d.]+ ([\d.]+)L', svg)
    (height,) = re.findall(r'class="point" cx="[\d.]+" cy="([\d.]+)"', svg)
    assert float(height) == pytest.approx(float(roof), abs=0.2)


def test_stages_stand_on_each_other() -> None:
    svg = stacks(
        [(3, {"segment": 8.0, "embed": 2.0})], ("segment", "embed"), {"segment": "a", "embed": "b"}, ""
    )
    parse(svg)
    (below,) = re.findall(r'class="a" x="[\d.]+" y="([\d.]+)"', svg)
    (above,) = re.findall(r'class="b" x="[\d.]+" y="[\d.]+" width="[\d.]+" height="[\d.]+"', svg)[:1] or [""]
    top, tall = re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', above)[0]
    assert float(top) + float(tall) == pytest.approx(float(below), abs=0.02)
    assert "frame 3: 10.0 ms: segment 8.00, embed 2.00" in svg


@pytest.mark.parametrize(("low", "high"), [(1.2, 1.3), (0.8, 0.9), (0.99, 1.01), (1.0, 1.0)])
def test_an_interval_stands_beside_one(low: float, high: float) -> None:
    svg = interval((low + high) / 2, low, high, "Speedup")
    parse(svg)
    (one,) = re.findall(r'class="mark" x1="([\d.]+)"', svg)
    (begin,) = re.findall(r'class="whisker" x1="([\d.]+)" x2="[\d.]+" y1="34" y2="34"', svg)
    assert (float(begin) > float(one)) == (low > 1)


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(5.83, 14.2, 8) == [6, 8, 10, 12, 14]
    assert ticks(3.0, 3.0) == [3.0]
