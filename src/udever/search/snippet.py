"""The lines of a hit worth showing."""

from udever.search.hits import Hit
from udever.text.words import words


def snippet(hit: Hit, query: str, num_lines: int) -> list[tuple[int | None, str]]:
    """At most `num_lines` lines of the hit with their numbers: the stretch that says most of the query's words.

    Where the hit's text is not the file's own lines (HTML without its tags), the numbers are None.
    """
    lines = hit.text.split("\n")
    wanted = set(words(query))
    said = [wanted.intersection(words(line)) for line in lines]
    starts = range(max(1, len(lines) - num_lines + 1))
    start = max(starts, key=lambda first: (len(set().union(*said[first : first + num_lines])), -first))
    is_own = hit.first_line is not None and hit.last_line == hit.first_line + len(lines) - 1
    first = hit.first_line if is_own and hit.first_line is not None else None
    shown = lines[start : start + num_lines]
    return [(None if first is None else first + start + row, line) for row, line in enumerate(shown)]
