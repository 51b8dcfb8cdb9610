"""Who is drawn when: shares that hold at every moment, not only on average."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from udever.data.permutation import key_of

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
