"""Rows with their vectors, laid on a plane: what the map shows, wherever it is shown."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.search.projection import Method, align, project
from udever.search.searchable import Searchable, Vectors

MOST_FOLDERS = 24
"""Folders that a map tells apart, unless there are more at the first place where there are two."""

_KEPT_S = 60.0
"""How old a map may be before it is drawn again."""


@dataclass(frozen=True)
class MapPoints:
    """Texts on a plane: `xy` float32 [points, 2], `ids`, and columns to colour the points by.

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


def shared(after: Vectors, before: Vectors) -> tuple[Vectors, Vectors]:
    """The rows that both have, in the order of `after`.

    Raises DataError where there is none, or where an id names two different texts.
    """
    row_of = {name: row for row, name in enumerate(before.ids)}
    kept = [row for row, name in enumerate(after.ids) if name in row_of]
    if not kept:
        raise DataError(f"{before.name} and {after.name} have no id in common; embed the same texts with both models")
    after, before = after.take(kept), before.take([row_of[after.ids[row]] for row in kept])
    for name, one, other in zip(after.ids, after.texts, before.texts, strict=True):
        if one != other:
            raise DataError(f"{name!r} is another text in {before.name}; embed the same texts with both models")
    return after, before


def map_points(after: Vectors, before: Vectors | None = None, method: Method = "pca") -> MapPoints:
    """The rows on a plane; those of `before` must be the same (`shared`), and are turned to lie as near as they can.

    Raises DataError where there are no rows.
    """
    if not after.ids:
        raise DataError(f"{after.name} holds no rows; there is nothing to draw")
    xy = project(after.embeddings, method=method)
    folders = folders_of(after.columns.get("source", []))
    return MapPoints(
        xy,
        after.ids,
        after.columns | ({"folder": folders} if folders else {}),
        links=links_of(after.groups),
        before=None if before is None else align(project(before.embeddings, method=method), xy),
        models=[] if before is None else _names(before, after),
    )


def _names(before: Vectors, after: Vectors) -> list[str]:
    if before.name != after.name:
        return [before.name, after.name]
    return [f"{side.name} ({side.fingerprint[:8]})" for side in (before, after)]


def folders_of(sources: Sequence[str]) -> list[str]:
    """The folder that each path lies in, cut as deep as leaves at most `MOST_FOLDERS` of them; [] for a single one."""
    split = [source.split("/")[:-1] for source in sources]
    best: list[str] = []
    for depth in range(1, 1 + max(map(len, split), default=0)):
        folders = ["/".join(parts[:depth]) or "." for parts in split]
        num = len(set(folders))
        if num > MOST_FOLDERS and best:
            break
        if num > 1:
            best = folders
    return best


def links_of(groups: Sequence[str]) -> NDArray[np.int32]:
    """Pairs that join the rows of each group: every later row with the group's first. int32 [links, 2]."""
    first: dict[str, int] = {}
    pairs = [(start, row) for row, name in enumerate(groups) if name and (start := first.setdefault(name, row)) != row]
    return np.array(pairs, dtype=np.int32).reshape(-1, 2)


def kept_map(after: Searchable, before: "Searchable | None" = None) -> Callable[[int], MapPoints]:
    """A function of the most points there may be: the map of `after`, of two models the rows that both have.

    A map is kept for a minute: laying it out reads every vector.
    """
    drawn: tuple[float, int, MapPoints] | None = None

    def points(limit: int) -> MapPoints:
        nonlocal drawn
        if drawn is None or drawn[1] != limit or time.monotonic() - drawn[0] > _KEPT_S:
            rows, earlier = after.vectors(limit), None
            if before is not None and rows.ids:
                rows, earlier = shared(rows, before.vectors(limit, rows.ids))
            empty = MapPoints(np.empty((0, 2), np.float32), [])
            drawn = (time.monotonic(), limit, map_points(rows, earlier) if rows.ids else empty)
        return drawn[2]

    return points
