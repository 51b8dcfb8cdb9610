"""Rows of several languages, drawn so that small languages come more often than their rows are many."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from udever.pairs.rows import Rows
from udever.pairs.schedule import Draws
from udever.pairs.schema import Pair
from udever.pairs.walks import Table, Walk

pc: Any = pyarrow.compute  # its functions are made at run time: type checkers see none


class Balanced:
    """A part of a mixture in which a language with n rows has a share of n ** `power`.

    A language is what a row's two sides are in, together. Each is walked in its own random order, another in every
    pass, and the languages take turns as evenly as whole numbers can: any batch is found without those before it.
    """

    def __init__(
        self, table: Table, chosen: NDArray[np.int64] | None, batch_size: int, power: float, seed: str
    ) -> None:
        self._table = table
        by_language = rows_by_language(table.rows, chosen)
        self._walks = [Walk(table, rows, batch_size, f"{seed} {name}") for name, rows in by_language.items()]
        self._draws = Draws([walk.num_rows**power for walk in self._walks], f"{seed} languages")
        self.num_rows = sum(walk.num_rows for walk in self._walks)
        self.batch_size = min(batch_size, self.num_rows)

    @property
    def passes(self) -> float:
        """How many batches hold as many rows as there are."""
        return self.num_rows / self.batch_size

    def batch(self, number: int) -> list[Pair]:
        """Batch `number` (from 0)."""
        return self.run(number * self.batch_size, self.batch_size)

    def run(self, start: int, count: int) -> list[Pair]:
        """Draws `start` to `start + count`, the rows of a language side by side."""
        before, after = self._draws.taken(start), self._draws.taken(start + count)
        turns = zip(self._walks, before, after, strict=True)
        return self._table.take(np.concatenate([walk.numbers(first, end - first) for walk, first, end in turns]))


def rows_by_language(rows: Rows, chosen: NDArray[np.int64] | None) -> dict[str, NDArray[np.int64]]:
    """The numbers of the chosen rows (all where None) of each language, by its name; sorted by name."""
    names: list[str] = []
    for anchor, positive in zip(rows.column("anchor_language"), rows.column("positive_language"), strict=True):
        sides = [pc.fill_null(side, "?") for side in (anchor, positive)]
        names += pc.binary_join_element_wise(*sides, pa.scalar(" -> ", pa.large_string())).to_pylist()
    numbers = np.arange(len(names)) if chosen is None else chosen
    distinct, which = np.unique(np.array(names, dtype=object)[numbers].astype(str), return_inverse=True)
    order = np.argsort(which, kind="stable")
    ends = np.searchsorted(which[order], np.arange(len(distinct) + 1))
    return {str(name): numbers[order[ends[i] : ends[i + 1]]] for i, name in enumerate(distinct)}
