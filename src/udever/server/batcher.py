"""Requests in, vectors out: worker threads run the batches that `scheduling` plans.

The event loop submits and awaits; a thread plans, encodes and delivers, so that the model never waits for
the loop between batches.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udever.model.packing import Beginning
from udever.server.scheduling import Item, Planner, RequestJob

Encode = Callable[[Sequence[Sequence[int]], int], NDArray[np.float32]]
"""(token sequences, skip) -> pooled vectors [texts, hidden]; may raise, and may give rows that are not finite."""

_log = logging.getLogger(__name__)


class OverloadedError(Exception):
    """The queue is full; `retry_after_s` is when there should be room."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class BadInputError(Exception):
    """Text `row` of the request gives no usable vector, alone as in company; its cause is `__cause__`."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


class BrokenError(Exception):
    """A worker thread has ended; no further text will be encoded."""


@dataclass(frozen=True)
class BatchReport:
    """One batch that ran. `rectangle` is texts times the longest; `waited_s` is its head's."""

    num_texts: int
    num_tokens: int
    rectangle: int
    seconds: float
    waited_s: float


class Batcher:
    """Batches the texts of many requests through `encode`: one batch at a time in each of `workers` threads, on each of
    which torch computes with `threads` (None: as many as where it is started).

    `queue_tokens` bounds the tokens waiting or running; what does not fit is refused with OverloadedError,
    as is what could not be answered within `timeout_s`. `on_batch` is called in the worker threads, one at a time.
    """

    def __init__(
        self,
        encode: Encode,
        planner: Planner,
        *,
        queue_tokens: int,
        timeout_s: float = 60.0,
        on_batch: Callable[[BatchReport], None] = lambda _: None,
        workers: int = 1,
        threads: int | None = None,
    ) -> None:
        self._encode, self._planner = encode, planner
        self._queue_tokens, self._timeout_s = queue_tokens, timeout_s
        self._on_batch, self._reporting = on_batch, threading.Lock()
        self._num_workers, self._num_threads = workers, threads
        self._changed = threading.Condition()
        self._held_tokens = 0
        self._stopping = False
        self._broken = False
        self._alive: dict[int, RequestJob] = {}
        self._workers: list[threading.Thread] = []

    def start(self) -> None:
        """Start the worker threads. Once."""
        with Beginning(self._num_workers, self._num_threads) as beginning:
            for _ in range(self._num_workers):
                worker = threading.Thread(target=self._work, args=(beginning,), name="udever-encode", daemon=True)
                worker.start()
                self._workers.append(worker)

    def stop(self) -> None:
        """Answer what was taken, then end the threads. Blocks; call it off the event loop."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    @property
    def healthy(self) -> bool:
        """Whether the worker threads run."""
        return bool(self._workers) and all(worker.is_alive() for worker in self._workers) and not self._broken

    @property
    def held_tokens(self) -> int:
        """Tokens waiting or running."""
        return self._held_tokens

    @property
    def num_jobs(self) -> int:
        """Requests not answered yet."""
        return len(self._alive)

    def retry_after_s(self, num_tokens: int = 0) -> float | None:
        """Seconds after which a request of so many tokens should find room; None where it finds room now."""
        held = self._held_tokens
        needed = held + num_tokens - self._queue_tokens
        wait_s = self._seconds_of(held)
        if held and needed > 0:
            return max(1.0, self._seconds_of(min(needed, held)))
        if held and wait_s > self._timeout_s:
            return max(1.0, wait_s - self._timeout_s)
        return None

    def _seconds_of(self, num_tokens: int) -> float:
        """How long so many tokens take when all workers run."""
        return self._planner.pace.seconds_of(num_tokens) / self._num_workers

    async def submit(self, sequences: Sequence[Sequence[int]], skip: int = 0) -> NDArray[np.float32]:
        """Pooled vectors of token sequences, in order: float32 [texts, hidden]. None of them is empty.

        Raises OverloadedError where the queue has no room, BadInputError naming the text that cannot be
        encoded, BrokenError where the thread has died. Cancelling the call drops what still waits.
        """
        assert sequences and all(sequences), "at least one text, and each text at least one token"
        answer: Future[NDArray[np.float32]] = Future()
        answer.set_running_or_notify_cancel()  # whoever awaits it may leave; it is set all the same
        job = RequestJob(sequences, skip, time.monotonic(), answer)
        self._admit(job)
        try:
            return await asyncio.wrap_future(answer)
        finally:
            self._drop(job)

    def _admit(self, job: RequestJob) -> None:
        with self._changed:
            if not self.healthy or self._stopping:
                raise BrokenError("a worker thread does not run")
            wait_s = self.retry_after_s(sum(map(len, job.sequences)))
            if wait_s is not None:
                raise OverloadedError(wait_s)
            self._planner.add(job)
            self._held_tokens += job.waiting_tokens
            self._alive[id(job)] = job
            self._changed.notify_all()  # its texts may make batches for several workers

    def _drop(self, job: RequestJob) -> None:
        """Forget a job that was answered, failed, or is awaited no more."""
        with self._changed:
            job.dead = True
            self._held_tokens -= job.waiting_tokens
            if job.waiting_tokens:
                self._planner.gave_up(job)
            job.waiting_tokens = 0
            self._alive.pop(id(job), None)

    def _work(self, beginning: Beginning) -> None:
        try:
            beginning.of_thread()
            while batch := self._next():
                self._run(batch)
        except BaseException as error:
            _log.exception("the encoding thread has ended")
            self._fail_all(error)

    def _next(self) -> list[Item]:
        """The next batch, waiting for one; empty once stopped and done."""
        with self._changed:
            while not self._broken:
                batch = self._planner.take(time.monotonic())
                if batch:
                    for item in batch:  # running, no longer waiting: cancelling does not take it back
                        item.job.waiting_tokens -= item.length
                    return batch
                if self._stopping:
                    break
                self._changed.wait()
            return []

    def _run(self, batch: list[Item]) -> None:
        start_s = time.monotonic()
        num_tokens = sum(item.length for item in batch)
        outcomes = self._outcomes(batch)
        seconds = time.monotonic() - start_s
        rectangle = len(batch) * max(item.length for item in batch)
        with self._changed:
            if not any(isinstance(outcome, Exception) for _, outcome in outcomes):
                self._planner.pace.observe(num_tokens, seconds)
            self._held_tokens -= num_tokens
            for item, outcome in outcomes:  # texts of one request may lie in batches of several workers
                _settle(item, outcome)
        waited_s = start_s - batch[0].job.arrival_s
        with self._reporting:
            self._on_batch(BatchReport(len(batch), num_tokens, rectangle, seconds, waited_s))

    def _outcomes(self, batch: list[Item]) -> list[tuple[Item, Any]]:
        """Each text's vector, or the exception it raises alone: a batch that fails is tried again in halves."""
        try:
            vectors = self._encode([item.ids for item in batch], batch[0].job.skip)
            if _usable(vectors):
                return list(zip(batch, vectors, strict=True))
            error: Exception = ValueError("its vector is not finite or has no length")
        except Exception as raised:
            error = raised
        if len(batch) == 1:
            _log.warning("a text of %d tokens cannot be encoded: %s", batch[0].length, type(error).__name__)
            return [(batch[0], error)]
        half = len(batch) // 2
        return self._outcomes(batch[:half]) + self._outcomes(batch[half:])

    def _fail_all(self, error: BaseException) -> None:
        with self._changed:
            self._broken = True
            self._changed.notify_all()
            for job in self._alive.values():
                if not job.answer.done():
                    job.dead = True
                    job.answer.set_exception(BrokenError(f"the encoding thread has ended: {type(error).__name__}"))


def _usable(vectors: NDArray[np.float32]) -> bool:
    norms = np.einsum("td,td->t", vectors, vectors, dtype=np.float64)
    return bool((np.isfinite(norms) & (norms > 0)).all())


def _settle(item: Item, outcome: Any) -> None:
    """Give a text's outcome to its job; the last one, or a failure, answers it."""
    job = item.job
    if job.dead:
        return
    if isinstance(outcome, Exception):
        job.dead = True
        error = BadInputError(item.row, str(outcome))
        error.__cause__ = outcome
        job.answer.set_exception(error)
        return
    if job.vectors is None:
        job.vectors = np.empty((len(job.sequences), len(outcome)), dtype=np.float32)
    job.vectors[item.row] = outcome
    job.num_waiting -= 1
    if job.num_waiting == 0:
        job.answer.set_result(job.vectors)
