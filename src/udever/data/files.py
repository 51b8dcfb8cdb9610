"""Reading Parquet and JSON lines in batches of rows, in memory that does not grow with the file."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from udever.data.columns import choose_columns, column_type, normalise
from udever.errors import DataError

BATCH_ROWS = 8192
_BATCH_CHARACTERS = 64_000_000

Choose = Callable[[list[str]], dict[str, str]]
"""From the columns a file has to the column of the file for each column of pairs; see `columns.choose_columns`."""
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


def read_batches(
    path: str | Path, mapping: Mapping[str, str] | None = None, *, others: bool = True
) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet or JSON lines file as normalised batches (`columns.normalise`).

    `mapping` names the file's column for a column of pairs; `others=False` reads no column besides. Raises DataError
    in one line for a file that is none or is broken, a missing column, and a bad row, which it names.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a Parquet or JSONL file")
    read = _json_batches if path.suffix in JSON_SUFFIXES else _parquet_batches
    first = 0

    def choose(available: list[str]) -> dict[str, str]:
        return choose_columns(available, mapping or {}, str(path), others=others)

    for batch in read(path, choose):
        yield normalise(batch, str(path), first)
        first += batch.num_rows


def size_in_memory(path: Path) -> int:
    """About how many bytes the rows of a file take once read; 0 where that cannot be told."""
    try:
        if path.suffix in JSON_SUFFIXES:
            return path.stat().st_size
        metadata = pq.read_metadata(path)
        return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    except (pa.ArrowException, OSError):
        return 0  # read_batches says what is wrong


def _broken(path: Path, reason: str) -> DataError:
    kind = "JSON lines" if path.suffix in JSON_SUFFIXES else "Parquet"
    return DataError(f"{path} cannot be read as {kind}: {reason}")


def _parquet_batches(path: Path, choose: Choose) -> Iterator[pa.RecordBatch]:
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            chosen = choose(file.schema_arrow.names)
            for batch in file.iter_batches(BATCH_ROWS, columns=sorted(set(chosen.values()))):
                yield rename(batch, chosen)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        after = f"after row {row - 1}: " if row else ""
        raise _broken(path, f"{after}{(str(error).splitlines() or ['unknown'])[0]}") from error


def rename(batch: pa.RecordBatch, chosen: Mapping[str, str]) -> pa.RecordBatch:
    """`batch` with the columns `chosen` (pairs' name -> name there) under the pairs' names."""
    return pa.RecordBatch.from_arrays([batch.column(name) for name in chosen.values()], names=list(chosen))


def _json_batches(path: Path, choose: Choose) -> Iterator[pa.RecordBatch]:
    records: list[dict[str, Any]] = []
    first = size = 0
    for record, length in _json_records(path):
        records.append(record)
        size += length
        if len(records) == BATCH_ROWS or size > _BATCH_CHARACTERS:
            yield from_records(records, choose, str(path), first)
            first += len(records)
            records, size = [], 0
    if records:
        yield from_records(records, choose, str(path), first)


def _json_records(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each object and the length of its line."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise _broken(path, f"line {number} is {type(record).__name__}; expected an object")
                yield record, len(line)
    except json.JSONDecodeError as error:
        raise _broken(path, f"line {number}: {error.msg} at character {error.pos}") from error
    except UnicodeDecodeError as error:
        raise _broken(path, f"after line {number}: it is no valid UTF-8 ({error.reason})") from error
    except RecursionError as error:
        raise _broken(path, f"line {number} is nested too deeply") from error
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from error


def from_records(records: list[dict[str, Any]], choose: Choose, where: str, first_row: int) -> pa.RecordBatch:
    """Rows given as dictionaries, as a batch with the pairs' column names; a value of a wrong type names its row."""
    available = list(dict.fromkeys(name for record in records for name in record))
    chosen = choose(available)
    arrays = []
    for name, there in chosen.items():
        values = [record.get(there) for record in records]
        for row, value in enumerate(values):
            problem = None if value is None else _problem(name, value)
            if problem:
                raise DataError(f"{where} row {first_row + row}: {name!r} {problem}")
        if name == "label":
            values = [None if value is None else str(value) for value in values]
        arrays.append(pa.array(values, column_type(name)))
    return pa.RecordBatch.from_arrays(arrays, names=list(chosen))


def _problem(name: str, value: Any) -> str | None:
    """What is wrong with a value that stands in column `name`; None if nothing is."""
    if name in ("negatives", "scores"):
        of, kinds = ("texts", str) if name == "negatives" else ("numbers", (int, float))
        if not isinstance(value, Iterable) or isinstance(value, (str, dict)):
            return f"is {type(value).__name__}; expected a list of {of}"
        wrong = next((item for item in value if not isinstance(item, kinds) or isinstance(item, bool)), None)
        if wrong is not None:
            return f"holds {type(wrong).__name__}; expected {of}"
        return next(filter(None, (_unwritable(item) for item in value)), None) if name == "negatives" else None
    if name == "label" and isinstance(value, int) and not isinstance(value, bool):
        return None
    if not isinstance(value, str):
        return f"is {type(value).__name__}; expected a text"
    return _unwritable(value)


def _unwritable(text: str | None) -> str | None:
    """JSON can name half a character, which is no text."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return "has a lone surrogate, which is no character; expected a text"
    return None
