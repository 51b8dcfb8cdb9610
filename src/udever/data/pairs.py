"""The schema of training pairs, and the only code that reads and writes files of them.

One row is one pair. `anchor` and `positive` belong together; each of `negatives` is a text that looks like
the positive and is none. Rows with the same `group` say the same thing (translations of one another), rows
with the same `label` are of one class, and neither are ever each other's negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from udever.errors import DataError
from udever.storage import atomic_file

Kind = Literal["asymmetric", "symmetric", "classification"]
Split = Literal["train", "held_out"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Pair:
    """One training pair.

    `kind`: "asymmetric" is query -> document, "symmetric" goes both ways with the query prompt on both
    sides, "classification" is a text and one that stands for its class, `label`. Languages are as mteb writes
    them (`eng-Latn`, `python-Code`), null where unknown. `scores` are a teacher's: of the positive, then of
    each negative. `source` names the file or collection the pair comes from, `licence` its SPDX name where
    known.
    """

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    anchor_language: str | None = None
    positive_language: str | None = None
    kind: Kind = "asymmetric"
    group: str | None = None
    label: str | None = None
    scores: tuple[float, ...] | None = None
    source: str | None = None
    licence: str | None = None
    split: Split = "train"


_LISTS = {"negatives": pa.list_(pa.string()), "scores": pa.list_(pa.float64())}
SCHEMA = pa.schema([(field.name, _LISTS.get(field.name, pa.string())) for field in fields(Pair)])
"""Column names and types of a pairs file on disk."""


def to_table(pairs: Sequence[Pair]) -> pa.Table:
    """`pairs` as a table of `SCHEMA`."""
    columns = [pa.array([getattr(pair, field.name) for pair in pairs], field.type) for field in SCHEMA]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def write_pairs(pairs: Sequence[Pair], path: str | Path) -> None:
    """Write `pairs` to a Parquet file (zstd), whole or not at all."""
    with atomic_file(path) as temporary:
        pq.write_table(to_table(pairs), temporary, compression="zstd")


def read_pairs(path: str | Path, split: Split | None = None) -> list[Pair]:
    """Read a Parquet or JSONL file of pairs; keep the rows of `split` alone where it is given.

    Columns and values the file lacks (null) take the defaults of `Pair`; columns `Pair` lacks are left out.
    Negatives may stand in `negatives` (a list), `negative`, or `negative_1`, `negative_2`, ... Raises DataError
    for a missing file or column, an empty side, or a kind or split that does not exist, and names the row.
    """
    from udever.data.files import read_batches
    from udever.data.rows import Rows

    rows = Rows(read_batches(path))
    pairs = [pair for pair in rows if split is None or pair.split == split]
    if not pairs:
        of_split = f" of split {split!r}" if split else ""
        raise DataError(f"{path} holds no pairs{of_split}; expected at least one row")
    return pairs
