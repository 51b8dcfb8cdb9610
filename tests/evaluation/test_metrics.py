import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.evaluation.metrics import METRICS, score_ranking


def naive(ranked, relevant):
    """One query at a time, as the definitions read."""
    top = [document for document in ranked if document >= 0][:10]
    reciprocal = next((1 / rank for rank, document in enumerate(top, 1) if document in relevant), 0.0)
    gain = sum(1 / math.log2(rank + 1) for rank, document in enumerate(top, 1) if document in relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(10, len(relevant)) + 1))
    found = len(relevant.intersection(top))
    return {"mrr@10": reciprocal, "ndcg@10": gain / ideal, "recall@10": found / len(relevant)}


@st.composite
def rankings(draw):
    num_documents = draw(st.integers(1, 30))
    depth = draw(st.integers(1, 14))
    ranked, qrels = [], []
    for _ in range(draw(st.integers(1, 6))):
        order = draw(st.permutations(range(num_documents)))[:depth]
        found = draw(st.integers(0, len(order)))
        ranked.append([*order[:found], *[-1] * (depth - found)])
        qrels.append(draw(st.sets(st.integers(0, num_documents - 1), min_size=1)))
    return ranked, qrels


@settings(deadline=None)
@given(rankings())
def test_metrics_are_their_definitions(case):
    ranked, qrels = case
    scores = score_ranking(np.array(ranked), [np.array(sorted(relevant)) for relevant in qrels])
    for query, (row, relevant) in enumerate(zip(ranked, qrels, strict=True)):
        for metric, expected in naive(row, relevant).items():
            assert scores[metric][query] == pytest.approx(expected, abs=1e-12), metric


def test_a_case_by_hand():
    ranked = np.array([[4, 2, 9, 1]])
    scores = score_ranking(ranked, [np.array([2, 1, 7])])
    assert scores["mrr@10"].tolist() == [0.5]
    assert scores["recall@10"].tolist() == [pytest.approx(2 / 3)]
    gained, ideal = 1 / math.log2(3) + 1 / math.log2(5), 1 + 1 / math.log2(3) + 1 / 2
    assert scores["ndcg@10"].tolist() == [pytest.approx(gained / ideal)]


def test_no_queries():
    scores = score_ranking(np.zeros((0, 5), np.int64), [])
    assert [len(scores[metric]) for metric in METRICS] == [0, 0, 0]
