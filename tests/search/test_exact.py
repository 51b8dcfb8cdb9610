import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from udever.errors import ContractError
from udever.search.exact import rank, top_k, top_k_blocks

WHOLE = st.integers(-3, 3).map(float)  # exact in float32, and full of ties


def by_argsort(scores, k):
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


@settings(deadline=None)
@given(
    queries=arrays(np.float32, st.tuples(st.integers(0, 5), st.just(3)), elements=WHOLE),
    corpus=arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=WHOLE),
    k=st.integers(1, 50),
    block=st.integers(1, 45),
)
def test_top_k_is_argsort(queries, corpus, k, block):
    scores, indices = top_k(queries, corpus, k, block=block)
    expected_scores, expected = by_argsort(queries @ corpus.T, k)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(scores, expected_scores)


@settings(deadline=None)
@given(
    scores=arrays(np.float32, (3, 20), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
    k=st.integers(1, 25),
)
def test_rank_is_argsort_for_any_floats(scores, k):
    best, indices = rank(scores, k)
    expected_best, expected = by_argsort(scores, k)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(best, expected_best)


def test_signed_zeros_tie():
    assert rank(np.array([[-0.0, 0.0, -0.0]], dtype=np.float32), 3)[1].tolist() == [[0, 1, 2]]


def test_an_empty_corpus_gives_no_columns():
    scores, indices = top_k(np.ones((2, 3), np.float32), np.ones((0, 3), np.float32), 5)
    assert scores.shape == indices.shape == (2, 0)


def test_more_queries_than_one_block():
    rng = np.random.default_rng(0)
    queries = rng.integers(-9, 9, (600, 8)).astype(np.float32)
    corpus = rng.integers(-9, 9, (50, 8)).astype(np.float32)
    np.testing.assert_array_equal(top_k(queries, corpus, 7)[1], by_argsort(queries @ corpus.T, 7)[1])


def test_not_finite_is_refused():
    with pytest.raises(ContractError, match="not finite"):
        top_k(np.ones((1, 2), np.float32), np.array([[1, np.nan]], np.float32), 1)


def test_other_dimensions_are_refused():
    with pytest.raises(ContractError, match="2 dimensions and documents 3"):
        top_k_blocks(np.ones((1, 2), np.float32), [np.ones((1, 3), np.float32)], 1)
