"""Tables as Markdown, one way for every card and report."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table, each of its lines ended. Neither a bar nor a line end in a cell ends the cell."""
    return "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in (header, ["---"] * len(header), *rows))


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
