"""Scoring an embedder, or BM25, on a retrieval set."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udever.evaluation.held_out import RetrievalSet, Subset
from udever.evaluation.metrics import DEPTH, METRICS, score_ranking
from udever.search.bm25 import Bm25
from udever.search.exact import top_k_blocks

if TYPE_CHECKING:
    from udever.embedder import Embedder

_WINDOW = 8192
"""Documents embedded and searched together: memory does not grow with the corpus."""


@dataclass(frozen=True)
class Scores:
    """Each metric for each query, in the order of the set's subsets and queries."""

    per_query: Mapping[str, NDArray[np.float64]]
    num_documents: int

    @property
    def num_queries(self) -> int:
        """Queries scored."""
        return len(self.per_query[METRICS[0]])

    @property
    def means(self) -> dict[str, float]:
        """Each metric, averaged over all queries."""
        return {metric: float(self.per_query[metric].mean()) for metric in METRICS}


def _without_same(ranked: NDArray[np.int64], same: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take the document that is the query itself out of each row; -1 fills the place at the end."""
    is_same = ranked == np.where(same < 0, -2, same)[:, None]
    order = np.argsort(is_same, axis=1, kind="stable")
    ranked = np.where(is_same, -1, ranked)
    return np.take_along_axis(ranked, order, axis=1)


def _score(retrieval_set: RetrievalSet, find: Callable[[Subset, int], NDArray[np.int64]]) -> Scores:
    """Score `find(subset, k)`, which ranks a subset's documents for its queries, and pool the subsets."""
    parts = [
        # One more than needed, since the query itself may be among them.
        score_ranking(_without_same(find(subset, DEPTH + 1), subset.same), subset.qrels)
        for subset in retrieval_set.subsets
    ]
    per_query = {metric: np.concatenate([part[metric] for part in parts]) for metric in METRICS}
    return Scores(per_query, retrieval_set.num_documents)


def score_bm25(retrieval_set: RetrievalSet) -> Scores:
    """Score BM25 (see `bm25`) on the set."""

    def find(subset: Subset, k: int) -> NDArray[np.int64]:
        return Bm25(subset.documents).top_k(subset.queries, k)

    return _score(retrieval_set, find)


def score_embedder(
    embedder: "Embedder",
    retrieval_set: RetrievalSet,
    *,
    instruction: str | None = None,
    dimensions: int | None = None,
    batch_tokens: int | None = None,
    show_progress: bool = False,
) -> Scores:
    """Score exact search by cosine with `embedder` on the set.

    Asymmetric subsets use `encode_query` and `encode_document`, symmetric ones `encode` on both sides.
    `instruction` goes to queries, and to both sides of symmetric subsets.
    """

    def find(subset: Subset, k: int) -> NDArray[np.int64]:
        symmetric = subset.kind == "symmetric"
        encode_query = embedder.encode if symmetric else embedder.encode_query
        encode_document = embedder.encode if symmetric else embedder.encode_document

        def blocks() -> Iterator[NDArray[np.float32]]:
            for start in range(0, len(subset.documents), _WINDOW):
                yield encode_document(
                    subset.documents[start : start + _WINDOW],
                    instruction=instruction if symmetric else None,
                    dimensions=dimensions,
                    batch_tokens=batch_tokens,
                    allow_empty=True,
                    show_progress=show_progress,
                )

        queries = encode_query(
            subset.queries,
            instruction=instruction,
            dimensions=dimensions,
            batch_tokens=batch_tokens,
            allow_empty=True,
            show_progress=show_progress,
        )
        return top_k_blocks(queries, blocks(), k)[1]

    return _score(retrieval_set, find)
