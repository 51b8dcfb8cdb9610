"""A shard: the result of one window as a Parquet file that says by its name and metadata what it is.

The name is `NUMBER-KEY-DIGEST.parquet`: the window's place in the input, its key (see `scan`), and a digest of the
file's bytes, so that names sort in input order and a file whose bytes have changed shows it by its name.

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
from udever.corpus.step import Step, digest_of
from udever.errors import DataError, first_line
from udever.records import open_parquet, to_arrow, to_numpy
from udever.storage import digest_file, move

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
