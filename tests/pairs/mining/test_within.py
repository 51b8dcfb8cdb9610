"""Pairs from within the files, and that nothing of them tells what a held-out question says."""

import textwrap
from collections import Counter

import pytest

from udever.errors import RecipeError
from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.mining import KINDS, mine
from udever.pairs.mining.pieces import Piece, code_pieces
from udever.pairs.mining.within import MINERS, Repository
from udever.pairs.negatives import Options, mine_negatives
from udever.pairs.schema import SPLITS
from udever.pairs.split import Shares
from udever.source.history import Commit

PYTHON = '''
class StreamReader:
    """What nobody may learn."""

    def read(self, size):
        """What nobody may learn either."""
        # refill the buffer where less is left
        while len(self.buffer) < size:
            self.buffer += self.fetch()
        # TODO find out why this is slow
        if not self.buffer:
            raise ValueError(f"the stream {self.name} ended before {size} bytes")
        return self.read_exactly(size)


def copy_tree(source, target):
    target.mkdir()
    for entry in source:
        copy_tree(entry, target / entry.name)


def x(a):
    b = a
    return b
'''
GO = """
package a

// Shares the word.
func (r *Reader) ReadHeader(n int) error {
\t// skip blank lines in front of it
\tfor r.blank() {
\t\tr.skip()
\t}
\treturn nil
}
"""


def found(kind, *pieces):
    return [(pair.anchor, pair.positive) for pair, _ in MINERS[kind](Repository(pieces))]


def cut(text, name="a.py"):
    return code_pieces(textwrap.dedent(text).lstrip("\n"), name, f".{name.rpartition('.')[2]}", Counter())


def test_names_are_taken_apart_and_masked():
    named = dict(found("names", *cut(PYTHON)))
    assert set(named) == {"stream reader", "read stream reader", "copy tree"}
    assert named["copy tree"].startswith("def _(source, target):") and "copy_tree" not in named["copy tree"]
    assert (
        "self.read_exactly(size)" in named["read stream reader"] and "def _(self, size)" in named["read stream reader"]
    )
    assert dict(found("names", *cut(GO, "a.go")))["read header"].startswith("func (r *Reader) _(n int)")


def test_comments_lead_to_the_block_below_them():
    assert found("comments", *cut(PYTHON)) == [
        (
            "refill the buffer where less is left",
            "while len(self.buffer) < size:\n    self.buffer += self.fetch()",
        )
    ]
    assert found("comments", *cut(GO, "a.go")) == [
        ("skip blank lines in front of it", "for r.blank() {\n\tr.skip()\n}\nreturn nil\n}".removesuffix("\n}"))
    ]


def test_messages_lead_to_who_says_them_without_the_words():
    ((said, code),) = found("messages", *cut(PYTHON))
    assert said == "the stream ended before bytes"
    assert "ended before" not in code and "raise ValueError" in code


def test_sentences_lead_to_the_one_thing_they_name():
    page = Piece("section", "First `copy_tree` copies all that is below. A tree is not a copy.", "a.md", "Guide")
    ((said, code),) = found("mentions", page, *cut(PYTHON))
    assert said == "First copy tree copies all that is below." and code.startswith("def copy_tree(")
    assert found("mentions", page, *cut(PYTHON), *cut(PYTHON, "b.py")) == []


def test_tests_lead_to_what_they_call():
    test = """
    def test_copy_tree_keeps_empty_folders(tmp_path):
        x(tmp_path)
        copy_tree(tmp_path / "a", tmp_path / "b")
        assert True
    """
    ((said, code),) = found("tests", *cut(PYTHON), *cut(test, "tests/test_a.py"))
    assert said == "copy tree keeps empty folders" and code.startswith("def _(source, target):")
    assert found("tests", *cut(test, "tests/test_a.py")) == []


def test_messages_of_commits_lead_to_the_function_that_holds_what_they_brought():
    pieces = cut(PYTHON)
    refill = frozenset(["while len(self.buffer) < size:", "self.buffer += self.fetch()", "unknown()"])
    copy = frozenset(["for entry in source:", "copy_tree(entry, target / entry.name)"])

    def told(*changes):
        found = MINERS["commits"](Repository(pieces, [Commit(message, lines) for message, lines in changes]))
        return [(pair.anchor, pair.positive.split("\n")[0]) for pair, _ in found]

    both = ("Copy and refill", {"a.py": refill | copy})
    assert told(("Refill", {"a.py": refill}), ("Elsewhere", {"b.py": refill}), both) == [
        ("Refill", "def read(self, size):"),
        ("Copy and refill", "def read(self, size):"),
        ("Copy and refill", "def copy_tree(source, target):"),
    ]
    assert told(("One line", {"a.py": frozenset(["for entry in source:"])})) == []
    assert told(("Refill, and more elsewhere", {"a.py": refill, "b.py": frozenset("abcdefgh")})) == []
    many = "\n\n".join(f"def f{n}(a):\n    first_{n}(a)\n    second_{n}(a)\n    return common(a)" for n in range(4))
    pieces = cut(many)
    brought = frozenset(line.strip() for line in many.split("\n"))
    assert told(("A change of everything", {"a.py": brought})) == []
    assert told(("What all share", {"a.py": frozenset(["return common(a)", "first_1(a)"])})) == []
    assert (
        len(told(*[(f"Mend the second {n}", {"a.py": frozenset(["first_1(a)", "second_1(a)"])}) for n in range(9)]))
        == 5
    )


