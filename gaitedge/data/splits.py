"""Who is trained on and who is tested: the data sets' own splits by subject (Sec. 4.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gaitedge.errors import InputError

__all__ = ["SPLITS", "choose_subjects"]

SPLITS = {
    "casia-b": "subjects 001 to 074 train, 075 to 124 are tested",
    "oumvlp": "odd subjects 00001 to 10305 train, the even ones and 10307 are tested",
    "walkers": "synthetic subjects 001 to 200 train, 201 to 250 are tested",
}
"""Name of a split -> what it says."""

_RANGE = re.compile(r"(\d+)-(\d+)")


def choose_subjects(choice: str, subjects: Iterable[str]) -> set[str]:
    """Those of `subjects` that a choice names.

    choice: "all"; one side of a split, as in "casia-b/train" or "oumvlp/test"; or subjects and ranges
    of numbers between commas, as in "001-074,080,anna". Raises InputError where it cannot be read or
    names nobody who is there.
    """
    present = set(subjects)
    if choice == "all":
        return present
    split, slash, side = choice.partition("/")
    if slash:
        if split not in SPLITS or side not in ("train", "test"):
            known = ", ".join(f"{name}/{half}" for name in SPLITS for half in ("train", "test"))
            raise InputError(f"no split {choice!r}; there are {known}")
        chosen = {subject for subject in present if _side(split, subject) == side}
    else:
        chosen = {subject for item in choice.split(",") for subject in _matching(item.strip(), present)}
    if not chosen:
        raise InputError(f"no subject is in {choice!r}; {_there(present)}")
    return chosen


def _there(present: set[str]) -> str:
    """Who there is, in words."""
    if len(present) < 2:
        return f"there is {next(iter(present), 'nobody')}"
    return f"there are {len(present)} subjects, {min(present)} to {max(present)}"


def _side(split: str, subject: str) -> str | None:
    """Which side of a split a subject is on; None where the data set has no such subject."""
    number = int(subject) if subject.isdecimal() else 0
    if split == "oumvlp":
        trained = number % 2 == 1 and number <= 10305
        return "train" if trained else "test" if 0 < number <= 10307 else None
    last_trained, last = {"casia-b": (74, 124), "walkers": (200, 250)}[split]
    return "train" if 0 < number <= last_trained else "test" if last_trained < number <= last else None


def _matching(item: str, present: set[str]) -> set[str]:
    if item in present:
        return {item}
    ends = _RANGE.fullmatch(item)
    if not ends:
        raise InputError(f"there is no subject {item!r}; {_there(present)}")
    first, last = map(int, ends.groups())
    return {subject for subject in present if subject.isdecimal() and first <= int(subject) <= last}
