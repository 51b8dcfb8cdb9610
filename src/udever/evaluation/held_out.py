"""Pairs nobody trained on, as a retrieval set: queries, corpus, qrels."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.pairs.schema import KINDS, Kind, Pair


@dataclass(frozen=True)
class Subset:
    """The queries and documents of one kind; all documents of a kind are one corpus.

    `qrels[i]` are the indices of the documents relevant to query i, ascending, at least one. `same[i]` is
    the document with the very text of query i, or -1; it is never relevant and has to be left out of the
    ranking.
    """

    kind: Kind
    queries: list[str]
    documents: list[str]
    qrels: list[NDArray[np.int64]]
    same: NDArray[np.int64]


@dataclass(frozen=True)
class RetrievalSet:
    """Subsets to score apart and pool; `num_trivial` queries, their own only answer, were left out."""

    subsets: tuple[Subset, ...]
    num_trivial: int = 0

    @property
    def num_queries(self) -> int:
        """Queries of all subsets."""
        return sum(len(subset.queries) for subset in self.subsets)

    @property
    def num_documents(self) -> int:
        """Documents of all subsets."""
        return sum(len(subset.documents) for subset in self.subsets)

    @classmethod
    def from_pairs(cls, pairs: Sequence[Pair], *, max_queries: int | None = None, seed: int = 0) -> "RetrievalSet":
        """Anchors become queries, positives documents, equal texts one; order is that of first appearance.

        All positives of an anchor are relevant to it, and so are the positives of every pair in the same
        group or, for classification, of the same class. A document with the text of the query itself is neither
        relevant nor ranked, since every model and BM25 find it; a query without another answer is left out and
        counted.
        `max_queries` keeps a sample drawn with `seed`; the corpus stays whole. Raises DataError when no
        query remains.
        """
        if max_queries is not None and max_queries < 1:
            raise DataError(f"max_queries is {max_queries}; expected at least 1, or none for all")
        subsets = [_subset(kind, [pair for pair in pairs if pair.kind == kind]) for kind in KINDS]
        num_trivial = sum(trivial for _, trivial in subsets)
        whole = cls(tuple(subset for subset, _ in subsets if subset.queries), num_trivial)
        if not whole.num_queries:
            raise DataError(
                f"{len(pairs)} pairs make no query that can be scored ({num_trivial} are their own answer); "
                "give pairs with different anchor and positive"
            )
        return whole if max_queries is None else whole._sample(max_queries, seed)

    def _sample(self, max_queries: int, seed: int) -> "RetrievalSet":
        if max_queries >= self.num_queries:
            return self
        kept = np.sort(np.random.default_rng(seed).choice(self.num_queries, max_queries, replace=False))
        subsets: list[Subset] = []
        first = 0
        for subset in self.subsets:
            end = first + len(subset.queries)
            rows = (kept[(kept >= first) & (kept < end)] - first).tolist()
            first = end
            queries, qrels = [subset.queries[row] for row in rows], [subset.qrels[row] for row in rows]
            subsets.append(Subset(subset.kind, queries, subset.documents, qrels, subset.same[rows]))
        return RetrievalSet(tuple(subset for subset in subsets if subset.queries), self.num_trivial)


def _numbered(texts: Iterable[str]) -> dict[str, int]:
    return {text: number for number, text in enumerate(dict.fromkeys(texts))}


def _shared_names(pair: Pair) -> Iterator[str]:
    """What makes the positives of two pairs answer the anchors of both: their group; their class."""
    if pair.group is not None:
        yield f"group {pair.group}"
    if pair.kind == "classification":
        yield f"label {pair.label}"


def _subset(kind: Kind, pairs: list[Pair]) -> tuple[Subset, int]:
    """The subset of `pairs`, all of one kind, and how many queries were trivial."""
    documents = _numbered(pair.positive for pair in pairs)
    by_name: dict[str, set[int]] = defaultdict(set)
    for pair in pairs:
        for name in _shared_names(pair):
            by_name[name].add(documents[pair.positive])
    relevant: dict[str, set[int]] = defaultdict(set)
    for pair in pairs:
        relevant[pair.anchor].add(documents[pair.positive])
        for name in _shared_names(pair):
            relevant[pair.anchor] |= by_name[name]
    queries: list[str] = []
    qrels: list[NDArray[np.int64]] = []
    same: list[int] = []
    for query, answers in relevant.items():
        itself = documents.get(query, -1)
        others = sorted(answers - {itself})
        if others:
            queries.append(query)
            qrels.append(np.array(others, dtype=np.int64))
            same.append(itself)
    subset = Subset(kind, queries, list(documents), qrels, np.array(same, dtype=np.int64))
    return subset, len(relevant) - len(queries)
