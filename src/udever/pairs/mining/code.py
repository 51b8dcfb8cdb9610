"""Code: the docstring or doc comment of a function -> the function's source without it."""

import ast
import html
import inspect
import re
from collections import Counter
from collections.abc import Iterator

from udever.pairs.schema import Pair
from udever.source.python_code import LANGUAGE, Function, parse, string_rows
from udever.source.text import cut, dedent
from udever.source.tree_code import GRAMMARS, CodeTree
from udever.text.words import num_words

MAX_ANCHOR_CHARS = 1_000
MIN_ANCHOR_WORDS = 3
MAX_FUNCTION_CHARS = 16_000
"""A function longer than this is left out and counted: cutting it would leave code that does not parse."""

# Titles of sections, as alternatives of a verbose pattern, in which a plain space would not count.
_NUMPY_SECTIONS = (
    "Parameters|Other[ ]Parameters|Returns?|Yields?|Receives|Raises|Warns|Warnings?|See[ ]Also|Notes?|"
    "References|Examples?|Attributes|Methods"
)
_GOOGLE_SECTIONS = (
    "Args|Arguments|Keyword[ ]Args|Keyword[ ]Arguments|Kwargs|Parameters|Params|Returns?|Yields?|Raises|"
    "Throws|Examples?|Notes?|Attributes|Usage|Todo|See[ ]Also|References"
)
_SECTION_START = re.compile(
    rf"""^[ \t]*(?:
        [:@\\](?:param|parameter|arg|argument|key|keyword|kwarg|type|raises?|except|exception|throws|var|ivar|
            cvar|vartype|returns?|rtype|yields?|ytype|meta|see|since|deprecated)\b.*
      | (?:{_NUMPY_SECTIONS})[ \t]*\n[ \t]*[-=]{{3,}}[ \t]*
      | (?:{_GOOGLE_SECTIONS})[ \t]*::?[ \t]*
      | >>>.*
      | \.\.[ ].*
    )$""",
    re.MULTILINE | re.VERBOSE,
)


def summary(text: str) -> str:
    """Return what a docstring or doc comment says before its sections of parameters, notes and examples.

    Understands Sphinx fields, numpy and Google sections, doctests, reStructuredText directives. At most
    MAX_ANCHOR_CHARS long.
    """
    # A docstring may spell a lone surrogate or NUL by an escape; neither can be stored as UTF-8 text.
    text = text.encode("utf-8", "ignore").decode("utf-8").replace("\0", "")
    start = _SECTION_START.search(text)
    return cut((text[: start.start()] if start else text).strip(), MAX_ANCHOR_CHARS)


MIN_BODY_LINES = 2


def docstring(function: Function) -> ast.Expr | None:
    """Return the statement that is the docstring of `function`, None where there is none."""
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return first
    return None


def without_docstring(function: Function, lines: list[bytes], verbatim: set[int]) -> str:
    """Return the source of `function`, decorators first, without its docstring and its own indentation.

    `lines` is the whole file, as bytes because ast counts columns in UTF-8 bytes; `verbatim` the rows to
    leave as they are (`string_rows`). Only the docstring is taken out, with its line where nothing else
    stands on it; a body left empty becomes `...`, so the result always parses.
    """
    doc = docstring(function)
    assert doc is not None and doc.end_lineno and doc.end_col_offset is not None and function.end_lineno
    start = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)]) - 1
    rows = {row: lines[row] for row in range(start, function.end_lineno)}
    rows[function.end_lineno - 1] = rows[function.end_lineno - 1][: function.end_col_offset]

    before = rows[doc.lineno - 1][: doc.col_offset]
    behind = rows[doc.end_lineno - 1][doc.end_col_offset :]
    if behind.lstrip().startswith(b";"):
        behind = behind.lstrip()[1:].lstrip()
    if len(function.body) == 1:
        behind = b"..." + behind
    for row in range(doc.lineno - 1, doc.end_lineno):
        del rows[row]
    if (before + behind).strip():
        rows[doc.lineno - 1] = before + behind

    indent = lines[function.lineno - 1][: function.col_offset].decode()
    numbers = sorted(rows)
    kept = {index for index, row in enumerate(numbers) if row in verbatim and row != doc.lineno - 1}
    return dedent([rows[row].decode() for row in numbers], indent, kept)


def python_pairs(text: str, source: str, language: str | None, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield a pair for every documented function and method in `text`, in the order of the file.

    The anchor is the docstring's summary, in `language`. Undocumented functions are no rows; what else is
    left out is counted in `skipped`.
    """
    tree = parse(text)
    if tree is None:
        skipped["file: Python that does not parse"] += 1
        return
    lines = text.encode().split(b"\n")
    functions = [node for node in ast.walk(tree) if isinstance(node, Function) and docstring(node)]
    verbatim = string_rows(tree, lines) if functions else set()
    for function in sorted(functions, key=lambda node: (node.lineno, node.col_offset)):
        doc = docstring(function)
        assert doc is not None and isinstance(doc.value, ast.Constant)
        anchor = summary(inspect.cleandoc(str(doc.value.value)))
        body = function.body[1:]
        if num_words(anchor) < MIN_ANCHOR_WORDS:
            skipped[f"row: docstring under {MIN_ANCHOR_WORDS} words"] += 1
            continue
        if not body or (body[-1].end_lineno or 0) - body[0].lineno + 1 < MIN_BODY_LINES:
            skipped[f"row: function body under {MIN_BODY_LINES} lines"] += 1
            continue
        positive = without_docstring(function, lines, verbatim)
        if len(positive) > MAX_FUNCTION_CHARS:
            skipped[f"row: function over {MAX_FUNCTION_CHARS} characters"] += 1
            continue
        yield Pair(anchor, positive, anchor_language=language, positive_language=LANGUAGE, source=source)


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
