"""The rows of an index or of embeddings files on a plane: what the map shows, wherever it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from udever.search.projection import Method
    from udever.search.query import Index
    from udever.server import MapPoints

COLOURS = ("language", "kind", "label")
"""Columns of a corpus that a map is coloured by unless others are named."""


@dataclass(frozen=True)
class Vectors:
    """Rows with their vectors, `num_rows` in all of which these are some; `groups` may be empty, so may a group."""

    name: str
    fingerprint: str
    num_rows: int
    ids: list[str]
    texts: list[str]
    embeddings: "NDArray[np.float32]"
    columns: dict[str, list[str]]
    groups: list[str] = field(default_factory=list)

    def take(self, rows: Sequence[int]) -> "Vectors":
        """Some of the rows."""

        def of(values: list[str]) -> list[str]:
            return [values[row] for row in rows]

        return replace(
            self,
            ids=of(self.ids),
            texts=of(self.texts),
            embeddings=self.embeddings[rows],
            columns={name: of(values) for name, values in self.columns.items()},
            groups=of(self.groups) if self.groups else [],
        )


def check_place(place: str) -> None:
    """Raise DataError unless there are embeddings files or an index at `place`."""
    from udever.errors import DataError
    from udever.search.hits import embeddings_at
    from udever.search.locate import is_uri
    from udever.search.query import Index

    if is_uri(place) or not embeddings_at(place):
        if not is_uri(place) and not Path(place).exists():
            raise DataError(f"{place} does not exist; give a folder of udever embed, or an index")
        if not is_uri(place) and (Path(place) / "_job.json").is_file():
            raise DataError(f"{place} holds no embeddings; give a folder of udever embed, or an index")
        Index.open(place)


def read_vectors(place: str, limit: int = 50_000, ids: Sequence[str] | None = None) -> Vectors:
    """At most `limit` rows, evenly spread, of the index or the embeddings files at `place`; or those of `ids`.

    Raises DataError where there are neither.
    """
    from udever.search.hits import embeddings_at
    from udever.search.locate import is_uri
    from udever.search.query import Index

    check_place(place)
    if not is_uri(place) and embeddings_at(place):
        return of_files(Path(place), limit, ids)
    index = Index.open(place)
    return of_index(index, limit if ids is None else index.store.count())


def of_index(index: "Index", limit: int) -> Vectors:
    """At most `limit` rows of an index; `source` and `lines` together are the id of the row as a search's hit."""
    chunks, embeddings = index.points(limit)
    columns = {
        "language": [chunk.chunk.language or "" for chunk in chunks],
        "kind": [chunk.chunk.kind for chunk in chunks],
        "source": [chunk.path for chunk in chunks],
        "lines": [f"{chunk.chunk.first_line}-{chunk.chunk.last_line}" for chunk in chunks],
    }
    return Vectors(
        name=Path(index.manifest.model).name,
        fingerprint=index.manifest.fingerprint,
        num_rows=index.store.count(),
        ids=[chunk.id for chunk in chunks],
        texts=[chunk.chunk.text for chunk in chunks],
        embeddings=embeddings,
        columns=columns,
    )


