"""The store for those who outgrow files: PostgreSQL with pgvector 0.8 or newer, three tables in a schema of their own.

Every write is one transaction. Words are kept as they are given, with their counts, and scored by BM25 in SQL. The
vectors are whole (`vector`); the graph (HNSW) is over them, over halves above 2,000 dimensions, or over the first
dimensions, and what it finds is scored again by the whole vectors.
"""

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError, OutputError, UdeverError, first_line, needs
from udever.search.bm25 import K1, B
from udever.search.postgres_uri import parse_uri
from udever.search.store import CHUNK, EXACT_FILTERED_UP_TO, ChunkRow, FileRecord, FoundChunk, Tuning, Where, file_id
from udever.source.chunks import Chunk

_WHOLE_UP_TO = 2_000
_HALVES_UP_TO = 4_000
"""Dimensions of `vector` and of `halfvec` that a graph takes."""

_LONGEST_LIST = 1_000
"""The most that pgvector takes as `hnsw.ef_search`."""

_FOUND = ", ".join(("id", "path", *CHUNK))
"""What is selected of a chunk that a search found; its score comes behind."""

_CHUNKS = ("id", "file", "path", "number", *CHUNK, "digest", "truncated", "words", "counts", "num_words", "embedding")
_FILES = tuple(field.name for field in fields(FileRecord))
_TABLES = """
CREATE TABLE {schema}.chunks (
  id text PRIMARY KEY, file bigint NOT NULL, path text NOT NULL, number int NOT NULL, first_line int, last_line int,
  text text NOT NULL, kind text, name text, parent text, language text, digest text NOT NULL, truncated bool NOT NULL,
  words text[] NOT NULL, counts int[] NOT NULL, num_words int NOT NULL, embedding vector({dimensions}) NOT NULL);
CREATE INDEX ON {schema}.chunks (file);
CREATE INDEX ON {schema}.chunks (digest);
CREATE INDEX ON {schema}.chunks (num_words);
CREATE INDEX ON {schema}.chunks USING gin (words);
CREATE TABLE {schema}.files (
  path text PRIMARY KEY, size_bytes bigint, mtime_ns bigint, digest text, num_chunks int, reason text);
CREATE TABLE {schema}.manifest (manifest text NOT NULL);
"""
_BM25 = """
WITH said AS MATERIALIZED (
  SELECT chunks.id, num_words, u.word, u.count FROM {schema}.chunks, unnest(words, counts) AS u(word, count)
  WHERE words && %(words)s AND u.word = ANY(%(words)s)),
rarity AS (
  SELECT word, ln(1 + (total - count(*) + 0.5) / (count(*) + 0.5)) AS idf
  FROM said, (SELECT count(*) AS total FROM {schema}.chunks) AS all_ GROUP BY word, total),
scored AS (
  SELECT id, sum(idf * count / (count + %(k1)s * (1 - %(b)s + %(b)s * num_words / mean)))::float8 AS score
  FROM said JOIN rarity USING (word), (SELECT avg(num_words) AS mean FROM {schema}.chunks) AS length_ GROUP BY id)
SELECT {columns}, score FROM scored JOIN {schema}.chunks USING (id)
WHERE {condition} ORDER BY score DESC, path, first_line, id LIMIT %(top_k)s
"""


def _kept(text: Any) -> Any:
    """`text` without the one character that PostgreSQL cannot hold; `_given` is the way back."""
    return text.replace("\x01", "\x01b").replace("\0", "\x01a") if isinstance(text, str) else text


def _given(text: Any) -> Any:
    return text.replace("\x01a", "\0").replace("\x01b", "\x01") if isinstance(text, str) else text


def _literal(embedding: NDArray[np.float32]) -> str:
    return "[" + ",".join(map(repr, embedding.tolist())) + "]"


def _vector(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, ">f4", offset=4).astype(np.float32)  # two numbers of 16 bits come first


def _array(values: Sequence[Any] | None) -> list[Any]:
    return [_kept(value) for value in values or ()]


