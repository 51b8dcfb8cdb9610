"""The store for those who outgrow files: Qdrant, by its Python client.

Two collections: NAME with the chunks (a dense vector, a sparse one of word counts for BM25, the text as payload)
and NAME-files with the records of files and the manifest. A write of many points is no transaction: what makes a
stop in the middle harmless is that the records of its files say so before (`store.UNFINISHED`).
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError, OutputError, UdeverError, needs
from udever.search.manifest import Tuning
from udever.search.store import FileRecord, Found, Row, Where, digest_of, file_id
from udever.source.chunks import Chunk

_BATCH = 256
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MANIFEST_ID = str(UUID(int=0))
_CHUNK = ("first_line", "last_line", "text", "kind", "name", "parent", "language")
# BM25's usual constants; the mean length is a guess, since a client does not know the collection's.
_K1, _B, _MEAN_WORDS = 1.2, 0.75, 100


def _models() -> Any:
    from qdrant_client import models

    return models


def _word_id(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "big")


def _word_weights(words: Sequence[str]) -> dict[int, float]:
    """BM25's weight of each word of a chunk, by the word's number; what it is rare by, the server multiplies in."""
    length = _K1 * (1 - _B + _B * len(words) / _MEAN_WORDS)
    return {_word_id(word): count * (_K1 + 1) / (count + length) for word, count in Counter(words).items()}


def _sparse(weights: Mapping[int, float]) -> Any:
    return _models().SparseVector(indices=list(weights), values=list(weights.values()))


def _point_id(name: str) -> str:
    return str(UUID(hex=name))


def connect(url: str) -> tuple[Any, str]:
    """A client and the collection's name from `http://host:6333/name`; the key is in QDRANT_API_KEY."""
    with needs("qdrant-client", "qdrant", "an index in Qdrant"):
        from qdrant_client import QdrantClient
    parts = urlsplit(url)
    name = parts.path.strip("/")
    if not parts.hostname or not name or "/" in name:
        raise DataError(f"{url} is no Qdrant collection; expected http://host:6333/name")
    server, key = f"{parts.scheme}://{parts.netloc}", os.environ.get("QDRANT_API_KEY")
    if key and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise DataError(f"{server} would be sent QDRANT_API_KEY in the open; use https:// or unset the key")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a key without encryption: on this machine alone
            return QdrantClient(url=server, api_key=key, timeout=60, check_compatibility=False), name
    except Exception as error:
        raise DataError(f"cannot reach {server}: {_reason(error)}; check the address and QDRANT_API_KEY") from error


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _found(point_id: Any, payload: Mapping[str, Any], score: float) -> Found:
    chunk = Chunk(**{name: payload[name] for name in _CHUNK})
    return Found(UUID(str(point_id)).hex, payload["path"], chunk, float(score))