def of_files(path: Path, limit: int, ids: Sequence[str] | None = None) -> Vectors:
    """At most `limit` rows of embeddings files, or those of `ids`. Raises ContractError where two models made them."""
    from udever.errors import ContractError
    from udever.search.embeddings_file import read_embeddings, read_header, read_ids, read_texts
    from udever.search.hits import embeddings_files

    files = embeddings_files(path)
    headers = [read_header(file) for file in files]
    for file, header in zip(files, headers, strict=True):
        if header != headers[0]:
            raise ContractError(f"{files[0]} and {file} were embedded differently; embed both again with one model")
    held = [read_ids(file) for file in files]
    rows = _chosen([name for names in held for name in names], limit, ids)
    embeddings = np.empty((len(rows), headers[0].dimensions), np.float32)
    told: list[tuple[str, str, str | None]] = []
    first = 0
    for file, names in zip(files, held, strict=True):
        mine = rows[(rows >= first) & (rows < first + len(names))] - first
        if len(mine):
            texts = read_texts(file, mine)
            seen = 0
            for block in read_embeddings(file):
                here = mine[(mine >= seen) & (mine < seen + len(block))] - seen
                embeddings[len(told) : len(told) + len(here)] = block[here]
                told += [texts[seen + row] for row in here.tolist()]
                seen += len(block)
        first += len(names)
    sources = [source or "" for _, _, source in told]
    return Vectors(
        name=path.name or str(path),
        fingerprint=headers[0].fingerprint,
        num_rows=first,
        ids=[name for name, _, _ in told],
        texts=[text for _, text, _ in told],
        embeddings=embeddings,
        columns={"source": sources} if any(sources) else {},
    )


def _chosen(held: Sequence[str], limit: int, ids: Sequence[str] | None) -> "NDArray[np.intp]":
    if ids is not None:
        wanted = set(ids)
        return np.flatnonzero([name in wanted for name in held])
    return np.linspace(0, len(held) - 1, min(limit, len(held))).astype(np.intp)


def with_columns(
    vectors: Vectors, place: Path, wanted: Sequence[str] = COLOURS, group: str = "group", rows: list[str] | None = None
) -> Vectors:
    """The rows with the columns of the texts they were made from. Raises DataError where those cannot be read."""
    from udever.corpus.side_columns import columns_beside

    found = columns_beside(place, [*wanted, group], vectors.ids, rows)
    groups = found.pop(group, []) if group not in wanted else found.get(group, [])
    filled = {name: values for name, values in found.items() if any(values)}
    return replace(vectors, columns=filled | vectors.columns, groups=groups if any(groups) else [])


def shared(after: Vectors, before: Vectors) -> tuple[Vectors, Vectors]:
    """The rows that both have, in the order of `after`.

    Raises DataError where there is none, or where an id names two different texts.
    """
    from udever.errors import DataError

    row_of = {name: row for row, name in enumerate(before.ids)}
    kept = [row for row, name in enumerate(after.ids) if name in row_of]
    if not kept:
        raise DataError(f"{before.name} and {after.name} have no id in common; embed the same texts with both models")
    after, before = after.take(kept), before.take([row_of[after.ids[row]] for row in kept])
    for name, one, other in zip(after.ids, after.texts, before.texts, strict=True):
        if one != other:
            raise DataError(f"{name!r} is another text in {before.name}; embed the same texts with both models")
    return after, before


def map_points(after: Vectors, before: Vectors | None = None, method: "Method" = "pca") -> "MapPoints":
    """The rows on a plane; those of `before` must be the same (`shared`), and are turned to lie as near as they can.

    Raises DataError where there are no rows.
    """
    from udever.errors import DataError
    from udever.search.projection import align, project
    from udever.server import MapPoints

    if not after.ids:
        raise DataError(f"{after.name} holds no rows; there is nothing to draw")
    xy = project(after.embeddings, method=method)
    return MapPoints(
        xy,
        after.ids,
        after.columns,
        links=links_of(after.groups),
        before=None if before is None else align(project(before.embeddings, method=method), xy),
        models=[] if before is None else _names(before, after),
    )


def _names(before: Vectors, after: Vectors) -> list[str]:
    if before.name != after.name:
        return [before.name, after.name]
    return [f"{side.name} ({side.fingerprint[:8]})" for side in (before, after)]


def links_of(groups: Sequence[str]) -> "NDArray[np.int32]":
    """Pairs that join the rows of each group: every later row with the group's first. int32 [links, 2]."""
    first: dict[str, int] = {}
    pairs = [(start, row) for row, name in enumerate(groups) if name and (start := first.setdefault(name, row)) != row]
    return np.array(pairs, dtype=np.int32).reshape(-1, 2)
