"""Repositories that are not as one would wish: bare, alone, cut off, long, of other encodings, twice in one folder."""

import io
import shutil
import subprocess
from collections import Counter

import pytest
from rich.console import Console

from udever.adaptation import AdaptSettings
from udever.adaptation.gathered import gathered, split, tell
from udever.errors import DataError
from udever.pairs.files import write_pairs
from udever.pairs.gathering import gather
from udever.pairs.mining import ASKED, Mined, mine
from udever.pairs.schema import Pair
from udever.source import git as git_module
from udever.source.history import MAX_COMMITS, changes
from udever.source.walk import walk

with_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git to make repositories with")

WORDS = (
    "amber",
    "bison",
    "cedar",
    "delta",
    "ember",
    "falcon",
    "garnet",
    "harbor",
    "indigo",
    "jasper",
    "kestrel",
    "lotus",
)


def function(word, doc=True, body=""):
    said = f'    """Weigh the {word} crate before the {word} ship leaves its {word} port."""\n' if doc else ""
    return (
        f"def weigh_{word}_crate(scale):\n{said}    {word}_mass = scale.read_{word}()\n{body}"
        f"    return {word}_mass * {len(word)}\n"
    )


def write(folder, texts):
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_a_repository_without_a_docstring_says_that_nothing_asks(tmp_path):
    write(tmp_path, {f"{word}.py": function(word, doc=False) for word in WORDS})
    mined, _ = gathered([tmp_path], AdaptSettings())
    assert mined.counts == {"names": len(WORDS)}
    with pytest.raises(DataError, match=r"no docstring, no doc comment and no section.* table of questions"):
        split(mined)


def test_one_file_says_how_its_rows_are_held_out_and_that_works(tmp_path):
    write(tmp_path, {"all.py": "\n\n".join(map(function, WORDS))})
    with pytest.raises(DataError, match=r"one file, .*udever pairs .*, then udever adapt pairs.parquet"):
        split(gathered([tmp_path], AdaptSettings())[0])
    write_pairs(gather([tmp_path], show_progress=False).pairs, tmp_path / "pairs.parquet")
    train, held_out = split(gathered([tmp_path / "pairs.parquet"], AdaptSettings(held_out=0.3))[0])
    assert held_out and not {pair.anchor for pair in train} & {pair.anchor for pair in held_out}


@with_git
def test_a_shallow_clone_is_told(past, tmp_path):
    past(tmp_path / "whole", [("Begin it", {"a.py": "x = 1\n"}), ("Say it in other words", {"a.py": "x = 2\n"})])
    clone = ["git", "clone", "-q", "--depth", "1", (tmp_path / "whole").as_uri(), tmp_path / "shallow"]
    subprocess.run(clone, check=True, capture_output=True)
    for name, told in (("whole", {}), ("shallow", {"folder: history cut off by a shallow clone": 1})):
        skipped = Counter()
        changes(list(walk([tmp_path / name], {".py"}, (), Counter())), {".py"}, skipped)
        assert skipped == told


@with_git
def test_of_a_long_history_the_newest_commits_are_read_and_the_bound_is_told(tmp_path):
    count = MAX_COMMITS + 500
    stream = ["feature done\n"]
    for number in range(count):
        message, content = f"Count up to number {number} here", f"x = {number}\n"
        stream.append(f"commit refs/heads/main\ncommitter a <a@b.org> {1_700_000_000 + number} +0000\n")
        stream.append(f"data {len(message)}\n{message}\nM 100644 inline a.py\ndata {len(content)}\n{content}\n")
    (tmp_path / "a.py").write_text(f"x = {count - 1}\n")
    for arguments in (["init", "-q", "-b", "main"], ["fast-import", "--quiet"]):
        subprocess.run(
            ["git", "-C", tmp_path, *arguments],
            input="".join([*stream, "done\n"]).encode(),
            check=True,
            capture_output=True,
        )
    skipped = Counter()
    found = changes(list(walk([tmp_path], {".py"}, (), Counter())), {".py"}, skipped)
    assert [found[0].message, found[-1].message] == [
        f"Count up to number {n} here" for n in (count - 1, count - MAX_COMMITS)
    ]
    assert skipped == {f"folder: history beyond the last {MAX_COMMITS:,} commits": 1}
    pairs = [Pair("a b", "c"), Pair("d e", "f"), Pair("g h", "i", split="held_out")]
    mined = Mined(pairs, dict(skipped), 1, kinds=["docs"] * 3)
    console = Console(file=io.StringIO())
    tell(mined, [tmp_path], AdaptSettings(), console)
    assert f"left out: history beyond the last {MAX_COMMITS:,} commits" in console.file.getvalue()


