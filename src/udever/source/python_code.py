"""Python source: its syntax tree, and which lines begin inside a string."""

import ast
import warnings

LANGUAGE = "python-Code"

# Python 3.14 adds template strings.
_STRINGS: tuple[type[ast.expr], ...] = (
    ast.Constant,
    ast.JoinedStr,
    getattr(ast, "TemplateStr", ast.JoinedStr),
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parse(text: str) -> ast.Module | None:
    """Return the syntax tree of `text`, None where Python cannot parse it; no warning escapes."""
    with warnings.catch_warnings():
        # Old code holds invalid escapes ("\d"), for which the parser warns on standard error.
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def string_rows(tree: ast.AST, lines: list[bytes]) -> set[int]:
    """Return the rows (from 0) that begin inside a string literal: their indentation belongs to it."""
    rows: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and not isinstance(node.value, str | bytes):
            continue
        if isinstance(node, _STRINGS) and (node.end_lineno or 0) > node.lineno:
            spanned = lines[node.lineno - 1 : node.end_lineno]
            # Strings side by side over several lines are one node too, but their lines begin between them.
            if any(b'"""' in line or b"'''" in line or line.endswith(b"\\") for line in spanned):
                rows.update(range(node.lineno, node.end_lineno or 0))
    return rows
