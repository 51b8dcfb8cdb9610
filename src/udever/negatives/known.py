"""Which documents there are, and which of them answer a row and so can be no negative of it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Documents:
    """The distinct texts that are searched: those of a corpus in their order, then the positives it lacks.

    `origins[d]` is where document d stands first in corpus + rows; the first `num_candidates` may become
    negatives. `of_row[r]` is the positive of row r, `of_anchor[r]` the document with the anchor's own text, or -1.
    """

    origins: NDArray[np.int64]
    num_candidates: int
    of_row: NDArray[np.int64]
    of_anchor: NDArray[np.int64]


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


class Known:
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
        self._families = [(family, *_sorted(family, documents.of_row)) for family in families]

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


def _sorted(family: NDArray[np.int64], documents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Names of rows and their documents, by name and within it by document."""
    order = np.lexsort((documents, family))
    return family[order], documents[order]
