"""The first pass: every row read, checked and hashed, so that a job knows what is missing before it works.

Rows are cut into windows. A window has a key: a hash of its texts, ids and sources and of the step. The shard
of that key is the window's result, whatever run made it. Windows without one are spooled to the work folder.
Hashes of texts and ids are kept in files and grouped a part at a time, so that memory stays flat by the million.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from udever.corpus.inputs import BadRow, InputRow
from udever.errors import DataError
from udever.records import open_parquet
from udever.storage import atomic_file, refusals

SIZE_BYTES = 16
HASH = np.dtype(f"S{SIZE_BYTES}")
"""16 bytes that numpy can sort. (Its `bytes` items lose zeros at their end; arrays compare rightly.)"""

_ENTRY = np.dtype([("hash", HASH), ("tag", "<u8")])
_AT_ONCE = 1 << 20


def hash_bytes(data: bytes) -> bytes:
    """16 bytes for `data`: equal for equal data, and for no other that anybody will ever meet."""
    return hashlib.blake2b(data, digest_size=SIZE_BYTES).digest()


def from_arrow(column: Any) -> NDArray[np.bytes_]:
    """A column of binary[16] without nulls as an array of hashes."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    data = column.buffers()[1]
    return np.frombuffer(data, HASH, count=len(column), offset=column.offset * SIZE_BYTES)


class HashLog:
    """A new file of (hash, tag) in the order they came. `tag` is any whole number below 2**64."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.num_entries = 0

    def add(self, hashes: NDArray[np.bytes_], tags: NDArray[np.integer] | int) -> None:
        """Append hashes with a tag each, or one for all. Raises OutputError where the disk is full."""
        entries = np.empty(len(hashes), _ENTRY)
        entries["hash"], entries["tag"] = hashes, tags
        with refusals(self._path), self._path.open("ab") as file:
            file.write(entries.tobytes())
        self.num_entries += len(hashes)

    def part(self, number: int, num_parts: int) -> NDArray[np.void]:
        """The entries whose hashes lie in slice `number` of `num_parts` equal slices, sorted by hash, then tag."""
        if not self.num_entries:
            return np.empty(0, _ENTRY)
        entries = np.memmap(self._path, _ENTRY, mode="r")
        low, high = (number << 16) // num_parts, ((number + 1) << 16) // num_parts
        kept = []
        for start in range(0, len(entries), _AT_ONCE):
            block = np.asarray(entries[start : start + _AT_ONCE])
            first = block["hash"].copy().view(">u2").reshape(-1, SIZE_BYTES // 2)[:, 0]
            kept.append(block[(first >= low) & (first < high)] if num_parts > 1 else block)
        chosen = np.concatenate(kept)
        return chosen[np.lexsort((chosen["tag"], chosen["hash"]))]


def num_parts_of(*logs: HashLog) -> int:
    """In how many parts to take logs so that a part of each fits in a few tens of megabytes."""
    return 1 + sum(log.num_entries for log in logs) // _AT_ONCE


def repeated(log: HashLog) -> Iterator[NDArray[np.void]]:
    """The first entry of every hash that occurs more than once, part by part, in ascending order."""
    num_parts = num_parts_of(log)
    for number in range(num_parts):
        entries = log.part(number, num_parts)
        _, starts = starts_of(entries["hash"])
        yield entries[starts[:-1][np.diff(starts) > 1]]


def starts_of(ordered: NDArray[np.bytes_]) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """The distinct values of a sorted array and where each begins, the array's length at the end."""
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    starts = np.append(np.flatnonzero(new), len(ordered))
    return ordered[new], starts


WINDOW_BYTES = 8 << 20
"""A window ends at this much text, however few its rows: enough to sort by length, little enough to hold."""

FAILED_SCHEMA = pa.schema(
    [("place", pa.string()), ("row", pa.int64()), ("id", pa.string()), ("text", pa.string()), ("reason", pa.string())]
)

SPOOL_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("text_hash", pa.binary(SIZE_BYTES)),
        ("place", pa.string()),
        ("row", pa.int64()),
    ]
)

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Window:
    """Some neighbouring rows. `spool` holds them where their shard is missing."""

    key: str
    num_rows: int
    spool: Path | None


@dataclass(frozen=True)
class Scan:
    """What the first pass found. `wanted` has the text hashes of missing windows, tagged with their numbers.

    `duplicate_ids` counts ids that several rows have; the examples are hashes of some, each with the number of
    the window that has it first.
    """

    windows: list[Window]
    wanted: HashLog
    num_rows: int
    num_failed: int
    duplicate_ids: int
    duplicate_examples: list[tuple[bytes, int]]

    @property
    def missing(self) -> list[int]:
        """Numbers of the windows without a shard."""
        return [number for number, window in enumerate(self.windows) if window.spool is not None]


