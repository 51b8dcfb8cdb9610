"""Datasets that are read from first row to last, over and over, and remember where they are."""

import copy
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from udever.data_sets import stream_files
from udever.errors import DataError, first_line
from udever.pairs.columns import Blanks, choose_columns, from_records, names_in, normalise
from udever.pairs.files import Rows
from udever.pairs.schedule import adjust
from udever.pairs.schema import Pair
from udever.pairs.settings import DatasetSettings
from udever.pairs.sources import digest_paths, find_files, open_hub

_LOOKED_AT, _AT_ONCE = 1_000_000, 4096
"""Rows that are read on after the first one without a side, to name the others with it; a stream may have no end."""


class EmptyRowsWarning(UserWarning):
    """Rows of a stream lack a side and are left out."""


class Stream:
    """A streaming dataset as a part of a mixture.

    Rows come in the order of the source. Asked for rows behind or far before where it stands, it reads from
    the start, or on, and gives the right ones all the same; `restore` makes that free. All its rows are of one
    kind. `num_empty` counts the rows of this pass that `skip_empty` left out; after a whole pass an EmptyRowsWarning
    tells their number once.
    """

    num_rows = None  # nobody knows
    passes = 1.0

    def __init__(self, settings: DatasetSettings, batch_size: int) -> None:
        self._settings = settings
        self._where = f"dataset {settings.name!r}"
        self._batch_size = batch_size
        self._paths = find_files(settings) if settings.hub is None else []
        hub = settings.hub is not None
        self._whole = open_hub(settings, streaming=True) if hub else stream_files(self._paths)
        self._is_told = False
        self._rewind()
        self._read(1)  # so that a stream that cannot be read fails before any work
        self._rewind()

    @property
    def digest(self) -> str:
        """A digest of the content of local files; of the hub's, the name and revision asked for."""
        if self._paths:
            return digest_paths(self._paths)
        named = self._settings
        return f"{named.hub} {named.config} {named.hub_split} {named.revision}"

    def batch(self, number: int) -> list[Pair]:
        """Batch `number` of the stream."""
        return self.run(number * self._batch_size, self._batch_size)

    def run(self, start: int, count: int) -> list[Pair]:
        """Rows `start` to `start + count` of the stream, pass after pass."""
        if start < self._position:
            self._rewind()
        while self._position < start:
            self._read(min(start - self._position, self._batch_size))
        return self._read(count)

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON can hold it."""
        return {
            "position": self._position,
            "row": self._row,
            "accepted": self._accepted,
            "empty": self.num_empty,
            "source": self._source.state_dict() if self._begun else self._opened_at,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where `state` says."""
        try:
            position, row, accepted, empty = (int(state[name]) for name in ("position", "row", "accepted", "empty"))
            self._open(state["source"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self._where}: the saved position does not fit the stream; start anew") from error
        self._position, self._row, self._accepted, self.num_empty = position, row, accepted, empty

    def _rewind(self) -> None:
        self._open(None)
        self._position = self._row = self._accepted = self.num_empty = 0

    def _open(self, state: dict[str, Any] | None) -> None:
        # Trap: a loaded state is where every later pass of the same object starts too, so each pass has its own.
        self._source = copy.deepcopy(self._whole)
        if state is not None:
            self._source.load_state_dict(state)
        # Trap: before the first row is read, state_dict() forgets what was loaded.
        self._opened_at, self._begun = state, False
        self._records: Iterator[dict[str, Any]] = iter(self._source)

    def _read(self, count: int) -> list[Pair]:
        pairs: list[Pair] = []
        while len(pairs) < count:
            room = count - len(pairs)
            if self._settings.cap is not None:
                room = min(room, self._settings.cap - self._accepted)
            records = self._next(room)
            if records:
                kept = self._kept(records)
                self._accepted += len(kept)
                pairs += kept
            elif self._accepted == 0:
                raise DataError(f"{self._where} gives no row with its split and languages; expected at least one")
            else:
                self._tell()
                self._open(None)
                self._row = self._accepted = self.num_empty = 0
        self._position += count
        return pairs

    def _next(self, count: int) -> list[dict[str, Any]]:
        self._begun = self._begun or count > 0
        try:
            return list(islice(self._records, count))
        except Exception as error:  # the readers of `datasets` raise whatever their formats do
            raise DataError(f"{self._where} cannot be read behind row {self._row}: {first_line(error)}") from error

    def _kept(self, records: list[dict[str, Any]]) -> list[Pair]:
        first, blanks = self._row, Blanks(self._where, skip=self._settings.skip_empty)
        whole = self._normalised(records, blanks)
        if blanks.any and not self._settings.skip_empty:
            end = first + _LOOKED_AT
            while self._row < end and (more := self._next(min(_AT_ONCE, end - self._row))):
                self._normalised(more, blanks)
            blanks.check()
        kept = []
        for row, pair in enumerate(Rows([whole]), start=first):
            if not (pair.anchor or "").strip() or not (pair.positive or "").strip():
                self.num_empty += 1
            elif pair.split == self._settings.split and self._speaks(pair):
                kept.append(self._adjusted(pair, row))
        return kept

    def _normalised(self, records: list[dict[str, Any]], blanks: Blanks) -> pa.RecordBatch:
        chosen = choose_columns(list(names_in(records)), self._settings.columns, self._where)
        batch = from_records(records, chosen, self._where, self._row)
        whole = normalise(batch, self._where, self._row, blanks)
        self._row += len(records)
        return whole

    def _tell(self) -> None:
        """After a whole pass, once: how many rows were left out."""
        if self.num_empty and not self._is_told:
            warnings.warn(
                f"{self._where}: {self.num_empty:,} of {self._row:,} rows have no anchor or positive and are left out",
                EmptyRowsWarning,
                stacklevel=2,
            )
        self._is_told = True

    def _speaks(self, pair: Pair) -> bool:
        wanted = self._settings.languages
        return wanted is None or (pair.anchor_language in wanted and pair.positive_language in wanted)

    def _adjusted(self, pair: Pair, row: int) -> Pair:
        kind = self._settings.kind or "asymmetric"
        if self._settings.kind is None and pair.kind != kind:
            raise DataError(f"{self._where} row {row}: kind is {pair.kind!r} in a stream; set the dataset's kind")
        if kind == "classification" and pair.label is None:
            raise DataError(f"{self._where} row {row}: kind is {kind!r} and 'label' is missing; expected the class")
        return adjust(pair, kind, self._settings.num_negatives)
