import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.source.chunks import KINDS, MAX_CHARACTERS, MAX_LINES, cut_file, is_code, prose_language
from udever.source.definitions import definitions


def shape(text, path, **options):
    chunks = cut_file(textwrap.dedent(text).lstrip("\n"), path, **options)
    return [(c.first_line, c.last_line, c.kind, c.parent, c.name) for c in chunks]


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        (
            "a.md",
            "<!-- licence\nof it -->\nIntro.\n\n# Use <!-- x -->\n\n<!-- todo:\n\nrewrite -->\ntext <!-- b --> end\n\n"
            "```html\n<!-- shown -->\n```\n",
            [
                (3, 3, "Intro."),
                (5, 14, "# Use <!-- x -->\n\n\n\n\ntext  end\n\n```html\n<!-- shown -->\n```"),
            ],
        ),
        (
            "a.rst",
            ".. _label:\n\nGuide\n=====\n\nOne\ttab.\n\n.. a comment\n   over lines\n\n.. note:: Kept.\n\n"
            ".. toctree::\n\n   a\n",
            [(3, 11, "Guide\n=====\n\nOne\ttab.\n\n\n\n\n.. note:: Kept.")],
        ),
    ],
)
def test_what_is_left_out_of_a_page_is_in_no_chunk_and_lines_keep_their_numbers(path, source, expected):
    assert [(c.first_line, c.last_line, c.text) for c in cut_file(source, path)] == expected


def test_python_is_cut_at_functions_and_classes():
    source = '''
    """What the module does."""
    import os


    # about first
    @cached
    def first(a):
        def inner():
            return 1
        return inner() + a


    class Thing:
        """A thing."""

        size = 3

        async def second(self):
            return await self.x

        class Inner:
            def third(self):
                return 3
    if True:
        def fourth():
            return 4
    '''
    assert shape(source, "a.py") == [
        (1, 2, "code", "", ""),
        (5, 10, "function", "", "first"),
        (13, 16, "class", "", "Thing"),
        (18, 19, "function", "Thing", "second"),
        (21, 21, "class", "Thing", "Inner"),
        (22, 23, "function", "Thing.Inner", "third"),
        (24, 24, "code", "", ""),
        (25, 26, "function", "", "fourth"),
    ]


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        (
            "A.java",
            "package x;\n\n/** A shop. */\npublic class Shop {\n  int a;\n  /** Adds.\n   */\n  @Override\n"
            "  public int total(int b) {\n    return b;\n  }\n  int get() { return a; }\n}\n",
            [
                (1, 1, "code", "", ""),
                (3, 5, "class", "", "Shop"),
                (6, 11, "function", "Shop", "total"),
                (12, 13, "class", "", "Shop"),
            ],
        ),
        (
            "a.js",
            "// adds\nexport const add = (a, b) => {\n  return a + b;\n};\n\nit('works', () => {\n  a();\n  b();\n});\n"
            "class Foo extends Bar {\n  run() {\n    go();\n  }\n}\nmodule.exports.f = function () {\n  a();\n};\n",
            [
                (1, 4, "function", "", "add"),
                (6, 9, "code", "", ""),
                (10, 10, "class", "", "Foo"),
                (11, 13, "function", "Foo", "run"),
                (15, 17, "function", "", "module.exports.f"),
            ],
        ),
        ("a.ts", "interface A {\n  x: number\n}\n", [(1, 3, "class", "", "A")]),
        (
            "a.go",
            "package main\n\n// T is.\ntype T struct {\n\tx int\n}\n\n// F does.\n"
            "func (t *T) F() int {\n\treturn 1\n}\n",
            [(1, 1, "code", "", ""), (3, 6, "class", "", "T"), (8, 11, "function", "", "F")],
        ),
        (
            "a.rs",
            "impl A {\n    /// does\n    #[inline]\n    fn f(&self) -> i32 {\n        1\n    }\n}\n",
            [(1, 1, "class", "", "A"), (2, 6, "function", "A", "f")],
        ),
        (
            "a.rb",
            "module M\n  # doc\n  def f(x)\n    x\n  end\nend\n",
            [(1, 1, "class", "", "M"), (2, 5, "function", "M", "f")],
        ),
        (
            "a.php",
            "<?php\nclass A {\n  function f() {\n    return 1;\n  }\n}\n",
            [(1, 1, "code", "", ""), (2, 2, "class", "", "A"), (3, 5, "function", "A", "f")],
        ),
        (
            "a.cpp",
            "namespace n {\nclass A {\n  int *f(int a) {\n    return 0;\n  }\n};\n}\ntemplate <class T>\n"
            "int A::g(T t) {\n  return 1;\n}\nstruct foo bar;\n",
            [
                (1, 1, "class", "", "n"),
                (2, 2, "class", "n", "A"),
                (3, 5, "function", "n.A", "f"),
                (8, 11, "function", "", "A::g"),
                (12, 12, "code", "", ""),
            ],
        ),
    ],
)
def test_other_languages_are_cut_at_functions_and_classes(path, source, expected):
    assert shape(source, path) == expected


