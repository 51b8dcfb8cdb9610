"""BM25, the lexical baseline that every retrieval table shows, over the words that search compares."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from udever.search.exact import rank
from udever.text.words import words

METHOD, K1, B = "lucene", 1.5, 0.75
"""Variant and constants, as bm25s has them by default (Lucene's own k1 is 1.2)."""

_BLOCK_SCORES = 4_000_000


class Bm25:
    """An index over `documents`."""

    def __init__(self, documents: Sequence[str]):
        import bm25s

        self._num_documents = len(documents)
        tokens = [words(text) for text in documents]
        self._index = None
        if any(tokens):  # bm25s cannot index a corpus without a single token
            self._index = bm25s.BM25(k1=K1, b=B, method=METHOD)
            self._index.index(tokens, show_progress=False)

    def scores_of(self, said: Sequence[str]) -> NDArray[np.float32]:
        """The score of every document for these words."""
        if self._index is None or not said:
            return np.zeros(self._num_documents, dtype=np.float32)
        return self._index.get_scores(list(said)).astype(np.float32, copy=False)

    def scores(self, queries: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """The score of every document for each query, in blocks of some queries: (queries, documents).

        0 for a document that shares no token with the query; memory does not grow with the queries.
        """
        block = max(1, _BLOCK_SCORES // self._num_documents)
        for start in range(0, len(queries), block):
            yield np.stack([self.scores_of(words(query)) for query in queries[start : start + block]])

    def top_k(self, queries: Sequence[str], k: int) -> NDArray[np.int64]:
        """Indices of the best documents for each query, ties to the lower index.

        Shape (query, min(k, documents)). Documents that share no token with the query are not found: -1
        fills their places.
        """
        found: list[NDArray[np.int64]] = []
        for scores in self.scores(queries):
            best, indices = rank(scores, k)
            found.append(np.where(best > 0, indices, -1))
        return np.concatenate(found)
