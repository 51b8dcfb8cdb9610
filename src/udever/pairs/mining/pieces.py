"""What a repository holds, piece by piece: functions, classes and sections, each apart from what documents it."""

import ast
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from tree_sitter import Node

from udever.pairs.files import write_pairs
from udever.pairs.mining.code import (
    MAX_FUNCTION_CHARS,
    MIN_ANCHOR_WORDS,
    MIN_BODY_LINES,
    MIN_LINES,
    class_text,
    comment_text,
    docstring,
    num_lines,
    summary,
    without_docstrings,
)
from udever.pairs.schema import Pair
from udever.source.definitions import ARROWS, name_of
from udever.source.python_code import LANGUAGE, Function, parse, string_rows
from udever.source.text import one_line
from udever.source.tree_code import GRAMMARS, CodeTree
from udever.text.words import num_words

PieceKind = Literal["function", "class", "section"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A function, a class (its functions by their first lines alone) or a section of a page.

    `text` is without docstrings and doc comments; `doc` is what the piece's own say, or the headings above a section,
    None where there is none. `name` and `parent` are those of the function or class and of the class around it.
    `num_lines` counts the lines of a function's body; `flawed` says that the parser found an error inside.
    """

    kind: PieceKind
    text: str
    source: str
    name: str = ""
    parent: str = ""
    language: str | None = None
    doc: str | None = None
    num_lines: int = 0
    flawed: bool = False

    @property
    def is_searched(self) -> bool:
        """Whether it is more than a line or two, and short enough to be shown whole."""
        return 0 < len(self.text) <= MAX_FUNCTION_CHARS and not self.flawed and self.num_lines >= self._least

    @property
    def _least(self) -> int:
        if self.kind != "function":
            return 0
        return MIN_BODY_LINES if self.language == LANGUAGE else MIN_LINES


_TYPES = {"num_lines": pa.int64(), "flawed": pa.bool_()}
_SCHEMA = pa.schema([(field.name, _TYPES.get(field.name, pa.string())) for field in fields(Piece)])


def write_pieces(pieces: Sequence[Piece], path: Path) -> None:
    """Write pieces to a Parquet file, whole or not at all."""
    write_pairs(pieces, path, _SCHEMA)


def read_pieces(path: Path) -> list[Piece]:
    """What `write_pieces` wrote."""
    with path.open("rb") as file:
        return [Piece(**row) for row in pq.read_table(file).to_pylist()]


def documented(piece: Piece, language: str | None, skipped: Counter[str]) -> Pair | None:
    """What documents a function, or the headings of a section -> its text; both prose in `language`.

    None where nothing does, and, counted in `skipped`, where that is too little.
    """
    if piece.kind == "class" or piece.doc is None:
        return None
    python, reason = piece.language == LANGUAGE, ""
    if piece.kind == "section":
        pass  # `doc_pieces` gives no `doc` to those that are too little
    elif num_words(piece.doc) < MIN_ANCHOR_WORDS:
        reason = f"row: {'docstring' if python else 'doc comment'} under {MIN_ANCHOR_WORDS} words"
    elif piece.flawed:
        reason = "row: function that does not parse"
    elif piece.num_lines < piece._least:
        reason = f"row: function {'body ' if python else ''}under {piece._least} lines"
    elif len(piece.text) > MAX_FUNCTION_CHARS:
        reason = f"row: function over {MAX_FUNCTION_CHARS} characters"
    if reason:
        skipped[reason] += 1
        return None
    return Pair(piece.doc, piece.text, anchor_language=language, positive_language=piece.language, source=piece.source)


def code_pieces(text: str, source: str, suffix: str, skipped: Counter[str]) -> list[Piece]:
    """The functions and classes of a file of code, in its order; a file that does not parse is counted."""
    if suffix in GRAMMARS:
        return list(_tree_pieces(text, source, suffix))
    tree = parse(text)
    if tree is None:
        skipped["file: Python that does not parse"] += 1
        return []
    return list(_python_pieces(tree, text, source))


def _python_pieces(tree: ast.Module, text: str, source: str) -> Iterator[Piece]:
    lines = text.encode().split(b"\n")
    verbatim = string_rows(tree, lines)
    found = sorted(_owned(tree), key=lambda item: (item[0].lineno, item[0].col_offset))
    for node, parent in found:
        doc = docstring(node)
        said = None
        if doc is not None:
            assert isinstance(doc.value, ast.Constant)
            said = summary(inspect.cleandoc(str(doc.value.value)))
        if isinstance(node, ast.ClassDef):
            piece = class_text(node, lines, verbatim)
            yield Piece("class", piece, source, node.name, parent, LANGUAGE, said)
            continue
        body = node.body[1:] if doc is not None else node.body
        rows = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        piece = without_docstrings(node, lines, verbatim)
        yield Piece("function", piece, source, node.name, parent, LANGUAGE, said, rows)


def _owned(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, str]]:
    """Every function and class, and the class around it."""
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        node, parent = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function | ast.ClassDef):
                yield child, parent
            elif isinstance(child, ast.expr):
                continue
            waiting.append((child, child.name if isinstance(child, ast.ClassDef) else parent))


def _tree_pieces(text: str, source: str, suffix: str) -> Iterator[Piece]:
    """Of a callback nothing is given unless it is documented: it is part of the call it is handed to."""
    grammar = GRAMMARS[suffix]
    file = CodeTree(text, grammar)
    docs: dict[int, tuple[int, list[str]]] = {}
    for node in (*file.functions, *file.classes):
        row = file.first_row(file.outer(node))
        if row is not None and (comments := file.comments_above(row)):
            docs[row] = (row - sum(comment.rstrip().count("\n") + 1 for comment in comments), comments)
    hidden = {row for last, (first, _) in docs.items() for row in range(first, last)}
    for node in sorted((*file.functions, *file.classes), key=lambda node: node.start_byte):
        outer = file.outer(node)
        row = file.first_row(outer)
        if row is None:
            continue
        comments = docs[row][1] if row in docs else []
        is_class = node.type in grammar.classes
        if not comments and node.type in ARROWS and outer == node:
            continue
        without = hidden | (_inside(file, node) if is_class else set())
        piece = file.source(row, outer, without)
        yield Piece(
            "class" if is_class else "function",
            piece,
            source,
            name_of(node, outer),
            _class_around(file, outer),
            grammar.language,
            comment_text(comments) if comments else None,
            num_lines(piece),
            outer.has_error,
        )


def _inside(file: CodeTree, node: Node) -> set[int]:
    """The rows of a class that hold comments, or the insides of its functions and classes."""
    first, last = node.start_point[0], node.end_point[0]
    rows: set[int] = set()
    for end, (start, _) in file.comments.items():
        if first <= start <= last:
            rows.update(range(start, end + 1))
    for inner in (*file.functions, *file.classes):
        body = inner.child_by_field_name("body")
        if (
            body is None
            or inner == node
            or not (node.start_byte < inner.start_byte and inner.end_byte <= node.end_byte)
        ):
            continue
        (start, column), end = body.start_point, body.end_point[0]
        start += bool(file.lines[start][:column].strip())  # the head of the function stays
        end += not file.lines[end].lstrip().startswith(b"}")
        rows.update(range(start, end))
    return rows


def _class_around(file: CodeTree, outer: Node) -> str:
    here = outer.parent
    while here is not None and here.type not in file.grammar.classes:
        here = here.parent
    return "" if here is None else name_of(here, file.outer(here))


def searched(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces that are worth finding, of equal texts the first."""
    found: dict[str, Piece] = {}
    for piece in pieces:
        if piece.is_searched:
            found.setdefault(one_line(piece.text), piece)
    return list(found.values())
