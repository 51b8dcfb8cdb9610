"""What enters the server from other rooms, as callables: an index to search, a classifier on embeddings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from udever.model.contract import RoleName
from udever.search.hits import Hit
from udever.search.query import Filters, Mode


class SearchFunction(Protocol):
    """The best hits of an index for a query, best first. Blocks; called in threads, several at a time.

    Raises DataError for a filter or mode that the index does not have.
    """

    def __call__(
        self, query: str, embedding: NDArray[np.float32] | None, top_k: int = 10, *, mode: Mode, filters: Filters
    ) -> Sequence[Hit]:
        """At most `top_k` hits; `embedding` is the query's, of unit length, None where `mode` is "words"."""
        ...


@dataclass(frozen=True)
class MapPoints:
    """An index on a plane: `xy` float32 [points, 2], `ids`, and columns to colour the points by.

    `links` are pairs of rows that belong together, such as translations: int32 [links, 2]. `before` is where
    another model had put the same points, `models` the names of that model and this one. Where there
    are columns `source` and `lines` (`first-last`), both joined by a colon are the id of a search's hit.
    """

    xy: NDArray[np.float32]
    ids: Sequence[str]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    links: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int32))
    before: NDArray[np.float32] | None = None
    models: Sequence[str] = ()


@dataclass(frozen=True)
class IndexPort:
    """An index as the server uses it. `dimensions` is the width of its vectors, None for the model's.

    `notes` says of a search what its hits do not, such as filters that nothing passes. `points(limit)` and
    `texts(ids)`, where given, feed the map. All of them block and are called in a thread, and `points` should keep
    what it computed. An id that is not there is absent from the answer of `texts`.
    """

    search: SearchFunction
    name: str = "index"
    count: Callable[[], int] = lambda: 0
    dimensions: int | None = None
    points: Callable[[int], MapPoints] | None = None
    texts: Callable[[Sequence[str]], Mapping[str, Hit]] | None = None
    notes: Callable[[str, Mode, Filters], list[str]] = lambda query, mode, filters: []


@dataclass(frozen=True)
class Classifier:
    """A head on embeddings: `predict(embeddings [n, dimensions]) -> probabilities [n, classes]`.

    `decide(probabilities)` says which classes a text has, bool [n, classes]. In a moderation the classes in
    `harmless` are never flagged. `role` and `dimensions` are those of the embeddings it was fitted on.
    """

    predict: Callable[[NDArray[np.float32]], NDArray[np.floating]]
    decide: Callable[[NDArray[np.floating]], NDArray[np.bool_]]
    classes: tuple[str, ...]
    name: str = "classifier"
    harmless: frozenset[str] = frozenset()
    role: RoleName = "symmetric"
    dimensions: int | None = None