class QdrantStore:
    """A collection of a Qdrant server, or of a client in local mode."""

    def __init__(self, uri: str, client: Any = None, name: str | None = None):
        self.uri = uri
        if client is None:
            client, name = connect(uri)
        self._client = client
        self._chunks = name or "udever"
        self._files = f"{self._chunks}-files"
        # The client's local mode compares everything and warns where it is asked for indexes.
        self._is_local = type(self._client._client).__name__ == "QdrantLocal"

    @property
    def folder(self) -> Path | None:
        """None: it lies on a server."""
        return None

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (UdeverError, AssertionError):
            raise
        except Exception as error:  # the client lets those of several libraries through
            raise DataError(f"{self.uri} does not answer: {_reason(error)}; check the server and the key") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise OutputError(
                f"cannot write to {self.uri}: {_reason(error)}; check the server, then run the same command again"
            ) from error

    def read_manifest(self) -> str | None:
        """The manifest; None where there is none."""
        with self._asking():
            if not self._client.collection_exists(self._files):
                return None
            points = self._client.retrieve(self._files, [_MANIFEST_ID], with_payload=True)
        return points[0].payload["manifest"] if points else None

    def write_manifest(self, text: str) -> None:
        """Replace the manifest."""
        with self._writing():
            self._put(self._files, [_models().PointStruct(id=_MANIFEST_ID, vector={}, payload={"manifest": text})])

    def _put(self, collection: str, points: Sequence[Any]) -> None:
        waiting = iter(points)
        while batch := list(islice(waiting, _BATCH)):
            self._client.upsert(collection, batch, wait=True)

    def create(self, dimensions: int) -> None:
        """Begin anew; the manifest goes first."""
        models = _models()
        if self._client.collection_exists(self._chunks):
            made = self._client.get_collection(self._chunks).config.params
            if "embedding" not in (made.vectors or {}) or "words" not in (made.sparse_vectors or {}):
                raise OutputError(f"{self.uri} is a collection that is not an index; give another name")
        with self._writing():
            for name in (self._files, self._chunks):
                if self._client.collection_exists(name):
                    self._client.delete_collection(name)
            self._client.create_collection(
                self._chunks,
                vectors_config={"embedding": models.VectorParams(size=dimensions, distance=models.Distance.DOT)},
                sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
            )
            self._client.create_collection(self._files, vectors_config={})
            if not self._is_local:
                for field, kind in (("language", "keyword"), ("kind", "keyword"), ("digest", "keyword")):
                    self._client.create_payload_index(self._chunks, field, kind, wait=True)
                self._client.create_payload_index(self._chunks, "file", "integer", wait=True)

    def files(self) -> dict[str, FileRecord]:
        """Every file by its path."""
        names = [field.name for field in fields(FileRecord)]
        points = (point for point in self._scroll(self._files) if "path" in point)
        records = (FileRecord(**{name: point[name] for name in names}) for point in points)
        return {record.path: record for record in records}

    def _scroll(self, collection: str, **options: Any) -> Iterator[dict[str, Any]]:
        offset = None
        while True:
            with self._asking():
                points, offset = self._client.scroll(
                    collection, limit=1_000, offset=offset, with_payload=True, **options
                )
            for point in points:
                yield {**point.payload, "id": point.id, **(point.vector or {})}
            if offset is None:
                return

    def put_files(self, records: Sequence[FileRecord]) -> None:
        """Add or replace records."""
        points = [
            _models().PointStruct(id=_point_id(digest_of(record.path.encode())), vector={}, payload=asdict(record))
            for record in records
        ]
        with self._writing():
            self._put(self._files, points)

    def forget_files(self, paths: Sequence[str]) -> None:
        """Remove records."""
        if paths:
            ids = [_point_id(digest_of(path.encode())) for path in paths]
            with self._writing():
                self._client.delete(self._files, _models().PointIdsList(points=ids), wait=True)

    def replace(self, paths: Sequence[str], rows: Sequence[Row], embeddings: NDArray[np.float32]) -> None:
        """Write the new chunks over the old, then delete what the old had more."""
        models = _models()
        points = [
            models.PointStruct(
                id=_point_id(row.id),
                vector={"embedding": vector.tolist(), "words": _sparse(_word_weights(row.words.split()))},
                payload={
                    "file": file_id(row.path),
                    "path": row.path,
                    "number": row.number,
                    "digest": row.digest,
                    "truncated": row.truncated,
                    **{name: getattr(row.chunk, name) for name in _CHUNK},
                },
            )
            for row, vector in zip(rows, embeddings, strict=True)
        ]
        counts = Counter(row.path for row in rows)
        with self._writing():
            self._put(self._chunks, points)
            for path in paths:
                beyond = models.Filter(
                    must=[
                        models.FieldCondition(key="file", match=models.MatchValue(value=file_id(path))),
                        models.FieldCondition(key="number", range=models.Range(gte=counts[path])),
                    ]
                )
                self._client.delete(self._chunks, models.FilterSelector(filter=beyond), wait=True)

    def known(self, digests: Sequence[str]) -> Mapping[str, tuple[NDArray[np.float32], bool]]:
        """Embeddings of stored passages by digest."""
        if not digests:
            return {}
        models = _models()
        wanted = models.Filter(must=[models.FieldCondition(key="digest", match=models.MatchAny(any=list(digests)))])
        points = self._scroll(self._chunks, scroll_filter=wanted, with_vectors=["embedding"])
        return {
            point["digest"]: (np.asarray(point["embedding"], dtype=np.float32), point["truncated"]) for point in points
        }

    def _filter(self, where: Where) -> Any:
        models = _models()
        wanted = (("language", where.languages), ("kind", where.kinds), ("file", where.files))
        conditions = [
            models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))
            for key, values in wanted
            if values is not None
        ]
        return models.Filter(must=conditions) if conditions else None

    def nearest(self, embedding: NDArray[np.float32], top_k: int, where: Where, tuning: Tuning) -> list[Found]:
        """The nearest chunks; the server compares all where its filter lets few through."""
        models = _models()
        exact = tuning.kind == "exact"
        quantised = models.QuantizationSearchParams(rescore=True, oversampling=float(tuning.refine))
        params = models.SearchParams(
            exact=exact, hnsw_ef=tuning.effort or None, quantization=None if exact else quantised
        )
        return self._query(embedding.tolist(), "embedding", top_k, where, None if self._is_local else params)

    def matching(self, words: Sequence[str], top_k: int, where: Where) -> list[Found]:
        """The chunks with the highest BM25 for any of `words`."""
        if not words:
            return []
        weights = {_word_id(word): float(count) for word, count in Counter(words).items()}
        return self._query(_sparse(weights), "words", top_k, where, None)

    def _query(self, query: Any, using: str, top_k: int, where: Where, params: Any) -> list[Found]:
        if where.is_empty:
            return []
        with self._asking():
            points = self._client.query_points(
                self._chunks,
                query=query,
                using=using,
                limit=top_k,
                query_filter=self._filter(where),
                search_params=params,
            ).points
        found = [_found(point.id, point.payload, point.score) for point in points]
        return sorted(found, key=lambda hit: (-hit.score, hit.path, hit.chunk.first_line, hit.id))

    def take(self, ids: Sequence[str]) -> list[Found]:
        """Chunks by their ids, in no order."""
        with self._asking():
            points = self._client.retrieve(self._chunks, [_point_id(name) for name in ids], with_payload=True)
        return [_found(point.id, point.payload, 0.0) for point in points]

    def count(self, where: Where | None = None) -> int:
        """How many chunks pass."""
        if where is not None and where.is_empty:
            return 0
        with self._asking():
            return self._client.count(self._chunks, count_filter=self._filter(where or Where()), exact=True).count

    def languages(self) -> dict[str, int]:
        """How many chunks there are of each language."""
        return dict(Counter(point["language"] for point in self._scroll(self._chunks) if point.get("language")))

    def embeddings(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and embeddings of all chunks."""
        points = list(self._scroll(self._chunks, with_vectors=["embedding"]))
        ids = [UUID(str(point["id"])).hex for point in points]
        return ids, np.asarray([point["embedding"] for point in points], dtype=np.float32)

    def candidates(self, dimensions: int, num_dimensions: int) -> list[Tuning]:
        """The graph over whole vectors, plain or of 8 bits. A collection has vectors of one length."""
        if dimensions < num_dimensions:
            return []
        return [
            Tuning(kind="hnsw", dimensions=dimensions),
            Tuning(kind="hnsw_int8", dimensions=dimensions, refine=4),
        ]

    def build(self, tuning: Tuning) -> None:
        """Say whether vectors are kept in 8 bits too; the server builds its graph by itself."""
        models = _models()
        if tuning.kind == "hnsw_int8":
            config: Any = models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
            )
        else:
            config = models.Disabled.DISABLED
        if not self._is_local:
            with self._writing():
                self._client.update_collection(self._chunks, quantization_config=config)

    def index_bytes(self, tuning: Tuning) -> int:
        """Size of the vectors that are compared, by their type; the graph's links are not counted."""
        return (1 if tuning.kind == "hnsw_int8" else 4) * tuning.dimensions * self.count()

    def is_unsettled(self) -> bool:
        """False: the server sees to it."""
        return False

    def optimise(self) -> None:
        """Nothing: the server does it in the background."""
