"""The universal score of each model against its size (the paper's figure 1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from udever.report.figure import Data, Figure, Section
from udever.report.labels import Label
from udever.report.runs import Key, Mean, Run, all_keys, common_keys, mean_by_type
from udever.report.style import PANEL, QUIET, canvas, drawing, series, to_svg, write_labels

ID, TITLE = "universal", "Universal score and size"


@dataclass(frozen=True)
class Universal:
    """Each run's universal score over `keys`, which all runs have; `num_left_out` others were not common.

    Baselines that cannot do all of it are in `without`: a lexical one would narrow everyone's mean to retrieval.
    """

    keys: Sequence[Key]
    num_left_out: int
    rows: Sequence[tuple[Run, Mean]]
    without: Sequence[Run] = ()

    @property
    def best(self) -> Run:
        """The run with the highest score."""
        return max(self.rows, key=lambda row: row[1].value)[0]


def universal_scores(runs: Sequence[Run]) -> Universal | None:
    """The mean over task types, then tasks, then subsets, of what all `runs` have; None where that is nothing.

    Baselines do not decide what that is where there is any other model.
    """
    keys = common_keys([run for run in runs if not _is_baseline(run)] or runs)
    rows: list[tuple[Run, Mean]] = []
    without: list[Run] = []
    for run in runs:
        mean = mean_by_type(run.scores[key] for key in keys) if all(key in run.scores for key in keys) else None
        if mean is None:
            without.append(run)
        else:
            rows.append((run, mean))
    return Universal(keys, len(all_keys(runs)) - len(keys), rows, without) if rows else None


def _is_baseline(run: Run) -> bool:
    return run.model.name.startswith("baseline/")


def by_score(runs: Sequence[Run]) -> list[Run]:
    """The runs, the highest universal score first; as given where there is none."""
    universal = universal_scores(runs)
    if universal is None:
        return list(runs)
    return [run for run, _ in sorted(universal.rows, key=lambda row: -row[1].value)] + list(universal.without)


def over(universal: Universal) -> str:
    """Which scores the means are over, in words."""
    tasks = count(len({task for task, _, _ in universal.keys}), "task")
    text = f"Means are over {tasks} ({count(len(universal.keys), 'task subset')}) that every model here has"
    if universal.num_left_out:
        text += f"; {count(universal.num_left_out, 'other subset')} left out because some model lacks them"
    if universal.without:
        text += f". Without a mean, as it lacks some of them: {', '.join(run.name for run in universal.without)}"
    return f"{text}."


def count(number: int, noun: str) -> str:
    """3 tasks, 1 task."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def section(runs: Sequence[Run]) -> Section:
    """The section of the report."""
    universal = universal_scores(runs)
    if universal is None:
        return Section(ID, TITLE, missing=f"No task was scored on all {len(runs)} models, so there is no common mean.")
    text = (
        "Mean over task types of the mean over tasks of the mean over subsets, so that neither a task in a hundred "
        "languages nor a type with many tasks outweighs the others. " + over(universal),
    )
    return Section(ID, TITLE, text, [draw(universal)])


def draw(universal: Universal) -> Figure:
    """Score against size on a logarithmic axis, one series per family; models without a size are lines across."""
    sized = [(run, mean) for run, mean in universal.rows if run.label.size]
    unsized = [(run, mean) for run, mean in universal.rows if not run.label.size]
    families = list(dict.fromkeys(_family(run) for run, _ in sized))
    data = Data(
        ("model", "revision", "family", "parameters", "universal_score", "low", "high", "num_tasks", "num_scores",
         "trained_on"),
        [
            (run.name, run.model.revision, _family(run), run.label.size, mean.value, mean.low, mean.high,
             len(mean.tasks), mean.num_scores, mean.trained_on)
            for run, mean in universal.rows
        ],
    )  # fmt: skip
    said = "; ".join(f"{run.name} {mean.value:.3f}" for run, mean in universal.rows)
    caption = "Lines through marks are 95 % intervals. " if any(m.low is not None for _, m in universal.rows) else ""
    if unsized and sized:
        caption += "A dashed line is a model without parameters, or with an unknown number. "
    if any(mean.trained_on for _, mean in universal.rows):
        caption += "† trained on one or more of the tasks."
    if not sized:
        caption += " No number of parameters is known, so the models stand below one another."
    svg = _svg(sized, unsized, families) if sized else _svg_rows(unsized)
    return Figure(ID, TITLE, caption.strip(), f"Universal scores: {said}.", svg, data)


def _family(run: Run) -> str:
    return run.label.family or run.name


