"""Which row and which dataset comes when, computed place by place and never stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

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
