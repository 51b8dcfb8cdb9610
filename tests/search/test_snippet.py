from udever.search.hits import Hit
from udever.search.snippet import snippet


def hit(text, first_line=10, last_line=None):
    return Hit(1.0, "x", text, "a.py", first_line, last_line or first_line + text.count("\n"))


def test_a_snippet_is_where_most_of_the_words_are():
    text = "\n".join(["one", "two", "copy the", "tree", "end"])
    assert snippet(hit(text), "copyTree", 2) == [(12, "copy the"), (13, "tree")]
    assert snippet(hit(text), "nothing", 2) == [(10, "one"), (11, "two")]
    assert snippet(hit("short"), "x", 9) == [(10, "short")]


def test_lines_that_are_not_the_files_have_no_numbers():
    assert snippet(hit("one\ntwo", 3, 9), "two", 1) == [(None, "two")]
    assert snippet(Hit(1.0, "x", "one", "f"), "one", 1) == [(None, "one")]
