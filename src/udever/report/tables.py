"""Tables of scores: by model, task and language, and the differences between models that answered the same items."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from udever.errors import DataError
from udever.nearest import suggestion
from udever.progress import progress_bar
from udever.report.figure import Cell, Data, Section, Table, Value
from udever.report.runs import (
    Key,
    Mean,
    Run,
    all_keys,
    is_code,
    language_score,
    languages_of,
    mean_by_task,
    mean_by_type,
)
from udever.report.universal import Universal, count, over, short_count, universal_scores

if TYPE_CHECKING:
    from udever.evaluation.results import PairedScore, Score

_MISSING = "–"
_Line = tuple[str, str, Sequence[Mean | None]]
"""Of a table: what it is of, what stands small below that, and the mean of every run."""
_ALL_PAIRS = 3
"""Up to this many models each is compared with each, above it each with one."""


def overview(runs: Sequence[Run]) -> Section:
    """Every model on one line."""
    universal = universal_scores(runs)
    means = {run.name: mean for run, mean in universal.rows} if universal else {}
    best = max((mean.value for mean in means.values()), default=None)
    rows = [
        [
            Cell(run.name, run.model.revision[:12], number=False),
            _cell(means.get(run.name), best),
            _number(run.label.size, short_count),
            _number(run.model.dimensions, str),
            Cell(str(len({score.task for score in run.model.scores})), f"{len(run.scores)} subsets"),
        ]
        for run in runs
    ]
    header = ("model", "universal score", "parameters", "dimensions", "tasks")
    columns = ("model", "revision", "parameters", "dimensions", "train_language", "kind", "tuning", "num_tasks",
               "num_subsets", "universal_score", "low", "high")  # fmt: skip
    data = Data(columns, [_model_row(run, means.get(run.name)) for run in runs])
    note = over(universal) if universal else "No task was scored on every model, so there is no common mean."
    table = Table("models", "Models", header, rows, data, note + _legend(mean.trained_on for mean in means.values()))
    return Section("models", "Models", tables=[table])


def _model_row(run: Run, mean: Mean | None) -> tuple[Value, ...]:
    label, model = run.label, run.model
    tasks = len({score.task for score in model.scores})
    return (run.name, model.revision, label.size, model.dimensions, label.train_language, label.kind, label.tuning,
            tasks, len(run.scores), mean and mean.value, mean and mean.low, mean and mean.high)  # fmt: skip


def _number(value: int | None, show: Callable[[int], str]) -> Cell:
    return Cell(show(value) if value else _MISSING)


def _legend(trained_on: Iterator[bool]) -> str:
    return " † trained on, by the model's own card." if any(trained_on) else ""


def _cell(mean: Mean | None, best: float | None) -> Cell:
    if mean is None:
        return Cell(_MISSING)
    small = "" if mean.low is None or mean.high is None else f"{mean.low:.3f} to {mean.high:.3f}"
    text = f"{mean.value:.3f}{' †' if mean.trained_on else ''}"
    return Cell(text, small, best is not None and f"{mean.value:.3f}" == f"{best:.3f}")


def scores_section(runs: Sequence[Run]) -> Section:
    """Scores by task and by language."""
    return Section("scores", "Scores", tables=[by_task(runs), by_language(runs)])


def by_task(runs: Sequence[Run]) -> Table:
    """A row for each task: the mean over the subsets that every model with that task has."""
    lines: list[_Line] = []
    values: list[tuple[Value, ...]] = []
    tasks = sorted({(score.task_type, score.task) for run in runs for score in run.model.scores})
    for task_type, task in tasks:
        keys = [key for key in all_keys(runs) if key[0] == task]
        shared, means = _shared(runs, keys, lambda run, common: mean_by_task(run.scores[key] for key in common))
        metric = next(run.scores[key].metric for run in runs for key in keys if key in run.scores)
        subsets = f"{len(shared)} of {len(keys)} subsets" if len(shared) < len(keys) else count(len(keys), "subset")
        lines.append((task, f"{task_type}, {metric}, {subsets}", means))
        values += [(task, task_type, run.name, *_values(mean)) for run, mean in zip(runs, means, strict=True)]
    data = Data(("task", "task_type", "model", "score", "low", "high", "num_subsets", "trained_on"), values)
    note = "Mean over the subsets that every model with the task has, with its 95 % interval."
    return _table("tasks", "By task", runs, lines, data, note)


def by_language(runs: Sequence[Run]) -> Table:
    """A row for each language with a score within the language, or for code from questions to code."""
    keys = all_keys(runs)
    lines: list[_Line] = []
    values: list[tuple[Value, ...]] = []
    for language in languages_of(runs, keys):
        own = [key for key in keys if any(_is_of(run.scores.get(key), language) for run in runs)]
        _, means = _shared(runs, own, lambda run, common: language_score(run, language, common))  # noqa: B023
        first = next(filter(None, means), None)
        if first:
            lines.append((language, count(first.num_scores, "subset"), means))
            values += [(language, run.name, *_values(mean)) for run, mean in zip(runs, means, strict=True)]
    data = Data(("language", "model", "score", "low", "high", "num_subsets", "trained_on"), values)
    note = (
        "Mean over tasks within the language (programming languages: from questions to code) that every model with "
        "the language has. Languages are in different tasks: compare along a row, not down a column."
    )
    return _table("languages", "By language", runs, lines, data, note)


def _is_of(score: "Score | None", language: str) -> bool:
    if score is None:
        return False
    return set(score.languages) == {language} or (is_code(language) and language in score.languages)


def _shared(
    runs: Sequence[Run], keys: Sequence[Key], mean: Callable[[Run, list[Key]], Mean | None]
) -> tuple[list[Key], list[Mean | None]]:
    """What all runs with any of `keys` have of them, and each run's mean over it; None for a run that has none."""
    having = [run for run in runs if any(key in run.scores for key in keys)]
    shared = [key for key in keys if all(key in run.scores for run in having)]
    return shared, [mean(run, shared) if run in having else None for run in runs]


