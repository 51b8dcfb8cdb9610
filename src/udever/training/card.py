"""What a trained model's card says about its training, as Markdown, and the figure beside it."""

from collections.abc import Sequence

from udever.evaluation.comparison import METRIC_NAMES
from udever.markdown import table
from udever.pairs.mixture import DatasetSummary
from udever.report.curves import Panel, draw
from udever.saving import Result
from udever.training.log import History
from udever.training.recipe import RECIPE_FILE, Recipe

FIGURE = "training.svg"
_TITLES = {"loss": "Training loss, step by step", "held-out loss": "Loss on held-out rows"}


def notes(recipe: Recipe, history: History, datasets: Sequence[DatasetSummary]) -> str:
    """The part of the model card that says how it was trained, on what, and what came of it."""
    last = history.steps[-20:]
    loss = sum(step.loss for step in last) / max(1, len(last))
    data = [
        [d.name, "" if d.num_pairs is None else f"{d.num_pairs:,}", f"{d.share:.3f}", ", ".join(d.languages) or "-"]
        for d in datasets
    ]
    longest = recipe.training.max_length or recipe.model.max_length
    return f"""
## Training

{len(history.steps):,} steps of {recipe.training.batch_size}, {history.moved}; mean loss of
the last {len(last)} steps {loss:.3f}; {history.num_truncated:,} texts were cut at {longest} tokens.
The resolved recipe is in `{RECIPE_FILE}`.

{table(["data", "pairs", "share", "languages"], data)}{_scores(history)}
![loss and scores]({FIGURE})
"""


def results(history: History) -> list[Result]:
    """The scores at the end of the run, as model hubs read them; none where no held-out rows were scored."""
    end = history.end
    if end is None or history.measure is None:
        return []
    dataset = f"{history.measure.num_queries} held-out queries among {history.measure.num_candidates} candidates"
    return [Result(dataset, name.replace("@", "_at_"), end[name]) for name in METRIC_NAMES if name in end]


def _scores(history: History) -> str:
    """The scores of held-out rows beside what they are measured by; nothing where there are none."""
    measure = history.measure
    if not history.scores or measure is None:
        return ""
    end = history.steps[-1].number if history.steps else 0
    names = [name for name in history.scores[0][1] if name not in METRIC_NAMES]
    rows = [("BM25", measure.bm25)] + [(_at(step, end), found) for step, found in history.scores]
    lines = [[label, *(_number(found.get(name)) for name in [*METRIC_NAMES, *names])] for label, found in rows]
    return f"""
### Held-out rows

{measure.num_queries:,} queries, not trained on, each searching {measure.num_candidates:,} candidates:
{measure.candidates}. {history.outcome or "The end was not scored"}.

{table(["", *METRIC_NAMES.values(), *names], lines)}"""


def _at(step: int, end: int) -> str:
    if step == 0:
        return "before training"
    return f"after step {step:,}" + (", the end" if step == end else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def figure(history: History) -> str:
    """The loss by step, and each score of held-out rows, as SVG."""
    curves: dict[str, list[tuple[int, float]]] = {"loss": [(step.number, step.loss) for step in history.steps]}
    for step, scores in history.scores:
        for name, value in scores.items():
            curves.setdefault(name, []).append((step, value))
    bm25 = history.measure.bm25 if history.measure else {}
    among = f" among {history.measure.num_candidates:,} candidates" if history.measure else ""

    def title(name: str) -> str:
        return _TITLES.get(name) or f"{METRIC_NAMES.get(name, name)} of held-out rows{among}"

    return draw([Panel(title(name), points, bm25.get(name)) for name, points in curves.items() if points])
