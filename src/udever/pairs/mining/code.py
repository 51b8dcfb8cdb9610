"""What documents code: the words of docstrings and doc comments, and the source without them."""

import ast
import html
import re
from collections.abc import Collection

from udever.source.python_code import Function
from udever.source.text import cut, dedent

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


Documented = Function | ast.ClassDef


def docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.Expr | None:
    """Return the statement that is the docstring of a function or class, None where there is none."""
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return first
    return None


def without_docstrings(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
    lines: list[bytes],
    verbatim: set[int],
    without: Collection[int] = (),
) -> str:
    """Return the source of a function or class, decorators first, without docstrings and its own indentation.

    `lines` is the whole file, as bytes because ast counts columns in UTF-8 bytes; `verbatim` the rows to
    leave as they are (`string_rows`), `without` rows to leave out. Only docstrings are taken out, those of functions
    and classes inside too, with their lines where nothing else stands on them; a body left empty becomes `...`, so
    the result always parses where nothing is left out besides.
    """
    assert node.end_lineno
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    rows = {row: lines[row] for row in range(start, node.end_lineno)}
    rows[node.end_lineno - 1] = rows[node.end_lineno - 1][: node.end_col_offset]
    docs = [(inner, docstring(inner)) for inner in ast.walk(node) if isinstance(inner, Documented)]
    firsts = {_take_out(rows, doc, alone=len(inner.body) == 1) for inner, doc in docs if doc is not None}

    indent = lines[node.lineno - 1][: node.col_offset].decode()
    numbers = sorted(rows.keys() - set(without))
    kept = {index for index, row in enumerate(numbers) if row in verbatim and row not in firsts}
    return dedent([rows[row].decode() for row in numbers], indent, kept)


def _take_out(rows: dict[int, bytes], doc: ast.Expr, *, alone: bool) -> int:
    """Remove a docstring from `rows`, in place; return its first row."""
    assert doc.end_lineno and doc.end_col_offset is not None
    first, last = doc.lineno - 1, doc.end_lineno - 1
    before, behind = rows[first][: doc.col_offset], rows[last][doc.end_col_offset :]
    if behind.lstrip().startswith(b";"):
        behind = behind.lstrip()[1:].lstrip()
    if alone:
        behind = b"..." + behind
    for row in range(first, last + 1):
        del rows[row]
    if (before + behind).strip():
        rows[first] = before + behind
    return first


def class_text(node: ast.ClassDef, lines: list[bytes], verbatim: set[int]) -> str:
    """Return the source of a class without docstrings and comments; of its functions the heads alone."""
    without = {row for row in range(node.lineno, node.end_lineno or 0) if lines[row].lstrip().startswith(b"#")}
    for inner in ast.walk(node):
        if isinstance(inner, Function) and inner.end_lineno:
            first = max(inner.body[0].lineno, _head(inner) + 1)
            without.update(range(first - 1, inner.end_lineno))
    return without_docstrings(node, lines, verbatim - without, without)


def _head(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The line on which the head of a function ends at the earliest: that of its name, or of its last argument."""
    arguments = function.args
    last = [a.end_lineno or 0 for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return max(function.lineno, *last) if last else function.lineno


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


def num_lines(source: str) -> int:
    """Lines that say something: not blank, not a brace or `end` alone."""
    return sum(1 for line in source.split("\n") if re.search(r"\w", line) and line.strip() != "end")
