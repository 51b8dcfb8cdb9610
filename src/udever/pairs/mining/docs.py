"""Documentation: the path of headings ("Guide > Install > Linux") -> the text of that section."""

from collections import Counter
from collections.abc import Iterator

from bs4.exceptions import ParserRejectedMarkup

from udever.pairs.mining.code import MAX_ANCHOR_CHARS
from udever.pairs.schema import Pair
from udever.source.pages import NO_TEXT, SPLITTERS
from udever.source.text import cut
from udever.text.words import num_words

MAX_CHARS = 4_000
MIN_ANCHOR_WORDS = 2
MIN_WORDS = 12


def doc_pairs(text: str, source: str, suffix: str, language: str | None, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield a pair for every section with enough text; both sides are in `language`.

    A text over MAX_CHARS is cut at the end of a paragraph; how often, `skipped` says too.
    """
    try:
        sections = SPLITTERS[suffix](text, skipped)
    except (ParserRejectedMarkup, RecursionError):
        skipped["file: page that does not parse"] += 1
        return
    if not sections and text.strip():
        skipped[NO_TEXT] += 1
    for section in sections:
        if not section.path:  # there is no question that it answers
            skipped["row: text before the first heading"] += 1
            continue
        anchor, body = section.title_path, section.text
        if num_words(anchor) < MIN_ANCHOR_WORDS:
            skipped[f"row: heading under {MIN_ANCHOR_WORDS} words"] += 1
            continue
        if num_words(body) < MIN_WORDS:
            skipped[f"row: section under {MIN_WORDS} words"] += 1
            continue
        if len(body) > MAX_CHARS:
            skipped[f"text: section cut at {MAX_CHARS} characters"] += 1
        yield Pair(
            cut(anchor, MAX_ANCHOR_CHARS),
            cut(body, MAX_CHARS),
            anchor_language=language,
            positive_language=language,
            source=source,
        )
