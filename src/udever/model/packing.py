"""Packed batches: texts laid end to end, a flat run of tokens and its boundaries, and the one vector each is pooled to.

Padding does not exist here. On processors several batches at once, a thread each, end sooner than one after another on
all: threads of one product wait for each other at its end, and what is small between two products one of them does.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Barrier
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Pooling = Literal["last", "mean", "weighted_mean"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_LEAST_FRONT = 16
_LEAST_SAVED = 0.25
"""Of a batch's tokens: attention to what is in front of a text is a little slower than to the text itself."""
_LEAST_SHARE = 256
"""Tokens that are worth a thread of their own."""


@dataclass(frozen=True)
class Packed:
    """Texts laid end to end.

    `tokens` holds every text's ids in order; `lengths` (each at least 1) says where one ends and the next
    begins. `cu_seqlens[i]` is where text i starts, `cu_seqlens[-1]` the total.

    `front`: as many tokens at the very beginning are no text. They stand in front of each: what all texts begin with,
    computed once. `lengths` are those of what follows them.
    """

    tokens: Int[Tensor, "total"]
    lengths: tuple[int, ...]
    front: int = 0

    @cached_property
    def cu_seqlens(self) -> Int[Tensor, "texts_and_one"]:
        """Boundaries on the device of `tokens`."""
        starts = torch.zeros(len(self.lengths) + 1, dtype=torch.int64)
        starts[1:] = torch.tensor(self.lengths).cumsum(0)
        return starts.add_(self.front).to(self.tokens.device)

    @cached_property
    def last(self) -> Int[Tensor, "texts"]:
        """Index of each text's closing token."""
        return self.cu_seqlens[1:] - 1

    @cached_property
    def text_of_token(self) -> Int[Tensor, "total"]:
        """For each token, which text it belongs to; -1 for those in front of all."""
        lengths = torch.tensor([self.front, *self.lengths], device=self.tokens.device)
        return torch.repeat_interleave(torch.arange(-1, len(self.lengths), device=lengths.device), lengths)

    @cached_property
    def positions(self) -> Int[Tensor, "total"]:
        """For each token, its place within its own text, from 0, and behind what is in front of it."""
        places = torch.arange(len(self.tokens), device=self.tokens.device)
        # of text i what follows the front begins at cu_seqlens[i]
        shift = torch.cat([places.new_zeros(1), self.cu_seqlens[:-1] - self.front])
        return places - shift[self.text_of_token + 1]


def pack(sequences: Sequence[Sequence[int]], device: torch.device | str = "cpu", front: int = 0) -> Packed:
    """Lay token sequences end to end, in the order given. Every sequence holds at least one id.

    All begin with the same `front` tokens, which are laid down once; each goes on behind them.
    """
    lengths = tuple(len(sequence) - front for sequence in sequences)
    assert lengths and min(lengths) > 0, "a packed batch needs at least one text, and each text one token"
    flat = [*sequences[0][:front], *(token for sequence in sequences for token in sequence[front:])]
    return Packed(torch.tensor(flat, dtype=torch.int64, device=device), lengths, front)


