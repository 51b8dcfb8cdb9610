"""Programming languages other than Python, by tree-sitter: functions, classes, and the comments above them.

One table says what each language calls a function, a class and a comment; one reading serves them all.
"""

import importlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache

from tree_sitter import Language, Node, Parser

from udever.source.text import dedent


@dataclass(frozen=True)
class Grammar:
    """How one language writes functions and their documentation.

    `functions`: node types of a function; `classes`: of what holds functions or fields; `wrappers`: of what may
    stand around either, so that the comment is above the wrapper; `between`: of what may stand between comment
    and function (attributes, decorators) and belongs to the function; `markers`: how a comment must begin to be
    documentation.
    """

    language: str
    module: str
    functions: frozenset[str]
    markers: tuple[str, ...]
    wrappers: frozenset[str] = frozenset()
    between: frozenset[str] = frozenset()
    factory: str = "language"
    classes: frozenset[str] = frozenset()


_SCRIPT_FUNCTIONS = frozenset(
    {
        "function_declaration",
        "generator_function_declaration",
        "method_definition",
        "arrow_function",
        "function_expression",
        "generator_function",
    }
)
_SCRIPT_WRAPPERS = frozenset(
    {
        "variable_declarator",
        "lexical_declaration",
        "variable_declaration",
        "export_statement",
        "assignment_expression",
        "expression_statement",
        "pair",
        "field_definition",
        "public_field_definition",
    }
)
_SCRIPT_CLASSES = frozenset({"class_declaration"})
_TYPESCRIPT_CLASSES = frozenset(
    {"class_declaration", "abstract_class_declaration", "interface_declaration", "enum_declaration", "internal_module"}
)
_JAVA = Grammar(
    "java-Code",
    "tree_sitter_java",
    frozenset({"method_declaration", "constructor_declaration"}),
    ("/**",),
    classes=frozenset({"class_declaration", "interface_declaration", "enum_declaration", "record_declaration"}),
)
_JAVASCRIPT = Grammar(
    "javascript-Code",
    "tree_sitter_javascript",
    _SCRIPT_FUNCTIONS,
    ("/**",),
    _SCRIPT_WRAPPERS,
    frozenset({"decorator"}),
    classes=_SCRIPT_CLASSES,
)
_TYPESCRIPT = replace(
    _JAVASCRIPT,
    language="typescript-Code",
    module="tree_sitter_typescript",
    factory="language_typescript",
    classes=_TYPESCRIPT_CLASSES,
)
_TSX = replace(_TYPESCRIPT, factory="language_tsx")
_GO = Grammar(
    "go-Code",
    "tree_sitter_go",
    frozenset({"function_declaration", "method_declaration"}),
    ("//", "/*"),
    classes=frozenset({"type_declaration"}),
)
_PHP = Grammar(
    "php-Code",
    "tree_sitter_php",
    frozenset({"function_definition", "method_declaration"}),
    ("/**",),
    factory="language_php",
    classes=frozenset({"class_declaration", "interface_declaration", "trait_declaration", "enum_declaration"}),
)
_RUBY = Grammar(
    "ruby-Code",
    "tree_sitter_ruby",
    frozenset({"method", "singleton_method"}),
    ("#", "=begin"),
    classes=frozenset({"class", "module"}),
)
_RUST = Grammar(
    "rust-Code",
    "tree_sitter_rust",
    frozenset({"function_item"}),
    ("///", "/**"),
    between=frozenset({"attribute_item"}),
    classes=frozenset({"struct_item", "enum_item", "union_item", "trait_item", "impl_item", "mod_item"}),
)
_CPP = Grammar(
    "c++-Code",
    "tree_sitter_cpp",
    frozenset({"function_definition"}),
    ("//", "/*"),
    frozenset({"template_declaration"}),
    classes=frozenset({"class_specifier", "struct_specifier", "namespace_definition"}),
)

