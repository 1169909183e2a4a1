"""How long an enrolment is kept."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from gaitedge.errors import InputError

__all__ = ["parse_age"]

_DAYS = {"d": 1, "w": 7, "m": 30}


def parse_age(text: str, now: datetime | None = None) -> datetime:
    """The moment that an age ends at: what was enrolled before it is older.

    text: "90d", "12w", "6m" (a month is 30 days), or a date such as "2026-01-31", at whose midnight it is, in
    UTC, or an ISO 8601 time. now: the present where None. Raises InputError where it is none of these, or not
    in the past: everything would be older.
    """
    now = datetime.now(timezone.utc) if now is None else now
    age = re.fullmatch(r"([0-9]{1,6})([dwm])", text)
    try:
        if age:
            moment = now - timedelta(days=int(age[1]) * _DAYS[age[2]])
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        moment = moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise InputError(f"no age {text!r}: give it as 90d, 12w, 6m or a date such as 2026-01-31") from None
    if moment >= now:
        raise InputError(f"{text} is no age: everything is older than that")
    return moment
