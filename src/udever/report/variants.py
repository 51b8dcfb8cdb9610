"""Runs that differ in one thing alone, by task type: the kind of their pairs, or what training moved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from udever.report.figure import Data, Figure, Section
from udever.report.labels import KINDS
from udever.report.runs import Mean, Run, common_keys, mean_by_task, mean_by_type
from udever.report.style import LINE, QUIET, canvas, drawing, series, to_svg
from udever.report.universal import alike, describe, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALL = "all tasks"
_ORDER = (*KINDS, "full", "lora", "bitfit")


@dataclass(frozen=True)
class Aspect:
    """What is compared: the field of `Label`, and how the section is called."""

    id: str
    title: str
    field: str
    noun: str


KIND = Aspect("kinds", "Symmetric, asymmetric, both", "kind", "kinds of pairs")
TUNING = Aspect("adapters", "Adapters compared", "tuning", "ways of tuning")


@dataclass(frozen=True)
class Variants:
    """Runs that share all but one field: `means[variant][row]` for each task type and all tasks.

    `num_runs` is how many runs each variant is the mean of.
    """

    title: str
    variants: tuple[str, ...]
    num_runs: tuple[int, ...]
    rows: tuple[str, ...]
    means: Sequence[Sequence[Mean]]


def compare(runs: Sequence[Run], what: Aspect) -> list[Variants]:
    """A comparison for each set of runs that are alike but for `what`, over the tasks the set shares."""
    return [
        _variants(in_words(shared), group, what)
        for shared, group in alike(runs, what.field).items()
        if len({getattr(run.label, what.field) for run in group}) > 1 and common_keys(group)
    ]


def _variants(title: str, runs: Sequence[Run], what: Aspect) -> Variants:
    keys = common_keys(runs)
    types = sorted({runs[0].scores[key].task_type for key in keys})
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(getattr(run.label, what.field), []).append(run)
    names = _ordered(groups)
    means: list[list[Mean]] = []
    for name in names:
        scores = [[run.scores[key] for key in keys] for run in groups[name]]
        by_row = [[mean_by_type(own) for own in scores]]
        by_row += [[mean_by_task(one for one in own if one.task_type == kind) for own in scores] for kind in types]
        means.append([_over_runs([mean for mean in row if mean is not None]) for row in by_row])
    return Variants(title, tuple(names), tuple(len(groups[name]) for name in names), (ALL, *types), means)


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def _over_runs(means: list[Mean]) -> Mean:
    """The mean of runs that differ in nothing but their seed; only a single run keeps its interval."""
    if len(means) == 1:
        return means[0]
    value = sum(mean.value for mean in means) / len(means)
    return replace(means[0], value=value, low=None, high=None, trained_on=any(mean.trained_on for mean in means))


def section(runs: Sequence[Run], what: Aspect) -> Section:
    """The section of the report."""
    found = compare(runs, what)
    if not found:
        reason = (
            f"It needs runs with different {what.noun} and everything else alike. What they are comes from the "
            f"training.json beside a model, or from --labels ({what.field})."
        )
        return Section(what.id, what.title, missing=reason)
    text = [
        "Runs of one panel are alike in every other label (family, size, tuning, kind, train language); what no label "
        "says, such as the number of steps, may differ. Means are over the tasks they share."
    ]
    text += [f"{variants.title or 'All runs'}: {_said(variants)}." for variants in found]
    return Section(what.id, what.title, text, [draw(found, what)])


def _said(variants: Variants) -> str:
    """Which variant is highest over all tasks, and whether that may be chance."""
    over_all = sorted(zip(variants.variants, variants.means, strict=True), key=lambda pair: -pair[1][0].value)
    (best, means), (_, next_means) = over_all[:2]
    every = ", ".join(f"{name} {means[0].value:.3f}" for name, means in over_all)
    close = means[0].low is not None and next_means[0].value >= means[0].low
    doubt = ", but the next is within its interval" if close else ""
    return f"{best} is highest over all tasks ({every}){doubt}"


def draw(found: Sequence[Variants], what: Aspect) -> Figure:
    """A panel for each set of runs; a row for each task type, a mark for each variant."""
    data = Data(
        ("runs", what.field, "task_type", "score", "low", "high", "num_tasks", "num_runs", "trained_on"),
        [
            (variants.title, name, row, mean.value, mean.low, mean.high, len(mean.tasks), number, mean.trained_on)
            for variants in found
            for name, number, means in zip(variants.variants, variants.num_runs, variants.means, strict=True)
            for row, mean in zip(variants.rows, means, strict=True)
        ],
    )
    said = "; ".join(
        f"{variants.title or 'all runs'}, {name}: {means[0].value:.3f}"
        for variants in found
        for name, means in zip(variants.variants, variants.means, strict=True)
    )
    caption = f"“{ALL}” is the mean over task types."
    if any(mean.low is not None for variants in found for means in variants.means for mean in means):
        caption += " Lines through marks are 95 % intervals."
    if any(number > 1 for variants in found for number in variants.num_runs):
        caption += " A mark of several runs is their mean and has no interval."
    return Figure(what.id, what.title, caption, f"Over all tasks: {said}.", _svg(found, what), data)


def _svg(found: Sequence[Variants], what: Aspect) -> str:
    names, titles = _ordered({name for variants in found for name in variants.variants}), {}
    heights = [len(variants.rows) * 0.42 + 0.5 for variants in found]
    with drawing():
        figure = canvas(7.2, sum(heights) + 0.55 * len(found) + 0.4)
        grid: Any = figure.subplots(len(found), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})
        for axes, variants in zip(grid[:, 0], found, strict=True):
            _panel(axes, variants, names, titles)
        grid[-1][0].set_xlabel("score")
        handles = [_handle(number, name) for number, name in enumerate(names)]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(names))
        return to_svg(figure, what.id, titles)


def _handle(number: int, name: str) -> Any:
    from matplotlib.lines import Line2D

    look = series(number)
    return Line2D([], [], color=look.color, marker=look.marker, ls="none", ms=7, label=name)


def _panel(axes: "Axes", variants: Variants, names: list[str], titles: dict[str, str]) -> None:
    step = 0.6 / max(1, len(names) - 1) if len(names) > 1 else 0.0
    for name, means in zip(variants.variants, variants.means, strict=True):
        number = names.index(name)
        look = series(number)
        for row, mean in enumerate(means):
            at = row - 0.3 + step * number if len(names) > 1 else row
            gid = f"point-{len(titles)}"
            titles[gid] = f"{name}, {variants.rows[row]}: {describe(mean)}"
            if mean.interval:
                axes.plot(mean.interval, [at, at], color=look.color, lw=1.4)
            axes.plot([mean.value], [at], look.marker, color=look.color, ms=6.5, gid=gid)
    for row in range(1, len(variants.rows)):
        axes.axhline(row - 0.5, color=LINE if row > 1 else QUIET, lw=0.8)
    axes.set_yticks(range(len(variants.rows)), variants.rows)
    axes.set_ylim(len(variants.rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor="#1b1b1a")
    axes.set_title(variants.title or "all runs", fontsize=9)
