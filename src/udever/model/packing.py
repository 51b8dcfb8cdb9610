"""Packed batches: a flat run of tokens and the boundaries between its texts. Padding does not exist here."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Texts laid end to end.

    `tokens` holds every text's ids in order; `lengths` (each at least 1) says where one ends and the next
    begins. `cu_seqlens[i]` is where text i starts, `cu_seqlens[-1]` the total.
    """

    tokens: Int[Tensor, "total"]
    lengths: tuple[int, ...]

    @cached_property
    def cu_seqlens(self) -> Int[Tensor, "texts_and_one"]:
        """Boundaries on the device of `tokens`."""
        starts = torch.zeros(len(self.lengths) + 1, dtype=torch.int64)
        starts[1:] = torch.tensor(self.lengths).cumsum(0)
        return starts.to(self.tokens.device)

    @cached_property
    def last(self) -> Int[Tensor, "texts"]:
        """Index of each text's closing token."""
        return self.cu_seqlens[1:] - 1

    @cached_property
    def text_of_token(self) -> Int[Tensor, "total"]:
        """For each token, which text it belongs to."""
        lengths = torch.tensor(self.lengths, device=self.tokens.device)
        return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)

    @cached_property
    def positions(self) -> Int[Tensor, "total"]:
        """For each token, its place within its own text, from 0."""
        return torch.arange(len(self.tokens), device=self.tokens.device) - self.cu_seqlens[self.text_of_token]


def pack(sequences: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Packed:
    """Lay token sequences end to end, in the order given. Every sequence holds at least one id."""
    lengths = tuple(len(sequence) for sequence in sequences)
    assert lengths and min(lengths) > 0, "a packed batch needs at least one text, and each text one token"
    flat = [token for sequence in sequences for token in sequence]
    return Packed(torch.tensor(flat, dtype=torch.int64, device=device), lengths)


def plan_batches(lengths: Sequence[int], batch_tokens: int, batch_size: int | None = None) -> list[list[int]]:
    """Share out texts into batches of at most `batch_tokens` tokens and `batch_size` texts; return their indices.

    Longest first, so that each batch holds texts of near-equal length and the largest batch comes first
    (out of memory shows at once, not after hours). A text longer than the budget gets a batch alone.
    Every index occurs once.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[index] > room or len(batches[-1]) == batch_size:
            batches.append([])
            room = max(batch_tokens, lengths[index])
        batches[-1].append(index)
        room -= lengths[index]
    return batches


def few_sizes(num: int) -> int:
    """The next of the sizes that batches are filled up to: eight of them between a number and its double."""
    step = 1 << max(0, num.bit_length() - 4)
    return -(-num // step) * step


def fillers(lengths: Sequence[int]) -> list[int]:
    """Lengths of texts that, put behind a batch of such `lengths`, leave it few different shapes.

    Both the number of texts and of tokens then are of `few_sizes`. oneDNN compiles every product anew for each
    number of rows and never forgets all of it: 0.35 MB for each product and size (dev/LOG.md). No filler is longer
    than the longest text.
    """
    num, total, longest = len(lengths), sum(lengths), max(lengths)
    filled = few_sizes(total)
    while True:
        room = filled - total
        added = few_sizes(num - (-room // longest)) - num
        if added <= room:
            return [room // added + (row < room % added) for row in range(added)]
        filled = few_sizes(filled + 1)
