"""What a build fails by: a share as people write it, and rows that do not run any more.

tests/profiling/test_comparison.py has what is surely slower.
"""

from __future__ import annotations

import dataclasses

import pytest
from profiles import make_document, make_row

from gaitedge.errors import InputError
from gaitedge.profiling.comparison import compare
from gaitedge.profiling.document import Document, Row
from gaitedge.profiling.gate import failed_since, parse_share


def document_of(*rows: Row) -> Document:
    return dataclasses.replace(make_document(), rows=list(rows))


def test_what_ran_before_and_does_not_any_more() -> None:
    one, two, three = (make_row(batch, seed=batch) for batch in (1, 2, 3))
    crashed = Row(two.configuration, failed="its process crashed (SIGSEGV)")
    never = Row(three.configuration, failed="no memory")
    before, after = document_of(one, two, never), document_of(one, crashed, never)
    assert failed_since(before, after, compare(before, after)) == ["its process crashed (SIGSEGV)"]
    assert failed_since(after, before, compare(after, before)) == []


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 0.05), (" 5 % ", 0.05), ("0.05", 0.05), ("0", 0.0), ("150%", 1.5), ("1e-2", 0.01)],
)
def test_shares_are_read_as_people_write_them(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    "text", ["", "%", "five", "-5%", "-0.1", "nan", "inf%", "5%%", "5% or so", "٥%", "5\n%5"]
)
def test_other_shares_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"written as 5% or 0\.05, not") as caught:
        parse_share(text)
    assert "\n" not in str(caught.value)


def test_a_number_that_forgot_its_percent_sign_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"a share of 5 is 500 %: write 5% or 0\.05"):
        parse_share("5")
