"""Reading texts one row at a time from JSONL, Parquet and plain text, so that size does not matter."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from udever.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """A text to embed. `number` counts the rows (lines, in files of lines) from 0."""

    number: int
    id: str
    text: str
    source: str | None


def _suffix(path: Path) -> str:
    """The suffix that tells the format: of `a.jsonl.gz` that is `.jsonl`."""
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, without their ends, each with its number from 0."""
    opener = gzip.open if path.suffix == ".gz" else open
    number = -1
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 after row {number}: {error.reason}; convert it") from error
    except (OSError, EOFError) as error:  # gzip raises both for a damaged file
        raise DataError(f"{path} cannot be read after row {number}: {error}; check the file") from error


def _json_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{path} row {number} (line {number + 1}) is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(f"{path} row {number} (line {number + 1}) is no JSON object; expected one a line")
        yield number, record


def _parquet_records(path: Path, column: str) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise DataError(f"{path} has no column {column!r} (it has {', '.join(names)}); name the text column")
            columns = [name for name in dict.fromkeys((column, "id", "source")) if name in names]
            for batch in file.iter_batches(1024, columns=columns):
                for record in batch.to_pylist():
                    yield number, record
                    number += 1
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as Parquet after row {number}: {reason}") from error


def _from_records(path: Path, records: Iterator[tuple[int, dict[str, Any]]], column: str) -> Iterator[Row]:
    with_ids: bool | None = None
    for number, record in records:
        text = record.get(column)
        if not isinstance(text, str):
            given = "null" if text is None else f"a {type(text).__name__}"
            if column not in record:
                given = f"absent (it has {', '.join(record)})"
            raise DataError(f"{path} row {number}: {column!r} is {given}; expected a text")
        # The first row decides: ids of the file and row numbers mixed could name two texts alike.
        with_ids = "id" in record if with_ids is None else with_ids
        name = record.get("id") if with_ids else number
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise DataError(f"{path} row {number}: 'id' is {name!r}; expected a string or a whole number")
        source = record.get("source")
        yield Row(number, str(name), text, None if source is None else str(source))


def read_rows(path: str | Path, column: str = "text") -> Iterator[Row]:
    """The texts of a file in order: `.parquet`, `.jsonl` (`column` holds the text), else one text per line.

    `.gz` behind `.jsonl` and plain text is unpacked. Blank lines are no rows but are counted in the
    numbers. `id` comes from the file where it has one, else it is the row's number. Raises DataError with
    the file and the row for a text that is null, not a string or, in JSONL, absent.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a .jsonl, .parquet or text file")
    suffix = _suffix(path)
    if suffix == ".parquet":
        yield from _from_records(path, _parquet_records(path, column), column)
    elif suffix == ".jsonl":
        yield from _from_records(path, _json_records(path), column)
    else:
        for number, line in _lines(path):
            yield Row(number, str(number), line, None)


def count_rows(path: Path) -> int | None:
    """How many rows a Parquet file has; None for formats that do not say, and for files that are broken."""
    if path.suffix != ".parquet":
        return None
    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError):
        return None
