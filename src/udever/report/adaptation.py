"""What `adapt` shows: scores on held-out pairs, the training loss, and what was found for questions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from udever.evaluation.comparison import ADAPTED, BASE, METRIC_NAMES, MIN_PART, MIN_TO_TELL, Change, Comparison
from udever.evaluation.held_out import METRICS
from udever.evaluation.statistics import Interval, paired_bootstrap
from udever.report.figure import Cell, Data, Figure, Section, Table
from udever.report.page import write_page
from udever.report.style import canvas, drawing, series, to_svg

Hits = Sequence[tuple[float, str | None, str]]
"""(score, source, snippet), best first."""

_MAX_POINTS = 600
_NOTE = (
    "Higher is better; the best of each column is bold, below each score its interval. Every row searched the same "
    "texts: all functions, classes and sections of the files. MRR@10 is 1 / rank of the first right answer among ten, "
    "Recall@5 the share of right answers among the first five. words is BM25; + words joins both as a search does. All "
    "rows answered the same questions, so the difference between two is surer than their intervals suggest: the second "
    "table compares question by question."
)
_MAX_CHARS = 200


@dataclass(frozen=True)
class Extras:
    """What the report shows besides the scores; what is empty is left out.

    `chosen` says in a sentence which weights were kept and why; `losses` are (step, loss) in order; `counts` what was
    mined, kept and skipped; `examples` questions with their hits; `settings` how the run was made.
    """

    chosen: str = ""
    losses: Sequence[tuple[int, float]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[tuple[str, Hits]] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


def write_adaptation_report(
    path: str | Path, comparison: Comparison, extras: Extras | None = None, *, title: str = "Retrieval report"
) -> None:
    """Write the page to `path`, whole or not at all; everything given is escaped."""
    extras = extras or Extras()
    sections = [_scores(comparison, extras.chosen)]
    changes = _changes(comparison)
    sections += [changes] if changes is not None else []
    loss = loss_figure(extras.losses)
    if loss is not None:
        sections.append(Section("loss", "Training loss", figures=[loss]))
    if extras.examples:
        tables = [_hits(number, *example) for number, example in enumerate(extras.examples)]
        sections.append(Section("examples", "Questions and what was found", tables=tables))
    for name, heading, values in (
        ("counts", "Pairs mined and left out", extras.counts),
        ("settings", "Settings", extras.settings),
    ):
        if values:
            sections.append(Section(name, heading, tables=[_facts(name, heading, values)]))
    about = f"{comparison.num_queries:,} questions nobody trained on, searching all {comparison.num_documents:,} texts."
    write_page(path, title, about, sections)


def intervals_of(comparison: Comparison) -> dict[tuple[str, str], Interval]:
    """The interval of each mean, by system and metric."""
    return {
        (name, metric): paired_bootstrap(scores.per_query[metric], np.zeros(scores.num_queries))
        for name, scores in comparison.rows.items()
        for metric in METRICS
    }


def _scores(comparison: Comparison, chosen: str) -> Section:
    intervals = intervals_of(comparison)
    rows = [
        [Cell(name, number=False)]
        + [
            Cell(f"{value:.3f}", _range(intervals[name, metric]), best=value == comparison.best[metric])
            for metric, value in scores.means.items()
        ]
        for name, scores in comparison.rows.items()
    ]
    figure = score_figure(comparison, intervals)
    table = Table("scores", "Scores", ["System", *METRIC_NAMES.values()], rows, figure.data, _NOTE)
    tables = [table, *([_differences(comparison)] if comparison.differences else []), *_parts(comparison)]
    told = [f"{chosen[0].upper()}{chosen[1:]}."] if chosen else []
    return Section("scores", "Scores", [*told, *comparison.sentences()], [figure], tables)


def _differences(comparison: Comparison) -> Table:
    rows, values = [], []
    for (a, b), found in comparison.differences.items():
        rows.append([Cell(f"{a} minus {b}", number=False), *(_signed(comparison, i) for i in found.values())])
        values += [(a, b, METRIC_NAMES[metric], i.difference, i.low, i.high) for metric, i in found.items()]
    data = Data(("system", "minus", "metric", "difference", "low", "high"), values)
    note = (
        "Bold where the interval does not hold 0, so that chance does not explain the difference, and where there are "
        f"at least {MIN_TO_TELL} questions."
    )
    return Table("differences", "Differences", ["systems", *METRIC_NAMES.values()], rows, data, note)


def _signed(comparison: Comparison, found: Interval) -> Cell:
    return Cell(f"{found.difference:+.3f}", f"{found.low:+.3f} to {found.high:+.3f}", comparison.tells(found))


def _parts(comparison: Comparison) -> list[Table]:
    """MRR@10 by kind and language, one row each; none where there is one part only."""
    parts = comparison.parts()
    if not parts:
        return []
    rows, values = [], []
    for name, part in parts.items():
        means = {row: scores.means["mrr@10"] for row, scores in part.rows.items()}
        gain = part.differences.get((ADAPTED, BASE))
        cells = [Cell(f"{mean:.3f}", best=mean == max(means.values())) for mean in means.values()]
        cells += [_signed(part, gain["mrr@10"])] if gain else []
        rows.append([Cell(name, f"{part.num_queries:,} questions", number=False), *cells])
        values += [(name, part.num_queries, row, mean) for row, mean in means.items()]
    header = ["kind and language", *comparison.rows]
    header += [f"{ADAPTED} minus {BASE}"] if (ADAPTED, BASE) in comparison.differences else []
    data = Data(("part", "num_questions", "system", "mrr@10"), values)
    note = f"MRR@10 of each kind and language with at least {MIN_PART} questions, over the same texts."
    return [Table("parts", "By kind and language", header, rows, data, note)]


def _changes(comparison: Comparison) -> Section | None:
    """The questions that adapting helped most, and those it harmed most; None where no rank moved."""
    better, worse = comparison.changes()
    if not better and not worse:
        return None
    tables = [_moved("better", "Questions that got better", better), _moved("worse", "Questions that got worse", worse)]
    return Section("changes", "What adapting changed", tables=[table for table in tables if table.rows])


def _moved(name: str, title: str, changes: Sequence[Change]) -> Table:
    rows = [
        [
            Cell(_cut(change.question.text), change.question.source, number=False),
            Cell(_rank(change.before)),
            Cell(_rank(change.after)),
            Cell(_cut(change.question.answer), number=False, code=True),
        ]
        for change in changes
    ]
    data = Data(
        ("question", "source", "rank_before", "rank_after", "answer"),
        [(c.question.text, c.question.source, c.before, c.after, c.question.answer) for c in changes],
    )
    note = "Ranks of the first right answer among all texts, by meaning alone."
    return Table(name, title, ["question", "rank before", "rank after", "right answer"], rows, data, note)


def _rank(rank: int) -> str:
    return f"{rank:,}" if rank else "over 1,000"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"


def _range(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


def score_figure(comparison: Comparison, intervals: Mapping[tuple[str, str], Interval]) -> Figure:
    """A panel for each metric over one scale that starts at 0: a mark with its interval for every system."""
    names = list(comparison.rows)
    shown = [name if len(name) <= 30 else name[:29] + "…" for name in names]
    titles: dict[str, str] = {}
    with drawing():
        figure = canvas(8.6, 1.0 + 0.32 * len(names))
        panels = figure.subplots(1, len(METRIC_NAMES), sharex=True, sharey=True)
        for axes, (metric, title) in zip(panels, METRIC_NAMES.items(), strict=True):
            axes.set_title(title, fontsize=9)
            axes.set_yticks(range(len(names)), shown)
            for row, name in enumerate(names):
                found, look, gid = intervals[name, metric], series(row), f"dot-{len(titles)}"
                titles[gid] = f"{name}: {found.difference:.3f}, {_range(found)}"
                axes.plot([found.low, found.high], [row, row], color=look.color, lw=2)
                axes.plot([found.difference], [row], look.marker, color=look.color, ms=7, gid=gid)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        panels[0].set_xlim(0, min(1.0, 1.05 * max(0.01, *(found.high for found in intervals.values()))))
        svg = to_svg(figure, "intervals", titles)
    caption = (
        f"The line through a mark is where the mean would lie for other questions of the same kind "
        f"({next(iter(intervals.values())).num_samples:,} bootstrap samples)."
    )
    said = "; ".join(
        f"{METRIC_NAMES[metric]}: {name} {found.difference:.3f}, {found.confidence:.0%} interval {_range(found)}"
        for (name, metric), found in intervals.items()
    )
    data = Data(
        ("system", "metric", "value", "low", "high"),
        [(name, METRIC_NAMES[metric], i.difference, i.low, i.high) for (name, metric), i in intervals.items()],
    )
    return Figure("intervals", "Scores with their intervals", caption, f"{said}.", svg, data)


def loss_figure(losses: Sequence[tuple[int, float]]) -> Figure | None:
    """The curve through (step, loss); None for fewer than two finite points."""
    points = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return None
    every = math.ceil(len(points) / _MAX_POINTS)
    shown = [*points[:-1:every], points[-1]]
    with drawing():
        figure = canvas(6, 2.8)
        axes = figure.add_subplot()
        axes.plot(*zip(*shown, strict=True), color=series(0).color, gid="curve")
        axes.set_ylim(bottom=min(0.0, *(loss for _, loss in shown)))
        axes.set_xlabel("step")
        svg = to_svg(figure, "loss", {})
    (first, start), (last, end) = points[0], points[-1]
    said = f"Training loss from {start:.3f} at step {first} to {end:.3f} at step {last}."
    return Figure("loss", "Training loss", said, said, svg, Data(("step", "loss"), shown))


def _hits(number: int, question: str, hits: Hits) -> Table:
    rows = [
        [
            Cell(source or "", number=False),
            Cell(f"{score:.3f}"),
            Cell(snippet, number=False, code=True),
        ]
        for score, source, snippet in hits
    ]
    data = Data(("source", "score", "text"), [(source, score, snippet) for score, source, snippet in hits])
    return Table(f"hits-{number}", question, ["where", "score", "text"], rows, data, "" if hits else "Nothing found.")


def _facts(name: str, heading: str, values: Mapping[str, object]) -> Table:
    shown = {key: f"{value:,}" if type(value) is int else str(value) for key, value in values.items()}
    rows = [[Cell(key, number=False), Cell(value, number=False)] for key, value in shown.items()]
    return Table(name, heading, ["", ""], rows, Data(("name", "value"), list(shown.items())))
