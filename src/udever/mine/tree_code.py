"""Other programming languages: the doc comment above a function -> the function's source."""

import html
import re
from collections import Counter
from collections.abc import Iterator

from udever.data.pairs import Pair
from udever.mine.text import MAX_FUNCTION_CHARS, MIN_ANCHOR_WORDS, summary
from udever.source.tree_code import GRAMMARS, CodeTree
from udever.text.words import num_words

MIN_LINES = 3

_LINE_MARKER = re.compile(r"^[ \t]*(?://[/!]?|#+)<?[ \t]?")
_BLOCK_START = re.compile(r"^[ \t]*/\*[*!]*<?")
_BLOCK_END = re.compile(r"(?<!\*)\*++/[ \t]*$")
_STAR = re.compile(r"^[ \t]*\*[ \t]?", re.MULTILINE)
_DIRECTIVE = re.compile(r"^[ \t]*(?://(?:go:|nolint|export )|#[ \t]*(?:rubocop:|frozen_string_literal:)).*$")
_BRIEF = re.compile(r"^[ \t]*[@\\](?:brief|short|description|desc|details|summary)\b[ \t]*", re.MULTILINE)
_TAG = re.compile(r"^[ \t]*(?:[@\\][A-Za-z]|#+[ \t]+\S)", re.MULTILINE)
_INLINE_TAG = re.compile(r"\{@\w++[ \t]*+([^{}]*+)\}")
_MARKUP = re.compile(
    r"</?(?:p|br|code|pre|b|i|em|strong|ul|ol|li|dl|dt|dd|tt|a|h[1-6]|blockquote|para|see|c|summary|remarks)"
    r"(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_RULE = re.compile(r"^[ \t]*[-=*#/~_]{3,}[ \t]*$", re.MULTILINE)


def comment_text(comments: list[str]) -> str:
    """Return what the comments above a function say: no comment markers, no tags, no markup.

    Everything from the first block tag (`@param`, `\\return`) or Markdown heading (`# Panics`) on is left
    out, as are directives to tools (`//go:noinline`).
    """
    parts = []
    for comment in comments:
        if comment.lstrip().startswith("/*"):
            parts.append(_STAR.sub("", _BLOCK_END.sub("", _BLOCK_START.sub("", comment.rstrip()))))
        elif comment.startswith("=begin"):
            parts.append("\n".join(comment.rstrip().split("\n")[1:-1]))
        elif not _DIRECTIVE.match(comment):
            parts.append(_LINE_MARKER.sub("", comment.rstrip()))
    text = _BRIEF.sub("", "\n".join(parts))
    tag = _TAG.search(text)
    text = _RULE.sub("", text[: tag.start()] if tag else text)
    text = html.unescape(_MARKUP.sub("", _INLINE_TAG.sub(r"\1", text)))
    lines = [line.strip() for line in text.strip().split("\n")]
    return summary(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)))


def _num_lines(source: str) -> int:
    """Lines that say something: not blank, not a brace or `end` alone."""
    return sum(1 for line in source.split("\n") if re.search(r"\w", line) and line.strip() != "end")


def tree_pairs(text: str, source: str, suffix: str, language: str | None, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield a pair for every function, method and constructor with a doc comment right above it.

    `suffix` chooses the grammar. The anchor is the comment's summary, in `language`; the positive is the
    source with attributes and decorators, without the comment. What is left out is counted in `skipped`.
    """
    grammar = GRAMMARS[suffix]
    file = CodeTree(text, grammar)
    for function in file.functions:
        node = file.outer(function)
        row = file.first_row(node)
        comments = [] if row is None else file.comments_above(row)
        if row is None or not comments:
            continue
        anchor = comment_text(comments)
        if num_words(anchor) < MIN_ANCHOR_WORDS:
            skipped[f"row: doc comment under {MIN_ANCHOR_WORDS} words"] += 1
            continue
        if node.has_error:
            skipped["row: function that does not parse"] += 1
            continue
        positive = file.source(row, node)
        if _num_lines(positive) < MIN_LINES:
            skipped[f"row: function under {MIN_LINES} lines"] += 1
            continue
        if len(positive) > MAX_FUNCTION_CHARS:
            skipped[f"row: function over {MAX_FUNCTION_CHARS} characters"] += 1
            continue
        yield Pair(anchor, positive, anchor_language=language, positive_language=grammar.language, source=source)
