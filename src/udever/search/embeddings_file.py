"""The embeddings file: Parquet, one row per text, the model's fingerprint in the file's metadata.

    id         string               the text's name in its input
    text       string
    source     string, may be null  where the text comes from
    embedding  float32[dimensions]  unit length; float16 in the shards of a corpus job that asked for it
    num_tokens int32                tokens that went through the model
    truncated  bool                 whether the text was longer than the model takes

Metadata: `udever.fingerprint` (of configuration, weights, tokenizer and contract), `udever.dimensions`, `udever.role`.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from udever.errors import DataError, first_line
from udever.records import open_parquet
from udever.storage import is_job

Role = Literal["query", "document", "symmetric"]
ROLES: tuple[str, ...] = get_args(Role)

_KEYS = ("fingerprint", "dimensions", "role")
_REQUIRED = ("id", "text", "embedding", "num_tokens", "truncated")
_AGAIN = "embed the texts again with udever"


@dataclass(frozen=True)
class Header:
    """What a file says about all of its rows."""

    fingerprint: str
    dimensions: int
    role: Role


@dataclass(frozen=True)
class EmbeddingTable:
    """Rows of an embeddings file; the lists and the array are of one length."""

    ids: list[str]
    texts: list[str]
    sources: list[str | None]
    embeddings: NDArray[np.float32]


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with open_parquet(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}; {_AGAIN}") from error


def is_embeddings_file(path: Path) -> bool:
    """Whether `path` is a readable Parquet file that carries a fingerprint."""
    try:
        with open_parquet(path) as file:
            metadata = file.schema_arrow.metadata
    except (pa.ArrowException, OSError):
        return False
    return b"udever.fingerprint" in (metadata or {})


def shard_files(folder: Path) -> list[Path] | None:
    """The shards of a corpus job's output folder in input order; None for any other folder.

    Raises DataError where the job has not come to its end yet, or a shard is gone.
    """
    if not is_job(folder):
        return None
    try:
        names = [shard["file"] for shard in json.loads((folder / "_manifest.json").read_text())["shards"]]
    except FileNotFoundError:
        raise DataError(f"{folder}: its job has not finished; run the same command again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / '_manifest.json'} is damaged ({error}); run the job again") from error
    files = [folder / name for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(f"{missing[0]} is gone ({len(missing)} in all); run the job again, it makes what is missing")
    return files


def embeddings_files(path: Path) -> list[Path]:
    """The embeddings files at `path`; empty for a folder that has none.

    Once one Parquet file of a folder is an embeddings file, all must be: a file passed over in silence
    would be texts that are never found.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; give an embeddings file (Parquet) or a folder")
    shards = shard_files(path)
    if shards is not None:
        return shards
    files = sorted(file for file in path.glob("*.parquet") if not file.name.startswith("."))
    return files if any(is_embeddings_file(file) for file in files) else []


def read_header(path: Path) -> Header:
    """Read and check everything of an embeddings file but its rows; raise DataError with what to do."""
    if not path.is_file():
        raise DataError(f"{path} is not a file; give an embeddings file (Parquet)")
    with _opened(path) as file:
        schema = file.schema_arrow
    missing = [name for name in _REQUIRED if name not in schema.names]
    if missing:
        raise DataError(
            f"{path} is no embeddings file: no column {', '.join(map(repr, missing))} "
            f"(it has {', '.join(schema.names)}); {_AGAIN}"
        )
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    absent = [key for key in _KEYS if not metadata.get(f"udever.{key}")]
    if absent:
        raise DataError(f"{path} does not say its {', '.join(absent)}, so its model is unknown; {_AGAIN}")
    fingerprint, dimensions, role = (metadata[f"udever.{key}"] for key in _KEYS)
    stored = schema.field("embedding").type
    kinds = [pa.list_(kind, int(dimensions)) for kind in (pa.float32(), pa.float16())] if dimensions.isdecimal() else []
    if stored not in kinds:
        raise DataError(f"{path} holds embeddings of type {stored}, not float32[{dimensions}]; {_AGAIN}")
    if role not in ROLES:
        raise DataError(f"{path} has the role {role!r}; expected one of {', '.join(ROLES)}; {_AGAIN}")
    return Header(fingerprint, int(dimensions), role)  # pyright: ignore[reportArgumentType]


def _vectors(batch: pa.RecordBatch, path: Path, first: int) -> NDArray[np.float32]:
    column = batch.column("embedding")
    vectors = column.flatten().to_numpy(zero_copy_only=False)
    if column.null_count or len(vectors) != len(batch) * column.type.list_size:
        raise DataError(f"{path} has rows without an embedding from row {first} on; {_AGAIN}")
    vectors = vectors.reshape(len(batch), -1)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise DataError(f"{path} row {first + int(np.argmin(finite))}: the embedding is not finite; {_AGAIN}")
    return vectors.astype(np.float32, copy=False)


def _batches(path: Path, columns: list[str], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    first = 0
    try:
        with open_parquet(path) as file:
            for batch in file.iter_batches(rows, columns=columns):
                yield first, batch
                first += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged after row {first}: {first_line(error)}; {_AGAIN}") from error


def read_embeddings(path: Path, rows: int = 16_384) -> Iterator[NDArray[np.float32]]:
    """The embeddings of a file alone, at most `rows` at a time."""
    for first, batch in _batches(path, ["embedding"], rows):
        yield _vectors(batch, path, first)


def read_ids(path: Path) -> list[str]:
    """The ids of a file alone, in order."""
    return [name for _, batch in _batches(path, ["id"], 65_536) for name in batch.column("id").to_pylist()]


def read_texts(path: Path, rows: Iterable[int]) -> dict[int, tuple[str, str, str | None]]:
    """Id, text and source of single rows, read without the embeddings."""
    wanted = np.unique(np.fromiter(rows, dtype=np.int64))
    with _opened(path) as file:
        columns = [name for name in ("id", "text", "source") if name in file.schema_arrow.names]
    found: dict[int, tuple[str, str, str | None]] = {}
    for first, batch in _batches(path, columns, 16_384):
        here = wanted[(wanted >= first) & (wanted < first + len(batch))]
        for row, record in zip(here.tolist(), batch.take(pa.array(here - first)).to_pylist(), strict=True):
            found[row] = (record["id"], record["text"], record.get("source"))
        if len(found) == len(wanted):
            break
    return found


def read(path: Path) -> tuple[Header, EmbeddingTable]:
    """Read an embeddings file whole and check it.

    Raises DataError for a missing column, an unknown model (no fingerprint), a wrong type, nulls, or a
    vector that is not finite; the message says what to do.
    """
    header = read_header(path)
    with _opened(path) as file:
        names = [name for name in (*_REQUIRED, "source") if name in file.schema_arrow.names]
        num_rows = file.metadata.num_rows
    table = EmbeddingTable([], [], [], np.empty((num_rows, header.dimensions), dtype=np.float32))
    for first, batch in _batches(path, names, 16_384):
        nulls = [name for name in _REQUIRED if batch.column(name).null_count]
        if nulls:
            raise DataError(f"{path} has nulls in {', '.join(nulls)} from row {first} on; {_AGAIN}")
        table.embeddings[first : first + len(batch)] = _vectors(batch, path, first)
        table.ids.extend(batch.column("id").to_pylist())
        table.texts.extend(batch.column("text").to_pylist())
        sources = batch.column("source").to_pylist() if "source" in names else [None] * len(batch)
        table.sources.extend(sources)
    return header, table
