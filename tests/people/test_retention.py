from __future__ import annotations

from datetime import datetime, timezone

import pytest

from gaitedge.errors import InputError
from gaitedge.people.retention import parse_age

NOW = datetime(2026, 3, 31, 12, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1d", "2026-03-30T12:00:00+00:00"),
        ("90d", "2025-12-31T12:00:00+00:00"),
        ("2w", "2026-03-17T12:00:00+00:00"),
        ("3m", "2025-12-31T12:00:00+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T10:00:00+09:00", "2026-01-31T01:00:00+00:00"),
    ],
)
def test_an_age_ends_at_a_moment(text: str, moment: str) -> None:
    assert parse_age(text, NOW).isoformat() == moment


@pytest.mark.parametrize(
    "text",
    ["", "90", "d", "-1d", "1.5d", "90 d", "9y", "2026-02-30", "999999w", "٣d", "0001-01-01T00:00:00+23:00"],
)
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(InputError, match="give it as 90d, 12w, 6m or a date"):
        parse_age(text, NOW)


@pytest.mark.parametrize("text", ["0d", "0w", "2026-03-31T12:00:00+00:00", "2099-01-01"])
def test_an_age_that_would_empty_the_gallery(text: str) -> None:
    with pytest.raises(InputError, match="everything is older"):
        parse_age(text, NOW)
