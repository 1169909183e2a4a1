"""What a profile's file may say: numbers that a measurement can give, of rows that are there.

A profile may come from somebody else, or from an editor. One with other numbers is refused when it is read,
before a ratio of 1e308 and 0 is called "faster".
"""

from __future__ import annotations

from collections.abc import Iterable

from gaitedge.profiling.document import Document, Row

__all__ = ["check_plausible"]

_SHORTEST_MS = 1e-6  # a nanosecond, which no clock here tells apart
_LONGEST_MS = 1e12  # thirty years
_MOST_SAMPLES = 20_000  # of a repeat; our own keep 1000


def check_plausible(document: Document) -> None:
    """Raise ValueError, with the field, unless a measurement can have given this."""
    for number, row in enumerate(document.rows):
        _check_row(row, f"rows[{number}]")
    best, against, layers = document.best, document.against, document.layers
    if best is not None:
        for name in ("throughput", "latency", "within_bound"):
            _check_number(getattr(best, name), document, f"best.{name}")
    if against is not None:
        _check_number(against.row, document, "against.row")
        for place, repeat in enumerate(against.samples_ms):
            _check_times(repeat, f"against.samples_ms[{place}]")
        if not 0 < against.speedup.low <= against.speedup.ratio <= against.speedup.high:
            raise ValueError("against.speedup is no ratio within its interval")
    if layers is not None:
        _check_number(layers.row, document, "layers.row")
        if not layers.total_ms > 0:
            raise ValueError(f"layers.total_ms is {layers.total_ms}, and a time must be above 0")


def _check_row(row: Row, where: str) -> None:
    configuration = row.configuration
    for name in ("batch", "frames", "streams", "threads"):
        value = getattr(configuration, name)
        if value is not None and value < 1:
            raise ValueError(f"{where}.configuration.{name} is {value}, and must be 1 or more")
    if row.figures is not None:
        times = row.figures.end_to_end
        named = (times.min_ms, times.mean_ms, times.median_ms, times.p99_ms, times.max_ms)
        _check_times(named, f"{where}.figures.end_to_end")
    for place, repeat in enumerate(row.samples_ms):
        _check_times(repeat, f"{where}.samples_ms[{place}]")
        if len(repeat) > _MOST_SAMPLES:
            raise ValueError(
                f"{where}.samples_ms[{place}] holds {len(repeat)} times, and {_MOST_SAMPLES} are the most"
            )
    _check_times(row.control_ms, f"{where}.control_ms")


def _check_times(times: Iterable[float], where: str) -> None:
    for time in times:
        if not _SHORTEST_MS <= time <= _LONGEST_MS:
            raise ValueError(
                f"{where} holds {time} ms, and a time is from {_SHORTEST_MS:g} to {_LONGEST_MS:g} ms"
            )


def _check_number(row: int | None, document: Document, where: str) -> None:
    if row is not None and not 0 <= row < len(document.rows):
        raise ValueError(f"{where} is {row}, and there are {len(document.rows)} rows")