GRAMMARS = {
    ".java": _JAVA,
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), _JAVASCRIPT),
    **dict.fromkeys((".ts", ".mts", ".cts"), _TYPESCRIPT),
    ".tsx": _TSX,
    ".go": _GO,
    ".php": _PHP,
    ".rb": _RUBY,
    ".rs": _RUST,
    **dict.fromkeys((".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx"), _CPP),
}
"""File name suffix -> grammar. C is read as C++."""

_COMMENTS = frozenset({"comment", "line_comment", "block_comment"})
_DECLARATIONS = frozenset({"lexical_declaration", "variable_declaration"})


@cache
def _parser(grammar: Grammar) -> Parser:
    return Parser(Language(getattr(importlib.import_module(grammar.module), grammar.factory)()))


def _nodes(root: Node) -> Iterator[Node]:
    """Yield every node below `root` in the order of the text; without recursion, as trees can be deep."""
    cursor = root.walk()
    while True:
        node = cursor.node
        if node is not None:
            yield node
        if cursor.goto_first_child() or cursor.goto_next_sibling():
            continue
        while cursor.goto_parent():
            if cursor.goto_next_sibling():
                break
        else:
            return


class CodeTree:
    """One parsed file: its lines, where each comment ends, and which rows begin inside a string."""

    def __init__(self, text: str, grammar: Grammar):
        self.grammar = grammar
        self.data = text.encode()
        self.lines = self.data.split(b"\n")
        self.functions: list[Node] = []
        self.classes: list[Node] = []
        self.comments: dict[int, tuple[int, str]] = {}
        """Last row of a comment that has its lines to itself -> its first row and its text."""
        self.verbatim: set[int] = set()
        self.root = _parser(grammar).parse(self.data).root_node
        for node in _nodes(self.root):
            kind = node.type
            if kind in grammar.functions:
                self.functions.append(node)
            elif kind in grammar.classes:
                self.classes.append(node)
            elif kind in _COMMENTS:
                self._add_comment(node)
            elif node.end_point[0] > node.start_point[0] and ("string" in kind or "heredoc" in kind):
                self.verbatim.update(range(node.start_point[0] + 1, node.end_point[0] + 1))

    def _add_comment(self, node: Node) -> None:
        first, column = node.start_point
        if self.lines[first][:column].strip():
            return  # behind code: it speaks of that line
        # Some grammars count the line end to the comment, so its last row comes from its text.
        comment = self.data[node.start_byte : node.end_byte].decode("utf-8", "replace").rstrip()
        self.comments[first + comment.count("\n")] = (first, comment)

    def outer(self, function: Node) -> Node:
        """The function with what stands around it: `export const f = () => ...` for the arrow alone."""
        node = function
        while (parent := node.parent) is not None and parent.type in self.grammar.wrappers:
            if parent.type in _DECLARATIONS and parent.named_child_count != 1:
                break
            node = parent
        return node

    def first_row(self, node: Node) -> int | None:
        """The row where `node` begins, attributes and decorators included; None if it shares its line."""
        while (
            (above := node.prev_sibling) is not None
            and above.type in self.grammar.between
            and above.end_point[0] >= node.start_point[0] - 1
        ):
            node = above
        row, column = node.start_point
        return None if self.lines[row][:column].strip() else row

    def comments_above(self, row: int) -> list[str]:
        """The doc comments that end right above `row`, in order: one block or a run of line comments."""
        found: list[str] = []
        while (above := self.comments.get(row - 1)) is not None:
            first, comment = above
            if not comment.startswith(self.grammar.markers) or (found and comment.startswith("/*")):
                break
            found.insert(0, comment)
            row = first
            if comment.startswith("/*"):
                break
        return found

    def source(self, first: int, node: Node, without: Collection[int] = ()) -> str:
        """The lines from `first` to the end of `node`, without their common indentation and the rows `without`."""
        last, column = node.end_point
        rows = [row for row in range(first, last + 1) if row not in without]
        lines = [self.lines[row].decode("utf-8", "replace") for row in rows]
        if rows[-1] == last:
            lines[-1] = self.lines[last][:column].decode("utf-8", "replace")
        indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
        kept = {place for place, row in enumerate(rows) if row in self.verbatim and row != first}
        return dedent(lines, indent, kept).rstrip()