@dataclass
class Block:
    """Rows, growing until they are a window."""

    rows: list[InputRow] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, row: InputRow, text_hash: bytes, size_bytes: int) -> None:
        """One more row."""
        self.rows.append(row)
        self.hashes.append(text_hash)
        self.size_bytes += size_bytes

    def key(self, step_digest: bytes) -> str:
        """The window's key: 32 hexadecimal digits."""
        digest = hashlib.blake2b(step_digest, digest_size=SIZE_BYTES)
        digest.update(b"".join(self.hashes))
        digest.update(json.dumps([[row.id for row in self.rows], [row.source for row in self.rows]]).encode())
        return digest.hexdigest()

    def table(self) -> pa.Table:
        """The rows as they are spooled."""
        places, numbers, ids, texts, sources = zip(*self.rows, strict=True)
        columns = [ids, texts, sources, self.hashes, places, numbers]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, SPOOL_SCHEMA.types, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SPOOL_SCHEMA)


def hashed(
    rows: Iterable[InputRow | BadRow], refuse: Callable[[BadRow], None]
) -> Iterator[tuple[InputRow, bytes, int]]:
    """Good rows, each with the hash and the size of its text in UTF-8; bad ones go to `refuse`."""
    for row in rows:
        if isinstance(row, BadRow):
            refuse(row)
            continue
        try:
            data = row.text.encode()
            row.id.encode()
            row.source.encode()
        except UnicodeEncodeError:
            name, text = (value.encode(errors="backslashreplace").decode() for value in (row.id, row.text))
            refuse(BadRow(row.place, row.number, name, text, "text, id or source is not UTF-8"))
            continue
        yield row, hash_bytes(data), len(data)


def _windows_of(rows: Iterable[tuple[InputRow, bytes, int]], num_rows: int) -> Iterator[Block]:
    """Rows cut into windows of `num_rows`, fewer where they reach `WINDOW_BYTES`."""
    block = Block()
    for row, text_hash, size_bytes in rows:
        block.add(row, text_hash, size_bytes)
        if len(block.rows) >= num_rows or block.size_bytes >= WINDOW_BYTES:
            yield block
            block = Block()
    if block.rows:
        yield block


class FailedFile:
    """Writes rows that cannot be embedded to a Parquet file, a thousand at a time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")  # pyarrow takes a path with a colon for a URI
        self._writer = pq.ParquetWriter(self._file, FAILED_SCHEMA, compression="zstd")
        self._waiting: list[BadRow] = []
        self.num_rows = 0
        self.first: BadRow | None = None

    def add(self, row: BadRow) -> None:
        """Append one row."""
        self.first = self.first or row
        self.num_rows += 1
        self._waiting.append(row)
        if len(self._waiting) >= 1000:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._waiting, strict=True)
        self._writer.write_table(
            pa.table([pa.array(c, f.type) for c, f in zip(columns, FAILED_SCHEMA, strict=True)], schema=FAILED_SCHEMA)
        )
        self._waiting = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()
        self._file.close()


def read_failed(path: Path) -> Iterator[BadRow]:
    """The rows of a file of failed rows."""
    with open_parquet(path) as file:
        for batch in file.iter_batches(1000):
            for record in batch.to_pylist():
                yield BadRow(*(record[name] for name in FAILED_SCHEMA.names))


def scan(
    rows: Iterable[InputRow | BadRow], *, step_digest: bytes, done: Collection[str], window_rows: int, work: Path
) -> Scan:
    """Read all `rows` once; spool the windows whose keys are not in `done` to the folder `work`.

    Raises DataError where no row can be embedded.
    """
    windows: list[Window] = []
    ids, wanted = HashLog(work / "ids"), HashLog(work / "wanted")
    num_good = 0
    with FailedFile(work / "failed.parquet") as failed:
        for number, block in enumerate(_windows_of(hashed(rows, failed.add), window_rows)):
            key = block.key(step_digest)
            spool = None if key in done else work / f"{number:08d}.arrow"
            if spool is not None:
                with atomic_file(spool) as path, path.open("wb") as out:
                    options = pa.ipc.IpcWriteOptions(compression="zstd")
                    with pa.ipc.new_file(out, SPOOL_SCHEMA, options=options) as writer:
                        writer.write_table(block.table())
                wanted.add(np.array(block.hashes, HASH), number)
            names = [hash_bytes(row.id.encode()) for row in block.rows]
            ids.add(np.array(names, HASH), np.arange(num_good, num_good + len(names)))
            num_good += len(names)
            windows.append(Window(key, len(names), spool))
    if not num_good:
        first = failed.first
        told = f"; the first one, {first.place} row {first.number}: {first.reason}" if first else ""
        raise DataError(f"none of {failed.num_rows} rows can be embedded; expected at least one text{told}")
    num_duplicates, examples = _duplicates(ids, windows)
    return Scan(
        windows=windows,
        wanted=wanted,
        num_rows=num_good + failed.num_rows,
        num_failed=failed.num_rows,
        duplicate_ids=num_duplicates,
        duplicate_examples=examples,
    )


def _duplicates(ids: HashLog, windows: list[Window]) -> tuple[int, list[tuple[bytes, int]]]:
    ends = np.cumsum([window.num_rows for window in windows])
    count = 0
    examples: list[tuple[bytes, int]] = []
    for entries in repeated(ids):
        count += len(entries)
        for entry in entries[: _EXAMPLES - len(examples)]:
            examples.append((entry["hash"].ljust(SIZE_BYTES, b"\0"), int(np.searchsorted(ends, entry["tag"], "right"))))
    return count, examples
