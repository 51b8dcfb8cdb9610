"""Which texts share the next batch: pure planning, without threads or clocks.

A batch is built around a head, the waiting text that is due first, from texts of near-equal length. Two
lanes take turns: `short` holds requests that cost no more than one empty forward pass, `bulk` all others. A
short query therefore waits for at most one running batch, and a flood of short queries leaves bulk every
second turn.

In the bulk lane a text is due when its request, started alone on arrival, would have reached it, but at
most `age_cap_s` after its arrival: small requests pass the tail of large ones, and nothing is passed by a
request that came more than `age_cap_s` later.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_LOG_RATIO = math.log(1.12)
"""Lengths within one bucket differ by at most this ratio."""

_MANY_DEAD = 4096
"""Texts of dead jobs that may lie in the lanes before they are swept."""

SHORT_TOKENS = 32
"""A request of at most this many tokens is short on any machine."""


@dataclass(slots=True)
class RequestJob:
    """The texts of one request on their way through the batcher.

    `answer` is a future that a worker thread sets once every text has its vector or one has failed; `dead` jobs
    (finished, failed or given up) have their waiting texts dropped.
    """

    sequences: Sequence[Sequence[int]]
    skip: int
    arrival_s: float
    answer: Any
    num_waiting: int = 0
    waiting_tokens: int = 0
    vectors: Any = None
    dead: bool = False


@dataclass(slots=True, order=True)
class Item:
    """Text `row` of a job. Items order by when they are due, then by arrival."""

    due_s: float
    number: int
    job: RequestJob = field(compare=False)
    row: int = field(compare=False)

    @property
    def ids(self) -> Sequence[int]:
        """The tokens."""
        return self.job.sequences[self.row]

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.job.sequences[self.row])


class Pace:
    """What a forward pass costs on this machine, learnt from the batches that ran.

    `fixed_s` is the time of a nearly empty batch, `token_s` the time per token of a full one.
    """

    def __init__(self, fixed_s: float = 0.01, token_s: float = 0.0005) -> None:
        self.fixed_s, self.token_s = fixed_s, token_s

    def observe(self, num_tokens: int, seconds: float, weight: float = 0.1) -> None:
        """Take note of one batch; `weight` (1 replaces what was known) is for the first ones."""
        if num_tokens <= SHORT_TOKENS:
            self.fixed_s += weight * (seconds - self.fixed_s)
        elif num_tokens >= 2 * SHORT_TOKENS:
            self.token_s += weight * (seconds / num_tokens - self.token_s)

    def tokens_in(self, seconds: float) -> int:
        """How many tokens a batch of that time holds."""
        return int(seconds / self.token_s)

    def seconds_of(self, num_tokens: int) -> float:
        """How long so many tokens take."""
        return num_tokens * self.token_s


@dataclass(frozen=True)
class Room:
    """How much fits into one batch.

    `tokens` bounds the sum of lengths; with `padding` (the tokens of padding worth one forward pass saved)
    it bounds texts times the longest, as the model will pad them.
    """

    tokens: int
    padding: int | None = None

    def fits(self, num_texts: int, longest: int, total: int) -> bool:
        """Whether such a batch is within bounds."""
        if self.padding is None:
            return total <= self.tokens
        rectangle = num_texts * longest
        return rectangle <= self.tokens and rectangle - total <= self.padding + 0.12 * rectangle


class Lane:
    """Waiting texts in buckets of near-equal length."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[int, int], list[Item]] = {}

    def put(self, item: Item) -> None:
        """Add a text."""
        key = (item.job.skip, int(math.log(item.length) / _LOG_RATIO))
        heapq.heappush(self._buckets.setdefault(key, []), item)

    def head(self) -> Item | None:
        """The text that is due first."""
        firsts = [bucket[0] for key in list(self._buckets) if (bucket := self._alive(key))]
        return min(firsts, default=None)

    def take(self, room: Room) -> list[Item]:
        """Remove and return the next batch: the head, however long, and the texts nearest in length that fit."""
        head = self.head()
        if head is None:
            return []
        batch: list[Item] = []
        longest = total = 0
        for key in self._nearest(head):
            while bucket := self._alive(key):
                length = bucket[0].length
                if batch and not room.fits(len(batch) + 1, max(longest, length), total + length):
                    break
                batch.append(heapq.heappop(bucket))
                longest, total = max(longest, length), total + length
        return batch

    def prune(self) -> None:
        """Drop the texts of dead jobs, wherever they stand."""
        for key, bucket in list(self._buckets.items()):
            bucket[:] = [item for item in bucket if not item.job.dead]
            heapq.heapify(bucket)
            if not bucket:
                del self._buckets[key]

    def __len__(self) -> int:
        """Texts held, the dead not yet dropped among them."""
        return sum(map(len, self._buckets.values()))

    def _nearest(self, head: Item) -> Iterator[tuple[int, int]]:
        own = int(math.log(head.length) / _LOG_RATIO)
        keys = [key for key in self._buckets if key[0] == head.job.skip]
        return iter(sorted(keys, key=lambda key: abs(key[1] - own)))

    def _alive(self, key: tuple[int, int]) -> list[Item]:
        """The bucket without the dead at its front; an empty one is forgotten."""
        bucket = self._buckets.get(key, [])
        while bucket and bucket[0].job.dead:
            heapq.heappop(bucket)
        if not bucket:
            self._buckets.pop(key, None)
        return bucket


