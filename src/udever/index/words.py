"""Words of a text as full-text search compares them: identifiers taken apart, scripts without spaces by character."""

import re
import unicodedata
from collections.abc import Iterator

MAX_WORD = 64
"""A longer run without a space is data, not a word."""

# Thai to Khmer, kana, Chinese characters, Hangul: no spaces between words, so characters and pairs of them count.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_RUN = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]+")
_PART = re.compile(r"[^\W\d_]+|\d+")
_HUMP = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words(text: str) -> list[str]:
    """The words of `text` in order, without case: `copyTree_v2` gives `copytree_v2`, `copy`, `tree`, `v`, `2`."""
    return list(_words(unicodedata.normalize("NFKC", text)))


def _words(text: str) -> Iterator[str]:
    for run in _RUN.findall(text):
        if _UNSPACED_RUN.fullmatch(run):
            yield from run
            yield from (run[place : place + 2] for place in range(len(run) - 1))
            continue
        if len(run) > MAX_WORD:
            continue
        whole = run.casefold()
        parts = [part.casefold() for piece in _PART.findall(run) for part in _HUMP.split(piece)]
        yield whole
        if parts != [whole]:
            yield from parts
