"""Candidates for hard negatives: which documents there are, which answer a row, the best of the rest."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udever.pairs.files import Rows
from udever.search.bm25 import Bm25
from udever.search.exact import rank

LOWEST = np.finfo(np.float32).min
"""The score of a document that is no candidate."""

_NONE = np.int64(-1)


def identity(text: str) -> int:
    """A number that two texts share which differ in case and white space alone."""
    return hash(" ".join(text.split()).casefold())


def identities(columns: Iterable[pa.Array]) -> NDArray[np.int64]:
    """The identity of every text of a column."""
    parts = [np.fromiter(map(identity, column.to_pylist()), np.int64, len(column)) for column in columns]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def keys(columns: Iterable[pa.Array], wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A number for every name of a column, the same for equal names; -1 for null and where not `wanted`."""
    parts = [
        np.fromiter((_NONE if name is None else hash(name) & 2**62 - 1 for name in column.to_pylist()), np.int64)
        for column in columns
    ]
    return np.where(wanted, np.concatenate([np.zeros(0, np.int64), *parts]), _NONE)


class Texts:
    """Anchors and documents by number; `corpus` stands before the rows."""

    def __init__(self, rows: Rows, corpus: Rows | None) -> None:
        self.rows, self.corpus = rows, corpus
        self.num_corpus = 0 if corpus is None else len(corpus)

    def documents(self, origins: NDArray[np.int64]) -> list[str]:
        """The texts that stand at `origins` of corpus + rows."""
        out = [""] * len(origins)
        for rows, inside, first in (
            (self.corpus, origins < self.num_corpus, 0),
            (self.rows, origins >= self.num_corpus, self.num_corpus),
        ):
            places = np.flatnonzero(inside)
            if rows is not None and len(places):
                for place, pair in zip(places.tolist(), rows.take(origins[places] - first), strict=True):
                    out[place] = pair.positive
        return out


@dataclass(frozen=True)
class Files:
    """A number for the file of each row and of each document; -1 of none."""

    of_row: NDArray[np.int64]
    of_document: NDArray[np.int64]

    def hide_others(self, scores: NDArray[np.float32], first_row: int, first_document: int) -> None:
        """Give what stands in another file than a row the lowest score, in place; `scores` as for `Known.hide`."""
        num_rows, width = scores.shape
        own = self.of_row[first_row : first_row + num_rows, None]
        others = self.of_document[None, first_document : first_document + width] != own
        scores[others | (own == _NONE)] = LOWEST


@dataclass(frozen=True)
class Documents:
    """The distinct texts that are searched: those of a corpus in their order, then the positives it lacks.

    `origins[d]` is where document d stands first in corpus + rows; the first `num_candidates` may become
    negatives. `of_row[r]` is the positive of row r, `of_anchor[r]` the document with the anchor's own text, or -1.
    `files` are there where siblings are wanted.
    """

    origins: NDArray[np.int64]
    num_candidates: int
    of_row: NDArray[np.int64]
    of_anchor: NDArray[np.int64]
    files: Files | None = None


def number_documents(corpus: NDArray[np.int64], positives: NDArray[np.int64], anchors: NDArray[np.int64]) -> Documents:
    """Documents from the identities of a corpus (empty: the positives are the corpus), of positives and anchors."""
    whole = np.concatenate([corpus, positives])
    values, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(values), np.int64)
    number[order] = np.arange(len(values))
    places = np.minimum(np.searchsorted(values, anchors), len(values) - 1)
    return Documents(
        origins=first[order],
        num_candidates=int((first < len(corpus)).sum()) if len(corpus) else len(values),
        of_row=number[inverse[len(corpus) :]],
        of_anchor=np.where(values[places] == anchors, number[places], _NONE),
    )


class KnownAnswers:
    """The documents that answer a row: those of all rows with its anchor, group or class, exactly or nearly."""

    def __init__(
        self,
        documents: Documents,
        families: Iterable[NDArray[np.int64]],
        withheld: NDArray[np.int64],
        near: NDArray[np.int64],
    ) -> None:
        """`withheld` documents are nobody's negatives; `near` has rows and documents that nearly answer them."""
        self._of_anchor = documents.of_anchor
        self._withheld = withheld
        self._near = near[np.argsort(near[:, 0], kind="stable")]
        self._families: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        for family in families:
            order = np.lexsort((documents.of_row, family))  # by name, and within it by document
            self._families.append((family, family[order], documents.of_row[order]))

    def hide(self, scores: NDArray[np.float32], first_row: int, first_document: int) -> None:
        """Give what answers a row, and the row's own text, the lowest score, in place.

        `scores[i, j]` is of row `first_row + i` and document `first_document + j`.
        """
        num_rows, width = scores.shape
        rows = slice(first_row, first_row + num_rows)
        withheld = self._withheld - first_document
        scores[:, withheld[(withheld >= 0) & (withheld < width)]] = LOWEST
        low, high = np.searchsorted(self._near[:, 0], [first_row, first_row + num_rows])
        close = self._near[low:high] - [first_row, first_document]
        close = close[(close[:, 1] >= 0) & (close[:, 1] < width)]
        scores[close[:, 0], close[:, 1]] = LOWEST
        own = self._of_anchor[rows] - first_document
        inside = np.flatnonzero((own >= 0) & (own < width))
        scores[inside, own[inside]] = LOWEST
        for family, names, documents in self._families:
            wanted = family[rows]
            starts, ends = np.searchsorted(names, wanted, "left"), np.searchsorted(names, wanted, "right")
            for row in np.flatnonzero(wanted != _NONE).tolist():
                answers = documents[starts[row] : ends[row]] - first_document
                low, high = np.searchsorted(answers, [0, width])
                scores[row, answers[low:high]] = LOWEST


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
class Candidates:
    """The best candidates of some rows, best first: (rows, depth). -1 where there are no more; `positive` (rows,)."""

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]
    positive: NDArray[np.float32]

    def of(self, row: int) -> list[tuple[int, float]]:
        """Documents and scores of a row, best first."""
        documents, scores = self.documents[row].tolist(), self.scores[row].tolist()
        return [(document, score) for document, score in zip(documents, scores, strict=True) if document >= 0]


