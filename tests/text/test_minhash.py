import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.text import minhash
from udever.text.minhash import MinHashIndex, Shingled, jaccard

TEXTS = st.lists(st.text(max_size=40), max_size=12)
WORDS = st.lists(st.sampled_from(["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op"]), min_size=4, max_size=14).map(
    " ".join
)


def shingles(text):
    """The 32-bit hashes of all runs of three tokens of one text."""
    return np.unique(minhash._mixed(np.array(minhash._token_ids(text), dtype=np.uint64)))


def signature(hashes):
    return ((hashes[:, None] * minhash._FACTORS + minhash._OFFSETS) >> np.uint64(32)).min(axis=0)


@given(TEXTS)
def test_many_texts_at_once_are_what_each_is_alone(texts):
    shingled = Shingled(texts)
    assert len(shingled) == len(texts)
    for index, text in enumerate(texts):
        assert np.array_equal(shingled.of(index), shingles(text))
        assert np.array_equal(shingled.signatures()[index], signature(shingles(text)))


def test_the_signature_estimates_the_similarity():
    left = shingles(" ".join(f"w{i}" for i in range(400)))
    right = shingles(" ".join(f"w{i}" for i in range(100, 500)))
    assert abs((signature(left) == signature(right)).mean() - jaccard(left, right)) < 0.2


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 1), ("one", 1), ("one two three", 1), ("one two three four", 2), ("今天天气很好", 4), ("ありがとう", 3)],
)
def test_characters_of_scripts_without_spaces_are_tokens(text, count):
    assert len(shingles(text)) == count


@given(st.lists(WORDS, min_size=1, max_size=15), st.lists(WORDS, min_size=1, max_size=15))
def test_the_index_finds_what_comparing_all_pairs_finds(texts, queries):
    found = MinHashIndex(texts).near(queries, threshold=0.9)
    expected = [
        (q, t)
        for q, query in enumerate(queries)
        for t, text in enumerate(texts)
        if jaccard(shingles(query), shingles(text)) >= 0.9
    ]
    assert found == expected  # at 0.9 and up one pair in 10^8 is missed


def test_closed_texts_are_not_searched_and_nothing_is_found_in_nothing():
    index = MinHashIndex(["a b c d e", "a b c d e f"])
    assert index.near(["a b c d e"], threshold=0.7) == [(0, 0), (0, 1)]
    assert index.near(["a b c d e"], threshold=0.7, open_=np.array([False, True])) == [(0, 1)]
    assert index.near([], threshold=0.7) == []
    assert MinHashIndex([]).near(["a b c"], threshold=0.7) == []