SECRET = "zyzzogeton"
VERBS = ["eat", "drink", "sleep", "wake", "walk", "run", "sing", "dance"]


@pytest.fixture
def project(tmp_path, past):
    """Forty files whose docstrings hold a secret word, each quoted by a comment, a page, a message and a commit."""
    commits = []
    for number in range(40):
        word = f"{SECRET}{number}"
        said = f"Count {word} {' '.join(f'{verb}{number}' for verb in VERBS)}."
        (tmp_path / f"m{number}.py").write_text(
            f'class Holder{number}:\n    """About {word}."""\n\n    def count_all_{number}(self, values):\n'
            f'        """{said}"""\n        total = {number}\n        for value in values:\n'
            f"            total += value\n        return total\n"
        )
        quoting = (
            f"def quoting_{number}(a):\n    # {said}\n    b = count_all_{number}(a)\n    c = b + {number}\n"
            f'    raise ValueError("{said}")\n'
        )
        commits += [("Begin", {f"quoting{number}.py": ""}), (said, {f"quoting{number}.py": quoting})]
        (tmp_path / f"page{number}.md").write_text(
            f"# The guide\n## Part {number}\nHere is what `count_all_{number}` does, in its own words: {said}\n"
        )
    return past(tmp_path, commits)


def test_nothing_to_train_on_tells_what_a_held_out_docstring_says(project, monkeypatch):
    monkeypatch.setattr("udever.pairs.split.MIN_TO_CHOOSE", 10)
    mined = mine([project], kinds=KINDS, held_out=Shares(0.25, 0.2), show_progress=False)
    held = [pair for pair in mined.pairs if pair.split != "train" and SECRET in pair.anchor]
    assert {pair.split for pair in held} == {"held_out", "development"} and len(held) > 5
    secrets = {word.strip(".") for pair in held for word in pair.anchor.split() if word.startswith(SECRET)}
    train = [pair for pair in mined.pairs if pair.split == "train"]
    told = " ".join(f"{pair.anchor} {pair.positive} " for pair in train)
    assert [secret for secret in secrets if f"{secret} " in told or f"{secret}." in told] == []
    assert SECRET in told  # of the files that are trained on it may be told
    assert mined.skipped["row: text that quotes a held-out question"] > 5
    assert mined.counts["commits"] == 40 - len({pair.source for pair in held if pair.kind == "asymmetric"})
    bodies = {pair.positive.replace("count_all_", "").partition("total = ")[2] for pair in held}
    learned = {pair.positive.partition("total = ")[2] for pair in train}
    assert bodies <= learned, "held-out bodies may be learned from"
    write_pairs(mined.pairs, project / "pairs.parquet")
    by_words = Options(3, mode="words", max_share=1.0)
    mine_negatives(None, project / "pairs.parquet", project / "hard.parquet", by_words)
    negatives = [text for pair in read_pairs(project / "hard.parquet", split="train") for text in pair.negatives]
    told = " ".join(f"{text} " for text in negatives)
    assert len(negatives) > 50
    assert [secret for secret in secrets if f"{secret} " in told or f"{secret}." in told] == []


def test_questions_to_choose_by_may_come_from_the_held_out_files(project, monkeypatch):
    monkeypatch.setattr("udever.pairs.split.MIN_TO_CHOOSE", 10)
    plain = mine([project], held_out=0.5, show_progress=False)
    mined = mine([project], held_out=Shares(0.5, 0.4, "held_out"), show_progress=False)
    files = {split: {pair.source for pair in mined.pairs if pair.split == split} for split in SPLITS}
    assert all(files.values()) and not files["development"] & files["held_out"]
    assert files["development"] | files["held_out"] == {p.source for p in plain.pairs if p.split == "held_out"}
    with pytest.raises(RecipeError, match="choose_from is 'test'; expected train or held_out"):
        mine([project], held_out=Shares(0.5, 0.4, "test"), show_progress=False)


def test_pairs_about_one_function_share_a_group_and_kinds_are_counted(project):
    mined = mine([project], held_out=0.25, show_progress=False)
    assert len(mined.kinds) == len(mined.pairs) and sum(mined.counts.values()) == len(mined.pairs)
    assert mined.counts["names"] >= 40 and mined.counts["code"] >= 30
    groups = {}
    for pair, kind in zip(mined.pairs, mined.kinds, strict=True):
        if pair.split == "train" and kind in ("code", "names") and "total = " in pair.positive:
            groups.setdefault(pair.positive.partition("total = ")[2], set()).add(pair.group)
    assert groups and all(len(found) == 1 and None not in found for found in groups.values())


def test_kinds_are_switched_off_one_by_one(project):
    mined = mine([project], kinds=["code", "names"], held_out=0.25, show_progress=False)
    assert set(mined.kinds) == {"code", "names"}
    alone = mine([project], kinds=["names"], show_progress=False)
    assert set(alone.kinds) == {"names"} and {pair.split for pair in alone.pairs} == {"train"}
