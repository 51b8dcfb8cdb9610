"""From a spooled window to its shard: which texts to embed, and what comes from other windows or older shards.

Each distinct text is embedded once.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udever.corpus.scan import HASH, HashLog, Scan, from_arrow, num_parts_of, starts_of
from udever.corpus.shards import put_shard, read_columns, read_records, read_spool, write_shard
from udever.corpus.step import Output, Step
from udever.errors import OutputError
from udever.storage import refusals

_OFFSET_BITS = 32


class Reuse:
    """Records by text hash, in a file of the work folder; only for texts that more than one place asks for.

    One thread plans (`plan`), another one keeps and fetches records (`keep`, `fetch`), both window by window
    in order: what a window borrows an earlier one has kept.
    """

    def __init__(self, hashes: NDArray[np.bytes_], columns: np.dtype, path: Path) -> None:
        self._hashes = hashes
        self._promised = np.zeros(len(hashes), dtype=bool)
        self._rows = _reserved(path, columns, len(hashes))
        self._failed: dict[int, str] = {}

    def places(self, hashes: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """Where each text is kept; -1 for one that nobody else asks for."""
        if not len(self._hashes):
            return np.full(len(hashes), -1)
        found = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.where(self._hashes[found] == hashes, found, -1)

    def plan(self, hashes: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """Which of a window's distinct texts are to be embedded with it; the others are there when it ends."""
        places = self.places(hashes)
        shared = places >= 0
        new = ~shared
        new[shared] = ~self._promised[places[shared]]
        self._promised[places[shared]] = True
        return new

    def keep(self, hashes: NDArray[np.bytes_], rows: np.ndarray, failed: dict[int, str]) -> None:
        """Keep those records that are shared."""
        places = self.places(hashes)
        shared = np.flatnonzero(places >= 0)
        if len(shared):
            self._rows[places[shared]] = rows[shared]
            self._failed |= {int(places[i]): failed[i] for i in shared.tolist() if i in failed}

    def fetch(self, hashes: NDArray[np.bytes_]) -> tuple[np.ndarray, dict[int, str]]:
        """The records of texts that earlier windows or shards had, and why some have none."""
        places = self.places(hashes)
        assert (places >= 0).all(), "a text that nobody promised was borrowed"
        reasons = {i: self._failed[p] for i, p in enumerate(places.tolist()) if p in self._failed}
        return self._rows[places], reasons

    def take_over(
        self, shard: Path, columns: np.dtype, offsets: NDArray[np.integer], places: NDArray[np.int64]
    ) -> None:
        """Keep records of an older shard."""
        self._rows[places] = read_records(shard, columns, offsets)
        self._promised[places] = True


def _reserved(path: Path, columns: np.dtype, num_rows: int) -> np.ndarray:
    """An array in a file whose room is taken beforehand: a full disk is an error now, not a crash later."""
    if not num_rows:
        return np.empty(0, columns)
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # Linux; elsewhere the room is only named
                os.posix_fallocate(file.fileno(), 0, num_rows * columns.itemsize)
            else:
                file.truncate(num_rows * columns.itemsize)
    except OSError as error:
        needed = num_rows * columns.itemsize >> 20
        raise OutputError(
            f"cannot reserve {needed:,} MB in {path.parent}: {error.strerror}; free some space"
        ) from error
    return np.memmap(path, columns, mode="r+", shape=(num_rows,))


def find_reuse(scan: Scan, shards: list[Path], columns: np.dtype, work: Path) -> Reuse:
    """All that windows of `scan` can share with one another and with `shards`, the latter's records read in."""
    held = HashLog(work / "held")
    if scan.missing:
        for number, shard in enumerate(shards):
            hashes = from_arrow(read_columns(shard, ["text_hash"]).column(0))
            held.add(hashes, (number << _OFFSET_BITS) + np.arange(len(hashes)))
    num_parts = num_parts_of(scan.wanted, held)
    kept: list[NDArray[np.bytes_]] = [np.empty(0, HASH)]
    origins: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    places: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    num_kept = 0
    for number in range(num_parts):
        shared, origin = _shared(scan.wanted.part(number, num_parts), held.part(number, num_parts))
        known = np.flatnonzero(origin != _NOWHERE)
        kept.append(shared)
        origins.append(origin[known])
        places.append(known + num_kept)
        num_kept += len(shared)
    reuse = Reuse(np.concatenate(kept), columns, work / "shared")
    origin, place = np.concatenate(origins), np.concatenate(places)
    order = np.argsort(origin)
    origin, place = origin[order], place[order]
    shard_numbers = origin >> np.uint64(_OFFSET_BITS)
    for number in np.unique(shard_numbers).tolist():
        here = slice(*np.searchsorted(shard_numbers, [number, number + 1]))
        offsets = (origin[here] & np.uint64((1 << _OFFSET_BITS) - 1)).astype(np.int64)
        reuse.take_over(shards[number], columns, offsets, place[here])
    return reuse