def shared_front(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with, one at least left to each; 0 where laying them down once gains little."""
    ordered: Any = sequences
    first, last = min(ordered), max(ordered)  # in the order of a dictionary: what these two share all share
    most = min(map(len, sequences)) - 1
    front = next((i for i in range(most) if first[i] != last[i]), most)
    saved = front * (len(sequences) - 1)
    return front if front >= _LEAST_FRONT and saved >= _LEAST_SAVED * sum(map(len, sequences)) else 0


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


def even_budget(lengths: Sequence[int], batch_tokens: int, threads: int) -> int:
    """At most `batch_tokens`: what lets batches of these texts keep as many threads busy to about the same end.

    Few tokens are not shared out: on all threads a small batch ends sooner than parts of it on one each.
    """
    total = sum(lengths)
    if threads < 2 or total < threads * _LEAST_SHARE:
        return batch_tokens
    rounds = -(-total // (threads * batch_tokens))
    return min(batch_tokens, -(-total // (threads * rounds)) + max(lengths) // 2)


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`function` of every item, in order, without gradients: as many at once as torch has threads, each on one.

    Two more than can run are begun at most before a result is taken. What one raises is raised here, and no further one
    is begun. A single item is done by the caller, on all threads.
    """
    num = min(torch.get_num_threads(), len(items))

    def alone(item: Item) -> Result:
        with torch.inference_mode():
            return function(item)

    if num < 2:
        yield from map(alone, items)
        return
    with one_thread_each(num) as pool:
        begun: deque[Future[Result]] = deque()
        for item in items:
            begun.append(pool.submit(alone, item))
            if len(begun) > num:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


@contextmanager
def one_thread_each(num: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of `num` threads on each of which torch computes with that thread alone."""
    beginning = Beginning(num, 1)
    pool = ThreadPoolExecutor(num, "udever-batch", beginning.of_thread)
    try:
        with beginning:
            for _ in range(num):
                pool.submit(int)  # a thread that has not begun takes nothing, so that all are started
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class Beginning:
    """Starts `num` threads, in each of which torch is to compute with `threads` of them (None: as many as here).

    They are started inside its `with`, which ends when all have begun; where one cannot be started, none waits for it.
    """

    def __init__(self, num: int, threads: int | None) -> None:
        self._before = torch.get_num_threads()
        self._threads = threads or self._before
        self._ready = Barrier(num + 1)

    def of_thread(self) -> None:
        """To be called first in each."""
        torch.set_num_threads(self._threads)
        torch.get_num_threads()  # a thread first takes what was set last, by whomever, when it first looks
        self._ready.wait()

    def __enter__(self) -> "Beginning":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for all. What a thread sets for itself is what later ones begin with: that is taken back."""
        if kind is None:
            self._ready.wait()
        else:
            self._ready.abort()
        torch.set_num_threads(self._before)


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


def pool(
    hidden: Float[Tensor, "total dim"],
    packed: Packed,
    pooling: Pooling,
    skip: Int[Tensor, "texts"] | None = None,
) -> Float[Tensor, "texts dim"]:
    """Reduce each text's hidden states to one vector.

    "last" takes the closing token. "mean" averages; "weighted_mean" weights token i by i + 1 (SGPT,
    arXiv 2202.08904). `skip` leaves each text's first tokens out of the two means (a prompt that is not
    to be pooled); a text that would keep none keeps its closing token. Sums are taken in float32.
    """
    if pooling == "last":
        return hidden[packed.last]
    positions = packed.positions
    weights = torch.ones_like(positions) if pooling == "mean" else positions + 1
    if skip is not None:
        lengths = torch.tensor(packed.lengths, device=hidden.device)
        weights = weights * (positions >= torch.minimum(skip, lengths - 1)[packed.text_of_token])
    weights = weights.to(torch.promote_types(hidden.dtype, torch.float32))
    total = torch.zeros(len(packed.lengths), hidden.shape[1], dtype=weights.dtype, device=hidden.device)
    total = total.index_add(0, packed.text_of_token, hidden * weights[:, None])
    norm = torch.zeros_like(total[:, 0]).index_add(0, packed.text_of_token, weights)
    return total / norm[:, None]


def unit(vectors: Float[Tensor, "texts dim"], dimensions: int | None = None) -> Float[Tensor, "texts size"]:
    """Cut to the first `dimensions` (Matryoshka, arXiv 2205.13147), then scale to length 1."""
    return F.normalize(vectors[:, :dimensions], dim=-1)


def unusable(vectors: Float[Tensor, "texts dim"]) -> list[int]:
    """Rows that are not finite or have no length: no direction can be taken from them."""
    norms = torch.linalg.vector_norm(vectors, dim=1)
    return (~torch.isfinite(norms) | (norms == 0)).nonzero().flatten().tolist()
