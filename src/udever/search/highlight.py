"""The lines of a hit that answer a question best, with the question's words marked."""

from collections.abc import Iterator

from udever.search.searchable import Hit
from udever.text.scripts import word
from udever.text.stop_words import telling
from udever.text.words import words

Part = tuple[str, bool]
"""A piece of a line, and whether it is one of the question's words."""

Span = tuple[int, int]
"""Where a stretch of a text begins and ends, in characters."""

_MOST = 500
"""Characters of a line that are shown."""


def snippet(hit: Hit, query: str, num_lines: int) -> list[tuple[int | None, str]]:
    """At most `num_lines` lines of the hit with their numbers: the stretch that says most of the query's words.

    Stop words do not count. Where the hit's text is not the file's own lines (`Hit.has_own_lines`), the numbers
    are None.
    """
    lines = hit.text.split("\n")
    wanted = telling(words(query))
    said = [wanted.intersection(words(line)) for line in lines]
    starts = range(max(1, len(lines) - num_lines + 1))
    start = max(starts, key=lambda first: (len(set().union(*said[first : first + num_lines])), -first))
    first = hit.first_line if hit.has_own_lines else None
    shown = lines[start : start + num_lines]
    return [(None if first is None else first + start + row, line) for row, line in enumerate(shown)]


def marked_lines(hit: Hit, question: str, num_lines: int) -> list[tuple[int | None, list[Part]]]:
    """At most `num_lines` lines with their numbers, each as its pieces in order; of a long line the beginning."""
    wanted = frozenset(telling(words(question)))
    return [(number, list(_parts(line[:_MOST], wanted))) for number, line in snippet(hit, question, num_lines)]


def matches(text: str, question: str) -> list[Span]:
    """Where `text` has the question's words, in order and apart from one another; stop words are none."""
    return list(_spans(text, frozenset(telling(words(question)))))


def _spans(text: str, wanted: frozenset[str]) -> Iterator[Span]:
    """A word between blanks matches whole or not at all, one of a script without spaces by its characters."""
    known: dict[str, bool] = {}
    begin = end = -1
    for match in word().finditer(text):
        said = match.group()
        if said not in known:
            known[said] = not wanted.isdisjoint(words(said))
        if not known[said]:
            continue
        if match.start() != end:
            if begin >= 0:
                yield begin, end
            begin = match.start()
        end = match.end()
    if begin >= 0:
        yield begin, end


def _parts(line: str, wanted: frozenset[str]) -> Iterator[Part]:
    done = 0
    for start, end in _spans(line, wanted):
        if start > done:
            yield line[done:start], False
        yield line[start:end], True
        done = end
    if done < len(line):
        yield line[done:], False
