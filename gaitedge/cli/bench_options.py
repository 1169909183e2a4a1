"""What bench is asked for: its lists, and whether it can be had, before anything is measured."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["check_apart", "check_details", "milliseconds", "numbers", "texts"]


def check_apart(places: Mapping[str, Path | None]) -> None:
    """Raise InputError where two options name one file: one would replace the other."""
    from gaitedge.errors import InputError

    seen: dict[Path, str] = {}
    for name, place in places.items():
        if place is not None and (other := seen.setdefault(place.resolve(), name)) != name:
            raise InputError(f"--{other} and --{name} both name {place}: give each a file of its own")


def check_details(
    bundle: Path,
    against: str | None,
    streams: list[int],
    video: str | None,
    gallery: Path | None,
    key_file: Path | None,
) -> None:
    """Raise before anything is measured what would be raised after it."""
    from gaitedge.bundle import Bundle
    from gaitedge.people.encryption import find_key

    if against is not None:
        from gaitedge.profiling.against import check_against

        check_against(against, Bundle.open(bundle), min(streams))
    if video is not None:
        from gaitedge.profiling.stages import check_stages

        check_stages(Bundle.open(bundle), video, gallery, find_key(key_file))


def numbers(option: str, text: str) -> list[int]:
    """Of "1,4"."""
    parts = [part.strip() for part in text.split(",")]
    # int() would take more: 1_0, digits of other scripts, and a thousand of them.
    if not all(re.fullmatch(r"[+-]?[0-9]{1,18}", part) for part in parts):
        raise typer.BadParameter(f"{text!r:.80} is no list of numbers such as 1,4", param_hint=option)
    return [int(part) for part in parts]


def texts(option: str, text: str | None) -> Sequence[str | None]:
    """Of "fp32,int8"; one None of None."""
    if text is None:
        return [None]
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise typer.BadParameter(f"{text!r} is no list of names with commas between", param_hint=option)
    return parts


def milliseconds(text: str) -> float:
    """Of "10ms", "0.01s" or "10"."""
    number, factor = text.strip(), 1.0
    for unit, size in (("ms", 1.0), ("s", 1e3)):
        if number.endswith(unit):
            number, factor = number.removesuffix(unit), size
            break
    try:
        value = float(number) * factor
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise typer.BadParameter(f"{text!r} is no time such as 10ms", param_hint="--latency-bound")
    return value
