"""Pairs in Arrow record batches, in memory or, where they are large, memory-mapped from the cache folder."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udever.errors import OutputError
from udever.pairs.columns import ROWS_SCHEMA
from udever.pairs.schema import Pair
from udever.storage import atomic_file, cache_folder


class Rows:
    """The rows of `batches`, which are normalised (see `columns.normalise`) and stay where they are."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self.batches = [batch for batch in batches if batch.num_rows]
        self._ends = np.cumsum([batch.num_rows for batch in self.batches], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.batches else 0

    def __iter__(self) -> Iterator[Pair]:
        for batch in self.batches:
            yield from _pairs(batch)

    def take(self, indices: NDArray[np.int64]) -> list[Pair]:
        """The rows at `indices`, in that order.

        Batch by batch: `take` on a chunked column would first copy the column into one piece.
        """
        out: list[Any] = [None] * len(indices)
        owners = np.searchsorted(self._ends, indices, side="right")
        for owner in np.unique(owners).tolist():
            places = np.flatnonzero(owners == owner)
            batch = self.batches[owner]
            first = int(self._ends[owner]) - batch.num_rows
            chosen = _pairs(batch, pa.array(indices[places] - first))
            for place, pair in zip(places.tolist(), chosen, strict=True):
                out[place] = pair
        return out

    def column(self, name: str) -> Iterator[pa.Array]:
        """One column, batch by batch."""
        return (batch.column(name) for batch in self.batches)


def _pairs(batch: pa.RecordBatch, rows: pa.Array | None = None) -> Iterator[Pair]:
    """The pairs of a batch, or of some of its rows."""
    count = batch.num_rows if rows is None else len(rows)
    columns: list[list[Any]] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count == len(column):  # most columns of most files: a fifth of the time
            columns.append([() if name == "negatives" else None] * count)
            continue
        values = (column if rows is None else column.take(rows)).to_pylist()
        if name == "negatives":
            values = [tuple(texts or ()) for texts in values]
        elif name == "scores":
            values = [None if numbers is None else tuple(numbers) for numbers in values]
        columns.append(values)
    return (Pair(*values) for values in zip(*columns, strict=True))


IN_MEMORY_BYTES = 64_000_000
"""Data up to this size is held in memory; what is larger is written once to the cache folder and mapped."""

_FORMAT = "1"


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the content of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def digest_batches(batches: Iterable[pa.RecordBatch]) -> str:
    """SHA-256 over rows in memory."""
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.serialize())
    return digest.hexdigest()


def hold(read: Callable[[], Iterator[pa.RecordBatch]], key: str, size_bytes: int) -> Rows:
    """The rows that `read` gives; from the cache where `key` (which names their content) is there already."""
    if size_bytes <= IN_MEMORY_BYTES:
        return Rows(read())
    path = cache_folder() / f"{hashlib.sha256(f'{_FORMAT} {key}'.encode()).hexdigest()}.arrow"
    if path.is_file():
        with suppress(pa.ArrowException, OSError):  # a cache that is broken or of another version is written anew
            return _mapped(path)
    _write(path, read())
    return _mapped(path)


def _write(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    try:
        with atomic_file(path) as temporary, pa.ipc.new_file(str(temporary), ROWS_SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)
    except OutputError as error:
        raise OutputError(f"{error} (set UDEVER_CACHE to a folder with room for the data)") from error


def _mapped(path: Path) -> Rows:
    file = pa.ipc.open_file(pa.memory_map(str(path)))
    if file.schema != ROWS_SCHEMA:
        raise pa.ArrowInvalid(f"{path} has other columns")
    return Rows(file.get_batch(number) for number in range(file.num_record_batches))
