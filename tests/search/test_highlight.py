from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.search.highlight import marked_lines, matches, snippet
from udever.search.searchable import Hit


def lines_of(text, question, num_lines=99):
    hit = Hit(1.0, "a", text, "a.txt", 5, 5 + text.count("\n"))
    return marked_lines(hit, question, num_lines)


def marked(text, question):
    return [part for _, parts in lines_of(text, question) for part, match in parts if match]


@given(st.text(max_size=200), st.text(max_size=30))
def test_the_pieces_are_the_lines(text, question):
    lines = lines_of(text, question)
    assert ["".join(part for part, _ in parts) for _, parts in lines] == text.split("\n")
    for _, parts in lines:
        assert all(part for part, _ in parts)
        assert all(a[1] != b[1] for a, b in pairwise(parts))


@given(st.text("ab cd\n_文件😀B", max_size=60), st.text("abcd 文件", max_size=9))
def test_the_matches_are_the_marked_pieces(text, question):
    pieces = [(part, match) for _, parts in lines_of(text, question) for part, match in parts]
    found = matches(text, question)
    assert [text[start:end] for start, end in found] == [part for part, match in pieces if match]
    assert all(end < start for (_, end), (start, _) in pairwise(found))


def test_stop_words_are_not_marked():
    assert marked("the sum of the numbers", "what is the sum of numbers") == ["sum", "numbers"]
    assert marked("to be or not", "to be") == ["to", "be"]
    text = "\n".join(["what is the", "of the", "retry"])
    assert snippet(hit(text), "what is the retry", 1) == [(12, "retry")]


def test_it_shows_the_lines_with_the_words_and_their_numbers():
    text = "\n".join(f"line {number} of nothing" for number in range(50)) + "\ndef read_file(path): pass"
    shown = lines_of(text, "read a file from a path", 3)
    assert [number for number, _ in shown][-1] == 55
    assert [part for part, match in shown[-1][1] if match] == ["read_file", "path"]


def test_words_match_whole_and_whatever_their_case():
    assert marked("Number, numbers; NUMBER renumber", "number") == ["Number", "NUMBER"]
    assert marked("copyTree and tree", "Tree") == ["copyTree", "tree"]


def test_names_that_begin_with_a_line_match_whole_and_by_no_letter():
    assert marked("def _parse(self): __init__ parse", "parse") == ["_parse", "parse"]
    assert marked("_batch_job plan_b", "plan b") == ["plan_b"]


def test_words_match_with_their_combining_marks_and_with_points_or_without():
    assert marked("यह किताब अच्छी है", "किताब") == ["किताब"]
    assert marked("אמר שָׁלוֹם לך", "שלום") == ["שָׁלוֹם"]
    assert marked("นี่คือลมเย็น", "เย็น") == ["เย็น"]
    assert marked("abc文件def", "abc 文件") == ["abc文件"]


def test_scripts_without_blanks_match_by_character():
    assert marked("我们在这里读取文件的内容", "读取文件") == ["读取文件"]


def test_of_a_long_line_the_beginning_is_shown():
    ((_, parts),) = lines_of("word " * 1000, "word")
    assert len("".join(part for part, _ in parts)) == 500


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


@pytest.mark.parametrize("name", ["a.html", "a.HTM", "a.xhtml", "a.ipynb"])
def test_a_page_without_its_tags_has_no_numbers_though_it_has_as_many_lines(name):
    page = "<h1>Title</h1>\n<p>alpha is here.\n</p>\n<ul>\n<li>beta zebra</li>\n</ul>"
    text = "Title\n\nalpha is here.\n\nbeta zebra\n"
    assert text.count("\n") == page.count("\n")
    found = Hit(1.0, "x", text, name, 1, 6)
    assert not found.has_own_lines
    assert snippet(found, "zebra", 1) == [(None, "beta zebra")]
