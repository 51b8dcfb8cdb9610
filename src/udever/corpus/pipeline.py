"""Two threads that make reading, tokenising, encoding and writing overlap, in order and with bounded memory."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """`items` in order, made in a thread of their own; at most `depth` of them lie waiting.

    What `items` raises is raised here. To be closed where it is not read to the end: the thread then ends
    with the item in hand.
    """
    waiting: Queue[tuple[bool, Any]] = Queue(depth)
    stopped = threading.Event()

    def work() -> None:
        last: tuple[bool, Any] = (False, None)
        try:
            for item in items:
                waiting.put((True, item))
                if stopped.is_set():
                    return
        except BaseException as error:  # it belongs to the reader
            last = (False, error)
        waiting.put(last)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = waiting.get()
            if not is_item:
                break
            yield value
        if value is not None:
            raise value
    finally:
        stopped.set()
        with suppress(Empty):  # a thread that waits to put finds room once, and then sees that it is to stop
            while True:
                waiting.get_nowait()
        thread.join()
        if isinstance(items, Generator):
            items.close()


class Behind:
    """Runs calls one after the other in a thread of its own; at most `depth` lie waiting, then `do` waits.

    An exception of a call is raised by a later `do` or at the end of the block; calls after it are not run. An
    exception of the block leaves the calls before it to be done.
    """

    def __init__(self, depth: int = 1) -> None:
        self._depth = depth
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def do(self, call: Callable[..., None], *arguments: Any) -> None:
        """Have `call(*arguments)` run after all calls before it."""
        while len(self._waiting) > self._depth or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._run, call, *arguments))

    def _run(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._failed:  # what comes after may build on what failed
            return
        try:
            call(*arguments)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._pool.shutdown()  # what was handed over is done, also where the block ends with an error
        while error is None and self._waiting:
            self._waiting.popleft().result()
