"""In which order the rows of a dataset come: computed batch by batch, without those before it."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from udever.pairs.rows import Rows
from udever.pairs.schedule import key_of, permute
from udever.pairs.schema import Kind, Pair


class Part(Protocol):
    """Rows that are drawn together: one kind of one dataset, or, mixed, the dataset."""

    @property
    def num_rows(self) -> int | None:
        """How many there are; None where nobody knows."""
        ...

    @property
    def passes(self) -> float:
        """How many batches make one pass; 1 where nobody knows."""
        ...

    def batch(self, number: int) -> list[Pair]:
        """Batch `number` (from 0) of the walk over these rows."""
        ...

    def run(self, start: int, count: int) -> list[Pair]:
        """Rows `start` to `start + count` of an endless walk that leaves none out."""
        ...


class Walk:
    """Rows in a random order, another in each pass: any batch of any pass, without those before it.

    A pass gives as many full batches as there are; the rest of its rows, less than a batch and different in each
    pass, is left out. Fewer rows than a batch make one smaller batch a pass.
    """

    def __init__(self, table: "Table", chosen: NDArray[np.int64] | None, batch_size: int, seed: str) -> None:
        self._table = table
        self._chosen = chosen  # None: all rows
        self._seed = seed
        self.num_rows = len(table.rows) if chosen is None else len(chosen)
        self.batch_size = min(batch_size, self.num_rows)

    @property
    def passes(self) -> float:
        """How many batches make one pass."""
        return self.num_rows / self.batch_size

    def batch(self, number: int) -> list[Pair]:
        """Batch `number` of the walk."""
        epoch, place = divmod(number, self.num_rows // self.batch_size)
        return self._table.take(self._numbers(epoch, place * self.batch_size, self.batch_size))

    def run(self, start: int, count: int) -> list[Pair]:
        """Rows `start` to `start + count` of the walk, pass after pass."""
        return self._table.take(self.numbers(start, count))

    def numbers(self, start: int, count: int) -> NDArray[np.int64]:
        """The numbers of those rows in the table."""
        found = [np.empty(0, dtype=np.int64)]
        while count:
            epoch, place = divmod(start, self.num_rows)
            here = min(count, self.num_rows - place)
            found.append(self._numbers(epoch, place, here))
            start, count = start + here, count - here
        return np.concatenate(found)

    def _numbers(self, epoch: int, start: int, count: int) -> NDArray[np.int64]:
        places = np.arange(start, start + count, dtype=np.int64)
        numbers = permute(places, self.num_rows, key_of(self._seed, epoch))
        return numbers if self._chosen is None else self._chosen[numbers]


@dataclass(frozen=True)
class Table:
    """The rows of a dataset, and what its settings do to each."""

    rows: Rows
    kind: Kind | None = None
    num_negatives: int | None = None

    def take(self, numbers: NDArray[np.int64]) -> list[Pair]:
        """The rows with these numbers."""
        return [adjust(pair, self.kind, self.num_negatives) for pair in self.rows.take(numbers)]


def adjust(pair: Pair, kind: Kind | None, num_negatives: int | None) -> Pair:
    """`pair` with the kind and the number of negatives that the settings ask for."""
    if kind is not None and pair.kind != kind:
        pair = replace(pair, kind=kind)
    if num_negatives is not None and len(pair.negatives) > num_negatives:
        scores = None if pair.scores is None else pair.scores[: 1 + num_negatives]
        pair = replace(pair, negatives=pair.negatives[:num_negatives], scores=scores)
    return pair
