"""What goes into a tree comes out of it, or is counted as left out."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from udever.pairs.mining import mine
from udever.source.chunks import cut_file
from udever.source.reading import read_found
from udever.source.walk import walk

WORDS = "These are more than twelve plain words about {}, so that such a section counts as one."
KINDS = {
    "a.py": "def f(x):\n    return '{}'\n",
    "a.go": "package a\n\n// {}\nfunc F() {\n}\n",
    "a.md": "---\nkey: value\n---\n\n# Title of it\n\n" + WORDS,
    "b.md": "---\n\n" + WORDS + "\n\n---\n\n# End of it\n",
    "a.rst": "Title of it\n===========\n\n" + WORDS,
    "c.html": "<form><h1>Title of it</h1><p>" + WORDS + "</p></form>",
    "d.html": "<article>one</article><article><h2>Title of it</h2>" + WORDS + "</article>",
    "a.txt": "plain {}\n",
    "a.csv": "name\n{}\n",
    "gen.js": "// @generated\nlet x = '{}';\n",
    "min.js": "let x='{}';" * 100,
    "a.min.js": "{}",
    "num.txt": "{} " + "0.1 0.2 " * 40,
    "a.ipynb": '{"cells": [{"cell_type": "code", "source": "x = 1 # {}"}]}',
    "bad.ipynb": '{"cells": {}',
    "bin.txt": "{}\0",
}


@st.composite
def trees(draw):
    """Path -> a word that stands in that file alone."""
    folders = draw(st.lists(st.sampled_from(["", "a/", "a/b/", "docs/de/", "build/"]), min_size=1, unique=True))
    names = {folder + name for folder in folders for name in draw(st.sets(st.sampled_from(sorted(KINDS)), min_size=1))}
    return {name: f"marker{number}word" for number, name in enumerate(sorted(names))}


def write(root: Path, tree: dict[str, str]) -> None:
    for name, word in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(KINDS[Path(name).name].replace("{}", word))


def counted(skipped: Mapping[str, int], kind: str) -> int:
    return sum(count for reason, count in skipped.items() if reason.startswith(kind))


@given(trees(), st.sampled_from([(), ("a/b/",), ("*.html",), ("!*.csv",)]))
def test_every_file_comes_out_or_is_counted(tmp_path_factory, tree, exclude):
    root = tmp_path_factory.mktemp("tree")
    write(root, tree)
    skipped: Counter[str] = Counter()
    found = list(walk([root], None, exclude, skipped))
    said = {file.source: read_found(file, skipped) for file in found}
    out = {name: cut_file(text, name, None, skipped) for name, text in said.items() if text is not None}
    for name, chunks in out.items():
        assert tree[name] in " ".join(chunk.passage for chunk in chunks), name
    closed = [folder for folder in ("build/", "a/b/") if folder == "build/" or folder in exclude]
    in_closed = [name for name in tree if name.startswith(tuple(closed))]
    assert sum(n for reason, n in skipped.items() if reason.startswith("file: ")) == len(tree) - len(out) - len(
        in_closed
    )
    assert sum(n for reason, n in skipped.items() if reason.startswith("folder: ")) == len(
        {folder for folder in closed for name in in_closed if name.startswith(folder)}
    )
    front = [name for name in out if name.endswith("a.md")]
    assert skipped["text: front matter"] == len(front)


@given(trees())
def test_every_section_becomes_a_pair_or_is_counted(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("tree")
    tree = {"first.md": "markerfirstword", **tree}
    (root / "first.md").write_text(
        "# First of all\n\n" + "Quite other words stand here, twelve of them and some more of it.\n"
    )
    write(root, {name: word for name, word in tree.items() if name != "first.md"})
    mined = mine([root], kinds=("docs",), held_out=0, show_progress=False)
    pages = [name for name in tree if Path(name).suffix in (".md", ".rst", ".html") and not name.startswith("build/")]
    assert mined.num_files == len(pages)
    # b.md and d.html hold two sections: one with the word, one without enough of them
    sections = len(pages) + sum(Path(name).name in ("b.md", "d.html") for name in pages)
    assert len(mined.pairs) + counted(mined.skipped, "row: ") == sections
