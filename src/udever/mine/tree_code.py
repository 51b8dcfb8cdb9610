"""Other programming languages, by tree-sitter: the doc comment above a function -> the function's source.

One table says what each language calls a function and a comment; one extraction serves them all.
"""

import html
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tree_sitter import Language, Node, Parser

from udever.data.pairs import Pair
from udever.mine.text import MAX_FUNCTION_CHARS, MIN_ANCHOR_WORDS, dedent, num_words, summary

MIN_LINES = 3


@dataclass(frozen=True)
class Grammar:
    """How one language writes functions and their documentation.

    `functions`: node types of a function; `wrappers`: of what may stand around it, so that the comment is
    above the wrapper; `between`: of what may stand between comment and function (attributes, decorators)
    and belongs to the function; `markers`: how a comment must begin to be documentation.
    """

    language: str
    module: str
    functions: frozenset[str]
    markers: tuple[str, ...]
    wrappers: frozenset[str] = frozenset()
    between: frozenset[str] = frozenset()
    factory: str = "language"


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
_JAVA = Grammar("java-Code", "tree_sitter_java", frozenset({"method_declaration", "constructor_declaration"}), ("/**",))
_JAVASCRIPT = Grammar(
    "javascript-Code",
    "tree_sitter_javascript",
    _SCRIPT_FUNCTIONS,
    ("/**",),
    _SCRIPT_WRAPPERS,
    frozenset({"decorator"}),
)
_TYPESCRIPT = Grammar(
    "typescript-Code",
    "tree_sitter_typescript",
    _SCRIPT_FUNCTIONS,
    ("/**",),
    _SCRIPT_WRAPPERS,
    frozenset({"decorator"}),
    "language_typescript",
)
_TSX = Grammar(
    "typescript-Code",
    "tree_sitter_typescript",
    _SCRIPT_FUNCTIONS,
    ("/**",),
    _SCRIPT_WRAPPERS,
    frozenset({"decorator"}),
    "language_tsx",
)
_GO = Grammar("go-Code", "tree_sitter_go", frozenset({"function_declaration", "method_declaration"}), ("//", "/*"))
_PHP = Grammar(
    "php-Code",
    "tree_sitter_php",
    frozenset({"function_definition", "method_declaration"}),
    ("/**",),
    factory="language_php",
)
_RUBY = Grammar("ruby-Code", "tree_sitter_ruby", frozenset({"method", "singleton_method"}), ("#", "=begin"))
_RUST = Grammar(
    "rust-Code",
    "tree_sitter_rust",
    frozenset({"function_item"}),
    ("///", "/**"),
    between=frozenset({"attribute_item"}),
)
_CPP = Grammar(
    "c++-Code",
    "tree_sitter_cpp",
    frozenset({"function_definition"}),
    ("//", "/*"),
    frozenset({"template_declaration"}),
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


_LINE_MARKER = re.compile(r"^[ \t]*(?://[/!]?|#+)<?[ \t]?")
_BLOCK_START = re.compile(r"^[ \t]*/\*[*!]*<?")
_BLOCK_END = re.compile(r"\**\*/[ \t]*$")
_STAR = re.compile(r"^[ \t]*\*[ \t]?", re.MULTILINE)
_DIRECTIVE = re.compile(r"^[ \t]*(?://(?:go:|nolint|export )|#[ \t]*(?:rubocop:|frozen_string_literal:)).*$")
_BRIEF = re.compile(r"^[ \t]*[@\\](?:brief|short|description|desc|details|summary)\b[ \t]*", re.MULTILINE)
_TAG = re.compile(r"^[ \t]*(?:[@\\][A-Za-z]|#+[ \t]+\S)", re.MULTILINE)
_INLINE_TAG = re.compile(r"\{@\w+[ \t]*([^{}]*)\}")
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


class _Source:
    """One parsed file: its lines, where each comment ends, and which rows begin inside a string."""

    def __init__(self, text: str, grammar: Grammar):
        self.grammar = grammar
        self.data = text.encode()
        self.lines = self.data.split(b"\n")
        self.functions: list[Node] = []
        self.comments: dict[int, tuple[int, str]] = {}
        """Last row of a comment that has its lines to itself -> its first row and its text."""
        self.verbatim: set[int] = set()
        for node in _nodes(_parser(grammar).parse(self.data).root_node):
            kind = node.type
            if kind in grammar.functions:
                self.functions.append(node)
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

    def source(self, first: int, node: Node) -> str:
        """The lines from `first` to the end of `node`, without their common indentation."""
        last, column = node.end_point
        lines = [line.decode("utf-8", "replace") for line in self.lines[first : last + 1]]
        lines[-1] = self.lines[last][:column].decode("utf-8", "replace")
        indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
        return dedent(lines, indent, {row - first for row in self.verbatim if first < row <= last}).rstrip()


def _num_lines(source: str) -> int:
    """Lines that say something: not blank, not a brace or `end` alone."""
    return sum(1 for line in source.split("\n") if re.search(r"\w", line) and line.strip() != "end")


def tree_pairs(text: str, source: str, suffix: str, language: str | None, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield a pair for every function, method and constructor with a doc comment right above it.

    `suffix` chooses the grammar. The anchor is the comment's summary, in `language`; the positive is the
    source with attributes and decorators, without the comment. What is left out is counted in `skipped`.
    """
    grammar = GRAMMARS[suffix]
    file = _Source(text, grammar)
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
