import pytest

from udever.mine.text import MAX_ANCHOR_CHARS, cut, dedent, num_words, summary


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("one two_three", 3), ("返回用户", 4), ("Größe: 3 px!", 3), ("...", 0)]
)
def test_words_are_counted_also_without_spaces(text, expected):
    assert num_words(text) == expected


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


@pytest.mark.parametrize(
    "tail",
    [
        ":param x: the number",
        "Parameters\n----------\nx : int",
        "Args:\n    x: the number",
        "Returns:\n    a number",
        ">>> f(1)\n2",
        ".. versionadded:: 3",
        "@param x the number",
        "See Also\n--------\ng",
    ],
)
def test_summary_ends_where_the_sections_begin(tail):
    assert summary(f"Double a number.\n\nReturns it at once.\n\n{tail}\n") == "Double a number.\n\nReturns it at once."


def test_summary_is_storable_text_of_limited_length():
    assert summary("A \ud800bad\0 one") == "A bad one"
    assert len(summary("word " * 1000)) <= MAX_ANCHOR_CHARS


def test_dedent_leaves_lines_inside_strings():
    lines = ["    x = '''", "    text", "'''", "    y", "  # less", ""]
    assert dedent(lines, "    ", {1, 2}) == "x = '''\n    text\n'''\ny\n# less\n"
