"""Scores by language against what the base knows of each: its share in pre-training (the paper's figure 3), or bits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from udever.evaluation.statistics import Items, statistic
from udever.report.figure import Data, Figure, Section
from udever.report.runs import (
    Mean,
    Run,
    common_keys,
    cross_lingual,
    is_code,
    languages_of,
    mean_by_task,
    monolingual,
)
from udever.report.shares import LanguageShares
from udever.report.style import LINE, QUIET, canvas, drawing, series, to_svg, write_labels
from udever.report.universal import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ID, TITLE = "languages", "Languages and how well the base knows them"
MEASURES = {
    "monolingual": "monolingual score",
    "cross_lingual": "mean cross-lingual score",
    "difference": "difference of the two",
}
_MOST_RUNS, _CROWD = 3, 40
_STRIP, _STRIP_PER_LANGUAGE, _MOST_STRIP = 1.0, 0.05, 3.0
"""Width of the strip for languages not seen, in powers of ten: at least, for each of them, at most."""


@dataclass(frozen=True)
class LanguageRow:
    """One run's scores in one language; None for what was not measured. `share` is in percent, None if unknown."""

    run: Run
    language: str
    share: float | None
    monolingual: Mean | None
    cross_lingual: Mean | None

    @property
    def difference(self) -> float | None:
        """Monolingual minus mean cross-lingual score, where both are there."""
        if self.monolingual is None or self.cross_lingual is None:
            return None
        return self.monolingual.value - self.cross_lingual.value

    def value(self, measure: str) -> float | None:
        """The value of one of `MEASURES`."""
        found = getattr(self, measure)
        return found.value if isinstance(found, Mean) else found


def language_rows(runs: Sequence[Run], shares: LanguageShares) -> list[LanguageRow]:
    """Each run's scores by language over what all runs have.

    Monolingual scores are those of tasks with at least two languages: a task that exists in English alone says
    nothing of how languages differ.
    """
    keys = common_keys(runs)
    if not keys:
        return []
    reference = runs[0].scores
    in_task: dict[str, set[str]] = {}
    for key in keys:
        if len(set(reference[key].languages)) == 1:
            in_task.setdefault(key[0], set()).update(reference[key].languages)
    several = [key for key in keys if len(in_task.get(key[0], ())) > 1]
    rows = [
        LanguageRow(
            run,
            language,
            shares.of(language),
            mean_by_task(monolingual(run, language, several)),
            mean_by_task(cross_lingual(run, language, keys)),
        )
        for run in runs
        for language in languages_of(runs, keys)
    ]
    return [row for row in rows if row.monolingual or row.cross_lingual]


def section(runs: Sequence[Run], shares: LanguageShares) -> Section:
    """The section of the report."""
    rows = language_rows(runs, shares)
    shown = [row for row in rows if row.share is not None]
    if not shown:
        reason = "No task with a score on every model has two or more languages."
        if rows:
            names = ", ".join(sorted({row.language for row in rows}))
            reason = f"No share in pre-training is known for {names} ({shares.source}); give a table with --shares."
        return Section(ID, TITLE, missing=reason)
    text = [
        f"{shares.label.capitalize()}: {shares.source}. Monolingual: mean over tasks that exist in two or more "
        "languages. Cross-lingual: mean over pairs of the language with another; pairs of a natural and a programming "
        "language count for the programming language. Both are over what every model here has."
    ]
    unknown = sorted({row.language for row in rows if row.share is None})
    if unknown:
        text.append(f"Not drawn, because their share is not known: {', '.join(unknown)}.")
    if len({row.monolingual.tasks for row in shown if row.monolingual}) > 1:
        text.append(
            "The languages are not all in the same tasks (the CSV names them), so a difference between two languages "
            "may be one between tasks."
        )
    return Section(ID, TITLE, text, draw(rows, shares))


def _correlation(rows: Sequence[LanguageRow], measure: str) -> tuple[float, int] | None:
    """Spearman's correlation of the two, and the number of languages; None for fewer than three, or all alike."""
    pairs = [
        (row.share, row.value(measure)) for row in rows if row.share is not None and row.value(measure) is not None
    ]
    if len(pairs) < 3:
        return None
    found = statistic(Items("", "", "spearman", *np.array(pairs, dtype=float).T))
    return None if math.isnan(found) else (found, len(pairs))


