import ast
import textwrap
from collections import Counter

import pytest

from udever.pairs.mining.code import docstring, without_docstrings
from udever.pairs.mining.pieces import code_pieces, documented
from udever.source.python_code import string_rows


def mined(text: str, skipped: Counter[str] | None = None):
    counts = Counter() if skipped is None else skipped
    found = code_pieces(textwrap.dedent(text), "a.py", ".py", counts)
    return [pair for piece in found if (pair := documented(piece, "eng-Latn", counts))]


def cut_out(text: str) -> str:
    tree = ast.parse(text)
    function = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    lines = text.encode().split(b"\n")
    return without_docstrings(function, lines, string_rows(tree, lines))


def test_docstring_becomes_the_anchor_and_the_rest_stays_byte_for_byte():
    (pair,) = mined(
        '''
        class Shop:
            @property
            @cached(  size = 3 )
            def total( self ):   # odd  spacing
                """Add up the prices.

                :param none: at all
                """

                s = 0
                return s
        '''
    )
    assert pair.anchor == "Add up the prices."
    assert pair.positive == (
        "@property\n@cached(  size = 3 )\ndef total( self ):   # odd  spacing\n\n    s = 0\n    return s"
    )
    assert (pair.anchor_language, pair.positive_language, pair.kind) == (
        "eng-Latn",
        "python-Code",
        "asymmetric",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('def f():\n    "d"\n    return 1', "def f():\n    return 1"),
        ('def f():\n    "d"; return 1', "def f():\n    return 1"),
        ('def f(): "d"; return 1', "def f(): return 1"),
        ('def f(): "d"', "def f(): ..."),
        ('def f():\n    """d\n    e"""', "def f():\n    ..."),
        ('def f():\n    ("d"\n     "e")\n    return 1', "def f():\n    return 1"),
        ('def f():\n    "d"  # why\n    return 1', "def f():\n      # why\n    return 1"),
        ('def f(ä="ü"): "ö"; return "ß"', 'def f(ä="ü"): return "ß"'),
        ('def f():\n\t"d"\n\tif 1:\n\t\treturn 1', "def f():\n\tif 1:\n\t\treturn 1"),
        ('async def f():\n    "d"\n    return 1  # end', "async def f():\n    return 1"),
        (
            'def f():\n    "d"\n    x = """\n  a\n"""\n    return x',
            'def f():\n    x = """\n  a\n"""\n    return x',
        ),
        ('def f():\n    "d\x0c"\n    x = "\x0c"\n    return x', 'def f():\n    x = "\x0c"\n    return x'),
    ],
)
def test_only_the_docstring_goes(text, expected):
    assert cut_out(text) == expected
    for indent in ("    ", "\t"):
        nested = "class A:\n" + "\n".join(indent + line if line else line for line in text.split("\n"))
        ast.parse(cut_out(nested))


def test_the_program_is_the_same_but_for_the_docstring():
    source = '''
class A:
    def f(self, q):
        r"""Query \\d the base."""
        sql = f"""
            select {q}
        from t
"""
        other = ("a"
                 "b")
    # a comment that stands too far left
        return sql, other
'''
    text = cut_out(source)
    wanted = ast.parse(source).body[0].body[0]  # type: ignore[attr-defined]
    assert docstring(wanted)
    wanted.body = wanted.body[1:]
    assert ast.dump(ast.parse(text).body[0]) == ast.dump(wanted)


def test_strings_side_by_side_lose_the_indentation_as_code_does():
    text = 'class A:\n    def f(self):\n        "d"\n        return ("a"\n                "b")'
    assert cut_out(text) == 'def f(self):\n    return ("a"\n            "b")'


def test_nested_and_async_functions_are_found_in_order():
    pairs = mined(
        '''
        def outer():
            """The outer function here."""
            async def inner():
                """The inner function here."""
                a = 1
                return a
            return inner
        '''
    )
    assert [pair.anchor for pair in pairs] == ["The outer function here.", "The inner function here."]
    assert pairs[1].positive == "async def inner():\n    a = 1\n    return a"


def test_short_docstrings_and_bodies_are_counted():
    skipped: Counter[str] = Counter()
    text = '''
    def a():
        """Too short."""
        x = 1
        return x
    def b():
        """Long enough a docstring."""
        return 1
    def c():
        """Long enough a docstring."""
    def d():
        return 1
    '''
    assert mined(text, skipped) == []
    assert skipped == {"row: docstring under 3 words": 1, "row: function body under 2 lines": 2}


@pytest.mark.parametrize("text", ["def f(:\n", "(" * 500, "x = 1\n  y = 2\n", "\tdef f():\n        pass\n"])
def test_a_file_that_does_not_parse_is_counted(text):
    skipped: Counter[str] = Counter()
    assert code_pieces(text, "a.py", ".py", skipped) == []
    assert skipped == {"file: Python that does not parse": 1}


def test_old_escapes_do_not_warn():
    assert len(mined('def f(x):\n    """Match the \\d digits."""\n    y = "\\d"\n    return x, y\n')) == 1
