"""MRR@10, nDCG@10 and recall@10, one value per query."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DEPTH = 10
METRICS = ("mrr@10", "ndcg@10", "recall@10")


def _hits(ranked: NDArray[np.int64], qrels: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Which of the `ranked` documents are relevant to their query."""
    num_relevant = np.array([len(relevant) for relevant in qrels])
    relevant = np.concatenate(list(qrels))
    width = np.int64(max(int(relevant.max()), int(ranked.max(initial=0))) + 1)
    rows = np.arange(len(qrels), dtype=np.int64)
    # One number for each (query, document): membership is then a single set operation.
    hits = np.isin(ranked + rows[:, None] * width, relevant + np.repeat(rows, num_relevant) * width)
    return hits & (ranked >= 0)


def score_ranking(ranked: NDArray[np.int64], qrels: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.float64]]:
    """Score the documents found for each query, best first, against the documents relevant to it.

    `ranked` is (query, rank); -1 fills up rows with fewer documents, columns beyond the tenth are not
    looked at, and no document may appear twice in a row. Each query needs at least one relevant document,
    none twice. Relevance is binary. MRR@10 is 1 / rank of the first relevant document or 0; nDCG@10
    discounts with log2(rank + 1) and divides by the best possible (Järvelin & Kekäläinen 2002); recall@10
    is the share of the relevant documents among the ten.
    """
    assert len(ranked) == len(qrels) and all(len(relevant) for relevant in qrels)
    if not len(qrels):
        return {metric: np.zeros(0) for metric in METRICS}
    hits = _hits(ranked[:, :DEPTH], qrels)
    num_relevant = np.array([len(relevant) for relevant in qrels])
    ranks = np.arange(1, DEPTH + 1)
    discounts = 1 / np.log2(ranks + 1)
    depth = hits.shape[1]
    return {
        "mrr@10": (hits / ranks[:depth]).max(axis=1, initial=0),
        "ndcg@10": hits @ discounts[:depth] / np.cumsum(discounts)[np.minimum(num_relevant, DEPTH) - 1],
        "recall@10": hits.sum(axis=1) / num_relevant,
    }
