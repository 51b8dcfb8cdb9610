"""Runs under comparison, and means over exactly those scores that all of them have."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from udever.errors import DataError
from udever.report.labels import Label, apply_labels, short_name

if TYPE_CHECKING:
    from udever.evaluation.results import ModelScores, Score

Key = tuple[str, str, str]
"""Task, split, subset."""


@dataclass(frozen=True)
class Run:
    """One model's scores by task, split and subset, under a `name` no other run has."""

    name: str
    label: Label
    model: "ModelScores"
    scores: "Mapping[Key, Score]"


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of scores with its 95 % interval, None where a score under it has none.

    `trained_on` says that a task under it was trained on.
    """

    value: float
    low: float | None
    high: float | None
    num_scores: int
    tasks: tuple[str, ...]
    trained_on: bool

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both bounds, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def make_runs(models: "Sequence[ModelScores]", labels: Mapping[str, Label] | None = None) -> list[Run]:
    """Runs in the order given, each with a name of its own.

    Raises DataError where there is none, one has no scores or a score twice, or labels do not fit.
    """
    if not models:
        raise DataError("there are no results to report; run `udever eval -m MODEL` first")
    known = apply_labels(models, labels or {})
    names = _distinct(models, known)
    return [Run(name, label, model, _by_key(model)) for name, label, model in zip(names, known, models, strict=True)]


def _by_key(model: "ModelScores") -> "dict[Key, Score]":
    scores: dict[Key, Score] = {}
    for score in model.scores:
        key = (score.task, score.split, score.subset)
        if key in scores:
            raise DataError(f"{model.name} has two scores for {' / '.join(key)}; keep one result file")
        if not math.isfinite(score.value):
            raise DataError(f"{model.name}: the score for {' / '.join(key)} is {score.value}; run the task again")
        scores[key] = score
    if not scores:
        raise DataError(f"{model.name} has no scores; run `udever eval` on it, or leave its folder out")
    return scores


def _distinct(models: "Sequence[ModelScores]", labels: Sequence[Label]) -> list[str]:
    """Names as short as they can be and differ: last part, whole name, name and revision."""
    choices = [
        (label.name or short_name(model.name), model.name, f"{short_name(model.name)}@{model.revision[:8]}")
        for model, label in zip(models, labels, strict=True)
    ]
    first = [choice[0] for choice in choices]
    names = [
        choice[0] if first.count(choice[0]) == 1 else choice[1] if _alone(choice[1], choices) else choice[2]
        for choice in choices
    ]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two runs are called {name!r}; give one another name in --labels")
    return names


def _alone(name: str, choices: Sequence[tuple[str, str, str]]) -> bool:
    return sum(name in choice[:2] for choice in choices) == 1


def common_keys(runs: Iterable[Run]) -> list[Key]:
    """What every run was scored on, in order."""
    sets = [set(run.scores) for run in runs]
    return sorted(set.intersection(*sets)) if sets else []


def all_keys(runs: Iterable[Run]) -> list[Key]:
    """What any run was scored on, in order."""
    return sorted({key for run in runs for key in run.scores})


def mean_by_task(scores: "Iterable[Score]") -> Mean | None:
    """Mean over tasks of the mean over each task's splits and subsets; None without scores."""
    return _mean(list(scores), by_type=False)


def mean_by_type(scores: "Iterable[Score]") -> Mean | None:
    """Mean over task types of `mean_by_task`, so that many tasks of one type do not outweigh the others."""
    return _mean(list(scores), by_type=True)


def _mean(scores: "list[Score]", *, by_type: bool) -> Mean | None:
    if not scores:
        return None
    weights = _weights(scores, by_type=by_type)
    value = sum(weight * score.value for weight, score in zip(weights, scores, strict=True))
    low = high = None
    if all(score.low is not None and score.high is not None for score in scores):
        low = value - _joined(scores, [w * (s.value - (s.low or 0)) for w, s in zip(weights, scores, strict=True)])
        high = value + _joined(scores, [w * ((s.high or 0) - s.value) for w, s in zip(weights, scores, strict=True)])
    tasks = tuple(sorted({score.task for score in scores}))
    return Mean(value, low, high, len(scores), tasks, any(score.trained_on for score in scores))


def _joined(scores: "list[Score]", widths: Sequence[float]) -> float:
    """The half-width of a sum from those of its parts.

    Different tasks have different texts: their errors are independent and add up in squares. The subsets of a task
    are mostly the same texts in other languages: they err together, so the widths themselves add up.
    """
    of_task: dict[tuple[str, str], float] = {}
    for score, width in zip(scores, widths, strict=True):
        of_task[_group(score)] = of_task.get(_group(score), 0.0) + width
    return math.sqrt(sum(width**2 for width in of_task.values()))


def _weights(scores: "list[Score]", *, by_type: bool) -> list[float]:
    """Each score's share in the nested mean; they add up to 1."""
    in_task: dict[tuple[str, str], int] = {}
    for score in scores:
        in_task[_group(score)] = in_task.get(_group(score), 0) + 1
    in_type = {name: len(list(group)) for name, group in groupby(sorted(in_task), key=lambda key: key[0])}
    if by_type:
        return [1 / (in_task[_group(s)] * in_type[s.task_type] * len(in_type)) for s in scores]
    return [1 / (in_task[_group(score)] * len(in_task)) for score in scores]


def _group(score: "Score") -> tuple[str, str]:
    return score.task_type, score.task


def is_code(language: str) -> bool:
    """Whether `language` is a programming language."""
    return language.endswith("-Code")


def monolingual(run: Run, language: str, keys: Iterable[Key]) -> "list[Score]":
    """The scores of `run` over `keys` whose texts are all in `language`."""
    return [run.scores[key] for key in keys if set(run.scores[key].languages) == {language}]


def cross_lingual(run: Run, language: str, keys: Iterable[Key]) -> "list[Score]":
    """The scores of `run` over `keys` between `language` and one other.

    Between a natural and a programming language the score counts for the programming language alone: how well a
    model finds code says little of its English.
    """
    found: list[Score] = []
    for key in keys:
        languages = set(run.scores[key].languages)
        if len(languages) == 2 and language in languages:
            other = (languages - {language}).pop()
            if is_code(language) or not is_code(other):
                found.append(run.scores[key])
    return found


def languages_of(runs: Iterable[Run], keys: Iterable[Key]) -> list[str]:
    """Languages with a score over `keys`: natural ones first, then programming languages."""
    keys = list(keys)
    found = {language for run in runs for key in keys if key in run.scores for language in run.scores[key].languages}
    return sorted(found, key=lambda language: (is_code(language), language))


def language_score(run: Run, language: str, keys: Sequence[Key]) -> Mean | None:
    """The score of `run` in `language` over `keys`: within the language, or from questions to code for code."""
    scores = monolingual(run, language, keys)
    if not scores and is_code(language):
        scores = cross_lingual(run, language, keys)
    return mean_by_task(scores)
