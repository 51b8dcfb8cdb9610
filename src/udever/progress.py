"""Progress bars, one look for every command."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[..., None]
"""`advance(steps=1, note="")`: move the bar; `note` replaces the text behind it."""


@contextmanager
def progress_bar(description: str, total: int | None, *, enabled: bool = True) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs and yield the function that moves it.

    `total=None` shows a count without an end. `enabled=False` shows nothing.
    """
    if not enabled:
        yield lambda steps=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            if note:
                bar.update(task, advance=steps, note=note)
            else:
                bar.update(task, advance=steps)

        yield advance