def draw(rows: Sequence[LanguageRow], shares: LanguageShares) -> list[Figure]:
    """A row of three panels for each run, up to `_MOST_RUNS` runs in a figure; every language is a point."""
    runs = list(dict.fromkeys(row.run.name for row in rows))
    shown = [row for row in rows if row.share is not None]
    scale = _scale(shown, shares)
    return [
        _figure(ID if start == 0 else f"{ID}-{start // _MOST_RUNS + 1}", runs[start : start + _MOST_RUNS], rows, scale)
        for start in range(0, len(runs), _MOST_RUNS)
    ]


def _figure(name: str, runs: Sequence[str], rows: Sequence[LanguageRow], scale: "_Scale") -> Figure:
    columns = ("model", "language", scale.shares.column, *MEASURES, "monolingual_low", "monolingual_high",
               "cross_lingual_low", "cross_lingual_high", "monolingual_tasks", "cross_lingual_tasks",
               "num_cross_lingual")  # fmt: skip
    own = [row for row in rows if row.run.name in runs]
    shown = [row for row in own if row.share is not None]
    said = "; ".join(
        f"{run}, {label}: rank correlation with {scale.shares.label} {found[0]:.2f} over {found[1]} languages"
        for run in runs
        for measure, label in MEASURES.items()
        if (found := _correlation([row for row in shown if row.run.name == run], measure))
    )
    caption = "ρ is Spearman's rank correlation of the two, n the number of languages."
    if any(row.share == 0 for row in shown):
        caption += " In the grey strip: languages not listed in the pre-training data, spread out to be seen."
    svg, left_out = _svg(name, shown, scale)
    if left_out:
        caption += " Names without room are left out: point at a mark, or see the CSV."
    data = Data(columns, [_csv_row(row) for row in own])
    return Figure(name, TITLE, caption, said or TITLE, svg, data)


def _csv_row(row: LanguageRow) -> tuple[Any, ...]:
    mono, cross = row.monolingual, row.cross_lingual
    return (
        row.run.name, row.language, row.share, *(row.value(measure) for measure in MEASURES),
        mono and mono.low, mono and mono.high, cross and cross.low, cross and cross.high,
        mono and " ".join(mono.tasks), cross and " ".join(cross.tasks), cross and cross.num_scores,
    )  # fmt: skip


@dataclass(frozen=True)
class _Scale:
    """Where each language is across, as `shares` place it; `edge` ends the strip of those not seen.

    `strip` is its width, `bounds` the range of values of each measure, one for all figures.
    """

    places: Mapping[str, float]
    edge: float | None
    strip: float
    bounds: Mapping[str, tuple[float, float]]
    shares: LanguageShares

    def limits(self) -> tuple[float, float]:
        """Where the axis begins and ends: with room for names on the right."""
        low, high = min(self.places.values()), max(self.places.values())
        unit = (high - low) / 5 or 1.0 if self.shares.bits else 1.0
        return low - 0.25 * unit if self.edge is None else self.edge - self.strip, high + 0.45 * unit

    def ticks(self) -> list[tuple[float, str]]:
        """Places and names of the marks on the axis."""
        if self.shares.bits:
            places = list(self.places.values())
            step = next(
                step
                for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**3, 10**5)
                if max(places) - min(places) <= 7 * step
            )
            first, last = math.floor(min(places) / step), math.ceil(max(places) / step)
            return [(number * step, f"{number * step:g}") for number in range(first, last + 1)]
        shown = [at for at in self.places.values() if self.edge is None or at >= self.edge]
        powers = range(math.floor(min(shown, default=0)), math.ceil(max(shown, default=0)) + 1)
        step = 2 if len(powers) > 5 else 1
        ticks = [(float(power), f"{10.0**power:g} %") for power in powers if (powers[-1] - power) % step == 0]
        if self.edge is None:
            return ticks
        return [(self.edge - self.strip / 2, "not\nlisted"), *(tick for tick in ticks if tick[0] > self.edge)]


