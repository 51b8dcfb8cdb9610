"""The store for one machine or an object store: LanceDB, embedded, three tables.

`chunks` (text, words, vector), `files` and `manifest`. Every write is one commit of one table, so that a reader
sees all of it or nothing. The runtime of LanceDB does not survive a fork.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udever.errors import DataError, OutputError, first_line, needs
from udever.records import to_arrow, to_numpy
from udever.search.exact import shorten
from udever.search.store import CHUNK, EXACT_FILTERED_UP_TO, ChunkRow, FileRecord, FoundChunk, Tuning, Where, file_id
from udever.source.chunks import Chunk

_FILTERED_EFFORT = 4
"""With a filter the nearest that pass lie farther off: so many times as many lists are opened."""

_FRESH_S = 2
"""A reader sees what another process wrote after at most this long."""

_KEEP_VERSIONS = timedelta(hours=1)
_FILE_SCHEMA = pa.schema(
    [
        ("file", pa.int64()),
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("digest", pa.string()),
        ("num_chunks", pa.int32()),
        ("reason", pa.string()),
    ]
)
_MANIFEST_SCHEMA = pa.schema([("manifest", pa.string())])
_REFINE = {"ivf_flat": 1, "ivf_sq": 4, "ivf_rq": 10}


def _chunk_schema(dimensions: int, short: int | None = None) -> pa.Schema:
    columns = [
        ("id", pa.string()),
        ("file", pa.int64()),
        ("path", pa.string()),
        ("number", pa.int32()),
        ("first_line", pa.int32()),
        ("last_line", pa.int32()),
        ("text", pa.string()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("parent", pa.string()),
        ("language", pa.string()),
        ("digest", pa.string()),
        ("words", pa.string()),
        ("truncated", pa.bool_()),
        ("embedding", pa.list_(pa.float32(), dimensions)),
    ]
    if short is not None:
        columns.append(("short", pa.list_(pa.float32(), short)))
    return pa.schema(columns)


def _literal(text: str) -> str:
    """`text` as a string of SQL: the quote is its only special character."""
    return "'" + text.replace("'", "''") + "'"


def _any_of(column: str, values: Iterable[str | int]) -> str:
    listed = ", ".join(_literal(value) if isinstance(value, str) else str(int(value)) for value in values)
    return f"{column} IN ({listed})" if listed else "false"


def _condition(where: Where) -> str:
    wanted = (("language", where.languages), ("kind", where.kinds), ("file", where.files))
    return " AND ".join(_any_of(column, values) for column, values in wanted if values is not None)


def _found(table: pa.Table, scores: Iterable[float]) -> list[FoundChunk]:
    rows = zip(table.to_pylist(), scores, strict=True)
    found = [FoundChunk(row["id"], row["path"], Chunk(**{n: row[n] for n in CHUNK}), float(s)) for row, s in rows]
    return sorted(found, key=lambda hit: (-hit.score, hit.path, hit.chunk.first_line, hit.id))


class LanceStore:
    """A folder or an object-store URI with LanceDB's tables in it."""

    def __init__(self, uri: str | Path):
        # Its Rust side writes warnings of its own to standard error, of no use to the one who searches.
        os.environ.setdefault("LANCEDB_LOG", "error")
        with needs("lancedb", "index", "an index"):
            import lancedb
        self.uri = str(uri)
        where = self.uri if self.folder is None else str(self.folder.absolute())  # a relative a:b is a URI to it
        try:
            self._db = lancedb.connect(where, read_consistency_interval=timedelta(seconds=_FRESH_S))
            self._list()  # a place that cannot be read is told now
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"cannot open {self.uri}: {first_line(error)}; check the path or URI") from error
        self._open: dict[str, Any] = {}

    @property
    def folder(self) -> Path | None:
        """The local folder; None for an object store."""
        return None if "://" in self.uri else Path(self.uri)

    def _list(self) -> list[str]:
        return list(self._db.list_tables(limit=100).tables)

    def _table(self, name: str) -> Any:
        if name not in self._open:
            try:
                self._open[name] = self._db.open_table(name)
            except (OSError, RuntimeError, ValueError) as error:
                raise DataError(
                    f"{self.uri}: the index's table {name!r} cannot be read ({first_line(error)}); "
                    "make it again with udever index --rebuild"
                ) from error
        return self._open[name]

    def _arrow(self, query: Any) -> pa.Table:
        with self._readable():
            return query.to_arrow()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(
                f"{self.uri}: the index cannot be read ({first_line(error)}); make it again with udever index --rebuild"
            ) from error

    def read_manifest(self) -> str | None:
        """The manifest; None where there is none."""
        self._open.pop("manifest", None)  # another process may have dropped it and made a new one
        if "manifest" not in self._list() or self._is_begun("manifest"):
            return None
        rows = self._arrow(self._table("manifest").search().limit(None))
        return rows["manifest"][0].as_py() if len(rows) else None

    def _is_begun(self, name: str) -> bool:
        """Whether a process was killed while it made the table for the first time: no version of it was ever there."""
        return self.folder is not None and not any((self.folder / f"{name}.lance" / "_versions").glob("*.manifest"))

    def write_manifest(self, text: str) -> None:
        """Replace the manifest in one commit."""
        self._overwrite("manifest", pa.table({"manifest": [text]}, schema=_MANIFEST_SCHEMA))

    def _overwrite(self, name: str, content: Any) -> None:
        with _writing(self.uri):
            self._open[name] = self._db.create_table(name, data=content, mode="overwrite")

    def create(self, dimensions: int) -> None:
        """Begin anew; without its manifest an index does not exist, so a stop in between leaves none."""
        self._open.clear()
        there = self._list()
        if self.folder is None:  # a folder has a marker; of an object store this says whose it is
            self._check_ours([name for name in ("chunks", "files") if name in there])
        with _writing(self.uri):
            for name in ("manifest", "chunks", "files"):
                if name in there:
                    self._db.drop_table(name)
        self._overwrite("chunks", _chunk_schema(dimensions).empty_table())
        self._overwrite("files", _FILE_SCHEMA.empty_table())
        self._index_words()

    def _check_ours(self, names: list[str]) -> None:
        """Raise OutputError where a table of this name has other columns than ours."""
        for name in names:
            wanted = _FILE_SCHEMA.names if name == "files" else _chunk_schema(1).names
            if not set(wanted) <= set(self._table(name).schema.names):
                raise OutputError(f"{self.uri} holds a table {name!r} that is not an index's; give another place")

    def _index_words(self) -> None:
        from lancedb.index import FTS

        config = FTS(
            base_tokenizer="whitespace",
            lower_case=False,
            stem=False,
            remove_stop_words=False,
            ascii_folding=False,
            max_token_length=None,
        )
        with _writing(self.uri):
            self._table("chunks").create_index("words", config=config, replace=True)

    def files(self) -> dict[str, FileRecord]:
        """Every file by its path."""
        names = [field.name for field in fields(FileRecord)]
        table = self._arrow(self._table("files").search().select(names).limit(None))
        records = zip(*(table[name].to_pylist() for name in names), strict=True)
        return {record[0]: FileRecord(*record) for record in records}

    def put_files(self, records: Sequence[FileRecord]) -> None:
        """Add or replace records in one commit."""
        if not records:
            return
        rows = [{"file": file_id(record.path), **asdict(record)} for record in records]
        table = pa.Table.from_pylist(rows, schema=_FILE_SCHEMA)
        with _writing(self.uri):
            merge = self._table("files").merge_insert("file")
            merge.when_matched_update_all().when_not_matched_insert_all().execute(table)

    def forget_files(self, paths: Sequence[str]) -> None:
        """Remove records in one commit."""
        if paths:
            with _writing(self.uri):
                self._table("files").delete(_any_of("file", map(file_id, paths)))

    def replace(self, paths: Sequence[str], rows: Sequence[ChunkRow], embeddings: NDArray[np.float32]) -> None:
        """Replace all chunks of `paths` in one commit."""
        if not paths:
            return
        chunks = self._table("chunks")
        of_paths = _any_of("file", map(file_id, paths))
        with _writing(self.uri):
            if not rows:
                chunks.delete(of_paths)
                return
            merge = chunks.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(of_paths).execute(_rows_table(rows, embeddings, chunks.schema))

    def known(self, digests: Sequence[str]) -> Mapping[str, tuple[NDArray[np.float32], bool]]:
        """Embeddings of stored passages by digest."""
        if not digests:
            return {}
        query = self._table("chunks").search().where(_any_of("digest", digests))
        table = self._arrow(query.select(["digest", "embedding", "truncated"]).limit(None))
        found = zip(to_numpy(table["embedding"]), table["truncated"].to_pylist(), strict=True)
        return dict(zip(table["digest"].to_pylist(), found, strict=True))

    def nearest(self, embedding: NDArray[np.float32], top_k: int, where: Where, tuning: Tuning) -> list[FoundChunk]:
        """The nearest chunks; exact where `tuning` says so or few enough pass `where`."""
        chunks = self._table("chunks")
        condition = _condition(where)
        exact = tuning.kind == "exact" or (bool(condition) and chunks.count_rows(condition) <= EXACT_FILTERED_UP_TO)
        # The table's own word counts: another process may have tuned it a moment ago.
        schema = chunks.schema
        is_short = not exact and "short" in schema.names
        vector = shorten(embedding[None], schema.field("short").type.list_size)[0] if is_short else embedding
        query = chunks.search(vector, vector_column_name="short" if is_short else "embedding").distance_type("dot")
        if condition:
            query = query.where(condition, prefilter=True)
        if exact:
            query = query.bypass_vector_index()
        else:
            # Where the filter lets little through, more lists are opened (0: all) until there is enough. Without a
            # filter that costs more than the search itself, so it is done only where too little came back.
            effort = tuning.effort * (_FILTERED_EFFORT if condition else 1)
            query = query.minimum_nprobes(effort).maximum_nprobes(0 if condition else effort)
            if not is_short and tuning.refine > 1:
                query = query.refine_factor(tuning.refine)
        num_wanted = top_k * tuning.refine if is_short else top_k
        columns = ["id", "path", *CHUNK, "_distance", *(["embedding"] if is_short else [])]
        query = query.select(columns).limit(num_wanted)
        table = self._arrow(query)
        if not exact and not condition and len(table) < min(num_wanted, chunks.count_rows()):
            table = self._arrow(query.maximum_nprobes(0))
        if is_short:
            return _found(table, to_numpy(table["embedding"]) @ embedding)[:top_k]
        return _found(table, 1 - table["_distance"].to_numpy())

    def matching(self, words: Sequence[str], top_k: int, where: Where) -> list[FoundChunk]:
        """The chunks with the highest BM25 for any of `words`."""
        from lancedb.query import MatchQuery

        if not words:
            return []
        match = MatchQuery(" ".join(words), "words")  # pyright: ignore[reportCallIssue]  (the rest has defaults)
        query = self._table("chunks").search(match, query_type="fts")
        if condition := _condition(where):
            query = query.where(condition, prefilter=True)
        table = self._arrow(query.select(["id", "path", *CHUNK, "_score"]).limit(top_k))
        return _found(table, table["_score"].to_pylist())

    def take(self, ids: Sequence[str]) -> list[FoundChunk]:
        """Chunks by their ids, in no order."""
        query = self._table("chunks").search().where(_any_of("id", ids))
        table = self._arrow(query.select(["id", "path", *CHUNK]).limit(None))
        return _found(table, [0.0] * len(table))

    def count(self, where: Where | None = None) -> int:
        """How many chunks pass."""
        chunks = self._table("chunks")
        with self._readable():
            return chunks.count_rows(_condition(where or Where()) or None)

    def languages(self) -> dict[str, int]:
        """How many chunks there are of each language."""
        table = self._arrow(self._table("chunks").search().select(["language"]).limit(None))
        return dict(Counter(filter(None, table["language"].to_pylist())))

    def embeddings(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and embeddings of all chunks."""
        table = self._arrow(self._table("chunks").search().select(["id", "embedding"]).limit(None))
        return table["id"].to_pylist(), to_numpy(table["embedding"])

    def candidates(self, dimensions: int, num_dimensions: int) -> list[Tuning]:
        """Inverted lists with plain, 8-bit and 1-bit vectors; of shortened vectors plain ones alone."""
        if dimensions < num_dimensions:
            return [Tuning(kind="ivf_flat", dimensions=dimensions, refine=10)]
        return [Tuning(kind=kind, dimensions=dimensions, refine=refine) for kind, refine in _REFINE.items()]

    def build(self, tuning: Tuning) -> None:
        """Make the vector index; the chunks are written anew where it needs vectors of another length."""
        from lancedb.index import IvfFlat, IvfRq, IvfSq

        chunks = self._table("chunks")
        full = chunks.schema.field("embedding").type.list_size
        short = tuning.dimensions if tuning.kind != "exact" and tuning.dimensions < full else None
        stands = chunks.schema.field("short").type.list_size if "short" in chunks.schema.names else None
        if stands != short:
            self._rewrite(full, short)
            chunks = self._table("chunks")
        column = "embedding" if short is None else "short"
        with _writing(self.uri):
            for index in chunks.list_indices():
                if index.columns != ["words"]:
                    chunks.drop_index(index.name)
            if tuning.kind == "exact":
                return
            kinds = {"ivf_flat": IvfFlat, "ivf_sq": IvfSq, "ivf_rq": IvfRq}
            num_partitions = max(1, round(chunks.count_rows() ** 0.5))
            config = kinds[tuning.kind](distance_type="dot", num_partitions=num_partitions)
            chunks.create_index(column, config=config, replace=True)

    def _rewrite(self, dimensions: int, short: int | None) -> None:
        """Write the chunks again with or without a column of shortened vectors, in one commit."""
        schema = _chunk_schema(dimensions, short)
        names = [name for name in schema.names if name != "short"]
        batches = self._table("chunks").search().select(names).limit(None).to_batches(4_096)

        def rows() -> Iterable[pa.RecordBatch]:
            for batch in batches:
                columns = [batch.column(name) for name in names]
                if short is not None:
                    columns.append(to_arrow(shorten(to_numpy(batch.column("embedding")), short)))
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

        self._overwrite("chunks", pa.RecordBatchReader.from_batches(schema, rows()))
        self._index_words()

    def index_bytes(self, tuning: Tuning) -> int:
        """Size of the vector index as LanceDB states it."""
        chunks = self._table("chunks")
        if tuning.kind == "exact":
            return 4 * tuning.dimensions * chunks.count_rows()
        return sum(index.size_bytes or 0 for index in chunks.list_indices() if index.columns != ["words"])

    def is_unsettled(self) -> bool:
        """Whether an index leaves chunks out: those are found too, by comparing each."""
        return any(index.num_unindexed_rows for index in self._table("chunks").list_indices())

    def optimise(self) -> None:
        """Compact, index new rows, drop versions that are older than an hour."""
        with _writing(self.uri):
            for name in ("chunks", "files", "manifest"):
                self._table(name).optimize(cleanup_older_than=_KEEP_VERSIONS)


def _rows_table(rows: Sequence[ChunkRow], embeddings: NDArray[np.float32], schema: pa.Schema) -> pa.Table:
    columns: dict[str, Any] = {
        "id": [row.id for row in rows],
        "file": [file_id(row.path) for row in rows],
        "path": [row.path for row in rows],
        "number": [row.number for row in rows],
        "digest": [row.digest for row in rows],
        "words": [row.words for row in rows],
        "truncated": [row.truncated for row in rows],
        "embedding": to_arrow(embeddings),
        **{name: [getattr(row.chunk, name) for row in rows] for name in CHUNK},
    }
    if "short" in schema.names:
        columns["short"] = to_arrow(shorten(embeddings, schema.field("short").type.list_size))
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


@contextmanager
def _writing(uri: str) -> Iterator[None]:
    """Turn what LanceDB raises on a failed write (full disk, permission) into an OutputError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"cannot write the index {uri}: {first_line(error)}; check its permissions and free space, "
            "then run the same command again"
        ) from error
