"""Which texts must not stand on two sides of a split: equal ones in any spelling, and near-equal ones.

Every split of the project asks here: the folds of a filter, mined pairs, held-out rows of a recipe, hard negatives.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from udever.text.minhash import MinHashIndex
from udever.text.scripts import word

THRESHOLD = 0.8
"""Two texts whose shingles overlap by this Jaccard similarity or more are near-equal."""

_SPACES = re.compile(r"\s+")
_OPENING = re.compile(r"^(?:(?:#+|[*>+=~-]+) |[*_`\"'\u201c\u2018\u00ab]+(?=\w))+")
# Possessive: an underscore is a sign and a part of words, so a run of them could be cut in 2**length ways.
_CLOSING = re.compile(r"(?: #++| [=~-]++|(?<=\w)[*_`\"'\u201d\u2019\u00bb]++|[\s.:;,\u00b6\u3002\uff1a])++$")
_CHUNK_TEXTS = 8192


def spelling(text: str) -> str:
    """What all spellings of one text share: "## Getting started", "GETTING STARTED:" and "*Getting  started*" are one.

    Compatibility forms, case and white space do not count, nor do the marks of a heading, a list or an emphasis around
    the text and a full stop, comma or colon behind it. All other signs do: "C++" is not "C", nor "so?" "so!".
    """
    plain = _SPACES.sub(" ", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())).strip()
    return _CLOSING.sub("", _OPENING.sub("", plain)) or plain


def groups_of(texts: Sequence[str], names: Sequence[str | None] | None = None) -> NDArray[np.int64]:
    """A group number for each text; texts that are equal in any spelling, near-equal, or of one name share theirs.

    So do all that are joined by others in between. Groups are numbered by their first text.
    """
    spellings = [spelling(text) for text in texts]
    distinct = list(dict.fromkeys(spellings))
    place = {text: number for number, text in enumerate(distinct)}
    parent = np.arange(len(distinct))
    for one, other in _near_pairs(distinct):
        _join(parent, one, other)
    if names is not None:
        first: dict[str, int] = {}
        for text, name in zip(spellings, names, strict=True):
            if name is not None:
                _join(parent, place[text], first.setdefault(name, place[text]))
    roots = np.array([_root(parent, place[text]) for text in spellings], np.int64)
    _, first_seen, member = np.unique(roots, return_index=True, return_inverse=True)
    rank = np.empty(len(first_seen), np.int64)
    rank[np.argsort(first_seen)] = np.arange(len(first_seen))
    return rank[member.reshape(-1)]


def _near_pairs(distinct: Sequence[str]) -> Iterator[tuple[int, int]]:
    index = MinHashIndex(distinct)
    for start in range(0, len(distinct), _CHUNK_TEXTS):
        for one, other in index.near(distinct[start : start + _CHUNK_TEXTS], threshold=THRESHOLD):
            yield start + one, other


def _root(parent: NDArray[np.int64], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = int(parent[node])
    return node


def _join(parent: NDArray[np.int64], one: int, other: int) -> None:
    parent[_root(parent, one)] = _root(parent, other)


class Held:
    """Texts that are held back, to be asked which others repeat them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = list(dict.fromkeys(map(spelling, texts)))
        self._place = {text: number for number, text in enumerate(self._texts)}
        self._index = MinHashIndex(self._texts)

    def repeated(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which of `texts` equal a held text in any spelling, or nearly equal one."""
        return np.array([bool(found) for found in self.matches(texts)], bool)

    def matches(self, texts: Iterable[str]) -> Iterator[set[int]]:
        """For each of `texts` the numbers (see `number`) of the held texts that it repeats."""
        spelled = map(spelling, texts)
        while spellings := list(islice(spelled, _CHUNK_TEXTS)):
            found: list[set[int]] = [set() for _ in spellings]
            for place, text in enumerate(spellings):
                if text in self._place:
                    found[place].add(self._place[text])
            for place, number in self._index.near(spellings, threshold=THRESHOLD):
                found[place].add(number)
            yield from found

    def number(self, text: str) -> int:
        """The number of a held text."""
        return self._place[spelling(text)]


class Quoted:
    """Texts that are held back, to be asked whether another quotes one of them.

    A text quotes another that says eight of its words in a row, or all of its words in a row where it has five to
    seven; shorter ones are everybody's.
    """

    _LEAST, _RUN = 5, 8

    def __init__(self, texts: Iterable[str]) -> None:
        self._runs: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for text in texts:
            said = _said(text)
            size = min(self._RUN, len(said))
            for start in range(len(said) - size + 1) if size >= self._LEAST else ():
                run = said[start : start + size]
                self._runs.setdefault(run[: self._LEAST], set()).add(run)

    def quoted_in(self, text: str) -> bool:
        """Whether `text` quotes any of them."""
        said = _said(text)
        starts = list(zip(*(said[offset:] for offset in range(self._LEAST)), strict=False))
        if self._runs.keys().isdisjoint(starts):
            return False
        return any(
            said[place : place + len(run)] == run
            for place, start in enumerate(starts)
            for run in self._runs.get(start, ())
        )


def _said(text: str) -> tuple[str, ...]:
    return tuple(match.group().casefold() for match in word().finditer(text))
