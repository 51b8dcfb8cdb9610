"""Systems compared on held-out pairs: the table that is printed, and what it says of parts and single questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.evaluation.held_out import METRICS, Question, Scores
from udever.evaluation.statistics import Interval, paired_bootstrap
from udever.markdown import table
from udever.saving import Result

if TYPE_CHECKING:
    from rich.console import Console

METRIC_NAMES = {"mrr@10": "MRR@10", "recall@1": "Recall@1", "recall@5": "Recall@5", "recall@20": "Recall@20"}
WORDS, BASE, ADAPTED = "words", "base", "adapted"
BASE_WORDS, ADAPTED_WORDS = "base + words", "adapted + words"
COMPARISONS = ((ADAPTED, BASE), (ADAPTED_WORDS, BASE_WORDS), (ADAPTED_WORDS, WORDS))
"""What is compared, question by question, where both are there."""

MIN_TO_TELL = 50
"""Questions below which no difference is called more than chance: the interval of so few is too narrow."""
MIN_PART = 30
"""Questions below which a part of them is not shown by itself."""


@dataclass(frozen=True, slots=True)
class Change:
    """A question whose first right answer moved; ranks are 0 where none was found."""

    question: Question
    before: int
    after: int


@dataclass(frozen=True)
class Comparison:
    """Scores of several systems on one retrieval set, in the order they are shown.

    Rows of the names in COMPARISONS are compared; any other name is only shown. `questions` are those of the
    scores, in their order, where parts and single questions are to be told.
    """

    rows: Mapping[str, Scores]
    questions: Sequence[Question] = ()

    def __post_init__(self) -> None:
        """Raise DataError unless all rows are over one retrieval set."""
        sizes = {name: (scores.num_queries, scores.num_documents) for name, scores in self.rows.items()}
        if len(set(sizes.values())) != 1:
            raise DataError(f"rows have (queries, documents) {sizes}; score all of them on one retrieval set")
        if self.questions and len(self.questions) != self.num_queries:
            raise DataError(f"{len(self.questions)} questions for {self.num_queries} scores; give those of the scores")

    @property
    def num_documents(self) -> int:
        """Documents that every row searched."""
        return next(iter(self.rows.values())).num_documents

    @property
    def num_queries(self) -> int:
        """Queries that every row answered."""
        return next(iter(self.rows.values())).num_queries

    @cached_property
    def differences(self) -> dict[tuple[str, str], dict[str, Interval]]:
        """Each metric's difference, for every two of COMPARISONS that are there."""
        return {
            (a, b): {
                metric: paired_bootstrap(self.rows[a].per_query[metric], self.rows[b].per_query[metric])
                for metric in METRICS
            }
            for a, b in COMPARISONS
            if a in self.rows and b in self.rows
        }

    def tells(self, interval: Interval) -> bool:
        """Whether a difference is more than chance explains: enough questions, and an interval that does not hold 0."""
        return self.num_queries >= MIN_TO_TELL and not interval.low <= 0 <= interval.high

    @property
    def best(self) -> dict[str, float]:
        """The highest mean of each metric."""
        means = [scores.means for scores in self.rows.values()]
        return {metric: max(row[metric] for row in means) for metric in METRICS}

    def parts(self) -> dict[str, "Comparison"]:
        """The same for each group of at least MIN_PART questions, largest first; {} where that is all of them."""
        members: dict[str, list[int]] = {}
        for row, question in enumerate(self.questions):
            members.setdefault(question.group, []).append(row)
        if len(members) < 2:
            return {}
        largest = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
        return {name: self._part(np.array(rows)) for name, rows in largest if len(rows) >= MIN_PART}

    def _part(self, rows: NDArray[np.int64]) -> "Comparison":
        def of(scores: Scores) -> Scores:
            per_query = {metric: values[rows] for metric, values in scores.per_query.items()}
            return Scores(per_query, scores.num_documents, scores.ranks[rows] if len(scores.ranks) else scores.ranks)

        parts = {name: of(scores) for name, scores in self.rows.items()}
        return replace(self, rows=parts, questions=[self.questions[row] for row in rows])

    def changes(self, most: int = 10) -> tuple[list[Change], list[Change]]:
        """The questions that gained most by adapting, and those that lost most, by 1 / rank."""
        if not self.questions or not {BASE, ADAPTED} <= self.rows.keys():
            return [], []
        before, after = self.rows[BASE].ranks, self.rows[ADAPTED].ranks
        gain = _reciprocal(after) - _reciprocal(before)
        order = np.argsort(-gain, kind="stable")

        def told(places: NDArray[np.int64]) -> list[Change]:
            return [Change(self.questions[at], int(before[at]), int(after[at])) for at in places]

        return told(order[gain[order] > 0][:most]), told(order[::-1][gain[order[::-1]] < 0][:most])

    def sentences(self) -> list[str]:
        """Each comparison in words."""
        return [self._sentence(a, b, found["mrr@10"]) for (a, b), found in self.differences.items()]

    @property
    def shortfall(self) -> str | None:
        """By what the adapted model is outdone in MRR@10, words or its base, in a sentence; None where by neither."""
        if ADAPTED not in self.rows:
            return None
        means = {name: self.rows[name].means["mrr@10"] for name in (ADAPTED, WORDS, BASE) if name in self.rows}
        above = [f"{name} ({mean:.3f})" for name, mean in means.items() if mean > means[ADAPTED]]
        return f"{ADAPTED} ({means[ADAPTED]:.3f} MRR@10) is below {' and below '.join(above)}" if above else None

    def _sentence(self, a: str, b: str, interval: Interval) -> str:
        if all(np.array_equal(self.rows[a].per_query[m], self.rows[b].per_query[m]) for m in METRICS):
            verdict = "every question has the same score in both."
        elif self.num_queries < MIN_TO_TELL:
            several = "s" * (self.num_queries > 1)
            verdict = (
                f"{self.num_queries} question{several} cannot tell the two apart: at least {MIN_TO_TELL} are needed."
            )
        elif self.tells(interval):
            verdict = f"{a} is {'better' if interval.low > 0 else 'worse'}, by more than chance explains."
        else:
            verdict = f"the interval holds 0, so these {self.num_queries:,} questions do not tell the two apart."
        return (
            f"{METRIC_NAMES['mrr@10']}, {a} minus {b}: {interval.difference:+.3f}, "
            f"{interval.confidence:.0%} interval {interval.low:+.3f} to {interval.high:+.3f}: {verdict}"
        )

    def show(self, console: "Console") -> None:
        """Print the table, the comparisons in words, and the parts."""
        from rich.text import Text

        console.print(self._table(f"{self.num_queries:,} questions, {self.num_documents:,} texts searched"))
        for sentence in self.sentences():
            console.print(Text(sentence))
        for name, part in self.parts().items():
            console.print(part._table(f"{name}: {part.num_queries:,} questions"))

    def to_markdown(self) -> str:
        """The table and the comparisons, as a part of a model's card."""
        header = ["search by", *(METRIC_NAMES[metric] for metric in METRICS)]
        rows = [[name, *(f"{value:.3f}" for value in scores.means.values())] for name, scores in self.rows.items()]
        return (
            f"\n## Held-out questions\n\n{self.num_queries:,} questions, not trained on, each searching "
            f"{self.num_documents:,} texts:\n\n{table(header, rows)}\n"
            + "".join(f"* {sentence}\n" for sentence in self.sentences())
        )

    def to_results(self) -> list[Result]:
        """The adapted model's scores, as model hubs read them."""
        dataset = f"{self.num_queries} held-out questions among {self.num_documents} texts"
        means = self.rows[ADAPTED].means
        return [Result(dataset, known_as, means[metric]) for metric, known_as in METRICS.items()]

    def _table(self, title: str) -> object:
        from rich.table import Table
        from rich.text import Text

        shown = Table(title=Text(title), title_justify="left")
        shown.add_column("search by", overflow="fold")
        for metric in METRICS:
            shown.add_column(METRIC_NAMES[metric], justify="right", no_wrap=True)
        for name, scores in self.rows.items():
            cells = [
                Text(f"{value:.3f}", style="bold" if value == self.best[metric] else "")
                for metric, value in scores.means.items()
            ]
            shown.add_row(Text(name), *cells)
        return shown


def _reciprocal(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)
