from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gaitedge.errors import InputError
from gaitedge.export.build_options import BuildOptions, Range


@pytest.mark.parametrize("text", ["1:30:300", "7:7:7", " 1:2:3\n", f"1:1:{2**31 - 1}"])
def test_a_range_is_read(text: str) -> None:
    found = Range.parse(text)
    assert str(found) == text.strip()
    assert found.values == tuple(map(int, text.split(":")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2:1:8", "batch 2:1:8: the optimum 1 is below the minimum 2; write minimum:optimum:maximum"),
        ("1:9:8", "batch 1:9:8: the maximum 8 is below the optimum 9"),
        ("0:1:8", "batch 0:1:8: the minimum 0 is below 1"),
        ("-1:1:8", "batch -1:1:8: the minimum -1 is below 1"),
        (f"1:1:{2**31}", "is beyond TensorRT's 2147483647"),
        ("8", "batch '8' is no range; write minimum:optimum:maximum, as in 1:30:300"),
        ("1:8", "is no range"),
        ("1:2:3:4", "is no range"),
        ("1:x:8", "is no range"),
        ("", "batch '' is no range"),
        ("1:1.5:2", "is no range"),
        ("1:1:" + "9" * 5000, "is no range"),
        ("\u0661:\u0662:\u0663", "is no range"),  # digits, but not ours
    ],
)
def test_a_range_that_is_none(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Range.parse(text, "batch")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [(1.0, 2, 3), (True, 2, 3), ("1", "2", "3"), (None, 1, 1)])
def test_a_range_of_other_things(values: Any) -> None:
    with pytest.raises(InputError, match="not three whole numbers"):
        Range(*values)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"workspace": 0.0}, r"a workspace of 0\.0 is no fraction"),
        ({"workspace": -0.5}, "no fraction of the free memory; take one above 0, and 1 at most"),
        ({"workspace": 1.01}, "no fraction"),
        ({"workspace": math.nan}, "a workspace of nan"),
        ({"optimization_level": 6}, "0 to 5, not 6"),
        ({"optimization_level": -1}, "0 to 5, not -1"),
        ({"optimization_level": 2.5}, "0 to 5, not 2.5"),
        ({"version_compatible": "no"}, "version_compatible is true or false, not 'no'"),
        ({"hardware_compatibility": "hopper"}, "'hopper'; there are: none, ampere\\+, same-compute"),
    ],
)
def test_options_that_are_impossible(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        BuildOptions(**wrong)


@pytest.mark.parametrize("fine", [{"workspace": 1}, {"optimization_level": 0}, {"optimization_level": 5}])
def test_options_at_their_limits(fine: dict[str, Any]) -> None:
    BuildOptions(**fine)


def test_a_rebuild_takes_the_same_options() -> None:
    options = BuildOptions(Range(2, 3, 4), Range(10, 20, 30), 0.25, None, "ampere+", True, 5)
    assert BuildOptions.from_json(json.loads(json.dumps(options.to_json()))) == options
    assert BuildOptions().to_json()["frames"] == [1, 30, 300]


def test_the_timing_cache_is_no_business_of_the_bundles() -> None:
    text = json.dumps(BuildOptions(timing_cache=Path("/home/somebody/timings")).to_json())
    assert "somebody" not in text


@pytest.mark.parametrize(
    "change",
    [
        {"batch": [2, 1, 8]},
        {"batch": [1, 2]},
        {"batch": None},
        {"workspace": "much"},
        {"version_compatible": "yes"},
        {"timing_cache": "/etc/hosts"},  # a bundle must not say which file of this machine a build overwrites
        {"colour": "red"},
    ],
)
def test_a_bundle_with_other_options(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        BuildOptions.from_json({**BuildOptions().to_json(), **change})


def test_a_bundle_that_lacks_an_option() -> None:
    values = BuildOptions().to_json()
    del values["frames"]
    with pytest.raises(InputError, match=r"not the options of a build: 'frames'"):
        BuildOptions.from_json(values)
