"""Curves over the steps of a training run, as SVG: drawn here, since training needs no library of figures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 250, 58, 620, 34, 206
_MOST_POINTS, _MOST_DOTS, _TICKS = 600, 40, 4


@dataclass(frozen=True)
class Panel:
    """One curve of at least one point over the steps, and the level of BM25 to compare it with."""

    title: str
    points: Sequence[tuple[int, float]]
    level: float | None = None


def draw(panels: Sequence[Panel]) -> str:
    """The panels below one another, over the same steps, as SVG without any library; every vertical axis holds 0."""
    last = max((panel.points[-1][0] for panel in panels), default=1)
    drawn = "".join(
        f'<g transform="translate(0 {number * _HEIGHT})">{_draw(panel, last)}</g>'
        for number, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT * max(1, len(panels))}" '
        f'font-family="sans-serif" font-size="13" fill="#222"><rect width="100%" height="100%" fill="white"/>'
        f"{drawn}</svg>\n"
    )


def _draw(panel: Panel, last: int) -> str:
    values = [value for _, value in panel.points if math.isfinite(value)]
    values += [] if panel.level is None else [panel.level]
    marks = ticks(min(0.0, *values, 0.0), max(0.0, *values, 0.0))
    low, high = marks[0], marks[-1]

    def across(step: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * step / max(1, last)

    def up(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low)

    parts = [f'<text x="{_LEFT}" y="{_TOP - 14}" font-weight="bold">{escape(panel.title)}</text>']
    for mark in marks:
        y = up(mark)
        colour = "#777" if mark == 0 else "#ddd"
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}" stroke="{colour}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4.5:.1f}" text-anchor="end">{mark:.10g}</text>')
    for step in _steps(last):
        anchor = "end" if step == last else "middle"
        parts.append(f'<text x="{across(step):.1f}" y="{_BOTTOM + 18}" text-anchor="{anchor}">{step:,}</text>')
    parts.append(f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 34}" text-anchor="middle">step</text>')
    if panel.level is not None:
        y = up(panel.level)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}" stroke="#b35900" stroke-dasharray="6 4"/>')
        starts_above = panel.points[0][1] > panel.level
        parts.append(_label(_LEFT + 6, y + (16 if starts_above else -6), f"BM25 {panel.level:.3f}", "#8f4700"))
    parts.append(_curve(panel, across, up))
    return "".join(parts)


def _curve(panel: Panel, across: Callable[[int], float], up: Callable[[float], float]) -> str:
    every = max(1, len(panel.points) // _MOST_POINTS)
    finite = [point for point in panel.points if math.isfinite(point[1])]
    if not finite:
        return ""
    shown = [*finite[:-1:every], finite[-1]]
    places = [(across(step), up(value)) for step, value in shown]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#0b5fa5"/>' for x, y in places)
    x, y = places[-1]
    is_below = panel.level is not None and shown[-1][1] < panel.level  # away from the line it is compared with
    return (
        f'<polyline points="{line}" fill="none" stroke="#0b5fa5" stroke-width="1.5"/>'
        + (dots if len(places) <= _MOST_DOTS else "")
        + _label(x - 6, y + (16 if is_below else -6), f"{shown[-1][1]:.3f}", "#0b5fa5", anchor="end")
    )


def _label(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    """A text that a line behind it does not cross out."""
    halo = 'paint-order="stroke" stroke="white" stroke-width="3"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" {halo}>{escape(text)}</text>'


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`, evenly apart, 0 among them; `low` <= 0 <= `high`."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * _TICKS >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _steps(last: int) -> list[int]:
    """0, the last step, and round numbers between them that leave room for both."""
    marks = [int(mark) for mark in ticks(0, last) if mark == int(mark) and mark < last * 0.9]
    return [*marks, last]
