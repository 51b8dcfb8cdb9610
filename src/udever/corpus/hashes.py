"""Hashes of texts and ids by the million: kept in a file, grouped a part at a time, so that memory stays flat."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
        """Append hashes with a tag each, or one for all."""
        entries = np.empty(len(hashes), _ENTRY)
        entries["hash"], entries["tag"] = hashes, tags
        with self._path.open("ab") as file:
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
