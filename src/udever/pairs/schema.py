"""The schema of training pairs.

One row is one pair. `anchor` and `positive` belong together; each of `negatives` is a text that looks like
the positive and is none. Rows with the same `group` say the same thing (translations of one another),
`classification` rows with the same `label` are of one class, and neither are ever each other's negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import pyarrow as pa

Kind = Literal["asymmetric", "symmetric", "classification"]
Split = Literal["train", "development", "held_out"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
Role = Literal["query", "document", "symmetric"]  # RoleName of the contract, whose module loads torch


@dataclass(frozen=True, slots=True)
class Pair:
    """One training pair.

    `kind`: "asymmetric" is query -> document, "symmetric" goes both ways with one prompt on both sides,
    "classification" is a text and one that stands for its class, `label`, and goes both ways too.
    Languages are as mteb writes them (`eng-Latn`, `python-Code`), null where unknown. `scores` are a teacher's: of
    the positive, then of each negative. `source` names the file or collection the pair comes from, `licence` its
    SPDX name where known.
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


def to_table(pairs: Sequence[Any], schema: pa.Schema = SCHEMA) -> pa.Table:
    """`pairs`, or objects with the attributes of another `schema`, as a table."""
    columns = [pa.array([getattr(pair, field.name) for pair in pairs], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)
