"""What a trained model's card says about its training, as Markdown."""

from collections.abc import Sequence

from udever.evaluation.comparison import METRIC_NAMES
from udever.pairs.mixture import DatasetSummary
from udever.saving import Result
from udever.training.figure import FIGURE
from udever.training.log import History
from udever.training.recipe import RECIPE_FILE, Recipe


def notes(recipe: Recipe, history: History, datasets: Sequence[DatasetSummary]) -> str:
    """The part of the model card that says how it was trained, on what, and what came of it."""
    last = history.steps[-20:]
    loss = sum(step.loss for step in last) / max(1, len(last))
    data = "".join(
        f"| {d.name} | {'' if d.num_pairs is None else format(d.num_pairs, ',')} | {d.share:.3f} | "
        f"{', '.join(d.languages) or '-'} |\n"
        for d in datasets
    )
    return f"""
## Training

{len(history.steps):,} steps of {recipe.training.batch_size}, {history.moved}; mean loss of
the last {len(last)} steps {loss:.3f}; {history.num_truncated:,} texts were cut at {recipe.model.max_length} tokens.
The resolved recipe is in `{RECIPE_FILE}`.

| data | pairs | share | languages |
|---|---|---|---|
{data}{_scores(history)}
![loss and scores]({FIGURE})
"""


def results(history: History) -> list[Result]:
    """The scores at the end of the run, as model hubs read them; none where no held-out rows were scored."""
    if not history.scores or history.measure is None:
        return []
    dataset = f"{history.measure.num_queries} held-out queries among {history.measure.num_candidates} candidates"
    end = history.scores[-1][1]
    return [Result(dataset, name.replace("@", "_at_"), end[name]) for name in METRIC_NAMES if name in end]


def _scores(history: History) -> str:
    """The scores of held-out rows beside what they are measured by; nothing where there are none."""
    measure = history.measure
    if not history.scores or measure is None:
        return ""
    end = history.scores[-1][0]
    names = [name for name in history.scores[0][1] if name not in METRIC_NAMES]
    rows = [("BM25", measure.bm25)] + [(_at(step, end), found) for step, found in history.scores]
    lines = "".join(
        f"| {label} | {' | '.join(_number(found.get(name)) for name in [*METRIC_NAMES, *names])} |\n"
        for label, found in rows
    )
    header = " | ".join([*METRIC_NAMES.values(), *names])
    return f"""
### Held-out rows

{measure.num_queries:,} queries, not trained on, each searching {measure.num_candidates:,} candidates:
{measure.candidates}. {history.outcome}.

| | {header} |
|---|{"---|" * (len(METRIC_NAMES) + len(names))}
{lines}"""


def _at(step: int, end: int) -> str:
    if step == 0:
        return "before training"
    return f"after step {step:,}" + (", the end" if step == end else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
