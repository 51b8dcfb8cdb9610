import ast
import textwrap
from collections import Counter
from dataclasses import asdict

from udever.pairs.mining import mine
from udever.pairs.mining.pieces import Piece, code_pieces, read_pieces, searched, write_pieces

PYTHON = '''
class Shop(Base):
    """A shop that sells things."""

    # what it costs
    limit: int = 3

    @cached
    def total(
        self,
        items: list,
    ) -> int:
        """Add up the prices."""
        def inner(a):
            """Said inside."""
            return a
        return sum(map(inner, items))

    def one(self): return 1


def lonely(a):
    b = a
    return b
'''
JAVA = """
/** A shop that sells things. */
class Shop {
    int limit = 3;
    /** Adds the prices up. */
    public int total(List<Item> items) {
        int sum = 0;
        return sum;
    }
    class Inner {
        /** Said inside. */
        int one() { return 1; }
    }
}
"""


def pieces(text, suffix):
    return {p.name: p for p in code_pieces(textwrap.dedent(text).lstrip("\n"), f"a{suffix}", suffix, Counter())}


def test_python_functions_and_classes_come_apart_from_what_documents_them():
    found = pieces(PYTHON, ".py")
    assert list(found) == ["Shop", "total", "inner", "one", "lonely"]
    shop, total = found["Shop"], found["total"]
    assert (shop.kind, shop.doc) == ("class", "A shop that sells things.")
    assert shop.text == (
        "class Shop(Base):\n\n    limit: int = 3\n\n    @cached\n    def total(\n        self,\n"
        "        items: list,\n    ) -> int:\n\n    def one(self): return 1"
    )
    assert (total.parent, total.doc, found["lonely"].parent) == ("Shop", "Add up the prices.", "")
    assert "Said inside" not in total.text and "return sum" in total.text
    ast.parse(total.text)
    assert found["lonely"].doc is None


def test_a_class_of_another_language_keeps_heads_and_fields():
    found = pieces(JAVA, ".java")
    assert found["Shop"].doc == "A shop that sells things."
    assert found["Shop"].text.split("\n") == [
        "class Shop {", "    int limit = 3;", "    public int total(List<Item> items) {", "    }",
        "    class Inner {", "    }", "}",
    ]  # fmt: skip
    assert [(p.name, p.parent) for p in found.values() if p.kind == "function"] == [("total", "Shop"), ("one", "Inner")]
    assert "Said" not in "".join(piece.text for piece in found.values())


def test_short_broken_and_repeated_pieces_are_not_searched():
    body = "def f(a):\n    b = a\n    return b"
    good = Piece("function", body, "a.py", "f", language="python-Code", num_lines=2)
    short = Piece("function", "def f(): return 1", "a.py", "f", language="python-Code", num_lines=1)
    again = Piece("function", f"{body}  ".replace("\n", "\n "), "b.py", "f", language="python-Code", num_lines=2)
    broken = Piece("function", "void f() {", "a.c", "f", language="c++-Code", num_lines=9, flawed=True)
    assert searched([good, short, again, broken]) == [good]


def test_pieces_on_disk(tmp_path):
    found = list(pieces(PYTHON, ".py").values())
    write_pieces(found, tmp_path / "corpus.parquet")
    assert [asdict(piece) for piece in read_pieces(tmp_path / "corpus.parquet")] == [asdict(piece) for piece in found]


def test_the_corpus_holds_what_nothing_documents_and_no_copy_of_a_held_out_answer(tmp_path):
    words = [f"{first}{second}" for first in ("alpha", "beta", "gamma", "delta") for second in ("one", "two", "six")]
    for number in range(8):
        body = "".join(f"    {word}_{number} = {word}({number})\n" for word in words)
        documented = f'def f{number}(a):\n    """Do the thing called {words[number]}."""\n{body}'
        plain = f"def g{number}(a):\n    x_{number} = a\n    return x_{number}\n"
        (tmp_path / f"a{number}.py").write_text(documented + plain)
        (tmp_path / f"copy{number}.py").write_text(f"def f{number}(a):\n{body}    extra()\n")
    mined = mine([tmp_path], kinds=["code"], held_out=0.25, show_progress=False)
    answers = {pair.positive for pair in mined.pairs if pair.split == "held_out"}
    names = Counter(piece.name for piece in mined.corpus)
    assert answers < {piece.text for piece in mined.corpus}
    assert all(names[f"g{number}"] == 1 for number in range(8))
    copied = {name for name, count in names.items() if count == 2}
    assert len(answers) + len(copied) == 8
