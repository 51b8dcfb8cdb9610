"""`gather`: pairs from tables of a person's own and from files to mine, divided into train and held out."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from udever.errors import DataError, RecipeError
from udever.files import may_hold_pairs
from udever.nearest import suggestion
from udever.pairs.files import Rows, meant_columns, read_batches, size_in_memory, without_empty
from udever.pairs.mining import USUAL_KINDS, Beside, Mined, Mining, mine_beside
from udever.pairs.mining.dedupe import family
from udever.pairs.schema import Pair
from udever.pairs.settings import BY_FILE, BY_TEXT, UNIT
from udever.pairs.split import ChooseFrom, Shares, keep_to_choose, split_table
from udever.pairs.table_options import check_division_options, check_mining_options, check_table_options

MAX_TABLE_BYTES = 4_000_000_000
"""Of a table that is held in memory whole; `udever train` reads larger ones from the disk."""
_UNITS = (BY_TEXT, BY_FILE, "anchor", "positive", "group", "label")


@dataclass(frozen=True)
class Gathering:
    """What is gathered, and how it is divided.

    `kinds`, `exclude`, `language` and `seed` are those of `mine`; `held_out`, `development` and `choose_from` are
    `Shares`. For tables of pairs, `columns` names their columns for those of pairs (none: what they mean is guessed),
    `skip_empty` leaves out rows without a side, and `held_out_by` says what stays together when the share `held_out` of
    the rows is held out: "text", "file", or a column of pairs.
    """

    kinds: Collection[str] = USUAL_KINDS
    exclude: Sequence[str] = ()
    language: str | None = None
    held_out: float = 0.1
    development: float = 0.0
    choose_from: ChooseFrom = "train"
    held_out_by: str = BY_TEXT
    columns: Mapping[str, str] = field(default_factory=dict)
    skip_empty: bool = False
    seed: int = 0

    @property
    def shares(self) -> Shares:
        """What is kept for scoring, and to choose by. Raises RecipeError for what is no share."""
        return Shares(self.held_out, self.development, self.choose_from)

    @property
    def mining(self) -> Mining:
        """What of it is mined."""
        return Mining(self.kinds, self.exclude, self.shares, self.seed, self.language)

    @property
    def unit(self) -> str:
        """The column of pairs by which rows of tables are held out, or "text"."""
        return UNIT if self.held_out_by == BY_FILE else self.held_out_by


def gather(paths: Sequence[Path], settings: Gathering = Gathering(), *, show_progress: bool = True) -> Mined:
    """Return the rows of the tables among `paths` and what `mine` finds in the other files and folders.

    A table is a file, named itself, of a format that can hold pairs, a saved data set, or a name on a hub. Its rows
    that say which of them are held out keep that; those that repeat another row or a held-out text are left out and
    counted. Raises as `mine`, `read_batches` and the checks of `table_options` do.
    """
    shares, paths = settings.shares, list(map(Path, paths))
    check_table_options(
        paths, held_out_by=settings.held_out_by, columns=settings.columns, skip_empty=settings.skip_empty
    )
    check_mining_options(paths, kinds=settings.kinds, exclude=settings.exclude, language=settings.language)
    tables = [path for path in paths if may_hold_pairs(path)]
    others = [path for path in paths if path not in tables]
    if not tables:
        return mine_beside(others, settings.mining, Beside(), show_progress=show_progress)
    if settings.held_out_by not in _UNITS:
        hint = suggestion(settings.held_out_by, _UNITS, "expected one of")
        raise RecipeError(f"held_out_by is {settings.held_out_by!r}; {hint}")
    skipped: Counter[str] = Counter()
    read = [(path, _read(path, settings, skipped)) for path in tables]
    check_division_options(read, shares, settings.held_out_by, mines=bool(others))
    rows = [pair for _, pairs in read for pair in pairs]
    distinct = _distinct(rows)
    if len(distinct) < len(rows):
        skipped["row: duplicate"] += len(rows) - len(distinct)
    pairs = split_table(distinct, shares.held_out, settings.seed, skipped, settings.unit)
    if not others:
        again = partial(split_table, seed=settings.seed + 1, skipped=skipped, by=settings.unit)
        pairs = keep_to_choose(pairs, shares, again)
        return Mined(pairs, dict(sorted(skipped.items())), len(tables), kinds=list(map(family, pairs)))
    mined = mine_beside(others, settings.mining, Beside(pairs, settings.unit), show_progress=show_progress)
    skipped.update(mined.skipped)
    return replace(mined, skipped=dict(sorted(skipped.items())), num_files=len(tables) + mined.num_files)


def _distinct(rows: Sequence[Pair]) -> list[Pair]:
    """Of rows of the same texts the first one, or the first that is not to be trained on."""
    kept: dict[tuple[str, str], Pair] = {}
    for pair in rows:
        first = kept.setdefault((pair.anchor.strip(), pair.positive.strip()), pair)
        if first.split == "train" != pair.split:
            kept[first.anchor.strip(), first.positive.strip()] = pair
    return list(kept.values())


def told_columns(path: Path, columns: Mapping[str, str]) -> str:
    """Which columns of a table are its pairs, in words."""
    found = {"anchor": "anchor", "positive": "positive", **meant_columns(path, columns)}
    return f"{path}: {found['anchor']} -> {found['positive']}"


def _read(path: Path, settings: Gathering, skipped: Counter[str]) -> list[Pair]:
    if size_in_memory(path) > MAX_TABLE_BYTES:
        raise DataError(
            f"{path} holds more than {MAX_TABLE_BYTES / 1e9:.0f} GB once read, too much to be held in memory; name it "
            f"in a recipe for udever train"
        )
    rows = Rows(read_batches(path, meant_columns(path, settings.columns), keep_empty=settings.skip_empty))
    filled = without_empty(rows)
    if not len(filled):
        raise DataError(f"{path} holds no pairs; expected at least one row")
    if len(filled) < len(rows):
        skipped["row: no anchor or positive"] += len(rows) - len(filled)
    return [pair if pair.source else replace(pair, source=path.name) for pair in filled]
