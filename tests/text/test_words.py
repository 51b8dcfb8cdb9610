import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.search.bm25 import Bm25
from udever.text.minhash import Shingled, jaccard
from udever.text.words import MAX_WORD, num_words, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("copyTree_v2", ["copytree_v2", "copy", "tree", "v", "2"]),
        ("parse_http_response2", ["parse_http_response2", "parse", "http", "response", "2"]),
        ("HTTPServer IOError", ["httpserver", "http", "server", "ioerror", "io", "error"]),
        ("__init__ _ don't", ["init", "don", "t"]),
        ("os.path.join", ["os", "path", "join"]),
        ("Größe STRASSE Straße", ["grösse", "strasse", "strasse"]),
        ("größeÄndern", ["grösseändern", "grösse", "ändern"]),
        ("ＡＢＣ ﬁne", ["abc", "fine"]),
        ("किताब हिन्दी में", ["किताब", "हिन्दी", "में"]),
        ("বাংলা தமிழ் తెలుగు", ["বাংলা", "தமிழ்", "తెలుగు"]),
        ("क्\u200dष", ["क्ष"]),
        ("שָׁלוֹם שלום", ["שלום", "שלום"]),
        ("كِتَابٌ كتاب كـتاب", ["كتاب", "كتاب", "كتاب"]),
        ("می\u200cخواهم", ["میخواهم"]),
        ("返回用户", ["返", "回", "用", "户", "返回", "回用", "用户"]),
        ("機械とAI 語", ["機", "械", "と", "機械", "械と", "ai", "語"]),
        ("x返y", ["x", "返", "y"]),
        ("カ・ナ", ["カ", "ナ"]),
        ("ที่นี่", ["ที่", "นี่", "ที่นี่"]),
        ("한국어", ["한", "국", "어", "한국", "국어"]),
        ("'; DROP TABLE--", ["drop", "table"]),
        ("a" * (MAX_WORD + 1), []),
        ("test_" + "very_long_" * 8 + "name", ["test", *["very", "long"] * 8, "name"]),
        ("  …! ", []),
    ],
)
def test_words_of_many_scripts(text, expected):
    assert words(text) == expected


LETTERS = st.text(st.characters(categories=["L", "M", "N", "P", "Zs"]), max_size=30)


@settings(deadline=None)
@given(LETTERS)
def test_words_do_not_depend_on_how_characters_are_composed(text):
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))
    assert all(words(text))


@settings(deadline=None)
@given(st.text(st.characters(categories=["Ll", "Lo"]), min_size=1, max_size=20))
def test_no_letter_is_lost(text):
    """Every letter of a text is in one of its words."""
    whole = "".join(words(text))
    folded = unicodedata.normalize("NFKC", text)
    assert {c for c in folded.casefold() if c.isalpha()} <= set(whole)


def test_a_document_with_the_word_ranks_before_one_with_its_letters():
    documents = ["कि ता ब तो", "मेरी किताब यहाँ है"]
    assert Bm25(documents).top_k(["किताब"], 2).tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("text", "count"), [("किताब खोलें", 2), ("שָׁלוֹם", 1), ("今天好", 3), ("ที่นี่", 2), ("a_b c", 2), ("", 0)]
)
def test_words_are_counted(text, count):
    assert num_words(text) == count


def test_near_duplicates_compare_words_not_marks():
    assert len(Shingled(["किताब खोलें और पढ़ें"]).of(0)) == 2
    assert jaccard(Shingled(["किताब खोलें और पढ़ें"]).of(0), Shingled(["कताब खलें और पढें"]).of(0)) == 0
