import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.search.bm25 import K1, B, Bm25


def naive_scores(documents, query):
    """Lucene's BM25 from its formula."""
    counts = [[document.count(term) for document in documents] for term in query]
    lengths = np.array([len(document) for document in documents])
    scores = np.zeros(len(documents))
    for row in np.array(counts, dtype=float).reshape(len(query), len(documents)):
        df = (row > 0).sum()
        idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
        scores += idf * row / (row + K1 * (1 - B + B * lengths / lengths.mean()))
    return scores


WORDS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=6)


@settings(deadline=None, max_examples=40)
@given(documents=st.lists(WORDS, min_size=1, max_size=8), query=st.lists(st.sampled_from("abcdef"), max_size=4))
def test_ranking_is_the_formula(documents, query):
    found = Bm25([" ".join(document) for document in documents]).top_k([" ".join(query)], 5)[0]
    expected = naive_scores(documents, query)
    matching = int((expected > 0).sum())
    assert (found >= 0).sum() == min(5, matching)
    kept = found[found >= 0]
    best = np.sort(expected)[::-1][: len(kept)]
    np.testing.assert_allclose(expected[kept], best, rtol=1e-5)


def test_ties_go_to_the_lower_index_and_strangers_are_not_found():
    index = Bm25(["b x", "a x", "c", "a x"])
    assert index.top_k(["a", "zzz", ""], 4).tolist() == [[1, 3, -1, -1], [-1] * 4, [-1] * 4]


def test_a_corpus_without_words_finds_nothing():
    assert Bm25(["...", ""]).top_k(["a"], 5).tolist() == [[-1, -1]]


def test_nothing_is_printed(capfd):
    Bm25(["a b", "c d"] * 50).top_k(["a"] * 100, 3)
    assert capfd.readouterr() == ("", "")
