"""What the files give `adapt` to train and to score on."""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from udever.adaptation.settings import AdaptSettings
from udever.errors import DataError
from udever.evaluation.held_out import check_queries
from udever.files import may_hold_pairs
from udever.pairs.gathering import gather, told_columns
from udever.pairs.mining import ASKED, Mined
from udever.pairs.schema import Pair

_BOUND = "folder: history"
"""Of a repository's history more was there than was read, which a person should know."""


def gathered(paths: Sequence[Path], settings: AdaptSettings) -> tuple[Mined, float]:
    """What the files give, and how many seconds that took."""
    started = time.perf_counter()
    return _sampled(gather(paths, settings.gathering), settings), time.perf_counter() - started


def tell(mined: Mined, paths: Sequence[Path], settings: AdaptSettings, console: Console) -> None:
    """Say what there is to train and to score on. Raises DataError where that is nothing, or nothing can be scored."""
    for path in filter(may_hold_pairs, paths):
        console.print(told_columns(path, settings.columns), markup=False, highlight=False)
    train_pairs, held_out = split(mined)
    asked = [pair for pair, kind in zip(mined.pairs, mined.kinds, strict=True) if kind in ASKED]
    check_queries(held_out, [pair for pair in asked if pair.split != "held_out"])
    files = f"{mined.num_files:,} file{'s' * (mined.num_files != 1)}"
    to_choose = sum(pair.split == "development" for pair in mined.pairs)
    console.print(
        f"{files} gave {len(train_pairs):,} training pairs, {to_choose:,} to choose by and {len(held_out):,} held-out "
        f"pairs (no question of theirs in training; {sum(mined.skipped.values()):,} files and rows left out)"
    )
    for number, use in ((to_choose, "pairs to choose by"), (len(held_out), "held-out pairs")):
        if number > settings.max_queries:
            console.print(f"of the {number:,} {use} {settings.max_queries:,} are asked, a random sample")
    for reason in mined.skipped:
        if reason.startswith(_BOUND):
            console.print(f"left out: {reason.removeprefix('folder: ')}", markup=False, highlight=False)


def _sampled(mined: Mined, settings: AdaptSettings) -> Mined:
    """Mined with at most `max_studied` pairs of kinds that are learned from alone."""
    studied = [place for place, kind in enumerate(mined.kinds) if kind not in ASKED]
    if len(studied) <= settings.max_studied:
        return mined
    left_out = set(studied) - set(random.Random(settings.seed).sample(studied, settings.max_studied))
    kept = [place for place in range(len(mined.pairs)) if place not in left_out]
    pairs, kinds = [mined.pairs[place] for place in kept], [mined.kinds[place] for place in kept]
    skipped = {**mined.skipped, f"row: beyond {settings.max_studied:,} to learn from alone": len(left_out)}
    return replace(mined, pairs=pairs, kinds=kinds, skipped=skipped)


def split(mined: Mined) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs. Raises DataError where these are too few."""
    train_pairs = [pair for pair in mined.pairs if pair.split == "train"]
    held_out = [pair for pair in mined.pairs if pair.split == "held_out"]
    if len(train_pairs) < 2 or not held_out:
        raise DataError(
            f"the files give {len(train_pairs)} training and {len(held_out)} held-out pairs; {_what_to_do(mined)}"
        )
    return train_pairs, held_out


def _what_to_do(mined: Mined) -> str:
    asked = [pair for pair, kind in zip(mined.pairs, mined.kinds, strict=True) if kind in ASKED]
    if not asked:
        return (
            "they hold no docstring, no doc comment and no section with a heading, so there are no questions to score "
            "with: add a table of questions and answers, as in udever adapt qa.csv PATH"
        )
    if mined.corpus and len({pair.source for pair in asked}) == 1:
        return (
            "all questions come from one file, and files are held out whole: give more files, or hold out rows: run "
            "udever pairs PATH --kind code --kind docs -o pairs.parquet, then udever adapt pairs.parquet"
        )
    return "expected at least 2 and 1, with no file and no text in common: give more files, or change --held-out"