def _values(mean: Mean | None) -> tuple[Value, ...]:
    return (None,) * 5 if mean is None else (mean.value, mean.low, mean.high, mean.num_scores, mean.trained_on)


def _row(name: str, small: str, means: Sequence[Mean | None]) -> list[Cell]:
    best = max((mean.value for mean in means if mean is not None), default=None)
    best = best if len(means) > 1 else None
    return [Cell(name, small, number=False), *(_cell(mean, best) for mean in means)]


def _table(name: str, title: str, runs: Sequence[Run], lines: Sequence[_Line], data: Data, note: str) -> Table:
    means = [mean for _, _, own in lines for mean in own]
    if any(mean is None for mean in means):
        note += f" {_MISSING} is a score that is missing."
    note += _legend(mean is not None and mean.trained_on for mean in means)
    header = (title.removeprefix("By "), *(run.name for run in runs))
    return Table(name, title, header, [_row(*line) for line in lines], data, note)


def every_score(runs: Sequence[Run]) -> Data:
    """Every score that was read, one a row."""
    return Data(
        ("model", "revision", "task", "task_type", "split", "subset", "languages", "metric", "score", "low", "high",
         "trained_on"),
        [
            (run.name, run.model.revision, s.task, s.task_type, s.split, s.subset, " ".join(s.languages), s.metric,
             s.value, s.low, s.high, s.trained_on)
            for run in runs
            for s in run.scores.values()
        ],
    )  # fmt: skip


