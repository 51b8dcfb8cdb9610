"""Options that would change nothing for what is named, a table of pairs or files to mine, are refused."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from udever.errors import RecipeError
from udever.files import may_hold_pairs
from udever.pairs.files import meant_columns, read_batches
from udever.pairs.mining import USUAL_KINDS
from udever.pairs.schema import Pair, Split
from udever.pairs.settings import BY_FILE, BY_TEXT
from udever.pairs.split import Shares

_MAY_LACK = ("group", "label")
"""Columns of pairs that rows can be held out by and that a table need not have."""


def check_table_options(
    paths: Sequence[Path], *, held_out_by: str, columns: Mapping[str, str], skip_empty: bool
) -> None:
    """Raise RecipeError where such an option would change nothing.

    That is where none of `paths` is a table of pairs (but files that are mined are held out by file anyway), and where
    rows are to be held out by a column in which a table has no value.
    """
    tables = [path for path in paths if may_hold_pairs(path)]
    given = [f"--{name}" for name in columns]
    given += ["--skip-empty"] if skip_empty else []
    given += [f"--held-out-by {held_out_by}"] if held_out_by not in (BY_TEXT, BY_FILE) else []
    if given and not tables and all(path.exists() for path in paths):  # else the path is what is wrong
        raise RecipeError(
            f"{given[0]} is for tables of pairs, and none is named ({', '.join(map(str, paths))}); leave it out, or "
            f"name a table itself"
        )
    for table in tables if held_out_by in _MAY_LACK else ():
        if not _has_values(table, columns, held_out_by):
            raise RecipeError(
                f"{table} has no value in a column {held_out_by!r}, by which rows are to be held out; add it, or leave "
                f"--held-out-by out"
            )


def check_mining_options(
    paths: Sequence[Path], *, kinds: Collection[str], exclude: Sequence[str], language: str | None
) -> None:
    """Raise RecipeError where such an option would change nothing, since all of `paths` are tables of pairs."""
    given = ["--kind"] if set(kinds) != set(USUAL_KINDS) else []
    given += ["--exclude"] if exclude else []
    given += ["--language"] if language is not None else []
    if given and paths and all(map(may_hold_pairs, paths)):
        raise RecipeError(
            f"{given[0]} is for files that are mined, and only tables of pairs are named "
            f"({', '.join(map(str, paths))}); leave it out, or name files or a folder too"
        )


def check_division_options(
    rows: Sequence[tuple[Path, Sequence[Pair]]], shares: Shares, held_out_by: str, *, mines: bool
) -> None:
    """Raise RecipeError where such an option would change nothing, by what the `rows` of tables say of themselves.

    `mines`: whether there are files besides, of which the share is held out in any case.
    """
    asked = [f"--held-out-by {held_out_by}"] if held_out_by != BY_TEXT else []
    if asked and not shares.held_out:
        raise RecipeError(f"{asked[0]} would change nothing: --held-out is 0; leave one of them out")
    asked += [f"--held-out {shares.held_out}"] if shares.held_out != Shares.held_out and not mines else []
    to_choose = [f"--choose-from {shares.choose_from}"] if shares.choose_from != Shares.choose_from else []
    _refuse_said(rows, "held_out", asked, "which are held out, and then no other rows of tables are")
    _refuse_said(rows, "development", to_choose, "which are to choose by, and then no others are")


def _refuse_said(rows: Sequence[tuple[Path, Sequence[Pair]]], split: Split, asked: Sequence[str], which: str) -> None:
    says = next((path for path, pairs in rows if any(pair.split == split for pair in pairs)), None)
    if asked and says is not None:
        raise RecipeError(
            f"{asked[0]} would change nothing: rows of {says} say themselves {which}; leave it out, or take the "
            f"column 'split' out of that table"
        )


def _has_values(table: Path, columns: Mapping[str, str], name: str) -> bool:
    """Whether some row has a value there; the table is read up to the first such row."""
    batches = read_batches(table, meant_columns(table, columns), keep_empty=True)
    return any(batch[name].null_count < batch.num_rows for batch in batches)
