import pytest

from udever.source.text import cut, dedent


@pytest.mark.parametrize(
    ("text", "max_chars", "expected"),
    [
        ("short", 10, "short"),
        ("one two\n\nthree four five", 19, "one two\n\nthree four"),
        ("aaaa bbbb\n\ncc", 12, "aaaa bbbb"),
        ("aaaa bbbb\ncccc dd", 14, "aaaa bbbb"),
        ("It is. So be it", 10, "It is."),
        ("x" * 20, 8, "x" * 8),
    ],
)
def test_cut_ends_at_the_best_break(text, max_chars, expected):
    assert cut(text, max_chars) == expected


def test_dedent_leaves_lines_inside_strings():
    lines = ["    x = '''", "    text", "'''", "    y", "  # less", ""]
    assert dedent(lines, "    ", {1, 2}) == "x = '''\n    text\n'''\ny\n# less\n"
