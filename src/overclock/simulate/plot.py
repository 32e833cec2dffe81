"""Line charts as SVG, coloured by the style of the page that they are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 46

TICKS = 5
"""About so many numbers stand at an axis."""

MOST_POINTS = 400
"""A line with more points would look the same."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line by its points; `is_step` says that it keeps a value until the next point."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A straight line across, at `value` of the y axis, or of the x axis if it is `upright`."""

    name: str
    value: float
    upright: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`, with its name and unit."""

    name: str
    low: float
    high: float

    def share(self, value: float) -> float:
        """Where a value is: 0 at the low end, 1 at the high one, never outside."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def ticks(self) -> list[float]:
        """Round numbers."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** floor(log10(rough))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
        first = ceil(self.low / step - 1e-9)
        last = floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def axis(name: str, values: Sequence[float]) -> Axis:
    """An axis from 0 on that has room for all values."""
    high = max(values, default=0.0)
    return Axis(name, 0.0, high * 1.04 if high > 0 else 1.0)


def chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], marks: Sequence[Mark] = ()) -> str:
    """The chart as an SVG element."""
    inside = [
        *(_grid_x(x, value) for value in x.ticks()),
        *(_grid_y(y, value) for value in y.ticks()),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x.name, "name"),
        _text(LEFT, 18, title, "title"),
        _text(2, TOP - 8, y.name, "unit"),
        *(_mark(x, y, mark) for mark in marks),
        *(_line(x, y, line, number) for number, line in enumerate(lines)),
        *(_legend(line.name, number) for number, line in enumerate(lines) if len(lines) > 1),
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(inside)}</svg>"
    )


def _left(x: Axis, value: float) -> float:
    return LEFT + x.share(value) * (WIDTH - LEFT - RIGHT)


def _top(y: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - y.share(value) * (HEIGHT - TOP - BOTTOM)


def _grid_x(x: Axis, value: float) -> str:
    at = _left(x, value)
    rule = f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
    return rule + _text(at, HEIGHT - BOTTOM + 16, f"{value:.6g}", "middle")


def _grid_y(y: Axis, value: float) -> str:
    at = _top(y, value)
    rule = f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
    return rule + _text(LEFT - 8, at + 4, f"{value:.6g}", "right")


def _mark(x: Axis, y: Axis, mark: Mark) -> str:
    if mark.upright:
        at = _left(x, mark.value)
        return (
            f'<path class="mark" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
            f"{_text(at + 4, TOP + 12, mark.name, 'note')}"
        )
    at = _top(y, mark.value)
    return (
        f'<path class="mark" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
        f"{_text(LEFT + 6, at - 4, mark.name, 'note')}"
    )


def _line(x: Axis, y: Axis, line: Line, number: int) -> str:
    points = [(_left(x, a), _top(y, b)) for a, b in _thinned(line)]
    if not points:
        return ""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for left, top in points[1:]:
        path += f"H{left:.1f}V{top:.1f}" if line.is_step else f"L{left:.1f} {top:.1f}"
    return f'<path class="line c{number % 4}" d="{path}"/>'


def _thinned(line: Line) -> list[tuple[float, float]]:
    """The points, or of as many in a row the one with the highest value."""
    points = list(zip(line.xs, line.ys, strict=True))
    each = -(-len(points) // MOST_POINTS)
    if each <= 1:
        return points
    rows = [points[at : at + each] for at in range(0, len(points), each)]
    return [max(row, key=lambda point: point[1]) for row in rows]


def _legend(name: str, number: int) -> str:
    top = TOP + 14 + 16 * number
    rule = f'<path class="line c{number % 4}" d="M{WIDTH - RIGHT - 24} {top - 4}h18"/>'
    return rule + _text(WIDTH - RIGHT - 30, top, name, "right")


def _text(left: float, top: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{left:.1f}" y="{top:.1f}">{escape(text)}</text>'
