"""Inline SVG figures of the report: numbers to coordinates, nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from udever.evaluation.comparison import METRIC_NAMES, Results
from udever.evaluation.metrics import METRICS
from udever.evaluation.statistics import paired_bootstrap

# A third of the page each, so that on a narrow screen the three stand below one another at full size.
_WIDTH, _LEFT, _RIGHT, _ROW, _TOP, _BOTTOM = 320, 12, 308, 50, 4, 26
_CURVE_WIDTH, _CURVE_HEIGHT = 440, 220
_MAX_POINTS = 600


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One system's mean with the bounds of its bootstrap interval, as coordinates and as text."""

    name: str
    style: int
    x: float
    low: float
    high: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class DotChart:
    """One metric: a dot with its interval for every system."""

    title: str
    description: str
    width: int
    height: int
    left: int
    right: int
    baseline: float
    dots: list[Dot]
    ticks: list[Tick]


@dataclass(frozen=True, slots=True)
class Curve:
    """The training loss: points as SVG writes them."""

    description: str
    width: int
    height: int
    points: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts `span` into at most `most` parts."""
    assert span > 0 and most >= 1
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= most + 1e-9)


def _ticks(low: float, high: float, most: int) -> list[float]:
    step = nice_step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def dot_charts(results: Results) -> list[DotChart]:
    """A chart for each metric over one common scale that starts at 0."""
    intervals = {
        (name, metric): paired_bootstrap(
            scores.per_query[metric],
            np.zeros(scores.num_queries),
            num_samples=results.num_samples,
            seed=results.seed,
            confidence=results.confidence,
        )
        for name, scores in results.rows.items()
        for metric in METRICS
    }
    most = max(0.01, *(interval.high for interval in intervals.values()))
    step = nice_step(most, 4)
    end = min(1.0, math.ceil(most / step - 1e-9) * step)

    def place(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * value / end, 1)

    charts: list[DotChart] = []
    for metric in METRICS:
        dots: list[Dot] = []
        for row, name in enumerate(results.rows):
            interval = intervals[name, metric]
            low, high = place(interval.low), place(interval.high)
            text = f"{interval.difference:.3f}"
            y = _TOP + row * _ROW + 30
            dots.append(Dot(name, row % 4, place(interval.difference), low, high, y, text))
        baseline = _TOP + len(dots) * _ROW
        said = "; ".join(
            f"{dot.name} {dot.label}, {results.confidence:.0%} interval "
            f"{intervals[dot.name, metric].low:.3f} to {intervals[dot.name, metric].high:.3f}"
            for dot in dots
        )
        ticks = [Tick(place(value), f"{value:.3g}") for value in _ticks(0.0, end, 4)]
        title = METRIC_NAMES[metric]
        height = baseline + _BOTTOM
        charts.append(DotChart(title, f"{title}: {said}.", _WIDTH, height, _LEFT, _RIGHT, baseline, dots, ticks))
    return charts


def loss_curve(losses: Sequence[tuple[int, float]]) -> Curve | None:
    """The curve through (step, loss); None for fewer than two finite points."""
    points = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return None
    every = math.ceil(len(points) / _MAX_POINTS)
    shown = [*points[:-1:every], points[-1]]
    first, last = points[0][0], points[-1][0]
    top = max(loss for _, loss in shown)
    low = min(0.0, *(loss for _, loss in shown))
    top = top if top > low else low + 1
    left, right, bottom = 52, _CURVE_WIDTH - 12, _CURVE_HEIGHT - 30

    def x(step: float) -> float:
        return round(left + (right - left) * (step - first) / (last - first), 1)

    def y(loss: float) -> float:
        return round(bottom - (bottom - 12) * (loss - low) / (top - low), 1)

    return Curve(
        f"Training loss from {points[0][1]:.3f} at step {first} to {points[-1][1]:.3f} at step {last}.",
        _CURVE_WIDTH,
        _CURVE_HEIGHT,
        " ".join(f"{x(step)},{y(loss)}" for step, loss in shown),
        [Tick(x(step), f"{step:,.0f}") for step in _ticks(first, last, 5) if step == int(step)],
        [Tick(y(loss), f"{loss:.3g}") for loss in _ticks(low, top, 4)],
    )
