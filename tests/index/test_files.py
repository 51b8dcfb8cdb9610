import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.errors import DataError
from udever.index.files import MAX_CHARACTERS, MAX_LINES, cut_text, read_chunks, text_files

SOURCE = textwrap.dedent('''\
    """What the module does."""
    import os


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
''')


def test_python_is_cut_at_functions_and_methods():
    chunks = cut_text(SOURCE, "a.py")
    assert [(chunk.id, chunk.text.split("\n")[0]) for chunk in chunks] == [
        ("a.py:1-2", '"""What the module does."""'),
        ("a.py:5-9", "@cached"),
        ("a.py:12-15", "class Thing:"),
        ("a.py:17-18", "    async def second(self):"),
    ]


def test_python_that_does_not_parse_is_cut_as_text():
    assert [chunk.id for chunk in cut_text("def f(:\n    pass\n", "a.py")] == ["a.py:1-2"]


def test_the_same_text_elsewhere_is_cut_at_blank_lines():
    text = "\n".join(["word " * 10] * 30 + [""] + ["word " * 10] * 30)
    assert [chunk.id for chunk in cut_text(text, "a.md")] == ["a.md:1-30", "a.md:32-61"]


LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=6)


@settings(deadline=None)
@given(
    lines=st.lists(LINE | st.just("") | LINE.map(lambda text: text * 700), max_size=200),
    name=st.sampled_from(["a.py", "a.md"]),
)
def test_chunks_hold_every_word_once_and_stay_within_the_limits(lines, name):
    chunks = cut_text("\n".join(lines), name)
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join("".join(lines).split())
    for chunk in chunks:
        assert len(chunk.text) <= MAX_CHARACTERS and chunk.text.count("\n") < MAX_LINES
        if chunk.first_line < chunk.last_line:
            expected = "\n".join(lines[chunk.first_line - 1 : chunk.last_line])
            assert chunk.text == expected.rstrip() or chunk.text == expected


def test_what_is_left_out(tmp_path):
    for name in ("b.md", "a.py", ".hidden", ".git/config", "build/out.md", "x/debug.log", "x/kept.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("some text\n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / ".gitignore").write_text("build/\n*.log\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.md").symlink_to(tmp_path / "b.md")
    files = [path.as_posix() for path in text_files(tmp_path)]
    assert files == ["a.py", "b.md", "image.png", "latin.txt", "x/kept.txt"]
    assert [chunk.path for chunk in read_chunks(tmp_path)] == ["a.py", "b.md", "x/kept.txt"]


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        list(read_chunks(tmp_path / "none"))
