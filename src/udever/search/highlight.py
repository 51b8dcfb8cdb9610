"""The lines of a hit that answer a question best, with the question's words marked."""

import re
from collections.abc import Iterator

from udever.search.searchable import Hit
from udever.text.words import words

Part = tuple[str, bool]
"""A piece of a line, and whether it is one of the question's words."""

_MOST = 500
"""Characters of a line that are shown."""

_RUN = re.compile(r"\w+")


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


def marked_lines(hit: Hit, question: str, num_lines: int) -> list[tuple[int | None, list[Part]]]:
    """At most `num_lines` lines with their numbers, each as its pieces in order; of a long line the beginning."""
    wanted = frozenset(words(question))
    return [(number, list(_parts(line[:_MOST], wanted))) for number, line in snippet(hit, question, num_lines)]


def _parts(line: str, wanted: frozenset[str]) -> Iterator[Part]:
    marked = [False] * len(line)
    for match in _RUN.finditer(line):
        start, end = match.span()
        if words(match.group())[:1] == [match.group().casefold()]:  # a word between blanks: whole or not at all
            marked[start:end] = [not wanted.isdisjoint(words(match.group()))] * (end - start)
        else:
            for place in range(start, end):
                marked[place] = line[place].casefold() in wanted
    begin = 0
    for place in range(1, len(line) + 1):
        if place == len(line) or marked[place] != marked[begin]:
            yield line[begin:place], marked[begin]
            begin = place
