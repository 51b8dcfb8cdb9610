import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.errors import DataError
from udever.evaluation import RetrievalSet
from udever.pairs.schema import Pair


def shown(subset):
    return {
        query: {subset.documents[row] for row in relevant}
        for query, relevant in zip(subset.queries, subset.qrels, strict=True)
    }


def test_duplicates_merge_and_an_anchor_keeps_all_its_positives():
    pairs = [Pair("q1", "d1"), Pair("q2", "d1"), Pair("q1", "d2"), Pair("q1", "d1")]
    (subset,) = RetrievalSet.from_pairs(pairs).subsets
    assert (subset.queries, subset.documents) == (["q1", "q2"], ["d1", "d2"])
    assert shown(subset) == {"q1": {"d1", "d2"}, "q2": {"d1"}}


def test_a_group_is_relevant_to_all_of_its_anchors():
    pairs = [Pair("q1", "d1", group="g"), Pair("q2", "d2", group="g"), Pair("q3", "d3"), Pair("q4", "d4")]
    (subset,) = RetrievalSet.from_pairs(pairs).subsets
    assert shown(subset) == {"q1": {"d1", "d2"}, "q2": {"d1", "d2"}, "q3": {"d3"}, "q4": {"d4"}}


def test_kinds_do_not_mix():
    pairs = [Pair("s", "t", kind="symmetric"), Pair("q", "d")]
    asymmetric, symmetric = RetrievalSet.from_pairs(pairs).subsets
    assert (asymmetric.kind, asymmetric.documents) == ("asymmetric", ["d"])
    assert (symmetric.kind, symmetric.documents) == ("symmetric", ["t"])


def test_the_query_itself_is_no_answer():
    pairs = [Pair("en", "es", group="g"), Pair("es", "fr", group="g"), Pair("OK", "OK")]
    retrieval_set = RetrievalSet.from_pairs(pairs)
    (subset,) = retrieval_set.subsets
    assert shown(subset) == {"en": {"es", "fr"}, "es": {"fr"}}
    assert subset.same.tolist() == [-1, subset.documents.index("es")]
    assert (retrieval_set.num_trivial, subset.documents) == (1, ["es", "fr", "OK"])


def test_nothing_to_score():
    with pytest.raises(DataError, match="1 pairs make no query"):
        RetrievalSet.from_pairs([Pair("a", "a")])
    with pytest.raises(DataError, match="max_queries is 0"):
        RetrievalSet.from_pairs([Pair("a", "b")], max_queries=0)


PAIRS = st.lists(
    st.builds(
        Pair,
        anchor=st.sampled_from("abcdefgh"),
        positive=st.sampled_from("efghijkl"),
        group=st.none() | st.sampled_from("xy"),
        kind=st.sampled_from(["symmetric", "asymmetric"]),
    ),
    min_size=1,
)


@settings(deadline=None)
@given(pairs=PAIRS, most=st.integers(1, 12), seed=st.integers(0, 3))
def test_a_sample_keeps_corpus_and_answers(pairs, most, seed):
    if all(pair.anchor == pair.positive for pair in pairs):
        return
    try:
        whole = RetrievalSet.from_pairs(pairs)
    except DataError:
        return
    sample = RetrievalSet.from_pairs(pairs, max_queries=most, seed=seed)
    assert sample.num_queries == min(most, whole.num_queries)
    again = RetrievalSet.from_pairs(pairs, max_queries=most, seed=seed)
    assert [subset.queries for subset in again.subsets] == [subset.queries for subset in sample.subsets]
    by_kind = {subset.kind: subset for subset in whole.subsets}
    for subset in sample.subsets:
        full = by_kind[subset.kind]
        assert subset.documents == full.documents
        assert shown(subset).items() <= shown(full).items()
        for query, same, relevant in zip(subset.queries, subset.same, subset.qrels, strict=True):
            assert (subset.documents[same] == query) if same >= 0 else (query not in subset.documents)
            assert same not in relevant and (np.diff(relevant) > 0).all()


@settings(deadline=None)
@given(pairs=PAIRS)
def test_every_pair_is_in_the_set(pairs):
    try:
        subsets = RetrievalSet.from_pairs(pairs).subsets
    except DataError:
        assert all(pair.anchor == pair.positive for pair in pairs)
        return
    answers = {(subset.kind, query): found for subset in subsets for query, found in shown(subset).items()}
    for pair in pairs:
        if pair.anchor != pair.positive:
            assert pair.positive in answers[pair.kind, pair.anchor]
