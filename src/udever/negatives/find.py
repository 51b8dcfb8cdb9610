"""Searching for candidates by a model's vectors or by BM25, in blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udever.negatives.known import LOWEST, Documents, Known
from udever.search.bm25 import Bm25
from udever.search.exact import rank

_QUERIES = 256
_BLOCK = 16_384

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Limit:
    """What a candidate may score at most, given the score of the positive."""

    max_share: float
    margin: float | None

    def __call__(self, positive: NDArray[np.float32]) -> NDArray[np.float32]:
        """The limit for each score of a positive; where that is below zero, a share counts downwards all the same."""
        limit = positive - (1 - self.max_share) * np.abs(positive)
        if self.margin is not None:
            limit = np.minimum(limit, positive - self.margin)
        return limit.astype(np.float32)


@dataclass(frozen=True)
class Found:
    """The best candidates of some rows, best first: (rows, depth). -1 where there are no more; `positive` (rows,)."""

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]
    positive: NDArray[np.float32]


def by_vectors(
    queries: Vectors, vectors: Vectors, documents: Documents, known: Known, first_row: int, limit: Limit, depth: int
) -> Found:
    """The best candidates by inner product within the limit; `queries` are those of the rows from `first_row` on."""
    own = vectors[documents.of_row[first_row : first_row + len(queries)]]
    positive = np.einsum("qd,qd->q", queries, own)
    most = limit(positive)
    best = np.full((len(queries), depth), LOWEST, np.float32)
    found = np.full((len(queries), depth), -1, np.int64)
    for first in range(0, documents.num_candidates, _BLOCK):
        block = np.asarray(vectors[first : min(first + _BLOCK, documents.num_candidates)])
        for start in range(0, len(queries), _QUERIES):
            rows = slice(start, start + _QUERIES)
            scores = queries[rows] @ block.T
            scores[scores > most[rows, None]] = LOWEST
            known.hide(scores, first_row + start, first)
            best[rows], found[rows] = _merge(best[rows], found[rows], scores, first)
    return Found(np.where(best > LOWEST, found, -1), best, positive)


def _merge(
    best: NDArray[np.float32], found: NDArray[np.int64], scores: NDArray[np.float32], first: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best of what was found before and of `scores`, whose columns are the documents from `first` on.

    Equal scores stay in the order of the documents. After the first block hardly any score is above the worst that
    was found, so that one comparison is all that most of them cost.
    """
    depth = best.shape[1]
    above = scores > best[:, -1:]
    if (best[:, -1] == LOWEST).any() and scores.shape[1] > depth:
        above &= scores >= np.partition(scores, -depth, axis=1)[:, [-depth]]
    counts = above.sum(axis=1)
    rows, columns = np.nonzero(above)
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    new = np.full((len(scores), counts.max()), LOWEST, np.float32)
    places = np.full(new.shape, -1, np.int64)
    new[rows, slots] = scores[rows, columns]
    places[rows, slots] = columns + first
    merged, order = rank(np.concatenate([best, new], axis=1), depth)
    return merged, np.take_along_axis(np.concatenate([found, places], axis=1), order, axis=1)


def by_words(
    index: Bm25,
    texts: Sequence[str],
    documents: Documents,
    known: Known,
    first_row: int,
    limit: Limit | None,
    depth: int,
) -> Found:
    """The best candidates by BM25 within the limit, if any; only those that share a token with the query."""
    parts: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    positives = []
    row = first_row
    for scores in index.scores(texts):
        rows = np.arange(len(scores))
        positive = scores[rows, documents.of_row[row : row + len(scores)]]
        scores = scores[:, : documents.num_candidates].copy()
        scores[scores <= 0] = LOWEST
        if limit is not None:
            scores[scores > limit(positive)[:, None]] = LOWEST
        known.hide(scores, row, 0)
        parts.append(rank(scores, depth))
        positives.append(positive)
        row += len(scores)
    best, found = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Found(np.where(best > LOWEST, found, -1), best, np.concatenate(positives))


def judge(found: Found, queries: Vectors, vectors: Vectors, positive: NDArray[np.float32], limit: Limit) -> Found:
    """`found` with the model's scores; what is above the limit becomes -1. The order stays that of the finder."""
    scores = np.full(found.documents.shape, LOWEST, np.float32)
    for start in range(0, len(queries), _QUERIES):
        rows = slice(start, start + _QUERIES)
        chosen = vectors[np.maximum(found.documents[rows], 0)]
        scores[rows] = np.einsum("qd,qkd->qk", queries[rows], chosen)
    keep = (found.documents >= 0) & (scores <= limit(positive)[:, None])
    return Found(np.where(keep, found.documents, -1), np.where(keep, scores, LOWEST), positive)


def windows(count: int, size: int = 16_384) -> Iterator[tuple[int, int]]:
    """[0, count) in pieces."""
    return ((start, min(start + size, count)) for start in range(0, count, size))
