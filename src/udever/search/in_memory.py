"""A corpus in memory, searched exactly; and embeddings files, which are read as they are searched or held so."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udever.errors import ContractError, DataError
from udever.search.bm25 import Bm25
from udever.search.embeddings_file import (
    Header,
    embeddings_files,
    read,
    read_embeddings,
    read_header,
    read_ids,
    read_texts,
)
from udever.search.exact import rank, top_k_blocks
from udever.search.exact import top_k as exact_top_k
from udever.search.searchable import Filters, Hit, Searchable, Vectors, full_language, matching_paths
from udever.search.words_weight import WORDS_WEIGHT, read_words_weight

if TYPE_CHECKING:
    from udever.embedder import Embedder
    from udever.model.contract import RoleName

_LOCK = threading.RLock()
_BLOCK_ROWS = 16_384
_DEEPER = 4
_log = logging.getLogger(__name__)

Columns = Callable[[Path, Sequence[str]], Mapping[str, list[str]]]
"""The columns that stand beside the texts of these files, for the rows of these ids."""


class _OfOneModel(Searchable):
    """Vectors whose header says which model made them."""

    def __init__(self, name: str, header: Header) -> None:
        self._name, self.header = name, header
        self._words_weight = WORDS_WEIGHT

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    @property
    def dimensions(self) -> int:
        """The width of the vectors."""
        return self.header.dimensions

    def check(self, embedder: "Embedder") -> None:
        """Raise ContractError for another model; take its word on what words weigh."""
        if self.header.fingerprint != embedder.fingerprint:
            raise ContractError(
                f"{self._name} was embedded by the model with fingerprint {self.header.fingerprint}, the model given "
                f"has {embedder.fingerprint}; take the first, or embed the texts again with this one (udever embed)"
            )
        self._words_weight = read_words_weight(embedder.name)

    @property
    def question_role(self) -> "RoleName":
        """A query against documents; against all else the role of the texts, so that both sides are read alike."""
        return "query" if self.header.role == "document" else self.header.role

    @property
    def words_weight(self) -> float:
        """As the model says that was checked."""
        return self._words_weight


class InMemory(_OfOneModel):
    """Texts with their `embeddings` [texts, dimensions]; each hit's score is set by a search, the rest is given.

    Of rows of equal text the first alone is found, of those that pass the filters.
    """

    def __init__(self, name: str, header: Header, hits: Sequence[Hit], embeddings: NDArray[np.float32]) -> None:
        assert len(hits) == len(embeddings)
        super().__init__(name, header)
        self._hits, self._embeddings = hits, embeddings
        self._row_of = {hit.id: row for row, hit in enumerate(hits)}
        seen: dict[str, int] = {}
        self._first_alike = np.array([seen.setdefault(hit.text, row) for row, hit in enumerate(hits)], dtype=np.intp)
        self._distinct = None if len(seen) == len(hits) else np.unique(self._first_alike)
        self._bm25: Bm25 | None = None

    def count(self) -> int:
        """How many texts there are."""
        return len(self._hits)

    def texts(self, ids: Sequence[str]) -> Mapping[str, Hit]:
        """Whole texts by id."""
        return {name: self._hits[self._row_of[name]] for name in ids if name in self._row_of}

    def vectors(self, limit: int, ids: Collection[str] | None = None) -> Vectors:
        """Evenly spread rows, with what their hits know."""
        rows = _evenly([hit.id for hit in self._hits], limit, ids)
        chosen = [self._hits[row] for row in rows]
        columns = {name: [getattr(hit, name) or "" for hit in chosen] for name in ("language", "kind", "source")}
        return Vectors(
            name=Path(self._name).name or self._name,
            fingerprint=self.header.fingerprint,
            num_rows=self.count(),
            ids=[hit.id for hit in chosen],
            texts=[hit.text for hit in chosen],
            embeddings=self._embeddings[rows],
            columns={name: values for name, values in columns.items() if any(values)},
        )

    def _languages(self) -> Mapping[str, int]:
        return Counter(hit.language for hit in self._hits if hit.language)

    def _paths(self) -> Collection[str]:
        return {hit.source for hit in self._hits if hit.source}

    def _within(self, filters: Filters) -> NDArray[np.intp] | None:
        """The rows that pass, one of each text; None for all."""
        wanted: dict[str, set[str]] = {}
        if filters.languages:
            wanted["language"] = set(map(full_language, filters.languages))
        if filters.kinds:
            wanted["kind"] = set(filters.kinds)
        if filters.paths:
            wanted["source"] = set(matching_paths(filters.paths, self._paths()))
        for column in wanted:
            if self._hits and not any(getattr(hit, column) for hit in self._hits):
                told = "path" if column == "source" else column
                raise DataError(f"{self._name} stores no {told} to filter by; make an index with udever index")
        if not wanted:
            return None
        passes = [all(getattr(hit, name) in values for name, values in wanted.items()) for hit in self._hits]
        rows = np.flatnonzero(passes)
        return rows[np.sort(np.unique(self._first_alike[rows], return_index=True)[1])]

    def _num_within(self, within: NDArray[np.intp] | None) -> int:
        chosen = self._distinct if within is None else within
        return self.count() if chosen is None else len(chosen)

    def _nearest(self, embedding: NDArray[np.float32], top_k: int, within: NDArray[np.intp] | None) -> list[Hit]:
        chosen = self._distinct if within is None else within
        if chosen is None:
            scores, rows = exact_top_k(embedding[None], self._embeddings, top_k)
            return self._scored(scores[0], rows[0])
        starts = range(0, len(chosen), _BLOCK_ROWS)
        blocks = (self._embeddings[chosen[start : start + _BLOCK_ROWS]] for start in starts)  # no copy of all
        scores, rows = top_k_blocks(embedding[None], blocks, top_k)
        return self._scored(scores[0], chosen[rows[0]])

    def _matching(self, said: Sequence[str], top_k: int, within: NDArray[np.intp] | None) -> list[Hit]:
        if not said or not self._hits:
            return []
        with _LOCK:
            self._bm25 = self._bm25 or Bm25([hit.text for hit in self._hits])
        chosen = self._distinct if within is None else within
        all_scores = self._bm25.scores_of(said)
        scores = all_scores if chosen is None else all_scores[chosen]
        if not len(scores):
            return []
        best, rows = rank(scores[None], top_k)
        said_any = best[0] > 0
        rows = rows[0][said_any]
        return self._scored(best[0][said_any], rows if chosen is None else chosen[rows])

    def _scored(self, scores: NDArray[np.float32], rows: NDArray[np.integer]) -> list[Hit]:
        return [replace(self._hits[row], score=float(score)) for score, row in zip(scores, rows.tolist(), strict=True)]


class EmbeddingsFiles(_OfOneModel):
    """An embeddings file or a folder of them. By meaning alone they are read block by block and never held.

    Words and filters need them in memory, as does `prepare`. Of rows of equal text one is found. `columns` gives the
    map what stands beside the texts.
    Raises DataError where there are none, ContractError where different models made them.
    """

    def __init__(self, path: str | Path, columns: Columns | None = None) -> None:
        self._path, self._columns = Path(path), columns
        self._files = embeddings_files(self._path)
        if not self._files:
            raise DataError(f"{path} holds no embeddings files; make one with udever embed")
        super().__init__(str(path), _agreed_header(self._files))
        self._held: InMemory | None = None

    def count(self) -> int:
        """How many texts there are."""
        return sum(len(read_ids(file)) for file in self._files) if self._held is None else self._held.count()

    def prepare(self) -> None:
        """Read all of them."""
        self._all()

    def texts(self, ids: Sequence[str]) -> Mapping[str, Hit]:
        """Whole texts by id."""
        return self._all().texts(ids)

    def vectors(self, limit: int, ids: Collection[str] | None = None) -> Vectors:
        """Evenly spread rows, with the columns beside their texts where those can be read."""
        held = [read_ids(file) for file in self._files]
        rows = _evenly([name for names in held for name in names], limit, ids)
        embeddings = np.empty((len(rows), self.dimensions), np.float32)
        told: list[tuple[str, str, str | None]] = []
        first = 0
        for file, names in zip(self._files, held, strict=True):
            mine = rows[(rows >= first) & (rows < first + len(names))] - first
            texts = read_texts(file, mine) if len(mine) else {}
            seen = 0
            for block in read_embeddings(file) if len(mine) else ():
                here = mine[(mine >= seen) & (mine < seen + len(block))] - seen
                embeddings[len(told) : len(told) + len(here)] = block[here]
                told += [texts[seen + row] for row in here.tolist()]
                seen += len(block)
            first += len(names)
        sources = [source or "" for _, _, source in told]
        found = Vectors(
            name=self._path.name or str(self._path),
            fingerprint=self.header.fingerprint,
            num_rows=first,
            ids=[name for name, _, _ in told],
            texts=[text for _, text, _ in told],
            embeddings=embeddings,
            columns={"source": sources} if any(sources) else {},
        )
        if self._columns is None:
            return found
        try:
            return found.beside(self._columns(self._path, found.ids))
        except DataError as error:
            _log.warning("the map has one colour: %s", error)
            return found

    def _all(self) -> InMemory:
        with _LOCK:
            if self._held is None:
                tables = [read(file)[1] for file in self._files]
                rows = (row for t in tables for row in zip(t.ids, t.texts, t.sources, strict=True))
                embeddings = np.concatenate([table.embeddings for table in tables])
                self._held = InMemory(self.name, self.header, [Hit(0.0, *row) for row in rows], embeddings)
            return self._held

    def _languages(self) -> Mapping[str, int]:
        return self._all()._languages()

    def _paths(self) -> Collection[str]:
        return self._all()._paths()

    def _within(self, filters: Filters) -> NDArray[np.intp] | None:
        return None if filters == Filters() else self._all()._within(filters)

    def _num_within(self, within: NDArray[np.intp] | None) -> int:
        return self._all()._num_within(within)

    def _matching(self, said: Sequence[str], top_k: int, within: NDArray[np.intp] | None) -> list[Hit]:
        return self._all()._matching(said, top_k, within)

    def _nearest(self, embedding: NDArray[np.float32], top_k: int, within: NDArray[np.intp] | None) -> list[Hit]:
        if self._held is not None or within is not None:
            return self._all()._nearest(embedding, top_k, within)
        depth = top_k
        while True:
            hits = self._read_nearest(embedding, depth)
            distinct: dict[str, Hit] = {}
            for hit in hits:
                distinct.setdefault(hit.text, hit)
            if len(distinct) >= top_k or len(hits) < depth:
                return list(distinct.values())[:top_k]
            depth *= _DEEPER

    def _read_nearest(self, embedding: NDArray[np.float32], top_k: int) -> list[Hit]:
        starts = [0]

        def blocks() -> Iterator[NDArray[np.float32]]:
            for file in self._files:
                starts.append(starts[-1])
                for block in read_embeddings(file):
                    starts[-1] += len(block)
                    yield block

        scores, rows = top_k_blocks(embedding[None], blocks(), top_k)
        places = np.searchsorted(starts, rows[0], side="right") - 1
        # An empty file shares its start with the next one; searchsorted already points behind it.
        offsets = rows[0] - np.asarray(starts)[places]
        texts = {int(p): read_texts(self._files[p], offsets[places == p].tolist()) for p in np.unique(places)}
        return [
            Hit(float(score), *texts[int(place)][int(offset)])
            for score, place, offset in zip(scores[0], places, offsets, strict=True)
        ]


def _agreed_header(files: list[Path]) -> Header:
    header = read_header(files[0])
    for file in files[1:]:
        other = read_header(file)
        if other != header:
            raise ContractError(
                f"{files[0]} and {file} do not belong together: {_describe(header)} and {_describe(other)}; "
                "embed the texts of both again with one model (udever embed)"
            )
    return header


def _describe(header: Header) -> str:
    return f"fingerprint {header.fingerprint} (dimensions {header.dimensions}, role {header.role})"


def _evenly(held: Sequence[str], limit: int, ids: Collection[str] | None = None) -> NDArray[np.intp]:
    """At most `limit` rows of `held`, evenly spread; or those of `ids`."""
    if ids is not None:
        wanted = set(ids)
        return np.flatnonzero([name in wanted for name in held])
    return np.linspace(0, len(held) - 1, min(limit, len(held))).astype(np.intp)
