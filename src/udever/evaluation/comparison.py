"""Systems compared on held-out pairs: the table that is printed, and `results.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udever.errors import DataError
from udever.evaluation.held_out import METRICS, Scores
from udever.evaluation.statistics import Interval, paired_bootstrap
from udever.storage import atomic_file

if TYPE_CHECKING:
    from rich.console import Console

METRIC_NAMES = {"mrr@10": "MRR@10", "ndcg@10": "nDCG@10", "recall@10": "Recall@10"}
COMPARISONS = {"after_minus_before": ("after", "before"), "after_minus_bm25": ("after", "bm25")}
_RESERVED = {*COMPARISONS, "num_documents", "details"}


@dataclass(frozen=True)
class Comparison:
    """Scores of several systems on one retrieval set, in the order they are shown.

    The rows `bm25`, `before` and `after` are compared where they are there; any other name is only shown.
    `metric` is the one whose differences get an interval. `details` is anything JSON can hold.
    """

    rows: Mapping[str, Scores]
    metric: str = "mrr@10"
    details: Mapping[str, Any] = field(default_factory=dict)
    num_samples: int = 10_000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Raise DataError unless all rows are over one retrieval set."""
        sizes = {name: (scores.num_queries, scores.num_documents) for name, scores in self.rows.items()}
        if len(set(sizes.values())) != 1:
            raise DataError(f"rows have (queries, documents) {sizes}; score all of them on one retrieval set")
        if taken := _RESERVED & self.rows.keys():
            raise DataError(f"a row cannot be called {', '.join(sorted(taken))}; choose another name")
        if self.metric not in METRICS:
            raise DataError(f"metric is {self.metric!r}; expected one of {', '.join(METRICS)}")

    @property
    def num_documents(self) -> int:
        """Documents that every row searched."""
        return next(iter(self.rows.values())).num_documents

    @property
    def num_queries(self) -> int:
        """Queries that every row answered."""
        return next(iter(self.rows.values())).num_queries

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The difference in `metric` for every comparison whose two rows are there."""
        return {
            name: paired_bootstrap(
                self.rows[a].per_query[self.metric],
                self.rows[b].per_query[self.metric],
                num_samples=self.num_samples,
                seed=self.seed,
                confidence=self.confidence,
            )
            for name, (a, b) in COMPARISONS.items()
            if a in self.rows and b in self.rows
        }

    @property
    def best(self) -> dict[str, float]:
        """The highest mean of each metric."""
        means = [scores.means for scores in self.rows.values()]
        return {metric: max(row[metric] for row in means) for metric in METRICS}

    def sentences(self) -> list[str]:
        """Each comparison in words."""
        return [self._sentence(name, interval) for name, interval in self.intervals.items()]

    def _sentence(self, name: str, interval: Interval) -> str:
        a, b = COMPARISONS[name]
        if interval.low > 0:
            verdict = f"{a} is better than {b}, by more than chance explains."
        elif interval.high < 0:
            verdict = f"{a} is worse than {b}, by more than chance explains."
        else:
            verdict = f"the interval holds 0, so these queries do not tell {a} and {b} apart."
        return (
            f"{METRIC_NAMES[self.metric]}, {a} minus {b}: {interval.difference:+.3f}, "
            f"{interval.confidence:.0%} interval {interval.low:+.3f} to {interval.high:+.3f}: {verdict}"
        )

    def to_dict(self) -> dict[str, Any]:
        """What `results.json` holds."""
        rows = {name: {**scores.means, "num_queries": scores.num_queries} for name, scores in self.rows.items()}
        intervals = {name: {"metric": self.metric, **asdict(interval)} for name, interval in self.intervals.items()}
        return {**rows, **intervals, "num_documents": self.num_documents, "details": dict(self.details)}

    def write(self, path: str | Path) -> None:
        """Write `results.json`, whole or not at all."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        with atomic_file(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def show(self, console: "Console") -> None:
        """Print the table and the comparisons in words."""
        from rich.table import Table
        from rich.text import Text

        title = f"Retrieval: {self.num_queries:,} queries, {self.num_documents:,} documents"
        table = Table(title=title, title_justify="left")
        table.add_column("system", overflow="fold")
        for metric in METRICS:
            table.add_column(METRIC_NAMES[metric], justify="right", no_wrap=True)
        for name, scores in self.rows.items():
            cells = [
                Text(f"{value:.3f}", style="bold" if value == self.best[metric] else "")
                for metric, value in scores.means.items()
            ]
            table.add_row(Text(name), *cells)
        console.print(table)
        for sentence in self.sentences():
            console.print(Text(sentence))
