"""Divide rows into train and held out so that nothing held out was seen in training.

Units go to one side as a whole: a hash of the seed and a unit's name decides, so a new unit never moves another. The
unit of mined rows is the file; of a table it is what the person names, or all rows that equal or near-equal texts join.
Rows of one group (translations of one message) can be in units on both sides; then a hash of the group says on which
side the group stays, and its rows on the other side are left out, as is every row of train that repeats a held-out
text: the same in any spelling, or nearly the same (`udever.text.grouping`). Rows whose split is development are
neither trained on nor held out: training rows of their groups and texts are left out, and so are they where they are of
what is held out.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError, RecipeError
from udever.pairs.files import Rows
from udever.pairs.schema import Pair, Split
from udever.pairs.settings import BY_TEXT
from udever.text.grouping import Held, groups_of

TRAIN, HELD_OUT, LEFT_OUT, DEVELOPMENT = range(4)
_SAME_GROUP = "row: same group on the other side of the split"
_REPEATS = "row: text that is held out, exactly or nearly"
_DEVELOPMENT_REPEATS = "row: text or group of a development row, exactly or nearly"
_DEVELOPMENT_HELD = "row: development row of what is held out"
MIN_TO_CHOOSE = 100
"""Questions below which none is kept to choose by."""
_LEAST_KEPT = 30
"""To choose by: fewer tell nothing (dev/LOG.md)."""
_SPLITS: dict[int, Split] = {TRAIN: "train", HELD_OUT: "held_out", DEVELOPMENT: "development"}
ChooseFrom = Literal["train", "held_out"]
"""Of which rows some are kept to choose by: held-out ones where the base has learned from the files of the others."""
_MOST = 1.5
"""Units that would make the held-out rows more than this many times the share asked for stay in train."""


def position(name: str, seed: int) -> float:
    """Return where `name` falls in [0, 1), evenly, by a hash with `seed`."""
    digest = blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def choose(names: Collection[str], share: float, seed: int) -> set[str]:
    """Return the names that are held out, about `share` of them; of several, one at least and not all.

    The choice for one name depends on the others only where a side would stay empty.
    """
    ranked = sorted(set(names), key=lambda name: (position(name, seed), name))
    chosen = sum(position(name, seed) < share for name in ranked)
    if share > 0 and len(ranked) > 1:
        chosen = min(max(chosen, 1), len(ranked) - 1)
    elif len(ranked) == 1:
        chosen = 0  # a single file: all of it is for training
    return set(ranked[:chosen])


def choose_sized(sizes: Mapping[str, int], share: float, seed: int) -> set[str]:
    """As `choose` for units of very different sizes: about `share` of all rows, and no unit that is far more."""
    most = max(1.0, _MOST * share * sum(sizes.values()))
    ranked = sorted(sizes, key=lambda name: (position(name, seed), name))
    chosen: set[str] = set()
    num_rows = 0
    for name in ranked:
        is_wanted = position(name, seed) < share or not chosen
        if is_wanted and num_rows + sizes[name] <= most and len(chosen) + 1 < len(ranked):
            chosen.add(name)
            num_rows += sizes[name]
    return chosen or {min(ranked, key=lambda name: (sizes[name], name))}


def compared(pair: Pair) -> tuple[str, ...]:
    """The texts of a row that must be new where it is held out; the positives of a class stand for it on both sides."""
    texts = (pair.anchor,) if pair.kind == "classification" else (pair.anchor, pair.positive)
    return tuple(text for text in texts if text and text.strip())


def split_pairs(pairs: Sequence[Pair], held_out: float, seed: int, skipped: Counter[str]) -> list[Pair]:
    """Return mined `pairs` with their split set by file, less the rows that would be on both sides.

    Those are counted in `skipped`. `held_out` is the share of files held out, in [0, 1). With one file
    everything is train; with more, each side has one at least. No file, group or text is on both
    sides, nor two texts that are near-equal.
    """
    if held_out == 0:
        return [replace(pair, split="train") for pair in pairs]
    names = [pair.source or "" for pair in pairs]
    return _apply(pairs, _settle(pairs, names, choose(set(names), held_out, seed), held_out, seed), skipped)


def split_table(pairs: Sequence[Pair], held_out: float, seed: int, skipped: Counter[str], by: str) -> list[Pair]:
    """As `split_pairs` for a person's own rows, `held_out` the share of rows and `by` as in `divide`.

    Rows that already say which of them are held out keep that, and rows that are to choose by stay such rows.
    """
    splits = [pair.split for pair in pairs]
    if held_out and "held_out" not in splits:
        return _apply(pairs, divide(pairs, held_out, seed, by), skipped)
    return _apply(pairs, _settle(pairs, splits, {"held_out"}, held_out, seed), skipped)


@dataclass(frozen=True)
class Shares:
    """What of the files is kept for scoring, and which share of the others, or of these, to choose by.

    Raises RecipeError for what is no share, and for another `choose_from`.
    """

    held_out: float = 0.1
    development: float = 0.0
    choose_from: ChooseFrom = "train"

    def __post_init__(self) -> None:
        for name, share in (("held_out", self.held_out), ("development", self.development)):
            if not 0 <= share < 1:
                raise RecipeError(f"{name} is {share}; expected a share from 0 to below 1, such as 0.1")
        if self.choose_from not in get_args(ChooseFrom):
            expected = " or ".join(get_args(ChooseFrom))
            raise RecipeError(f"choose_from is {self.choose_from!r}; expected {expected}")


def keep_to_choose(
    pairs: Sequence[Pair], shares: Shares, again: Callable[[list[Pair], float], list[Pair]]
) -> list[Pair]:
    """Pairs, of which those that `again`, a split by another seed, holds out are development pairs.

    About 30 at least, of however few; none where there are fewer than MIN_TO_CHOOSE to take them from, where these are
    a single unit, or where some pairs say themselves that they are to choose by.
    """
    side = shares.choose_from
    found = [replace(pair, split="train") for pair in pairs if pair.split == side]
    said = any(pair.split == "development" for pair in pairs)
    if said or not shares.development or len(found) < MIN_TO_CHOOSE:
        return list(pairs)
    try:
        divided = again(found, max(shares.development, _LEAST_KEPT / len(found)))
    except DataError:
        return list(pairs)
    marked = [replace(pair, split="development" if pair.split == "held_out" else side) for pair in divided]
    return [*marked, *(pair for pair in pairs if pair.split != side)]


@dataclass(frozen=True)
class Division:
    """The side of each row (TRAIN, HELD_OUT, LEFT_OUT or DEVELOPMENT), and how many were left out by reason."""

    sides: NDArray[np.int8]
    skipped: Mapping[str, int]

    @property
    def num_held_out(self) -> int:
        """Rows held out."""
        return int((self.sides == HELD_OUT).sum())


def divide(pairs: Sequence[Pair] | Rows, share: float, seed: int, by: str) -> Division:
    """Hold out about `share` of the rows, in (0, 1); the same for the same rows in any order.

    `by` is "text" (rows that equal or near-equal texts join stay together) or the name of a column of `Pair` whose
    value they share; a row without a value is one of its own. Rows that are to choose by count in no unit. Raises
    DataError where that makes a single unit.
    """
    names = _joined(pairs) if by == BY_TEXT else [str(getattr(pair, by) or f"anchor {pair.anchor}") for pair in pairs]
    sizes = Counter(name for name, pair in zip(names, pairs, strict=True) if pair.split != "development")
    if len(sizes) < 2:
        what = "equal and near-equal texts join all of them" if by == BY_TEXT else f"all of them have the same {by}"
        raise DataError(f"nothing can be held out of {sizes.total():,} rows by {by}, since {what}")
    return _settle(pairs, names, choose_sized(sizes, share, seed), share, seed)


def _joined(pairs: Sequence[Pair] | Rows) -> list[str]:
    """For each row the name of all rows that its texts and its group join, whatever order they are in."""
    found: list[tuple[int, str, str]] = []  # row, text, and the name that joins it to others
    for row, pair in enumerate(pairs):
        found += [(row, text, f"row {row}") for text in compared(pair)]
        if pair.group is not None and pair.anchor:
            found.append((row, pair.anchor, f"group {pair.group}"))
    units = groups_of([text for _, text, _ in found], [name for _, _, name in found]).tolist()
    called: dict[int, str] = {}
    unit_of: dict[int, int] = {}
    for unit, (row, text, _) in zip(units, found, strict=True):
        called[unit] = min(text, called.get(unit, text))
        unit_of[row] = unit
    return [called[unit_of[row]] if row in unit_of else "" for row in range(len(pairs))]


def _settle(pairs: Sequence[Pair] | Rows, names: Sequence[str], held: set[str], share: float, seed: int) -> Division:
    """Hold out the units `held`, and leave out what would then be on two sides."""
    rows = [(pair.split, pair.group) for pair in pairs]
    groups = [group for _, group in rows]
    to_choose = np.array([split == "development" for split, _ in rows], bool)
    sides = np.array([HELD_OUT if name in held else TRAIN for name in names], np.int8)
    counts: Counter[str] = Counter()

    def leave_out(rows: NDArray[np.bool_], reason: str) -> None:
        counts[reason] += int(rows.sum())
        sides[rows] = LEFT_OUT

    leave_out(to_choose & (sides == HELD_OUT), _DEVELOPMENT_HELD)
    leave_out(_on_both_sides(sides, groups, share, seed), _SAME_GROUP)
    leave_out(_repeating(pairs, sides, HELD_OUT), _REPEATS)
    sides[to_choose & (sides == TRAIN)] = DEVELOPMENT
    chosen_by = {group for group, side in zip(groups, sides, strict=True) if side == DEVELOPMENT and group is not None}
    of_group = np.array([group in chosen_by for group in groups], bool)
    leave_out((sides == TRAIN) & (of_group | _repeating(pairs, sides, DEVELOPMENT)), _DEVELOPMENT_REPEATS)
    return Division(sides, {reason: count for reason, count in counts.items() if count})


def _on_both_sides(sides: NDArray[np.int8], groups: Sequence[str | None], share: float, seed: int) -> NDArray[np.bool_]:
    """The rows on that side of their group on which it does not stay."""
    found: dict[str, set[int]] = {}
    for group, side in zip(groups, sides.tolist(), strict=True):
        if group is not None and side != LEFT_OUT:
            found.setdefault(group, set()).add(side)
    straddling = {group for group, both in found.items() if len(both) == 2}
    held = choose(straddling, share, seed)
    wrong = [
        group in straddling and side != LEFT_OUT and (side == HELD_OUT) != (group in held)
        for group, side in zip(groups, sides.tolist(), strict=True)
    ]
    return np.array(wrong, bool)


def _repeating(pairs: Sequence[Pair] | Rows, sides: NDArray[np.int8], of: int) -> NDArray[np.bool_]:
    """The rows of train that repeat a text of the side `of`."""
    repeating = np.zeros(len(sides), bool)
    if not (sides == of).any():
        return repeating
    held = Held(text for pair, side in zip(pairs, sides, strict=True) if side == of for text in compared(pair))
    train = [(row, text) for row, pair in enumerate(pairs) if sides[row] == TRAIN for text in compared(pair)]
    for (row, _), found in zip(train, held.matches(text for _, text in train), strict=True):
        repeating[row] |= bool(found)
    return repeating


def _apply(pairs: Sequence[Pair], division: Division, skipped: Counter[str]) -> list[Pair]:
    skipped.update(division.skipped)
    return [
        replace(pair, split=_SPLITS[side])
        for pair, side in zip(pairs, division.sides.tolist(), strict=True)
        if side != LEFT_OUT
    ]
