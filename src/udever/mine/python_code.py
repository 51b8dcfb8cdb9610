"""Python: the docstring of a function -> the function's source without its docstring."""

import ast
import inspect
from collections import Counter
from collections.abc import Iterator

from udever.data.pairs import Pair
from udever.mine.text import MAX_FUNCTION_CHARS, MIN_ANCHOR_WORDS, summary
from udever.source.python_code import LANGUAGE, Function, parse, string_rows
from udever.source.text import dedent
from udever.text.words import num_words

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