class PostgresStore:
    """A schema of a database with the tables `chunks`, `files` and `manifest` in it."""

    folder: Path | None = None

    def __init__(self, uri: str):
        with needs("psycopg", "postgres", "an index in PostgreSQL"):
            import psycopg
        self.uri = uri
        self._psycopg = psycopg
        self._address, self._schema = parse_uri(uri)
        self._idle: LifoQueue[Any] = LifoQueue()
        weakref.finalize(self, _close, self._idle)
        with self._asking():  # a server that cannot be reached is told now
            pass

    def _begin(self, transaction: ExitStack) -> Any:
        """A connection nobody else uses, in `transaction`: of the idle ones the first that the server still holds."""
        while True:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                connection = self._psycopg.connect(self._address, connect_timeout=10)
                transaction.enter_context(connection.transaction())
                return connection
            try:
                transaction.enter_context(connection.transaction())
            except self._psycopg.OperationalError:  # ended while it lay idle: the server was started again
                connection.close()
            else:
                return connection

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A cursor of a connection nobody else uses, in a transaction."""
        transaction = ExitStack()
        connection = self._begin(transaction)
        try:
            with transaction, connection.cursor(binary=True) as cursor:
                yield cursor
        finally:
            if connection.broken:
                connection.close()
            else:
                connection.rollback()
                self._idle.put(connection)

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            with self._connection() as cursor:
                yield cursor
        except self._psycopg.errors.UndefinedTable as error:
            raise DataError(f"{self.uri} holds no index; make one with: udever index PATH -m MODEL") from error
        except self._psycopg.Error as error:
            raise DataError(f"{self.uri} does not answer: {first_line(error)}; check server and PGPASSWORD") from error

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        try:
            with self._connection() as cursor:
                # One writer at a time; each write is whole, so that two updates at once do no harm.
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [self._schema])
                yield cursor
        except UdeverError:
            raise
        except self._psycopg.Error as error:
            raise OutputError(
                f"cannot write to {self.uri}: {first_line(error)}; check the server and the user's rights, "
                "then run the same command again"
            ) from error

    def _sql(self, text: str, **parts: Any) -> Any:
        from psycopg import sql

        return sql.SQL(text).format(schema=sql.Identifier(self._schema), **parts)  # pyright: ignore[reportArgumentType]

    def _rows(self, query: str, values: Any = None) -> list[Any]:
        """All that a query gives."""
        with self._asking() as cursor:
            return cursor.execute(self._sql(query), values).fetchall()

    def _chunks(self, where: Where, extra: str = "", order: str = "", **values: Any) -> list[FoundChunk]:
        """The chunks that pass, with a score where `extra` selects one."""
        condition, passed = _condition(where)
        query = f"SELECT {_FOUND}, {extra or '0::float8'} FROM {{schema}}.chunks WHERE {condition} {order}"
        return list(map(_found, self._rows(query, passed | values)))

    def read_manifest(self) -> str | None:
        """The manifest; None where there is none."""
        with self._asking() as cursor:
            if cursor.execute("SELECT to_regclass(%s)::text", [f"{self._schema}.manifest"]).fetchone() == (None,):
                return None
            row = cursor.execute(self._sql("SELECT manifest FROM {schema}.manifest")).fetchone()
        return None if row is None else _given(row[0])

    def write_manifest(self, text: str) -> None:
        """Replace the manifest."""
        with self._writing() as cursor:
            cursor.execute(self._sql("DELETE FROM {schema}.manifest"))
            cursor.execute(self._sql("INSERT INTO {schema}.manifest VALUES (%s)"), [_kept(text)])

    def create(self, dimensions: int) -> None:
        """Begin anew."""
        with self._writing() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            (version,) = cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
            if tuple(map(int, version.split(".")[:2])) < (0, 8):
                raise OutputError(f"{self.uri} has pgvector {version}; 0.8 or newer is needed")
            cursor.execute(self._sql("CREATE SCHEMA IF NOT EXISTS {schema}"))
            self._check_ours(cursor)
            cursor.execute(self._sql("DROP TABLE IF EXISTS {schema}.manifest, {schema}.files, {schema}.chunks"))
            for statement in _TABLES.format(schema="{schema}", dimensions=int(dimensions)).split(";")[:-1]:
                cursor.execute(self._sql(statement))

    def _check_ours(self, cursor: Any) -> None:
        """Raise OutputError where a table of one of our names has other columns."""
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s"
        there = cursor.execute(query, [self._schema]).fetchall()
        for table, wanted in (("chunks", _CHUNKS), ("files", _FILES), ("manifest", ("manifest",))):
            columns = {column for name, column in there if name == table}
            if columns and columns != set(wanted):
                raise OutputError(f"{self.uri} holds a table {table!r} that is not an index's; give another name")

    def files(self) -> dict[str, FileRecord]:
        """Every file by its path."""
        rows = self._rows(f"SELECT {', '.join(_FILES)} FROM {{schema}}.files")
        records = (FileRecord(*map(_given, row)) for row in rows)
        return {record.path: record for record in records}

    def put_files(self, records: Sequence[FileRecord]) -> None:
        """Add or replace records."""
        self._put([record.path for record in records], "files", _FILES, "path", [astuple(r) for r in records])

    def forget_files(self, paths: Sequence[str]) -> None:
        """Remove records."""
        self._put(paths, "files", _FILES, "path", [])

    def _put(
        self, keys: Sequence[Any], table: str, columns: Sequence[str], key: str, rows: Sequence[Sequence[Any]]
    ) -> None:
        """Make `rows` all that the table has of `keys`."""
        if not keys:
            return
        with self._writing() as cursor:
            cursor.execute(self._sql(f"DELETE FROM {{schema}}.{table} WHERE {key} = ANY(%s)"), [_array(keys)])
            with cursor.copy(self._sql(f"COPY {{schema}}.{table} ({', '.join(columns)}) FROM STDIN")) as copy:
                for row in rows:
                    copy.write_row(list(map(_kept, row)))

    def replace(self, paths: Sequence[str], rows: Sequence[ChunkRow], embeddings: NDArray[np.float32]) -> None:
        """Replace all chunks of `paths`."""
        written = []
        for row, embedding in zip(rows, embeddings, strict=True):
            counts = Counter(_array(row.words.split()))
            chunk = (getattr(row.chunk, name) for name in CHUNK)
            said = (list(counts), list(counts.values()), counts.total())
            start = (row.id, file_id(row.path), row.path, row.number)
            written.append((*start, *chunk, row.digest, row.truncated, *said, _literal(embedding)))
        self._put(list(map(file_id, paths)), "chunks", _CHUNKS, "file", written)

    def known(self, digests: Sequence[str]) -> Mapping[str, tuple[NDArray[np.float32], bool]]:
        """Embeddings of stored passages by digest."""
        query = "SELECT digest, embedding, truncated FROM {schema}.chunks WHERE digest = ANY(%s)"
        rows = self._rows(query, [_array(digests)])
        return {digest: (_vector(data), truncated) for digest, data, truncated in rows}

    def nearest(self, embedding: NDArray[np.float32], top_k: int, where: Where, tuning: Tuning) -> list[FoundChunk]:
        """The nearest chunks; exact where `tuning` says so or few enough pass `where`."""
        exact = tuning.kind == "exact" or (where != Where() and self.count(where) <= EXACT_FILTERED_UP_TO)
        score = "-(embedding <#> %(whole)s::vector)"
        values = {"whole": _literal(embedding), "top_k": top_k}
        if exact:  # the sum keeps the planner from the graph
            order = f"ORDER BY {score} + 0 DESC, path, first_line, id LIMIT %(top_k)s"
            return self._chunks(where, score, order, **values)
        condition, passed = _condition(where)
        column, kind = _graphed(tuning.dimensions, len(embedding))
        cut = embedding[: tuning.dimensions]
        values |= {"cut": _literal(cut / max(float(np.linalg.norm(cut)), 1e-12)), "wanted": top_k * tuning.refine}
        query = f"""
            WITH near AS MATERIALIZED (
              SELECT {_FOUND}, embedding FROM {{schema}}.chunks WHERE {condition}
              ORDER BY {column} <#> %(cut)s::{kind} LIMIT %(wanted)s)
            SELECT {_FOUND}, {score} AS score FROM near ORDER BY score DESC, path, first_line, id LIMIT %(top_k)s"""
        with self._asking() as cursor:
            effort = min(_LONGEST_LIST, max(1, tuning.effort))
            # With a filter, or where the list is short, the graph is followed on until there is enough.
            cursor.execute(f"SET LOCAL hnsw.ef_search = {effort}")
            cursor.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
            cursor.execute("SET LOCAL hnsw.max_scan_tuples = 2147483647")
            cursor.execute("SET LOCAL enable_seqscan = off")
            return list(map(_found, cursor.execute(self._sql(query), passed | values).fetchall()))

    def matching(self, words: Sequence[str], top_k: int, where: Where) -> list[FoundChunk]:
        """The chunks with the highest BM25 for any of `words`."""
        if not words:
            return []
        condition, passed = _condition(where)
        query = _BM25.format(schema="{schema}", columns=_FOUND, condition=condition)
        values = {"words": _array(words), "k1": K1, "b": B, "top_k": top_k}
        return list(map(_found, self._rows(query, passed | values)))

    def take(self, ids: Sequence[str]) -> list[FoundChunk]:
        """Chunks by their ids, in no order."""
        return self._chunks(Where(), order="AND id = ANY(%(ids)s)", ids=_array(ids))

    def count(self, where: Where | None = None) -> int:
        """How many chunks pass."""
        condition, passed = _condition(where or Where())
        return self._rows(f"SELECT count(*) FROM {{schema}}.chunks WHERE {condition}", passed)[0][0]

    def languages(self) -> dict[str, int]:
        """How many chunks there are of each language."""
        query = "SELECT language, count(*) FROM {schema}.chunks WHERE language <> '' GROUP BY language"
        return {_given(name): count for name, count in self._rows(query)}

    def embeddings(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and embeddings of all chunks."""
        rows = self._rows("SELECT id, embedding FROM {schema}.chunks")
        vectors = [_vector(data) for _, data in rows]
        return [name for name, _ in rows], np.stack(vectors) if vectors else np.empty((0, 0), np.float32)

    def candidates(self, dimensions: int, num_dimensions: int) -> list[Tuning]:
        """The graph, where it takes so many dimensions."""
        if dimensions > _HALVES_UP_TO:
            return []
        is_whole = dimensions == num_dimensions and dimensions <= _WHOLE_UP_TO
        return [Tuning(kind="hnsw", dimensions=dimensions, refine=1 if is_whole else 10)]

    def build(self, tuning: Tuning) -> None:
        """Make the graph; on a large index this takes minutes."""
        with self._writing() as cursor:
            cursor.execute(self._sql("DROP INDEX IF EXISTS {schema}.graph"))
            if tuning.kind == "exact":
                return
            query = "SELECT atttypmod FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'embedding'"
            (full,) = cursor.execute(query, [f"{self._schema}.chunks"]).fetchone()
            column, kind = _graphed(tuning.dimensions, full)
            kind = kind.partition("(")[0]
            cursor.execute(self._sql(f"CREATE INDEX graph ON {{schema}}.chunks USING hnsw (({column}) {kind}_ip_ops)"))

    def index_bytes(self, tuning: Tuning) -> int:
        """Size of the graph; without one, of the vectors."""
        if tuning.kind == "exact":
            return 4 * tuning.dimensions * self.count()
        return self._rows("SELECT pg_relation_size(%s::regclass)", [f"{self._schema}.graph"])[0][0]

    def is_unsettled(self) -> bool:
        """False: every index has every chunk."""
        return False

    def optimise(self) -> None:
        """Nothing: the server's autovacuum does it."""


def _graphed(dimensions: int, full: int) -> tuple[str, str]:
    """What the graph is over, and its type: whole vectors, halves, or the first dimensions scaled to length 1."""
    kind = f"{'vector' if dimensions <= _WHOLE_UP_TO else 'halfvec'}({int(dimensions)})"
    column = "embedding" if dimensions == full else f"l2_normalize(subvector(embedding, 1, {int(dimensions)}))"
    return f"{column}::{kind}", kind


def _condition(where: Where) -> tuple[str, dict[str, Any]]:
    wanted = (("language", where.languages), ("kind", where.kinds), ("file", where.files))
    held = {column: _array(values) for column, values in wanted if values is not None}
    return " AND ".join(("true", *(f"{column} = ANY(%({column})s)" for column in held))), held


def _found(row: Sequence[Any]) -> FoundChunk:
    name, path, *chunk, score = map(_given, row)
    return FoundChunk(name, path, Chunk(**dict(zip(CHUNK, chunk, strict=True))), score)


def _close(idle: LifoQueue[Any]) -> None:
    while not idle.empty():
        idle.get_nowait().close()
