"""Where rooms that never import one another meet: an index and a classifier as the server takes them."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from udever.cli.points import Vectors
    from udever.embedder import Embedder
    from udever.search import Hit
    from udever.search.query import Filters, Index, Mode
    from udever.server import Classifier, IndexPort, MapPoints

_log = logging.getLogger(__name__)

_CHUNK_ID = re.compile("[0-9a-f]{32}")
_KEPT_S = 60.0
"""How old a map may be before it is drawn again."""


def index_port(embedder: "Embedder", place: str, before: str | None = None) -> "IndexPort":
    """The index or embeddings files at `place`; `before` are the same texts by another model, for the map.

    Raises DataError or ContractError where they do not fit.
    """
    from udever.cli.points import check_place, of_index
    from udever.search.hits import embeddings_at
    from udever.search.query import Index
    from udever.server import IndexPort

    if before is not None:
        check_place(before)
    if embeddings_at(place):
        return _Files(embedder, Path(place)).port(before)
    index = Index.open(place)
    index.check(embedder)
    return IndexPort(
        search=index.find,
        name=index.store.uri,
        count=index.store.count,
        dimensions=index.manifest.dimensions,
        points=_Map(partial(of_index, index), before).points,
        texts=lambda ids: _texts(index, ids),
        notes=index.notes,
    )


def _texts(index: "Index", ids: Sequence[str]) -> "Mapping[str, Hit]":
    from udever.search import Hit

    return {
        found.id: Hit(score=0.0, id=found.id, source=found.path, **asdict(found.chunk))
        for found in index.store.take([name for name in ids if _CHUNK_ID.fullmatch(name)])
    }


class _Map:
    """The points of a place, kept for a minute: laying them out reads every vector."""

    def __init__(self, read: "Callable[[int], Vectors]", before: str | None) -> None:
        self._read, self._before = read, before
        self._drawn: tuple[float, int, MapPoints] | None = None

    def points(self, limit: int) -> "MapPoints":
        """At most `limit` points; of two models those that both have."""
        from udever.cli.points import map_points, read_vectors, shared
        from udever.server import MapPoints

        if self._drawn is None or self._drawn[1] != limit or time.monotonic() - self._drawn[0] > _KEPT_S:
            after, before = self._read(limit), None
            if self._before is not None and after.ids:
                after, before = shared(after, read_vectors(self._before, ids=after.ids))
            empty = MapPoints(np.empty((0, 2), np.float32), [])
            points = map_points(after, before) if after.ids else empty
            self._drawn = (time.monotonic(), limit, points)
        return self._drawn[2]


class _Files:
    """Embeddings files, held in memory and searched exactly; by meaning alone, for they hold nothing else."""

    def __init__(self, embedder: "Embedder", path: Path) -> None:
        from udever.errors import ContractError, DataError
        from udever.search import Hit, read
        from udever.search.hits import embeddings_files

        self._path = path
        tables = [(file, *read(file)) for file in embeddings_files(path)]
        for file, header, _ in tables:
            if header.fingerprint != embedder.fingerprint:
                raise ContractError(
                    f"{file} was embedded by the model with fingerprint {header.fingerprint}, the model given has "
                    f"{embedder.fingerprint}; serve the first, or embed the texts again with this one (udever embed)"
                )
        widths = {header.dimensions for _, header, _ in tables}
        if len(widths) != 1:
            raise DataError(f"{path} holds embeddings of {sorted(widths)} dimensions; expected one width")
        self._dimensions = widths.pop()
        self._embeddings = np.concatenate([table.embeddings for _, _, table in tables])
        self._hits = [Hit(0.0, *row) for _, _, table in tables for row in _rows(table)]
        self._row_of = {hit.id: row for row, hit in enumerate(self._hits)}

    def port(self, before: str | None = None) -> "IndexPort":
        """As the server takes it."""
        from udever.server import IndexPort

        return IndexPort(
            search=self.search,
            name=str(self._path),
            count=lambda: len(self._hits),
            dimensions=self._dimensions,
            points=_Map(self.vectors, before).points,
            texts=lambda ids: {name: self._hits[self._row_of[name]] for name in ids if name in self._row_of},
        )

    def search(
        self,
        query: str,
        embedding: "NDArray[np.float32] | None",
        top_k: int = 10,
        *,
        mode: "Mode",
        filters: "Filters",
    ) -> "list[Hit]":
        """The nearest texts. Raises DataError for words alone and for filters."""
        from udever.errors import DataError
        from udever.search import top_k as nearest

        if embedding is None:
            raise DataError("embeddings files are searched by meaning only; make an index with udever index")
        if filters.languages or filters.paths or filters.kinds:
            raise DataError("embeddings files know no language, path or kind; make an index with udever index")
        scores, rows = nearest(embedding[None], self._embeddings, top_k)
        return [
            replace(self._hits[row], score=float(score)) for score, row in zip(scores[0], rows[0].tolist(), strict=True)
        ]

    def vectors(self, limit: int) -> "Vectors":
        """Evenly spread rows, with the columns beside their texts where those can still be read."""
        from udever.cli.points import of_files, with_columns
        from udever.errors import DataError

        found = of_files(self._path, limit)
        try:
            return with_columns(found, self._path)
        except DataError as error:
            _log.warning("the map has one colour: %s", error)
            return found


def _rows(table: object) -> "Iterable[tuple[str, str, str | None]]":
    return zip(table.ids, table.texts, table.sources, strict=True)  # pyright: ignore[reportAttributeAccessIssue]


def classifier_port(embedder: "Embedder", folder: Path, harmless: Sequence[str] = ()) -> "Classifier":
    """The filter in `folder`; moderations flag all its labels but `harmless`.

    Raises DataError for what is no filter or a label it does not have, ContractError for another model's.
    """
    from udever.classify import Filter
    from udever.errors import DataError
    from udever.server import Classifier

    filter_ = Filter.load(folder)
    filter_.check(embedder.fingerprint)
    unknown = [label for label in harmless if label not in filter_.labels]
    if unknown:
        raise DataError(f"harmless is {unknown[0]!r}; the filter's labels are {', '.join(filter_.labels)}")
    return Classifier(
        predict=filter_.predict,
        decide=filter_.decide,
        classes=filter_.labels,
        name=folder.resolve().name,
        harmless=frozenset(harmless),
        role=filter_.role,  # pyright: ignore[reportArgumentType] # one of the three, as it was fitted
        dimensions=filter_.dimensions,
    )