def _lines(rows: Sequence[tuple[Run, Mean]]) -> list[list[tuple[int, float]]]:
    """Size and score of runs that are alike but for their size, by size: what a line may join."""
    alike: dict[Label, dict[int, list[float]]] = {}
    for run, mean in rows:
        sizes = alike.setdefault(replace(run.label, name=None, size=None), {})
        sizes.setdefault(run.label.size or 0, []).append(mean.value)
    lines = [[(size, sum(values) / len(values)) for size, values in sorted(sizes.items())] for sizes in alike.values()]
    return [line for line in lines if len(line) > 1]


def _mark(run: Run, mean: Mean) -> str:
    return f"{run.name} †" if mean.trained_on else run.name


def describe(mean: Mean) -> str:
    """A mean with its interval, as text."""
    return f"{mean.value:.3f}" + ("" if mean.low is None else f" ({mean.low:.3f} to {mean.high:.3f})")


def _svg(sized: list[tuple[Run, Mean]], unsized: list[tuple[Run, Mean]], families: list[str]) -> str:
    titles: dict[str, str] = {}
    with drawing():
        figure = canvas(7.2, 4.8)
        axes = figure.add_subplot()
        for number, family in enumerate(families):
            look = series(number)
            for line in _lines([row for row in sized if _family(row[0]) == family]):
                axes.plot(*zip(*line, strict=True), color=look.color, lw=1.2, alpha=0.6)
            for run, mean in (row for row in sized if _family(row[0]) == family):
                size = run.label.size or 0
                gid = f"point-{len(titles)}"
                titles[gid] = f"{_mark(run, mean)}: {describe(mean)}, {size:,} parameters"
                if mean.interval:
                    axes.plot([size, size], mean.interval, color=look.color, lw=1.4)
                axes.plot([size], [mean.value], look.marker, color=look.color, ms=7.5, mec=PANEL, mew=0.8, gid=gid)
        for run, mean in unsized:
            gid = f"line-{len(titles)}"
            titles[gid] = f"{_mark(run, mean)}: {describe(mean)}"
            axes.axhline(mean.value, color=QUIET, lw=1.3, ls=(0, (5, 3)), gid=gid)
        axes.set_xscale("log")
        sizes = [run.label.size or 1 for run, _ in sized]
        axes.set_xlim(min(sizes) / 1.8, max(sizes) * 1.8)
        axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
        axes.xaxis.set_minor_formatter(lambda *_: "")
        axes.set_xlabel("parameters")
        axes.margins(y=0.12)
        axes.set_ylabel("universal score")
        for number, (run, mean) in enumerate(unsized):
            # On either side in turn, since two lexical baselines may lie close together.
            at, side = ((0.995, mean.value), "right") if number % 2 == 0 else ((0.005, mean.value), "left")
            axes.annotate(_mark(run, mean), at, (0, 3), xycoords=("axes fraction", "data"), ha=side, va="bottom",
                          textcoords="offset points", fontsize=8, color=QUIET)  # fmt: skip
        points = [(run.label.size or 1, mean.value, _mark(run, mean)) for run, mean in sized]
        write_labels(axes, points)
        return to_svg(figure, ID, titles)


def _svg_rows(rows: Sequence[tuple[Run, Mean]]) -> str:
    titles: dict[str, str] = {}
    look = series(0)
    with drawing():
        figure = canvas(7.2, 0.9 + 0.34 * len(rows))
        axes = figure.add_subplot()
        for row, (run, mean) in enumerate(rows):
            gid = f"point-{row}"
            titles[gid] = f"{_mark(run, mean)}: {describe(mean)}"
            if mean.interval:
                axes.plot(mean.interval, [row, row], color=look.color, lw=1.4)
            axes.plot([mean.value], [row], look.marker, color=look.color, ms=7.5, gid=gid)
        axes.set_yticks(range(len(rows)), [_mark(run, mean) for run, mean in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.margins(x=0.08)
        axes.set_xlabel("universal score")
        return to_svg(figure, ID, titles)


def alike(runs: Sequence[Run], field: str) -> dict[Label, list[Run]]:
    """Runs with a label `field` that share all others but their names, by what they share."""
    groups: dict[Label, list[Run]] = {}
    for run in runs:
        if getattr(run.label, field):
            groups.setdefault(replace(run.label, name=None, **{field: None}), []).append(run)
    return groups


def in_words(shared: Label) -> str:
    """What runs share, as the title of a panel: "F, 100M, lora"."""
    size = short_count(shared.size) if shared.size else None
    return ", ".join(filter(None, (shared.family, size, shared.tuning, shared.kind, shared.train_language)))


def short_count(value: float) -> str:
    """560000000 as 560M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"
