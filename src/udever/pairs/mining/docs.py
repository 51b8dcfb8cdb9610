"""Documentation: the path of headings ("Guide > Install > Linux") -> the text of that section."""

import re
from collections import Counter
from pathlib import PurePosixPath

from udever.pairs.mining.code import MAX_ANCHOR_CHARS
from udever.pairs.mining.pieces import Piece
from udever.source.pages import page_sections
from udever.source.text import cut
from udever.text.words import num_words

MAX_CHARS = 4_000
MIN_ANCHOR_WORDS = 2
MIN_WORDS = 12
_CHANGES = re.compile(r"(changes|history|news)|(change[-_ ]?log|release[-_ ]?notes|whats?[-_ ]?new).*", re.IGNORECASE)
"""Names of files that say what is new: their headings are versions and dates, and nobody asks by them."""


def doc_pieces(text: str, source: str, suffix: str, language: str | None, skipped: Counter[str]) -> list[Piece]:
    """The sections of a page with enough text, in `language`; those that no question leads to are counted.

    A text over MAX_CHARS is cut at the end of a paragraph; how often, `skipped` says too.
    """
    sections = page_sections(text, suffix, skipped)
    if sections is None:
        skipped["file: page that does not parse"] += 1
        return []
    pieces: list[Piece] = []
    for section in sections:
        anchor, body = section.title_path, section.text
        reason = ""
        if _CHANGES.fullmatch(PurePosixPath(source).stem):
            reason = "row: heading of a change log"
        elif not section.path:  # there is no question that it answers
            reason = "row: text before the first heading"
        elif num_words(anchor) < MIN_ANCHOR_WORDS:
            reason = f"row: heading under {MIN_ANCHOR_WORDS} words"
        elif num_words(body) < MIN_WORDS:
            reason = f"row: section under {MIN_WORDS} words"
        if reason:
            skipped[reason] += 1
        if num_words(body) < MIN_WORDS:
            continue
        if len(body) > MAX_CHARS:
            skipped[f"text: section cut at {MAX_CHARS} characters"] += 1
        doc = None if reason else cut(anchor, MAX_ANCHOR_CHARS)
        pieces.append(Piece("section", cut(body, MAX_CHARS), source, anchor, language=language, doc=doc))
    return pieces
