"""The drawings of a profile's page: SVG text, coloured by the page's own classes.

Each chart says in its title and description what it shows, and every mark what it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gaitedge.profiling.figures import percentile

__all__ = ["Bar", "Point", "bars", "histogram", "interval", "roofline", "run_order", "stacks", "ticks"]

_WIDTH = 720
_BINS = 48


@dataclass(frozen=True)
class Bar:
    """One bar of bars()."""

    name: str
    value: float
    text: str
    """What stands at its end."""
    about: str
    """What its tooltip says."""


@dataclass(frozen=True)
class Point:
    """One block in a roofline."""

    name: str
    intensity: float
    """MACs a byte."""
    rate: float
    """MACs a second."""
    about: str


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about as many as wanted."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / max(1, wanted)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def histogram(samples: Sequence[float], title: str) -> str:
    """How often a run took how long, in ms, with median, p90 and p99.

    The slowest half per cent is not drawn, and said.
    """
    ordered = sorted(samples)
    shown = ordered[: max(1, math.ceil(len(ordered) * 0.995))]
    low, high = shown[0], shown[-1]
    if high <= low:
        low, high = low * 0.95, high * 1.05 or 1.0
    count = [0] * _BINS
    for value in shown:
        count[min(_BINS - 1, int((value - low) / (high - low) * _BINS))] += 1
    left, right, top, bottom = 12, _WIDTH - 12, 34, 170
    most = max(count)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    width = (right - left) / _BINS
    body = []
    for number, many in enumerate(count):
        if many:
            begin, end = (low + (high - low) * at / _BINS for at in (number, number + 1))
            tall = (bottom - top) * many / most
            body.append(
                f'<rect class="bar" x="{left + number * width:.1f}" y="{bottom - tall:.1f}" '
                f'width="{width - 1:.1f}" height="{tall:.1f}"><title>{begin:.3f} to {end:.3f} ms: '
                f"{many} of {len(ordered)} runs</title></rect>"
            )
    marks = [("median", percentile(ordered, 50)), ("p90", percentile(ordered, 90))]
    marks.append(("p99", percentile(ordered, 99)))
    free = -math.inf
    for name, value in marks:
        if value > high:
            continue
        at = x(value)
        anchor = "end" if at > _WIDTH - 110 else "start"
        y = 12 + (13 if at < free else 0)
        free = at + 130
        body.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{y + 3}" y2="{bottom}"/>'
            f'<text class="note" x="{at + (-4 if anchor == "end" else 4):.1f}" y="{y}" '
            f'text-anchor="{anchor}">{name} {_ms(value)}</text>'
        )
    body.append(_axis(left, right, bottom, [(x(tick), _short(tick)) for tick in ticks(low, high, 8)], "ms"))
    left_out = len(ordered) - len(shown)
    note = f"; {left_out} slower runs, up to {ordered[-1]:.2f} ms, are not drawn" if left_out else ""
    return _svg(210, title, f"Histogram of {len(ordered)} runs{note}", body)


def run_order(repeats: Sequence[Sequence[float]], title: str) -> str:
    """Each run's time in the order of the runs, in ms, the repeats beside each other."""
    longest = sorted(value for repeat in repeats for value in repeat)
    high = longest[max(0, math.ceil(len(longest) * 0.995) - 1)] * 1.05
    low = longest[0] * 0.97
    high = high if high > low else low + 1
    left, right, top, bottom = 52, _WIDTH - 8, 10, 150

    def y(value: float) -> float:
        return bottom - (min(value, high) - low) / (high - low) * (bottom - top)

    body = [
        f'<line class="grid" x1="{left}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        for tick in ticks(low, high, 4)
    ]
    gap = 10
    width = (right - left - gap * (len(repeats) - 1)) / len(repeats)
    for number, repeat in enumerate(repeats):
        begin = left + number * (width + gap)
        step = max(1, len(repeat) // 220)
        kept = repeat[::step]
        points = "".join(
            f"M{begin + (index + 0.5) / len(kept) * width:.1f} {y(value):.1f}h0"
            for index, value in enumerate(kept)
        )
        middle = percentile(sorted(repeat), 50)
        body.append(
            f'<path class="dots" d="{points}"/>'
            f'<line class="mark" x1="{begin:.1f}" x2="{begin + width:.1f}" y1="{y(middle):.1f}" '
            f'y2="{y(middle):.1f}"><title>repeat {number + 1}: median {_ms(middle)}</title></line>'
            f'<text class="tick" x="{begin + width / 2:.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{'repeat ' if number == 0 else ''}{number + 1}</text>"
        )
    body.append(f'<text class="tick" x="{left - 6}" y="{bottom + 18}" text-anchor="end">ms</text>')
    return _svg(175, title, f"{len(longest)} runs in order, in {len(repeats)} repeats", body)


def bars(values: Sequence[Bar], title: str, unit: str) -> str:
    """Horizontal bars, one a name, each with its text."""
    most = max((bar.value for bar in values), default=0) or 1.0
    left, right, tall = 132, _WIDTH - 170, 26
    body = []
    for number, bar in enumerate(values):
        y = 6 + number * tall
        width = (right - left) * bar.value / most
        body.append(
            f'<g><title>{escape(bar.about)}</title><text class="label" x="{left - 10}" y="{y + 14}" '
            f'text-anchor="end">{escape(bar.name)}</text>'
            f'<rect class="bar" x="{left}" y="{y}" width="{max(width, 1):.1f}" height="{tall - 7}" rx="2"/>'
            f'<text class="value" x="{left + width + 8:.1f}" y="{y + 14}">{escape(bar.text)}</text></g>'
        )
    return _svg(tall * len(values) + 10, title, f"Bars, in {unit}", body)


def stacks(
    frames: Sequence[tuple[int, dict[str, float]]],
    order: Sequence[str],
    classes: dict[str, str],
    title: str,
    budget_ms: float | None = None,
) -> str:
    """A stacked bar a frame, in ms. order: of the stages, from below; budget_ms: a line at so many."""
    highest = max((sum(parts.values()) for _, parts in frames), default=1.0)
    totals = sorted(sum(parts.values()) for _, parts in frames)
    high = min(highest, 1.6 * percentile(totals, 95)) if totals else 1.0
    if budget_ms is not None and budget_ms < 2.5 * high:
        high = max(high, budget_ms * 1.1)
    left, right, top, bottom = 46, _WIDTH - 8, 10, 210
    width = (right - left) / max(1, len(frames))

    def y(value: float) -> float:
        return bottom - min(value, high) / high * (bottom - top)

    body = [
        f'<line class="grid" x1="{left}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        for tick in ticks(0, high, 5)
    ]
    for number, (frame, parts) in enumerate(frames):
        below = 0.0
        about = ", ".join(f"{name} {parts[name]:.2f}" for name in order if name in parts)
        body.append(f"<g><title>frame {frame}: {sum(parts.values()):.1f} ms: {about}</title>")
        for name in order:
            if parts.get(name, 0) <= 0:
                continue
            begin, end = y(below), y(below + parts[name])
            below += parts[name]
            body.append(
                f'<rect class="{classes[name]}" x="{left + number * width:.2f}" y="{end:.2f}" '
                f'width="{max(width - 0.6, 0.4):.2f}" height="{max(begin - end, 0):.2f}"/>'
            )
        body.append("</g>")
    if budget_ms is not None and budget_ms <= high:
        body.append(
            f'<line class="mark" x1="{left}" x2="{right}" y1="{y(budget_ms):.1f}" y2="{y(budget_ms):.1f}"/>'
            f'<text class="note" x="{right}" y="{y(budget_ms) - 5:.1f}" text-anchor="end">'
            f"{1e3 / budget_ms:.0f} frames/s</text>"
        )
    numbers = [(left + (at + 0.5) * width, str(frame)) for at, (frame, _) in enumerate(frames)]
    every = max(1, len(numbers) // 8)
    body.append(_axis(left, right, bottom, numbers[::every], "frame"))
    return _svg(248, title, f"Stacked bars of {len(frames)} frames, in ms", body)


def roofline(points: Sequence[Point], macs: float, bandwidth: float, title: str) -> str:
    """What each block reaches below what the machine could: MACs a second over MACs a byte."""
    knee = macs / bandwidth
    xs = [knee, *(point.intensity for point in points)]
    ys = [macs, *(point.rate for point in points)]
    x_low, x_high = math.log10(min(xs)) - 0.4, math.log10(max(xs)) + 0.7
    y_low, y_high = math.log10(min(ys)) - 0.4, math.log10(max(ys)) + 0.25
    left, right, top, bottom = 64, _WIDTH - 16, 12, 300

    def x(value: float) -> float:
        return left + (math.log10(value) - x_low) / (x_high - x_low) * (right - left)

    def y(value: float) -> float:
        return bottom - (math.log10(value) - y_low) / (y_high - y_low) * (bottom - top)

    body = [
        f'<line class="grid" x1="{left}" x2="{right}" y1="{y(10.0**power):.1f}" y2="{y(10.0**power):.1f}"/>'
        f'<text class="tick" x="{left - 6}" y="{y(10.0**power) + 4:.1f}" text-anchor="end">'
        f"{_rate(10.0**power)}</text>"
        for power in range(math.ceil(y_low), math.floor(y_high) + 1)
    ]
    start = max(10.0**x_low, 10.0**y_low / bandwidth)
    body.append(
        f'<path class="roof" d="M{x(start):.1f} {y(start * bandwidth):.1f}L{x(knee):.1f} {y(macs):.1f}'
        f'L{right} {y(macs):.1f}"/>'
        f'<text class="note" x="{x(knee):.1f}" y="{y(macs) - 8:.1f}" text-anchor="end">'
        f"{_rate(macs)}MAC/s</text>"
        f'<text class="note" x="{x(start) + 22:.1f}" y="{y(start * bandwidth) - 4:.1f}">'
        f"{_rate(bandwidth)}B/s</text>"
    )
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda each: -each.rate):
        at, high = x(point.intensity), y(point.rate)
        label = high + 4
        while any(abs(at - before) < 60 and abs(label - other) < 13 for before, other in taken):
            label += 13
        taken.append((at, label))
        end = at > _WIDTH - 110
        body.append(
            f'<g><title>{escape(point.about)}</title><circle class="point" cx="{at:.1f}" cy="{high:.1f}" '
            f'r="5"/><text class="label" x="{at + (-9 if end else 9):.1f}" y="{label:.1f}" '
            f'text-anchor="{"end" if end else "start"}">{escape(point.name)}</text></g>'
        )
    powers = range(math.ceil(x_low), math.floor(x_high) + 1)
    marks = [(x(10.0**power), f"{10.0**power:g}") for power in powers]
    body.append(_axis(left, right, bottom, marks, "MAC/byte"))
    return _svg(338, title, "Roofline, both axes logarithmic", body)


def interval(ratio: float, low: float, high: float, title: str) -> str:
    """A ratio with its interval, beside the line of 1."""
    span = max(high, 1.0) - min(low, 1.0)
    begin, end = min(low, 1.0) - 0.15 * span - 0.02, max(high, 1.0) + 0.15 * span + 0.02
    left, right, middle = 20, _WIDTH - 20, 34

    def x(value: float) -> float:
        return left + (value - begin) / (end - begin) * (right - left)

    body = [
        f'<line class="mark" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="14" y2="56"/>',
        f'<line class="whisker" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{middle}" y2="{middle}"/>',
        *(
            f'<line class="whisker" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{middle - 7}" y2="{middle + 7}"/>'
            for at in (low, high)
        ),
        f'<circle class="point" cx="{x(ratio):.1f}" cy="{middle}" r="6"/>',
        f'<text class="note" x="{x(ratio):.1f}" y="14" text-anchor="middle">{ratio:.2f}×</text>',
        _axis(left, right, 62, [(x(tick), f"{tick:.4g}×") for tick in ticks(begin, end, 6)], ""),
    ]
    return _svg(90, title, f"{ratio:.3f}, 95 % interval {low:.3f} to {high:.3f}", body, "small")


def _axis(left: float, right: float, y: float, marks: Sequence[tuple[float, str]], unit: str) -> str:
    texts = "".join(
        f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{y}" y2="{y + 4}"/>'
        f'<text class="tick" x="{at:.1f}" y="{y + 18}" text-anchor="middle">{text}</text>'
        for at, text in marks
    )
    name = f'<text class="tick" x="{right}" y="{y + 33}" text-anchor="end">{unit}</text>' if unit else ""
    return f'<line class="axis" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>{texts}{name}'


def _svg(height: float, title: str, about: str, body: Sequence[str], kind: str = "large") -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}. {escape(about)}">'
        f"{''.join(body)}</svg>"
    )


def _ms(value: float) -> str:
    return f"{value:.3f} ms" if value < 1 else f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms"


def _short(value: float) -> str:
    return f"{value:.6g}"


def _rate(value: float) -> str:
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g} "