class Planner:
    """Two lanes that take turns, and how large the next batch may be.

    Short queries that wait go together, in a batch of at most `patient` empty forward passes, beyond which little
    is gained. While they come (one within `brisk_s`) a bulk batch lasts about `brisk` of them, so that the next
    short query waits little, or as long as the short batch before it, so that a flood of short queries gets
    half of the time; otherwise `patient` ones. `batch_tokens` bounds all. `pads` says that the model pads the texts
    of a batch to the longest.
    """

    brisk, patient = 2.0, 16.0
    brisk_s = 5.0

    def __init__(self, *, batch_tokens: int, age_cap_s: float, pads: bool) -> None:
        self.pace = Pace()
        self._batch_tokens, self._age_cap_s, self._pads = batch_tokens, age_cap_s, pads
        self._short, self._bulk = Lane(), Lane()
        self._short_next = True
        self._last_short_s = -math.inf
        self._last_short_tokens = 0
        self._number = 0
        self._num_dead = 0

    def __len__(self) -> int:
        """Texts held, the dead not yet dropped among them."""
        return len(self._short) + len(self._bulk)

    def gave_up(self, job: RequestJob) -> None:
        """Hear of a dead job whose texts still lie here; from time to time all such are swept out."""
        self._num_dead += len(job.sequences)
        if self._num_dead > _MANY_DEAD:
            self._num_dead = 0
            self._short.prune()
            self._bulk.prune()

    def add(self, job: RequestJob) -> None:
        """Queue every text of `job`."""
        job.num_waiting = len(job.sequences)
        job.waiting_tokens = sum(map(len, job.sequences))
        short = job.waiting_tokens <= max(SHORT_TOKENS, self.pace.tokens_in(self.pace.fixed_s))
        if short:
            self._last_short_s = job.arrival_s
        lane = self._short if short else self._bulk
        ahead = 0
        for row, sequence in enumerate(job.sequences):
            ahead += len(sequence)
            due_s = job.arrival_s + min(self.pace.seconds_of(ahead), self._age_cap_s)
            lane.put(Item(due_s, self._number, job, row))
            self._number += 1

    def take(self, now_s: float) -> list[Item]:
        """Remove and return the next batch; empty where nothing waits."""
        first, second = (self._short, self._bulk) if self._short_next else (self._bulk, self._short)
        lane = first if first.head() is not None else second
        self._short_next = lane is self._bulk
        if lane is self._bulk:
            return lane.take(self._room(brisk=now_s - self._last_short_s < self.brisk_s))
        batch = lane.take(self._room(brisk=False))
        self._last_short_tokens = sum(item.length for item in batch)
        return batch

    def _room(self, *, brisk: bool) -> Room:
        empty = self.pace.tokens_in(self.pace.fixed_s)
        if brisk:
            wanted = max(int(self.brisk * empty), self._last_short_tokens)
        else:
            wanted = int(self.patient * empty)
        tokens = min(self._batch_tokens, max(2 * SHORT_TOKENS, wanted))
        return Room(tokens, max(1, empty // 2) if self._pads else None)