def differences(runs: Sequence[Run], against: str | None = None, *, show_progress: bool = False) -> Section:
    """How much models differ on the items they share, task by task, with intervals that resample those items.

    Each of up to three models is compared with each; more of them with the one called `against`, or the best.
    Raises DataError where no run is called `against`.
    """
    from udever.evaluation.results import paired_intervals

    pairs = _pairs(runs, against, universal_scores(runs))
    found: list[tuple[str, Run, Sequence[PairedScore]]] = []
    with progress_bar("comparing", len(pairs), enabled=show_progress) as advance:
        for a, b in pairs:
            if a.model.folder is not None and b.model.folder is not None:
                scores = paired_intervals(a.model, b.model)
                if scores:
                    found.append((f"{a.name} minus {b.name}", a, scores))
            advance()
    if not found:
        reason = "It needs two models with items (NAME.items.parquet beside the scores) for a task they share."
        return Section("differences", "Differences between models", missing=reason)
    text = (
        "Both models answered the same items, so what makes an item hard for both cancels out: an interval that does "
        "not hold 0 is a difference that chance does not explain (one comparison in twenty does so by chance).",
    )
    return Section("differences", "Differences between models", text, tables=[_summary(found), _differences(found)])


def _pairs(runs: Sequence[Run], against: str | None, universal: Universal | None) -> list[tuple[Run, Run]]:
    if against is not None:
        base = [run for run in runs if against in (run.name, run.model.name, run.model.revision)]
        if len(base) != 1:
            hint = suggestion(against, [run.name for run in runs], "expected one of")
            raise DataError(f"--against names {against!r}, which is {len(base)} models; {hint}")
        return [(run, base[0]) for run in runs if run is not base[0]]
    if len(runs) <= _ALL_PAIRS:
        return list(combinations(runs, 2))
    best = universal.best if universal else runs[0]
    return [(best, run) for run in runs if run is not best]


def _as_scores(run: Run, paired: "Sequence[PairedScore]") -> "list[Score]":
    """Each difference in place of the score it is of, to be averaged as scores are."""
    return [
        replace(
            run.scores[p.task, p.split, p.subset], value=p.interval.difference, low=p.interval.low, high=p.interval.high
        )
        for p in paired
    ]


def _summary(found: "Sequence[tuple[str, Run, Sequence[PairedScore]]]") -> Table:
    rows: list[list[Cell]] = []
    values: list[tuple[Value, ...]] = []
    for name, run, paired in found:
        mean = mean_by_type(_as_scores(run, paired))
        assert mean is not None
        higher = sum(p.interval.low > 0 for p in paired)
        lower = sum(p.interval.high < 0 for p in paired)
        counts = (higher, lower, len(paired) - higher - lower)
        rows.append([Cell(name, number=False), _signed(mean), *(Cell(str(number)) for number in counts)])
        values.append((name, mean.value, mean.low, mean.high, *counts))
    columns = ("models", "difference", "low", "high", "num_higher", "num_lower", "num_undecided")
    header = ("models", "mean difference", "higher", "lower", "undecided")
    note = "Mean over task types; the other columns count task subsets by whether their interval holds 0."
    return Table("differences", "Over all tasks", header, rows, Data(columns, values), note)


def _signed(mean: Mean | None) -> Cell:
    if mean is None:
        return Cell(_MISSING)
    clear = mean.low is not None and mean.high is not None and (mean.low > 0 or mean.high < 0)
    small = "" if mean.low is None else f"{mean.low:+.3f} to {mean.high:+.3f}"
    return Cell(f"{mean.value:+.3f}", small, clear)


def _differences(found: "Sequence[tuple[str, Run, Sequence[PairedScore]]]") -> Table:
    tasks = sorted({(run.scores[p.task, p.split, p.subset].task_type, p.task) for _, run, ps in found for p in ps})
    rows: list[list[Cell]] = []
    for task_type, task in tasks:
        means = [mean_by_task(_as_scores(run, [p for p in paired if p.task == task])) for _, run, paired in found]
        rows.append([Cell(task, task_type, number=False), *map(_signed, means)])
    data = Data(
        ("models", "task", "split", "subset", "metric", "difference", "low", "high"),
        [
            (name, p.task, p.split, p.subset, p.metric, p.interval.difference, p.interval.low, p.interval.high)
            for name, _, paired in found
            for p in paired
        ],
    )
    note = "Mean over subsets; bold where the interval does not hold 0. The CSV has every subset."
    return Table("differences_by_task", "By task", ("task", *(name for name, _, _ in found)), rows, data, note)
