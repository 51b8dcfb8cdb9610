"""From a spooled window to its shard: which texts to embed, and what comes from elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udever.corpus.hashes import from_arrow
from udever.corpus.reuse import Reuse
from udever.corpus.shards import put_shard, read_spool, write_shard
from udever.corpus.step import Output, Step, Tick
from udever.storage import refusals


class Place(NamedTuple):
    """Where a window's shard goes: the folder of shards, the window's number in the input, and its key."""

    folder: Path
    number: int
    key: str


@dataclass(frozen=True, slots=True)
class Job:
    """A window to do: `texts` are the offsets of the rows whose texts are to be embedded with it.

    `alone`: it shares no text with other windows or shards, so that its shard can be written anywhere.
    """

    spool: Path
    place: Place
    num_rows: int
    texts: NDArray[np.int32]
    alone: bool


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


def plan(spool: Path, place: Place, reuse: Reuse) -> Job:
    """What is to be done for a window; to be called for the windows in order."""
    distinct = _distinct(read_spool(spool))
    new = reuse.plan(distinct.hashes)
    alone = not (reuse.places(distinct.hashes) >= 0).any()
    return Job(spool, place, len(distinct.which), distinct.first[new].astype(np.int32), alone)


def texts_of(job: Job) -> list[str]:
    """The texts to embed."""
    return read_spool(job.spool).column("text").take(pa.array(job.texts)).to_pylist()


def do(job: Job, step: Step, tick: Tick) -> Output:
    """Embed the texts of a window, without any overlap."""
    return step.run(step.prepare(texts_of(job)), tick) if len(job.texts) else nothing(step)


def nothing(step: Step) -> Output:
    """The output for no texts."""
    return Output(np.empty(0, step.columns))


def finish(job: Job, output: Output, step: Step, reuse: Reuse | None) -> None:
    """Write a window's shard from what was embedded with it and what `reuse` has; remove its spool.

    In order of the windows, unless the job is `alone`, which needs no `reuse`.
    """
    window = read_spool(job.spool)
    distinct = _distinct(window)
    rows = np.empty(len(distinct.hashes), step.columns)
    new = distinct.which[job.texts]
    rows[new] = output.rows
    failed = {int(new[i]): reason for i, reason in output.failed.items()}
    if reuse is not None:
        reuse.keep(distinct.hashes[new], output.rows, output.failed)
        borrowed = np.setdiff1d(np.arange(len(rows)), new)
        rows[borrowed], reasons = reuse.fetch(distinct.hashes[borrowed])
        failed |= {int(borrowed[i]): reason for i, reason in reasons.items()}
    by_row = {row: failed[text] for row, text in enumerate(distinct.which.tolist()) if text in failed} if failed else {}
    made = job.spool.with_suffix(".parquet")
    with refusals(job.place.folder):
        write_shard(made, step, window, rows[distinct.which], by_row)
    put_shard(made, *job.place)
    job.spool.unlink()
