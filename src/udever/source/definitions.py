"""Where functions and classes lie in a file of source code: the lines at which it may be cut."""

import ast
from dataclasses import dataclass, field
from typing import Literal

from tree_sitter import Node

from udever.source.python_code import Function, parse
from udever.source.tree_code import GRAMMARS, CodeTree

_MIN_ROWS = {"function": 3, "class": 2}
"""Shorter ones of a language with braces (a getter, an arrow, a declaration) stay with what is around them."""

_MAX_DEPTH = 50
"""Classes nested deeper than any person writes are read as text, so that a hostile file costs no recursion."""

ARROWS = frozenset({"arrow_function", "function_expression", "generator_function"})
"""Node types of functions that are named from outside, or not at all."""

_NAMES = ("name", "type", "property", "key", "left")


@dataclass(frozen=True)
class Definition:
    """A function or class on lines `first_line` to `last_line`, from 1, comments and decorators above included."""

    first_line: int
    last_line: int
    kind: Literal["function", "class"]
    name: str
    children: list["Definition"] = field(default_factory=list)
    """What a class holds; a function is one piece."""


def definitions(text: str, suffix: str) -> list[Definition]:
    """The functions and classes of a file named `*suffix`, outermost first; [] where it does not parse as code.

    They need not be in order, and two may share a line.
    """
    if suffix in (".py", ".pyw", ".pyi"):
        tree = parse(text)
        return [] if tree is None else _python(tree, text.split("\n"))
    grammar = GRAMMARS.get(suffix)
    return [] if grammar is None else _tree(CodeTree(text, grammar))


def _python(tree: ast.Module, lines: list[str]) -> list[Definition]:
    found: list[Definition] = []
    waiting: list[tuple[ast.AST, list[Definition]]] = [(tree, found)]
    while waiting:
        node, siblings = waiting.pop()
        if isinstance(node, Function | ast.ClassDef):
            definition = _python_definition(node, lines)
            siblings.append(definition)
            if isinstance(node, Function):
                continue
            siblings = definition.children
        elif isinstance(node, ast.expr):
            continue
        waiting.extend((child, siblings) for child in ast.iter_child_nodes(node))
    return found


def _python_definition(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str]) -> Definition:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    kind = "class" if isinstance(node, ast.ClassDef) else "function"
    return Definition(first, node.end_lineno or node.lineno, kind, node.name)


def _tree(tree: CodeTree) -> list[Definition]:
    found: list[Definition] = []
    waiting: list[tuple[Node, list[Definition], int]] = [(tree.root, found, 0)]
    while waiting:
        node, siblings, depth = waiting.pop()
        definition = _tree_definition(tree, node)
        if definition is not None:
            siblings.append(definition)
            if definition.kind == "function" or depth == _MAX_DEPTH:
                continue
            siblings, depth = definition.children, depth + 1
        waiting.extend((child, siblings, depth) for child in node.named_children)
    return found


def _tree_definition(tree: CodeTree, node: Node) -> Definition | None:
    is_function = node.type in tree.grammar.functions
    if not is_function and node.type not in tree.grammar.classes:
        return None
    outer = tree.outer(node)
    if node.type in ARROWS and outer == node:
        return None  # a callback: part of the call it is handed to
    row = tree.first_row(outer)
    last = outer.end_point[0] if outer.end_point[1] else outer.end_point[0] - 1
    kind = "function" if is_function else "class"
    if row is None or last - row + 1 < _MIN_ROWS[kind]:
        return None
    while (above := tree.comments.get(row - 1)) is not None:
        row = above[0]
    return Definition(row + 1, last + 1, kind, name_of(node, outer))


def name_of(node: Node, outer: Node) -> str:
    """The name of a function or class, which `outer` may give it (an arrow function's); "" where it has none."""
    here: Node | None = node
    while here is not None:
        named = next((child for field in _NAMES if (child := here.child_by_field_name(field)) is not None), None)
        if here.child_by_field_name("declarator") is not None:  # C and C++: inside pointers and parameter lists
            named = here
            while (inner := named.child_by_field_name("declarator")) is not None:
                named = inner
        if named is not None and named.text is not None:
            return " ".join(named.text.decode("utf-8", "replace").split())
        here = None if here == outer else here.parent
    inside = (child.child_by_field_name("name") for child in node.named_children)
    named = next((child for child in inside if child is not None), None)  # Go: the name is the specification's
    return "" if named is None or named.text is None else named.text.decode("utf-8", "replace")
