"""Batches side by side: on processors several batches at once, a thread each, end sooner than one after another on all.

Threads of one product wait for each other at its end, and what is small between two products is done by one of them.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


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
