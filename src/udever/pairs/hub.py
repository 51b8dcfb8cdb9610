"""Data sets of the hub, and streams, by the `datasets` package."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from udever.errors import DataError, UdeverError, needs
from udever.files import pairs_format
from udever.pairs.columns import Blanks, choose_columns, normalise
from udever.pairs.files import BATCH_ROWS, rename
from udever.pairs.settings import DatasetSettings


def _load(**arguments: Any) -> Any:
    with needs("datasets", "train", "data of the hub and streams"):
        from datasets import load_dataset
    return load_dataset(**arguments)


def load_hub(settings: DatasetSettings, *, streaming: bool) -> Any:
    """The data set `settings` names, as `datasets` has it. Raises DataError where it cannot be had."""
    arguments = {"path": settings.hub, "name": settings.config, "split": settings.hub_split}
    try:
        return _load(**arguments, revision=settings.revision, streaming=streaming)
    except UdeverError:
        raise
    except Exception as error:  # whatever the hub's client and its readers raise: there is no common base
        raise DataError(f"{settings.hub}: {one_line(error)}; check name, config, hub_split and the network") from error


def stream_files(paths: list[Path]) -> Any:
    """Local files as a stream."""
    kinds = sorted({pairs_format(path).kind for path in paths})
    if kinds not in (["jsonl"], ["parquet"]):
        raise DataError(
            f"{paths[0]}: streamed files are of {', '.join(kinds)}; give Parquet files or JSONL files alone"
        )
    kind = "json" if kinds == ["jsonl"] else "parquet"
    try:
        return _load(path=kind, data_files=[str(path) for path in paths], split="train", streaming=True)
    except UdeverError:
        raise
    except Exception as error:  # as above
        raise DataError(f"{paths[0]} cannot be streamed: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """What an exception of another package says, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def hub_batches(
    dataset: Any, mapping: Mapping[str, str], where: str, *, keep_empty: bool = False
) -> Callable[[], Iterator[pa.RecordBatch]]:
    """A function that reads all rows of a downloaded data set as normalised batches."""

    def read() -> Iterator[pa.RecordBatch]:
        chosen = choose_columns(dataset.column_names, mapping, where)
        first = 0
        blanks = Blanks(where, skip=keep_empty)
        for table in dataset.with_format("arrow").iter(BATCH_ROWS):
            for batch in table.combine_chunks().to_batches():
                yield normalise(rename(batch, chosen), where, first, blanks)
                first += batch.num_rows
        blanks.check()

    return read
