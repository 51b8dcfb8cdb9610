"""The schema of training pairs, and the only code that reads and writes them.

One row is one pair. `anchor` and `positive` belong together; `negative` (may be null) is a text that
looks like the positive and is none. Rows with the same `group` say the same thing (translations of one
another) and are never each other's negatives.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from udever.errors import DataError
from udever.storage import atomic_file

Kind = Literal["symmetric", "asymmetric"]
Split = Literal["train", "held_out"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One training pair.

    `kind`: "asymmetric" is query -> document, "symmetric" goes both ways with the query prompt on both
    sides. Languages are as mteb writes them (`eng-Latn`, `python-Code`), null where unknown. `source`
    names the file or collection the pair comes from, `licence` its SPDX name where known.
    """

    anchor: str
    positive: str
    negative: str | None = None
    anchor_language: str | None = None
    positive_language: str | None = None
    kind: Kind = "asymmetric"
    group: str | None = None
    source: str | None = None
    licence: str | None = None
    split: Split = "train"


SCHEMA = pa.schema([(field.name, pa.string()) for field in fields(Pair)])
"""Column names and types of a pairs file on disk."""

_REQUIRED = ("anchor", "positive")
_ALLOWED = {"kind": ("symmetric", "asymmetric"), "split": ("train", "held_out")}


def write_pairs(pairs: Sequence[Pair], path: str | Path) -> None:
    """Write `pairs` to a Parquet file (zstd), whole or not at all."""
    table = pa.Table.from_pylist([asdict(pair) for pair in pairs], schema=SCHEMA)
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: str | Path, required: Sequence[str]) -> pa.Table:
    """Read a Parquet or JSONL file whole; raise DataError unless it has every column in `required`."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a Parquet or JSONL file")
    try:
        if path.suffix == ".jsonl":
            import pyarrow.json as pj

            table = pj.read_json(path)
        else:
            table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as {path.suffix[1:] or 'Parquet'}: {reason}") from error
    missing = [name for name in required if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(map(repr, missing))} (it has {', '.join(table.column_names)}); "
            f"expected {', '.join(required)}"
        )
    return table


def read_pairs(path: str | Path, split: Split | None = None) -> list[Pair]:
    """Read a Parquet or JSONL file of pairs; keep the rows of `split` alone where it is given.

    Columns and values the file lacks (null) take the defaults of `Pair`; columns `Pair` lacks are left out. Raises
    DataError for a missing file or column, an empty side, or a kind or split that does not exist, and
    names the row.
    """
    table = read_table(path, _REQUIRED)
    names = [field.name for field in fields(Pair) if field.name in table.column_names]
    pairs: list[Pair] = []
    for row, record in enumerate(table.select(names).to_pylist()):
        for name in _REQUIRED:
            if not isinstance(record[name], str) or not record[name].strip():
                raise DataError(f"{path} row {row}: {name!r} is empty; expected a text")
        record = {name: value for name, value in record.items() if value is not None}
        for name, value in record.items():
            if not isinstance(value, str):
                raise DataError(f"{path} row {row}: {name!r} is {type(value).__name__}; expected a text")
        for name, allowed in _ALLOWED.items():
            if name in record and record[name] not in allowed:
                raise DataError(f"{path} row {row}: {name} is {record[name]!r}; expected {' or '.join(allowed)}")
        if split is None or record.get("split", "train") == split:
            pairs.append(Pair(**record))
    if not pairs:
        of_split = f" of split {split!r}" if split else ""
        raise DataError(f"{path} holds no pairs{of_split}; expected at least one row")
    return pairs