def _scale(rows: Sequence[LanguageRow], shares: LanguageShares) -> _Scale:
    seen = {row.language: shares.place(row.share) for row in rows if row.share}
    unseen = sorted({row.language for row in rows if row.share == 0})
    edge = math.floor(min(seen.values(), default=0.0))
    strip = min(_MOST_STRIP, _STRIP + _STRIP_PER_LANGUAGE * len(unseen))
    step = strip / (len(unseen) + 1)
    spread = {language: edge - strip + step * (rank + 1) for rank, language in enumerate(unseen)}
    scores = _range(rows, ("monolingual", "cross_lingual"))
    bounds = {"monolingual": scores, "cross_lingual": scores, "difference": _range(rows, ("difference",))}
    return _Scale({**seen, **spread}, edge if unseen else None, strip, bounds, shares)


def _range(rows: Sequence[LanguageRow], measures: Sequence[str]) -> tuple[float, float]:
    values = [value for row in rows for measure in measures if (value := row.value(measure)) is not None]
    for mean in (getattr(row, measure) for row in rows for measure in measures):
        if isinstance(mean, Mean) and mean.interval:
            values += mean.interval
    if not values:
        return 0.0, 1.0
    room = 0.06 * (max(values) - min(values)) or 0.05
    return min(values) - room, max(values) + room


def _look(row: LanguageRow) -> Any:
    return series(2 if is_code(row.language) else 0 if row.share else 1)


def _svg(name: str, rows: Sequence[LanguageRow], scale: _Scale) -> tuple[str, int]:
    """The picture, and how many points have no room for their name."""
    runs = list(dict.fromkeys(row.run.name for row in rows))
    titles: dict[str, str] = {}
    left_out = 0
    with drawing():
        figure = canvas(10.2, 0.6 + 2.9 * len(runs))
        layout: Any = figure.get_layout_engine()
        layout.set(w_pad=0.09)
        grid: Any = figure.subplots(len(runs), 3, squeeze=False, sharex=True)
        for line, run in enumerate(runs):
            for axes, measure in zip(grid[line], MEASURES, strict=True):
                left_out += _panel(axes, [row for row in rows if row.run.name == run], measure, scale, titles)
            grid[line][0].set_ylabel(run if len(run) < 34 else run[:33] + "…", fontsize=9, fontweight="bold")
        for axes in grid[-1]:
            axes.set_xlabel(scale.shares.label)
        ticks = scale.ticks()
        grid[0][0].set_xticks([at for at, _ in ticks], [text for _, text in ticks])
        grid[0][0].set_xlim(*scale.limits())
        return to_svg(figure, name, titles), left_out


def _panel(
    axes: "Axes",
    rows: Sequence[LanguageRow],
    measure: str,
    scale: _Scale,
    titles: dict[str, str],
) -> int:
    """Draw the points, and their names where there is room; how many have none."""
    edge = scale.edge
    if edge is not None:
        axes.axvspan(edge - scale.strip, edge, color=LINE, alpha=0.4, lw=0, zorder=0)
        axes.axvline(edge, color=LINE, lw=1, zorder=0.5)
    if measure == "difference":
        axes.axhline(0, color=QUIET, lw=1)
    points: list[tuple[float, float, str]] = []
    for row in rows:
        value, look = row.value(measure), _look(row)
        if value is None:
            continue
        at, mean = scale.places[row.language], getattr(row, measure)
        gid = f"point-{len(titles)}"
        titles[gid] = _hover(row, measure, scale.shares)
        if isinstance(mean, Mean) and mean.interval:
            axes.plot([at, at], mean.interval, color=look.color, lw=1, alpha=0.45)
        axes.plot([at], [value], look.marker, color=look.color, ms=5, gid=gid)
        points.append((at, value, row.language.partition("-")[0]))
    axes.set_ylim(*scale.bounds[measure])
    found = _correlation(rows, measure)
    note = "" if found is None else f"  ρ = {found[0]:.2f}, n = {found[1]}"
    axes.set_title(MEASURES[measure], fontsize=9, fontweight="bold")
    if note:
        axes.set_title(note, loc="right", fontsize=8, fontweight="normal", color=QUIET)
    if not points:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=QUIET)
    if len(points) > _CROWD:
        return len(points)
    write_labels(axes, points)
    return 0


def _hover(row: LanguageRow, measure: str, shares: LanguageShares) -> str:
    mean = getattr(row, measure)
    value = describe(mean) if isinstance(mean, Mean) else f"{row.difference:.3f}"
    of = "" if shares.bits else " of pre-training"
    return f"{row.language}, {shares.said(row.share or 0.0)}{of}, {MEASURES[measure]} {value}"
