"""From a spooled window to its shard: which of its texts to embed, each once, and what other windows and shards have.

A shard is the result of one window: a Parquet file that says by its name and metadata what it is. Its name is
`NUMBER-KEY-DIGEST.parquet`: the window's place in the input, its key (see `scan`), and a digest of the file's bytes, so
that names sort in input order and a file whose bytes have changed shows it by its name.

    id          string
    text        string
    source      string                   the row's own `source`, else the file it comes from
    ...                                  the step's columns: `embedding` (fixed-size list) and so on
    num_tokens  int32                    tokens that went through the model
    truncated   bool                     whether the text was longer than the model takes
    text_hash   fixed-size binary[16]    BLAKE2b of the text in UTF-8

Metadata: the step's identity (`udever.fingerprint`, ...), and `udever.shard`: JSON with the step's digest, the
number of rows of the window, tokens and cut texts of the shard, and the rows that could not be embedded.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from udever.corpus.inputs import BadRow
from udever.corpus.scan import HASH, HashLog, Scan, from_arrow, num_parts_of, starts_of
from udever.corpus.step import Output, Step, digest_of
from udever.errors import DataError, OutputError, first_line
from udever.records import open_parquet, to_arrow, to_numpy
from udever.storage import digest_file, move, refusals

_OFFSET_BITS = 32
_KEY = b"udever.shard"
_NAME = re.compile(r"(\d{8})-([0-9a-f]{32})-([0-9a-f]{32})\.parquet")


class ShardName(NamedTuple):
    """What a shard's name says."""

    number: int
    key: str
    digest: str

    def __str__(self) -> str:
        return f"{self.number:08d}-{self.key}-{self.digest}.parquet"

    @classmethod
    def parse(cls, name: str) -> "ShardName | None":
        """None for a name that no shard has."""
        found = _NAME.fullmatch(name)
        return cls(int(found[1]), found[2], found[3]) if found else None


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """What a shard says about itself. `num_input_rows` counts its window's rows, the failed ones included."""

    step: str
    num_input_rows: int
    num_tokens: int
    num_truncated: int
    failed: list[dict[str, Any]]

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return self.num_input_rows - len(self.failed)

    def failed_rows(self) -> list[BadRow]:
        """The rows of the window that are not in the file."""
        return [BadRow(f["place"], f["row"], f["id"], f["text"], f["reason"]) for f in self.failed]


def write_shard(path: Path, step: Step, window: pa.Table, rows: np.ndarray, failed: dict[int, str]) -> None:
    """Write the shard of a spooled window to `path`; `failed` rows are noted and left out.

    `rows` holds a record for every row of the window. To be given its place by `put_shard`.
    """
    kept = np.setdiff1d(np.arange(len(window)), list(failed))
    places = window.select(["place", "row", "id", "text"]).take(pa.array(sorted(failed), pa.int64())).to_pylist()
    notes = [
        {"offset": offset, **place, "reason": failed[offset]}
        for offset, place in zip(sorted(failed), places, strict=True)
    ]
    if failed:
        window, rows = window.take(pa.array(kept)), rows[kept]
    info = {
        "step": digest_of(step).hex(),
        "num_input_rows": len(window) + len(failed),
        "num_tokens": int(rows["num_tokens"].sum()),
        "num_truncated": int(rows["truncated"].sum()),
        "failed": notes,
    }
    columns = {name: window.column(name) for name in ("id", "text", "source")}
    names = [name for name in step.columns.names or () if name not in ("num_tokens", "truncated")]
    columns |= {name: to_arrow(rows[name]) for name in names} | step.derived(rows)
    columns |= {name: to_arrow(rows[name]) for name in ("num_tokens", "truncated")}
    columns["text_hash"] = window.column("text_hash")
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    metadata = {**step.identity, _KEY: json.dumps(info)}
    table = pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields, metadata=metadata))
    # Floats and hashes are noise to a compressor: it would only take their time.
    packing = {name: "zstd" if name in ("id", "text", "source") else "none" for name in columns}
    leaves = {f"{name}.list.element": "none" for name in names}
    with path.open("wb") as file:  # pyarrow takes a path with a colon for a URI
        pq.write_table(
            table,
            file,
            compression=packing | leaves,  # pyright: ignore[reportArgumentType]
            use_dictionary=["source"],  # pyright: ignore[reportArgumentType]
            write_statistics=["id"],  # pyright: ignore[reportArgumentType]
        )


def put_shard(path: Path, folder: Path, number: int, key: str) -> None:
    """Move a shard that is written to its place under the name that its bytes give it; whole or not at all."""
    move(path, folder / str(ShardName(number, key, digest_file(path))))


def shard_of(folder: Path, number: int, key: str) -> Path | None:
    """The shard of a window where it is there already."""
    return next(folder.glob(f"{number:08d}-{key}-*.parquet"), None)


def read_schema(path: Path) -> pa.Schema:
    """The schema of a shard."""
    with path.open("rb") as file:
        return pq.read_schema(file)


def read_info(path: Path) -> ShardInfo:
    """What a shard says about itself. Raises DataError for a file that is none or is damaged."""
    with _damaged(path):
        return ShardInfo(**json.loads((read_schema(path).metadata or {})[_KEY]))


def read_identity(path: Path) -> dict[str, str]:
    """The identity of the step that made a shard. Raises DataError for a file that is damaged."""
    with _damaged(path):
        metadata = read_schema(path).metadata or {}
        return {k.decode(): v.decode() for k, v in metadata.items() if k.startswith(b"udever.") and k != _KEY}


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} is no shard, or damaged ({first_line(error)}); remove it and run the job again"
        ) from error


def read_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Columns of a shard. Raises DataError where it is damaged."""
    with _damaged(path), open_parquet(path) as file:
        return file.read(columns=list(names), use_threads=False)


def read_records(path: Path, columns: np.dtype, offsets: NDArray[np.integer]) -> np.ndarray:
    """The records of some rows of a shard."""
    names = list(columns.names or ())
    table = read_columns(path, names)
    rows = np.empty(len(offsets), columns)
    for name in names:
        rows[name] = to_numpy(table.column(name))[offsets]
    return rows


def read_spool(path: Path) -> pa.Table:
    """A spooled window."""
    with path.open("rb") as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()


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
