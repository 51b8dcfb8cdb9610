"""Progress, one look for every command: a bar in a terminal, a plain line a minute in a file or pipe."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        yield _Lines(description, total, completed).advance
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
    """`training: 120 of 500, 3 min left, loss 1.234` once a minute; work of less than one writes nothing."""

    def __init__(self, description: str, total: int | None, completed: int) -> None:
        self._description, self._total, self._first = description, total, completed
        self._done, self._note = completed, ""
        self._began = self._written = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move on, and write where the last line is a minute old."""
        self._done += steps
        self._note = note or self._note
        now = time.monotonic()
        if now - self._written < _LINE_SECONDS:
            return
        self._written = now
        parts = [f"{self._done:,}" if self._total is None else f"{self._done:,} of {self._total:,}"]
        if self._total and self._done > self._first:
            left = (now - self._began) * (self._total - self._done) / (self._done - self._first)
            parts.append(f"{duration(left)} left")
        sys.stderr.write(f"{self._description}: {', '.join([*parts, *filter(None, [self._note])])}\n")
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """`90 s`, `12 min` or `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