def test_code_that_does_not_parse_is_cut_at_blank_lines():
    assert shape("def f(:\n    pass\n", "a.py") == [(1, 2, "code", "", "")]


def test_classes_nested_without_end_cost_no_recursion():
    text = "\n".join("class A {" for _ in range(3_000)) + "\n" + "\n".join("}" for _ in range(3_000))
    assert "".join(chunk.text.count("class A") * "x" for chunk in cut_file(text, "a.java")) == 3_000 * "x"


def test_documents_are_cut_at_headings():
    page = "---\nt: x\n---\nBefore.\n\n# Top\n\n## Install\n\nRun it.\n\n### Linux\napt\n\n## Empty\n"
    assert shape(page, "README.md") == [
        (4, 4, "text", "", ""),
        (8, 10, "section", "Top", "Install"),
        (12, 13, "section", "Top > Install", "Linux"),
        (15, 15, "section", "Top", "Empty"),
    ]
    chunks = cut_file(page, "README.de.md")
    assert chunks[1].text == "## Install\n\nRun it."
    assert chunks[1].passage == "Top\n## Install\n\nRun it."
    assert {chunk.language for chunk in chunks} == {"deu-Latn"}
    assert shape("Top\n===\n\nIntro.\n\nSub\n---\n\ntext\n", "a.rst") == [
        (1, 4, "section", "", "Top"),
        (6, 9, "section", "Top", "Sub"),
    ]
    html = "<html><body><p>pre</p>\n<h1>T</h1>\n<p>x</p>\n<h2>U</h2><p>y\nz</p></body></html>"
    assert shape(html, "a.html") == [
        (1, 1, "text", "", ""),
        (2, 3, "section", "", "T"),
        (4, 5, "section", "T", "U"),
    ]
    assert [chunk.text for chunk in cut_file(html, "a.html")] == ["pre", "T\n\nx", "U\n\ny z"]
    assert shape("<h1>A</h1><![foo>text", "a.html") == [(1, 1, "text", "", "")]


@pytest.mark.parametrize("path", ["a.md", "a.rst", "a.html", "a.py", "a.go", "a.txt", "Makefile"])
def test_an_empty_file_has_no_chunks(path):
    assert cut_file("", path) == []
    assert cut_file("\n\n  \n", path) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("README.de.md", "deu-Latn"),
        ("docs/fr/install.md", "fra-Latn"),
        ("docs/zh-CN/x/y.md", "zho-Hans"),
        ("de/install.md", None),
        ("docs/install.md", None),
        ("docs/de", None),
    ],
)
def test_a_path_may_name_its_language(path, expected):
    assert prose_language(path) == expected


def test_the_language_given_is_for_prose_alone():
    assert cut_file("x = 1\n", "a.py", "eng-Latn")[0].language == "python-Code"
    assert cut_file("ls\n", "a.sh")[0].language == "shell-Code"
    assert cut_file("words\n", "LICENSE", "eng-Latn")[0].language == "eng-Latn"
    assert is_code("A.PY") and not is_code("a.md")


LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=6)


@settings(deadline=None)
@given(
    lines=st.lists(LINE | st.just("") | LINE.map(lambda text: text * 700) | st.just("def f():"), max_size=200),
    name=st.sampled_from(["a.txt", "a.md", "Makefile"]),
)
def test_chunks_hold_every_word_once_and_stay_within_the_limits(lines, name):
    chunks = cut_file("\n".join(lines), name)
    if name != "a.md":  # whose empty sections and front matter are left out
        assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join("".join(lines).split())
    for chunk in chunks:
        assert len(chunk.text) <= MAX_CHARACTERS and chunk.text.count("\n") < MAX_LINES
        assert chunk.kind in KINDS
        if chunk.first_line < chunk.last_line:
            assert chunk.text == "\n".join(lines[chunk.first_line - 1 : chunk.last_line]).rstrip()


def test_definitions_of_an_unknown_language_are_none():
    assert definitions("def f(): pass", ".xyz") == []
