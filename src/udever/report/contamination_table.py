"""The outcome of `overlap` as a table on the console."""

from typing import Any

from udever.evaluation.contamination import Overlap


def show(found: Overlap, out: Any) -> None:
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
    out.print(table)
    out.print(
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
            out.print("\n    ".join(lines), highlight=False, markup=False)
