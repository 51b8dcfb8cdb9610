import pytest

from udever.text.stop_words import telling
from udever.text.words import words


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("Where is the retry limit set?", {"retry", "limit", "set"}),
        ("how do I parse a date", {"parse", "date"}),
        ("Wie wird das Passwort geprüft?", {"passwort", "geprüft"}),
        ("où est la limite", {"limite"}),
        ("где находится файл", {"находится", "файл"}),
        ("怎么读取文件", {"读", "取", "文", "件", "读取", "取文", "文件", "么读", "怎么"}),
        ("don't copyTree", {"copytree", "copy", "tree"}),
    ],
)
def test_words_that_tell(question, told):
    assert telling(words(question)) == told


def test_a_question_of_nothing_else_is_taken_as_it_is():
    assert telling(["to", "be", "or", "not"]) == {"to", "be", "or", "not"}
    assert telling(["die"]) == {"die"}  # German for "the", and a function of PHP
    assert telling([]) == set()


def test_the_language_of_the_question_decides():
    assert "die" in telling(words("when does it die"))
    assert "die" not in telling(words("wo ist die Datei"))
