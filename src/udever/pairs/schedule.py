"""Which row and which dataset comes when: computed place by place, without those before, and never stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from udever.pairs.files import Rows
from udever.pairs.schema import Kind, Pair

pc: Any = pyarrow.compute  # its functions are made at run time: type checkers see none

_ROUNDS = 8
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))


def key_of(*parts: object) -> bytes:
    """A key for `permute` and `Draws`: another for every sequence of parts."""
    return blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8 * _ROUNDS).digest()


def permute(places: NDArray[np.int64], size: int, key: bytes) -> NDArray[np.int64]:
    """What stands at `places` (each in [0, size)) of the permutation of range(size) that `key` names.

    A Feistel network over the least even number of bits that holds `size`: a bijection of a range of less than
    four times the size. What falls outside is sent through again until it falls inside (cycle walking, Black and
    Rogaway 2002), which keeps it a bijection.
    """
    assert size >= 1 and len(key) == 8 * _ROUNDS
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = np.frombuffer(key, dtype="<u8")
    out = _network(places.astype(np.uint64), half, keys)
    outside = out >= size
    while outside.any():
        out[outside] = _network(out[outside], half, keys)
        outside = out >= size
    return out.astype(np.int64)


def _network(values: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_scramble(right ^ key) & mask)
    return (left << half) | right


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of the result hangs on every bit of the value (the closing steps of MurmurHash3)."""
    shift = np.uint64(33)
    values = (values ^ (values >> shift)) * _MIX[0]
    values = (values ^ (values >> shift)) * _MIX[1]
    return values ^ (values >> shift)


_BITS = 128
_WHOLE_ROWS = 65_536
"""Of up to so many rows the order of the present pass is held."""


@dataclass(frozen=True)
class _Fork:
    """Of the first t draws that come here, (t * share + offset) >> _BITS go left."""

    share: int
    offset: int
    left: "_Fork | int"
    right: "_Fork | int"

    def gone_left(self, draws: int) -> int:
        return (draws * self.share + self.offset) >> _BITS


class Draws:
    """An endless sequence of draws among len(weights) things, each drawn in proportion to its weight.

    A tree of forks, each of which sends its draws left and right as evenly as whole numbers can: with two things
    the count of each is never further than 1 from its share, with n never further than log2(n) + 1. The sequence is
    fixed by weights and `seed`, and any draw is found without those before it.
    """

    def __init__(self, weights: Sequence[float], seed: object) -> None:
        assert weights and all(weight > 0 for weight in weights)
        self._root = _grow([Fraction(weight) for weight in weights], 0, str(seed))

    def draw(self, number: int) -> tuple[int, int]:
        """Which thing draw `number` (from 0) takes, and how often it was taken before."""
        node = self._root
        while isinstance(node, _Fork):
            before = node.gone_left(number)
            if node.gone_left(number + 1) > before:
                node, number = node.left, before
            else:
                node, number = node.right, number - before
        return node, number

    def taken(self, number: int) -> list[int]:
        """How often each thing was taken in the draws before `number`."""
        counts: list[int] = []
        waiting: list[tuple[_Fork | int, int]] = [(self._root, number)]
        while waiting:
            node, draws = waiting.pop()
            if isinstance(node, _Fork):
                left = node.gone_left(draws)
                waiting += [(node.right, draws - left), (node.left, left)]
            else:
                counts.append(draws)
        return counts


def _grow(weights: Sequence[Fraction], first: int, seed: str) -> _Fork | int:
    if len(weights) == 1:
        return first
    middle = len(weights) // 2
    share = sum(weights[:middle], Fraction()) / sum(weights, Fraction())
    offset = int.from_bytes(key_of("draws", seed, first, len(weights))[: _BITS // 8], "little")
    return _Fork(
        share=max(1, int(share * 2**_BITS)),
        offset=offset,
        left=_grow(weights[:middle], first, seed),
        right=_grow(weights[middle:], first + middle, seed),
    )


class Walk:
    """Rows in a random order, another in each pass: any batch of any pass, without those before it.

    A pass gives as many full batches as there are; the rest of its rows, less than a batch and different in each
    pass, is left out. Fewer rows than a batch make one smaller batch a pass.
    """

    def __init__(self, table: "RowTable", chosen: NDArray[np.int64] | None, batch_size: int, seed: str) -> None:
        self._table = table
        self._chosen = chosen  # None: all rows
        self._seed = seed
        self.num_rows = len(table.rows) if chosen is None else len(chosen)
        self.batch_size = min(batch_size, self.num_rows)
        self._pass: tuple[int, NDArray[np.int64]] | None = None

    @property
    def passes(self) -> float:
        """How many batches make one pass."""
        return self.num_rows / self.batch_size

    def batch(self, number: int) -> list[Pair]:
        """Batch `number` (from 0) of the walk."""
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
        numbers = self._order(epoch)[start : start + count] if self.num_rows <= _WHOLE_ROWS else None
        if numbers is None:
            places = np.arange(start, start + count, dtype=np.int64)
            numbers = permute(places, self.num_rows, key_of(self._seed, epoch))
        return numbers if self._chosen is None else self._chosen[numbers]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The whole order of a pass, remembered: a batch of many languages asks each for a few rows at a time."""
        if self._pass is None or self._pass[0] != epoch:
            places = np.arange(self.num_rows, dtype=np.int64)
            self._pass = epoch, permute(places, self.num_rows, key_of(self._seed, epoch))
        return self._pass[1]


@dataclass(frozen=True)
class RowTable:
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


class Balanced:
    """A part of a mixture in which a language with n rows has a share of n ** `power`.

    A language is what a row's two sides are in, together. Each is walked in its own random order, another in every
    pass, and the languages take turns as evenly as whole numbers can: any batch is found without those before it.
    """

    def __init__(
        self, table: RowTable, chosen: NDArray[np.int64] | None, batch_size: int, power: float, seed: str
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


def languages_of(rows: Rows) -> Iterator[pa.Array]:
    """What the two sides of each row are in, together and batch by batch: `eng-Latn -> ?`."""
    for anchor, positive in zip(rows.column("anchor_language"), rows.column("positive_language"), strict=True):
        sides = [pc.fill_null(side, "?") for side in (anchor, positive)]
        yield pc.binary_join_element_wise(*sides, pa.scalar(" -> ", pa.large_string()))


def rows_by_language(rows: Rows, chosen: NDArray[np.int64] | None) -> dict[str, NDArray[np.int64]]:
    """The numbers of the chosen rows (all where None) of each language, by its name; sorted by name."""
    names = [name for both in languages_of(rows) for name in both.to_pylist()]
    numbers = np.arange(len(names)) if chosen is None else chosen
    distinct, which = np.unique(np.array(names, dtype=object)[numbers].astype(str), return_inverse=True)
    order = np.argsort(which, kind="stable")
    ends = np.searchsorted(which[order], np.arange(len(distinct) + 1))
    return {str(name): numbers[order[ends[i] : ends[i + 1]]] for i, name in enumerate(distinct)}
