"""A batch of pairs as distinct texts, and as the numbers by which the loss knows them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from udever.model.contract import RoleName
from udever.pairs.mixture import Batch
from udever.pairs.schema import Pair
from udever.training.objectives import BatchIds


@dataclass(frozen=True, slots=True)
class Text:
    """One text as the model is to see it."""

    text: str
    role: RoleName
    instruction: str | None


@dataclass(frozen=True)
class BatchTexts:
    """Every distinct text of a batch once, and where each side of each pair finds its own.

    A pure function of the batch: every process computes the same and embeds a share of `texts`.
    """

    texts: list[Text]
    anchors: Tensor
    positives: Tensor
    negatives: Tensor
    ids: BatchIds

    @cached_property
    def by_size(self) -> list[int]:
        """Indices of `texts`, longest first: neighbours cost about the same."""
        return sorted(range(len(self.texts)), key=lambda i: (-len(self.texts[i].text), i))

    def share(self, rank: int, size: int) -> list[int]:
        """The texts process `rank` of `size` embeds: dealt out there and back, so that shares weigh alike."""
        order = self.by_size
        turns = [order[start : start + size] for start in range(0, len(order), size)]
        places = [rank if number % 2 == 0 else size - 1 - rank for number in range(len(turns))]
        return [turn[place] for turn, place in zip(turns, places, strict=True) if place < len(turn)]


def text_id(text: str, kind: str = "") -> int:
    """A number below 2^60 that equal texts share, on every process and machine."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8, person=kind.encode()).digest()
    return int.from_bytes(digest, "big") >> 4


def _ids_of(values: Sequence[str | None], kind: str) -> Tensor:
    return torch.tensor([-1 if value is None else text_id(value, kind) for value in values], dtype=torch.int64)


def _roles(pair: Pair) -> tuple[RoleName, RoleName]:
    return ("query", "document") if pair.kind == "asymmetric" else ("symmetric", "symmetric")


def _teacher(pairs: Sequence[Pair]) -> Tensor | None:
    if not any(pair.scores for pair in pairs):
        return None
    width = max(len(pair.scores or ()) for pair in pairs)
    rows = [[*(pair.scores or ()), *[float("nan")] * (width - len(pair.scores or ()))] for pair in pairs]
    return torch.tensor(rows)


def batch_texts(batch: Batch) -> BatchTexts:
    """Take a batch apart."""
    seen: dict[Text, int] = {}

    def place(text: str, role: RoleName, instruction: str | None) -> int:
        return seen.setdefault(Text(text, role, instruction), len(seen))

    anchors, positives = [], []
    negatives: dict[int, str] = {}
    own: list[tuple[int, str]] = []
    for row, (pair, traits) in enumerate(zip(batch.pairs, batch.traits, strict=True)):
        anchor_role, document_role = _roles(pair)
        behind = traits.instruction if document_role == "symmetric" else traits.document_instruction
        anchors.append(place(pair.anchor, anchor_role, traits.instruction))
        positives.append(place(pair.positive, document_role, behind))
        for text in pair.negatives:
            negatives[place(text, document_role, behind)] = text
            own.append((row, text))
    symmetric = [pair.kind != "asymmetric" for pair in batch.pairs]
    ids = BatchIds(
        anchors=_ids_of([pair.anchor for pair in batch.pairs], ""),
        positives=_ids_of([pair.positive for pair in batch.pairs], ""),
        negatives=_ids_of(list(negatives.values()), ""),
        own_rows=torch.tensor([row for row, _ in own], dtype=torch.int64),
        own_ids=_ids_of([text for _, text in own], ""),
        groups=_ids_of([pair.group for pair in batch.pairs], "group"),
        labels=_ids_of([pair.label for pair in batch.pairs], "label"),
        symmetric=torch.tensor(symmetric),
        in_batch=torch.tensor([traits.in_batch_negatives for traits in batch.traits]),
        teacher=_teacher(batch.pairs),
    )
    index = [torch.tensor(side, dtype=torch.int64) for side in (anchors, positives, list(negatives))]
    return BatchTexts(list(seen), index[0], index[1], index[2], ids)
