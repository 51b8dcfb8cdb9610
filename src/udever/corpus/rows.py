"""Reading rows one at a time from every format, so that size does not matter and a bad row is only itself."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from udever.corpus.inputs import Source
from udever.errors import DataError, needs

_BATCH = 1024
_SHOWN = 200
_FIELD_BYTES = 2**31 - 1


class Row(NamedTuple):
    """A text to embed. `number` counts a source's rows (lines, in files of lines) from 0."""

    place: str
    number: int
    id: str
    text: str
    source: str


class BadRow(NamedTuple):
    """A row that cannot be embedded: where it stands, what stands there, and why it cannot."""

    place: str
    number: int
    id: str | None
    text: str | None
    reason: str


class Broken(NamedTuple):
    """A row of a file that is no record at all."""

    content: str
    reason: str


Record = dict[str, Any] | Broken


class Columns(NamedTuple):
    """Which columns (keys, in JSONL) hold what; all but `text` may be absent."""

    text: str = "text"
    id: str = "id"
    source: str = "source"


def _open_bytes(source: Source) -> IO[bytes]:
    if source.packing == ".gz":
        return gzip.open(source.location, "rb")  # pyright: ignore[reportReturnType]
    if source.packing == ".zst":
        return io.BufferedReader(pa.input_stream(source.location, compression="zstd"))  # pyright: ignore[reportArgumentType]
    return Path(source.location).open("rb")


def _lines(source: Source) -> Iterator[tuple[int, str | Broken]]:
    """Lines that are not blank, without their ends, each with its number from 0."""
    number = -1
    try:
        with _open_bytes(source) as lines:
            for number, line in enumerate(lines):
                line = line.rstrip(b"\r\n")
                if number == 0:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    shown = line.decode(errors="backslashreplace")
                    yield number, Broken(shown, f"not UTF-8: {error.reason} at byte {error.start}")
                    continue
                if text.strip():
                    yield number, text
    except (OSError, EOFError) as error:  # gzip raises both for a damaged file
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{source.location} cannot be read after row {number}: {reason}; check the file") from error


def _json_records(source: Source) -> Iterator[tuple[int, Record]]:
    for number, line in _lines(source):
        if isinstance(line, Broken):
            yield number, line
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, Broken(line, f"not JSON: {str(error).splitlines()[0]}")
            continue
        yield number, record if isinstance(record, dict) else Broken(line, "no JSON object; expected one a line")


def _csv_records(source: Source) -> Iterator[tuple[int, Record]]:
    csv.field_size_limit(_FIELD_BYTES)
    number = -1
    try:
        with io.TextIOWrapper(_open_bytes(source), "utf-8-sig", "surrogateescape", newline="") as lines:
            rows = csv.reader(lines, delimiter="\t" if source.kind == ".tsv" else ",", strict=True)
            names = next(rows, None)
            if not names:
                raise DataError(f"{source.location} has no header line; expected the names of its columns")
            while True:
                number += 1
                try:
                    fields = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield number, Broken("", f"not CSV near line {rows.line_num}: {error}")
                    continue
                if not fields:
                    number -= 1
                elif len(fields) != len(names):
                    shown = json.dumps(fields, ensure_ascii=False)
                    yield number, Broken(shown, f"{len(fields)} fields; the header has {len(names)}")
                else:
                    yield number, dict(zip(names, fields, strict=True))
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{source.location} cannot be read after row {number}: {reason}; check the file") from error