def test_of_a_history_that_takes_too_long_what_was_told_till_then_is_read(tmp_path, monkeypatch):
    """A git that says two commits and then thinks."""
    folder = write(tmp_path / "slow", {"a.py": "x = 1\n", ".git/HEAD": "ref: refs/heads/main\n"})
    patch = "diff --git a/a.py b/a.py\\n--- a/a.py\\n+++ b/a.py\\n@@ -0,0 +1 @@\\n+x = 1\\n"
    said = rf"\0Say it in other words\0\n{patch}\0Half of what it was\0\ndiff --git"
    git = write(tmp_path, {"bin/git": f"#!/bin/sh\nprintf '{said}'\nexec sleep 60\n"}) / "bin" / "git"
    git.chmod(0o755)
    monkeypatch.setattr(git_module.shutil, "which", lambda name: str(git))
    monkeypatch.setattr(git_module, "_PATIENCE_S", 0.3)
    skipped = Counter()
    found = changes(list(walk([folder / "a.py"], {".py"}, (), Counter())), {".py"}, skipped)
    assert [change.message for change in found] == ["Say it in other words"]
    assert skipped == {"folder: history beyond what git told in 0.3 s": 1}


def test_files_in_encodings_of_their_own_are_read_as_their_authors_wrote_them(tmp_path):
    java = "/** Считает вес ящика перед отплытием корабля. */\nint weigh(int a) {\n  int b = a;\n  return b;\n}\n"
    java = f"class A {{\n{java}}}\n// вес ящика и отплытие корабля: ещё немного слов по-русски, чтобы было ясно\n"
    latin = "# -*- coding: latin-1 -*-\n" + function("größe").replace("Weigh the", "Wiege für die")
    wide = function("cedar").replace("before the", "avant de lever l’ancre")
    write(tmp_path, {"A.java": java.encode("cp1251"), "b.py": latin.encode("latin-1"), "c.py": wide.encode("utf-16")})
    write(tmp_path, {"d.py": b"\xff\xfe\x00\x01" * 40})
    mined = mine([tmp_path], held_out=0.0, show_progress=False)
    asked = [pair.anchor for pair, kind in zip(mined.pairs, mined.kinds, strict=True) if kind in ASKED]
    assert sorted(asked) == [
        "Weigh the cedar crate avant de lever l’ancre cedar ship leaves its cedar port.",
        "Wiege für die größe crate before the größe ship leaves its größe port.",
        "Считает вес ящика перед отплытием корабля.",
    ]
    assert any("größe_mass" in pair.positive for pair in mined.pairs)
    assert mined.skipped["text: of an encoding that was guessed (cp1251)"] == 1


@pytest.mark.parametrize("changed", [False, True])
def test_a_second_copy_of_the_repository_answers_no_held_out_question_in_training(tmp_path, changed):
    """Beside `one/` an older `two/`: the same, or with bodies that are no longer near."""
    other = "".join(f"    step_{number} = scale.settle({number}, 'slowly')\n" for number in range(8)) if changed else ""
    page = "# Guide\n## Weigh the {0} crate\nTo weigh the {0} crate one calls `weigh_{0}_crate` at the {0} port.\n"
    for place, body in (("one", ""), ("two", other)):
        write(tmp_path / place, {f"{word}.py": function(word, body=body) for word in WORDS})
        write(tmp_path / place, {f"docs/{word}.md": page.format(word) for word in WORDS})
    mined = mine([tmp_path], held_out=0.3, show_progress=False)
    asked = [pair for pair, kind in zip(mined.pairs, mined.kinds, strict=True) if kind in ASKED]
    held = [pair for pair in asked if pair.split == "held_out"]
    assert len(held) >= 4
    train = [pair for pair in mined.pairs if pair.split == "train"]
    told = "\n".join(f"{pair.anchor}\n{pair.positive}" for pair in train)
    assert [pair.anchor for pair in held if pair.anchor in told] == []
    texts = [piece.text for piece in mined.corpus]
    for question in {pair.anchor for pair in held}:
        answers = {pair.positive for pair in held if pair.anchor == question}
        assert all(texts.count(answer) == 1 for answer in answers)
        others = {piece.text for piece in mined.corpus if piece.doc == question} - answers
        assert not others, "another right answer would count as a wrong one"