_NOWHERE = np.uint64(2**64 - 1)


def _shared(wanted: NDArray[np.void], held: NDArray[np.void]) -> tuple[NDArray[np.bytes_], NDArray[np.uint64]]:
    """Hashes wanted by several windows or held by a shard; where the shard has them, or `_NOWHERE`."""
    hashes, starts = starts_of(wanted["hash"])
    if not len(hashes):
        return hashes, np.empty(0, np.uint64)
    origin = np.full(len(hashes), _NOWHERE)
    held_hashes, held_starts = starts_of(held["hash"])
    if len(held_hashes):
        found = np.minimum(np.searchsorted(held_hashes, hashes), len(held_hashes) - 1)
        same = held_hashes[found] == hashes
        origin[same] = held["tag"][held_starts[found[same]]]
    several = wanted["tag"][starts[:-1]] != wanted["tag"][starts[1:] - 1]  # sorted by tag within a hash
    chosen = several | (origin != _NOWHERE)
    return hashes[chosen], origin[chosen]


@dataclass(frozen=True, slots=True)
class WindowJob:
    """A window to do: `num_texts` of its rows have texts that are to be embedded with it.

    Its shard goes to `folder`, named by the window's `number` in the input and its `key`.
    `alone`: it shares no text with other windows or shards, so that its shard can be written anywhere. The offsets of
    those rows lie in a file beside the spool, so that a million of windows wait in little memory.
    """

    spool: Path
    folder: Path
    number: int
    key: str
    num_rows: int
    num_texts: int
    alone: bool

    @property
    def offsets_file(self) -> Path:
        """Where the offsets lie."""
        return self.spool.with_suffix(".offsets.npy")


@dataclass(frozen=True, slots=True)
class _Distinct:
    """A window's distinct texts: their hashes, the first row of each, and for every row which one it is."""

    hashes: NDArray[np.bytes_]
    first: NDArray[np.int64]
    which: NDArray[np.int64]


def _distinct(window: pa.Table) -> _Distinct:
    encoded = window.column("text_hash").combine_chunks().dictionary_encode()
    which = encoded.indices.to_numpy().astype(np.int64)
    first = np.empty(len(encoded.dictionary), np.int64)
    first[which[::-1]] = np.arange(len(which))[::-1]  # the last assignment stays: the first row
    return _Distinct(from_arrow(encoded.dictionary), first, which)


def plan(spool: Path, folder: Path, number: int, key: str, reuse: Reuse) -> WindowJob:
    """What is to be done for a window; to be called for the windows in order."""
    distinct = _distinct(read_spool(spool))
    new = reuse.plan(distinct.hashes)
    alone = not (reuse.places(distinct.hashes) >= 0).any()
    job = WindowJob(spool, folder, number, key, len(distinct.which), int(new.sum()), alone)
    np.save(job.offsets_file, distinct.first[new].astype(np.int32))
    return job


def texts_of(job: WindowJob) -> list[str]:
    """The texts to embed."""
    return read_spool(job.spool).column("text").take(pa.array(np.load(job.offsets_file))).to_pylist()


def nothing(step: Step) -> Output:
    """The output for no texts."""
    return Output(np.empty(0, step.columns))


def finish(job: WindowJob, output: Output, step: Step, reuse: Reuse | None) -> None:
    """Write a window's shard from what was embedded with it and what `reuse` has; remove its files.

    In order of the windows, unless the job is `alone`, which needs no `reuse`.
    """
    window = read_spool(job.spool)
    distinct = _distinct(window)
    rows = np.empty(len(distinct.hashes), step.columns)
    new = distinct.which[np.load(job.offsets_file)]
    rows[new] = output.rows
    failed = {int(new[i]): reason for i, reason in output.failed.items()}
    if reuse is not None:
        reuse.keep(distinct.hashes[new], output.rows, output.failed)
        borrowed = np.setdiff1d(np.arange(len(rows)), new)
        rows[borrowed], reasons = reuse.fetch(distinct.hashes[borrowed])
        failed |= {int(borrowed[i]): reason for i, reason in reasons.items()}
    by_row = {row: failed[text] for row, text in enumerate(distinct.which.tolist()) if text in failed} if failed else {}
    made = job.spool.with_suffix(".parquet")
    with refusals(job.folder):
        write_shard(made, step, window, rows[distinct.which], by_row)
    put_shard(made, job.folder, job.number, job.key)
    job.spool.unlink()
    job.offsets_file.unlink()