def _values(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """A column as Python values; bytes that are no UTF-8 become lone surrogates, which no text may hold."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        binary = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode(errors="surrogateescape") for value in binary]


def _table_records(tables: Iterable[pa.Table | pa.RecordBatch], wanted: list[str]) -> Iterator[tuple[int, Record]]:
    number = 0
    for table in tables:
        names = [name for name in wanted if name in table.column_names]
        for values in zip(*(_values(table.column(name)) for name in names), strict=True):
            yield number, dict(zip(names, values, strict=True))
            number += 1


def _parquet_records(source: Source, wanted: list[str]) -> Iterator[tuple[int, Record]]:
    try:
        with pq.ParquetFile(source.location) as file:
            names = [name for name in wanted if name in file.schema_arrow.names]
            if not names:  # a table without columns would have no rows either
                names = file.schema_arrow.names[:1]
            yield from _table_records(file.iter_batches(_BATCH, columns=names, use_threads=False), names)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{source.location} cannot be read as Parquet: {reason}; check the file") from error


def _open_dataset(source: Source) -> Any:
    with needs("datasets", "train", "a dataset as a corpus"):
        import datasets
    try:
        if source.kind == "hub":
            opened: Any = datasets.load_dataset(source.location, split=source.split, streaming=True)
        else:
            opened = datasets.load_from_disk(source.location)
    except Exception as error:  # the library raises a dozen kinds for what it cannot find
        reason = (str(error).strip().splitlines() or ["unknown"])[0]
        raise DataError(f"the dataset {source.location} cannot be opened: {reason}") from error
    if not isinstance(opened, dict):
        return opened
    split = source.split or (next(iter(opened)) if len(opened) == 1 else None)
    if split is None or split not in opened:
        raise DataError(f"{source.location} has the splits {', '.join(map(str, opened))}; choose one with --split")
    return opened[split]


def _dataset_records(source: Source, wanted: list[str]) -> Iterator[tuple[int, Record]]:
    tables = _open_dataset(source).with_format("arrow").iter(_BATCH)
    try:
        yield from _table_records(tables, wanted)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"the dataset {source.location} cannot be read: {reason}") from error


def read_records(source: Source, wanted: list[str]) -> Iterator[tuple[int, Record]]:
    """The rows of a source in order, each with its number from 0, as far as possible with the columns `wanted`.

    A line that is no record is `Broken`; plain text gives records with the first of `wanted` alone. Blank
    lines are no rows, yet counted in the numbers. Raises DataError where the source cannot be read on.
    """
    if source.kind in ("dataset", "hub"):
        return _dataset_records(source, wanted)
    if not Path(source.location).is_file():
        raise DataError(f"{source.location} is gone; put it back or leave it out, then run again")
    if source.kind == ".parquet":
        return _parquet_records(source, wanted)
    if source.kind == ".jsonl":
        return _json_records(source)
    if source.kind in (".csv", ".tsv"):
        return _csv_records(source)
    return ((n, line if isinstance(line, Broken) else {wanted[0]: line}) for n, line in _lines(source))


def _show(value: Any) -> str | None:
    if value is None:
        return None
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shown.encode(errors="backslashreplace").decode()


def _why_no_text(record: dict[str, Any], column: str) -> str | None:
    text = record.get(column)
    if isinstance(text, str):
        return None if text.strip() else f"{column!r} is empty"
    if column not in record:
        return f"no {column!r}; the row has {', '.join(map(str, record))[:_SHOWN] or 'nothing'}"
    return f"{column!r} is {'null' if text is None else type(text).__name__}; expected a text"


def read_rows(source: Source, columns: Columns) -> Iterator[Row | BadRow]:
    """The texts of a source in order; what is no text, is empty or has no id comes as a `BadRow`.

    The id is the column's where the first record has one, else the row's number, behind the source's name
    where the job has several sources: ids of a file and row numbers mixed could name two texts alike. A row
    without an entry of its own is from `source.name`. Whether texts are UTF-8 is for the caller to see.
    """
    with_ids: bool | None = None
    prefix = "" if source.alone else f"{source.name}:"
    for number, record in read_records(source, list(columns)):
        if isinstance(record, Broken):
            yield BadRow(source.name, number, None, record.content, record.reason)
            continue
        with_ids = columns.id in record if with_ids is None else with_ids
        name = record.get(columns.id) if with_ids else f"{prefix}{number}"
        reason = _why_no_text(record, columns.text)
        if isinstance(name, bool) or not isinstance(name, str | int):
            reason, name = f"{columns.id!r} is {name!r:.{_SHOWN}}; expected a string or a whole number", None
        if reason is not None:
            shown = None if name is None else _show(str(name))
            yield BadRow(source.name, number, shown, _show(record.get(columns.text)), reason)
            continue
        origin = record.get(columns.source)
        yield Row(source.name, number, str(name), record[columns.text], source.name if origin is None else str(origin))
