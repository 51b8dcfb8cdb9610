"""Rows of large files as uncompressed Arrow on disk, memory-mapped, so that memory does not grow with the data."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from udever.data.columns import ROWS_SCHEMA
from udever.data.rows import Rows
from udever.errors import OutputError
from udever.storage import atomic_file, cache_folder

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