class _Best:
    """The best candidates of some rows so far."""

    def __init__(self, num_rows: int, depth: int) -> None:
        self.scores = np.full((num_rows, depth), LOWEST, np.float32)
        self.documents = np.full((num_rows, depth), -1, np.int64)

    def add(self, rows: slice, scores: NDArray[np.float32], first: int) -> None:
        """Take in the scores of `rows`, whose columns are the documents from `first` on.

        Equal scores stay in the order of the documents. After the first block hardly any score is above the worst that
        was found, so that one comparison is all that most of them cost.
        """
        best, found = self.scores[rows], self.documents[rows]
        depth = best.shape[1]
        above = scores > best[:, -1:]
        if (best[:, -1] == LOWEST).any() and scores.shape[1] > depth:
            above &= scores >= np.partition(scores, -depth, axis=1)[:, [-depth]]
        counts = above.sum(axis=1)
        held, columns = np.nonzero(above)
        slots = np.arange(len(held)) - np.repeat(np.cumsum(counts) - counts, counts)
        new = np.full((len(scores), counts.max()), LOWEST, np.float32)
        places = np.full(new.shape, -1, np.int64)
        new[held, slots] = scores[held, columns]
        places[held, slots] = columns + first
        self.scores[rows], order = rank(np.concatenate([best, new], axis=1), depth)
        self.documents[rows] = np.take_along_axis(np.concatenate([found, places], axis=1), order, axis=1)

    def found(self, positive: NDArray[np.float32]) -> Candidates:
        return Candidates(np.where(self.scores > LOWEST, self.documents, -1), self.scores, positive)


def by_vectors(
    queries: Vectors,
    vectors: Vectors,
    documents: Documents,
    known: KnownAnswers,
    first_row: int,
    limit: Limit,
    depth: int,
) -> list[Candidates]:
    """The best candidates by inner product within the limit; `queries` are those of the rows from `first_row` on.

    With the files of the documents, the best of those besides that stand in the row's own.
    """
    own = vectors[documents.of_row[first_row : first_row + len(queries)]]
    positive = np.einsum("qd,qd->q", queries, own)
    most = limit(positive)
    best, beside = _Best(len(queries), depth), _Best(len(queries), depth)
    for first, end in windows(documents.num_candidates):
        block = np.asarray(vectors[first:end])
        for start in range(0, len(queries), _QUERIES):
            rows = slice(start, start + _QUERIES)
            scores = queries[rows] @ block.T
            scores[scores > most[rows, None]] = LOWEST
            known.hide(scores, first_row + start, first)
            best.add(rows, scores, first)
            if documents.files is not None:
                documents.files.hide_others(scores, first_row + start, first)
                beside.add(rows, scores, first)
    return [part.found(positive) for part in ((best,) if documents.files is None else (best, beside))]


def by_words(
    index: Bm25,
    texts: Sequence[str],
    documents: Documents,
    known: KnownAnswers,
    first_row: int,
    limit: Limit | None,
    depth: int,
) -> Candidates:
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
    return Candidates(np.where(best > LOWEST, found, -1), best, np.concatenate(positives))


def judge(
    found: Candidates, queries: Vectors, vectors: Vectors, positive: NDArray[np.float32], limit: Limit
) -> Candidates:
    """`found` with the model's scores; what is above the limit becomes -1. The order stays that of the finder."""
    scores = np.full(found.documents.shape, LOWEST, np.float32)
    for start in range(0, len(queries), _QUERIES):
        rows = slice(start, start + _QUERIES)
        chosen = vectors[np.maximum(found.documents[rows], 0)]
        scores[rows] = np.einsum("qd,qkd->qk", queries[rows], chosen)
    keep = (found.documents >= 0) & (scores <= limit(positive)[:, None])
    return Candidates(np.where(keep, found.documents, -1), np.where(keep, scores, LOWEST), positive)


def take_turns(lists: list[list[tuple[int, float]]]) -> list[tuple[int, float]]:
    """First of each list, second of each, and so on; each document once."""
    merged: dict[int, float] = {}
    for row in zip_longest(*lists):
        for candidate in filter(None, row):
            merged.setdefault(*candidate)
    return list(merged.items())


def windows(count: int) -> Iterator[tuple[int, int]]:
    """[0, count) in pieces."""
    return ((start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))
