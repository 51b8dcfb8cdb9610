"""Tables on the console: the scores of `udever eval`, what `udever overlap` found."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from udever.evaluation.contamination import Overlap
from udever.evaluation.results import Score
from udever.evaluation.run import Outcome

if TYPE_CHECKING:
    from rich.console import Console


def show_scores(outcomes: Sequence[Outcome], console: "Console") -> None:
    """Print the mean main score of every task and what was skipped, cut, spent and failed.

    The interval is shown for a single model where a task has one score; "*" marks a task the model says it was
    trained on.
    """
    from rich.table import Table
    from rich.text import Text

    columns = [outcome.scores for outcome in outcomes]
    names = list(dict.fromkeys(name for column in columns for name in column))
    if names:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("task", no_wrap=True)
        table.add_column("metric", no_wrap=True)
        for outcome in outcomes:
            table.add_column(Text(outcome.name.rpartition("/")[2]), justify="right", overflow="fold")
        for name in names:
            metric = next(column[name][0].metric for column in columns if name in column)
            cells = (_cell(column.get(name, []), sure=len(outcomes) == 1) for column in columns)
            table.add_row(Text(name), metric, *cells)
        console.print(table)
    for outcome in outcomes:
        for line in _remarks(outcome):
            console.print(line, highlight=False, markup=False)


def _cell(scores: Sequence[Score], *, sure: bool) -> Any:
    if not scores:
        return ""
    value = sum(score.value for score in scores) / len(scores)
    mark = "*" if any(score.trained_on for score in scores) else ""
    one = scores[0]
    interval = f" [{one.low:.3f}, {one.high:.3f}]" if sure and len(scores) == 1 and one.low is not None else ""
    from rich.text import Text

    return Text(f"{value:.3f}{mark}{interval}")


def _remarks(outcome: Outcome) -> list[str]:
    lines = [f"{outcome.name}: {len(outcome.scored)} tasks scored, {len(outcome.kept)} were there ({outcome.folder})"]
    for task, count in outcome.truncated.items():
        lines.append(f"  {task}: {count:,} texts were longer than the model reads and were cut")
    for task, reason in outcome.skipped.items():
        lines.append(f"  {task}: left out, {reason}")
    if outcome.cost:
        lines.append("  cost: " + ", ".join(f"{amount:,} {name}" for name, amount in outcome.cost.items()))
    lines += [f"  {task}: FAILED: {reason}" for task, reason in outcome.failed.items()]
    return lines


def show_overlap(found: Overlap, console: "Console") -> None:
    """Print a row for each task and split, then the examples asked for."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("task", "split"):
        table.add_column(name, no_wrap=True)
    for name in ("texts", "short", "exact", "near", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        split = f"{row.split}/{row.part}" if row.part else row.split
        counts = (row.num_texts, row.num_short, row.num_exact, row.num_near)
        table.add_row(row.task, split, *(f"{count:,}" for count in counts), f"{row.share:.1%}")
    console.print(table)
    console.print(
        f"{found.num_train_rows:,} training rows with {found.num_train_texts:,} texts; "
        f"{found.num_held_out_rows:,} held out rows left out; near: {found.threshold:g} of the shingles shared; "
        f"short: under {found.min_chars} characters, not compared",
        highlight=False,
        markup=False,
    )
    for row in found.rows:
        for example in row.examples:
            how = "exact" if example.exact else "near"
            lines = (f"{row.task} {row.split} ({how}, {example.train_file})", example.text, example.train_text)
            console.print("\n    ".join(lines), highlight=False, markup=False)
