"""Which pairs make which batch: a pure function of the pairs, the batch size and the seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from udever.data.pairs import Pair
from udever.losses import known_positives


@dataclass(frozen=True)
class Batch:
    """Pairs of one kind, and their hard negatives (each distinct text once)."""

    pairs: tuple[Pair, ...]
    negatives: tuple[str, ...]

    @property
    def symmetric(self) -> bool:
        """Whether both sides carry the query's markers and the loss goes both ways."""
        return self.pairs[0].kind == "symmetric"

    def known(self) -> Tensor:
        """`losses.known_positives` of this batch: [pairs, pairs + negatives]."""
        anchors = [pair.anchor for pair in self.pairs]
        candidates = [pair.positive for pair in self.pairs] + list(self.negatives)
        ids = _number([*anchors, *candidates])
        groups = _number([pair.group for pair in self.pairs])
        return known_positives(ids[: len(anchors)], ids[len(anchors) :], groups)


def _number(values: Sequence[str | None]) -> Tensor:
    """Equal values get equal numbers; None gets -1."""
    seen: dict[str, int] = {}
    return torch.tensor([-1 if value is None else seen.setdefault(value, len(seen)) for value in values])


def make_batch(pairs: Sequence[Pair]) -> Batch:
    """A batch of pairs of one kind."""
    assert len({pair.kind for pair in pairs}) == 1, "a batch holds pairs of one kind"
    negatives = dict.fromkeys(pair.negative for pair in pairs if pair.negative is not None)
    return Batch(tuple(pairs), tuple(negatives))


def batches_per_epoch(pairs: Sequence[Pair], batch_size: int) -> int:
    """How many full batches one pass has, each of one kind; at least one."""
    return max(1, sum(len(rows) // batch_size for rows in _by_kind(pairs)))


def epoch_batches(pairs: Sequence[Pair], batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
    """The batches of one pass in random order, each of `batch_size` pairs of one kind.

    What does not fill a batch is left out of this pass (another remainder in each); where no kind fills
    one, the pass is one batch of the largest kind.
    """
    chosen: list[list[int]] = []
    kinds = _by_kind(pairs)
    for number, rows in enumerate(kinds):
        random.Random(f"{seed} {epoch} {number}").shuffle(rows)
        chosen += [rows[i : i + batch_size] for i in range(0, len(rows) - batch_size + 1, batch_size)]
    if not chosen:
        chosen = [max(kinds, key=len)]
    random.Random(f"{seed} {epoch}").shuffle(chosen)
    for rows in chosen:
        yield make_batch([pairs[i] for i in rows])


def _by_kind(pairs: Sequence[Pair]) -> list[list[int]]:
    kinds = ("asymmetric", "symmetric")
    rows = [[i for i, pair in enumerate(pairs) if pair.kind == kind] for kind in kinds]
    return [indices for indices in rows if indices]
