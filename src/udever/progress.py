"""Progress, one look for every command: a bar in a terminal, a plain line a minute in a file or pipe."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

Advance = Callable[..., None]
"""`advance(steps=1, note="")`: move on; `note` replaces the text behind it."""

_LINE_SECONDS = 60.0


@contextmanager
def progress_bar(description: str, total: int | None, *, completed: int = 0, enabled: bool = True) -> Iterator[Advance]:
    """Show on standard error how far the block is and yield the function that moves it.

    `total=None` shows a count without an end; `completed` was done before. `enabled=False` shows nothing.
    """
    if not enabled:
        yield lambda steps=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        with _Lines(description, total, completed) as lines:
            yield lines.advance
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total, completed=completed, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            if note:
                bar.update(task, advance=steps, note=note)
            else:
                bar.update(task, advance=steps)

        yield advance


class _Lines:
    """`training: 120 of 500, 3 min left, loss 1.234` once a minute; work of less than one writes nothing.

    A thread writes them, since one step can take many minutes: what it says then is that the work goes on.
    """

    def __init__(self, description: str, total: int | None, completed: int) -> None:
        self._description, self._total, self._first = description, total, completed
        self._done, self._note = completed, ""
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move on."""
        self._done += steps
        self._note = note or self._note

    def _write_on(self) -> None:
        while not self._ended.wait(_LINE_SECONDS):
            sys.stderr.write(f"{self.line(time.monotonic() - self._began)}\n")
            sys.stderr.flush()

    def line(self, seconds: float) -> str:
        """What there is to say after so many seconds."""
        parts = [f"{self._done:,}" if self._total is None else f"{self._done:,} of {self._total:,}"]
        if self._total and self._done > self._first:
            left = seconds * (self._total - self._done) / (self._done - self._first)
            parts.append(f"{duration(left)} left")
        return f"{self._description}: {', '.join([*parts, *filter(None, [self._note])])}"


def duration(seconds: float) -> str:
    """`90 s`, `12 min` or `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
