from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from udever.search import Hit
from udever.server.highlight import marked_lines


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


def test_it_shows_the_lines_with_the_words_and_their_numbers():
    text = "\n".join(f"line {number} of nothing" for number in range(50)) + "\ndef read_file(path): pass"
    shown = lines_of(text, "read a file from a path", 3)
    assert [number for number, _ in shown][-1] == 55
    assert [part for part, match in shown[-1][1] if match] == ["read_file", "path"]


def test_words_match_whole_and_whatever_their_case():
    assert marked("Number, numbers; NUMBER renumber", "number") == ["Number", "NUMBER"]
    assert marked("copyTree and tree", "Tree") == ["copyTree", "tree"]


def test_scripts_without_blanks_match_by_character():
    assert marked("我们在这里读取文件的内容", "读取文件") == ["读取文件"]


def test_of_a_long_line_the_beginning_is_shown():
    ((_, parts),) = lines_of("word " * 1000, "word")
    assert len("".join(part for part, _ in parts)) == 500
