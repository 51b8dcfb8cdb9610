import numpy as np
import pytest

from udever.evaluation import METRICS, RetrievalSet, compare, score_bm25, score_embedder
from udever.pairs.schema import Pair

WORDS = ["red", "green", "blue", "black", "white", "pink", "gold", "grey", "teal", "lime", "navy", "rust"]
PAIRS = [Pair(f"where is {word}", f"here is {word} {word}") for word in WORDS]


def test_the_pieces_of_a_large_corpus_are_one_corpus(embedder, monkeypatch):
    retrieval_set = RetrievalSet.from_pairs(PAIRS)
    whole = score_embedder(embedder, retrieval_set)
    monkeypatch.setattr(compare, "_WINDOW", 5)
    pieces = score_embedder(embedder, retrieval_set)
    assert embedder.calls == [("query", 12), ("document", 12), ("query", 12)] + [
        ("document", size) for size in (5, 5, 2)
    ]
    for metric in METRICS:
        np.testing.assert_array_equal(whole.per_query[metric], pieces.per_query[metric])
    assert (whole.num_queries, whole.num_documents) == (12, 12)
    assert whole.means["mrr@10"] > 0.9


def test_an_embedder_that_ranks_backwards_scores_lower(embedder):
    retrieval_set = RetrievalSet.from_pairs(PAIRS)
    forwards = score_embedder(embedder, retrieval_set)
    encode = embedder.encode_query
    embedder.encode_query = lambda texts, **options: -encode(texts, **options)
    backwards = score_embedder(embedder, retrieval_set)
    assert all(backwards.means[metric] < forwards.means[metric] for metric in METRICS)


def test_each_kind_has_its_prompt_and_queries_are_pooled(embedder):
    pairs = [
        *PAIRS[:4],
        Pair("ein rotes Haus", "a red house", kind="symmetric"),
        Pair("x y", "x", kind="symmetric"),
    ]
    scores = score_embedder(embedder, RetrievalSet.from_pairs(pairs))
    assert embedder.calls == [("query", 4), ("document", 4), ("symmetric", 2), ("symmetric", 2)]
    assert (scores.num_queries, scores.num_documents) == (6, 6)


def test_options_reach_the_embedder(embedder):
    seen = []

    def encode(texts, **options):
        seen.append(options)
        return np.ones((len(texts), 2), np.float32)

    embedder.encode = embedder.encode_query = embedder.encode_document = encode
    pairs = [Pair("a", "b"), Pair("c", "d", kind="symmetric")]
    score_embedder(embedder, RetrievalSet.from_pairs(pairs), instruction="find", dimensions=2, batch_tokens=9)
    assert [options["instruction"] for options in seen] == ["find", None, "find", "find"]
    assert all((options["dimensions"], options["batch_tokens"]) == (2, 9) for options in seen)


def test_the_query_itself_does_not_take_a_rank(embedder):
    """`b` is in the corpus as the answer to `a`; found first for itself, it would halve the score of `b`."""
    pairs = [Pair("one a", "two b x", kind="symmetric"), Pair("two b x", "two b", kind="symmetric")]
    retrieval_set = RetrievalSet.from_pairs(pairs)
    assert score_embedder(embedder, retrieval_set).per_query["mrr@10"][1] == 1
    assert score_bm25(retrieval_set).per_query["mrr@10"][1] == 1


@pytest.mark.parametrize("same", [-1, 0, 7, 3])
def test_without_same(same):
    ranked = np.array([[5, 7, 3, -1]])
    expected = [found for found in (5, 7, 3, -1) if found != same or found == -1]
    expected += [-1] * (4 - len(expected))
    assert compare._without_same(ranked, np.array([same])).tolist() == [expected]


def test_splitting_identifiers_lifts_bm25_on_code():
    code = ["def parseHttpResponse(raw): ...", "def open_text_file(path): ...", "def sortNumberList(it): ..."]
    asked = ["parse the response", "open a file of text", "sort a list"]
    retrieval_set = RetrievalSet.from_pairs([Pair(*pair) for pair in zip(asked, code, strict=True)])
    assert score_bm25(retrieval_set).means["mrr@10"] == 1
