"""Pairs in Arrow record batches, in memory or memory-mapped; a row becomes a Python object when it is asked for."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udever.data.pairs import Pair


class Rows:
    """The rows of `batches`, which are normalised (see `columns.normalise`) and stay where they are."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self.batches = [batch for batch in batches if batch.num_rows]
        self._ends = np.cumsum([batch.num_rows for batch in self.batches], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.batches else 0

    def __iter__(self) -> Iterator[Pair]:
        for batch in self.batches:
            yield from _pairs(batch)

    def take(self, indices: NDArray[np.int64]) -> list[Pair]:
        """The rows at `indices`, in that order.

        Batch by batch: `take` on a chunked column would first copy the column into one piece.
        """
        out: list[Any] = [None] * len(indices)
        owners = np.searchsorted(self._ends, indices, side="right")
        for owner in np.unique(owners).tolist():
            places = np.flatnonzero(owners == owner)
            batch = self.batches[owner]
            first = int(self._ends[owner]) - batch.num_rows
            chosen = _pairs(batch, pa.array(indices[places] - first))
            for place, pair in zip(places.tolist(), chosen, strict=True):
                out[place] = pair
        return out

    def column(self, name: str) -> Iterator[pa.Array]:
        """One column, batch by batch."""
        return (batch.column(name) for batch in self.batches)


def _pairs(batch: pa.RecordBatch, rows: pa.Array | None = None) -> Iterator[Pair]:
    """The pairs of a batch, or of some of its rows."""
    count = batch.num_rows if rows is None else len(rows)
    columns: list[list[Any]] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count == len(column):  # most columns of most files: a fifth of the time
            columns.append([() if name == "negatives" else None] * count)
            continue
        values = (column if rows is None else column.take(rows)).to_pylist()
        if name == "negatives":
            values = [tuple(texts or ()) for texts in values]
        elif name == "scores":
            values = [None if numbers is None else tuple(numbers) for numbers in values]
        columns.append(values)
    return (Pair(*values) for values in zip(*columns, strict=True))
