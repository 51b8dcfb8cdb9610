"""Reading the records of a file one at a time from every format, in memory that does not grow with the file.

A record that cannot be read is only itself: it comes as `Broken`, with what stands there.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from udever.data_sets import arrow_tables, open_pairs
from udever.errors import DataError, first_line
from udever.files import CONVERT, Expands, Format, not_utf8, open_bytes, open_regular, printable

MAX_ROW_BYTES = 16 << 20
"""A longer line, record or text fails. No model reads so much; what has no line ends is no file of lines."""
_SHOWN_BYTES = 10_000  # of a row that is too large
_BATCH_ROWS, _BATCH_BYTES = 1024, 64 << 20
_SNIFFED = 8192
_MAX_NULS = 20
_CSV_FIELD = 2**31 - 1
_SEPARATED = ("csv", "tsv")
_AFTER_RETURN = re.compile(r"(?<=\r)(?!\n)")


class Broken(NamedTuple):
    """A row of a file that is no record: what stands there, and why it is none."""

    content: str
    reason: str


Record = dict[str, Any] | Broken


def read_file(
    path: Path, form: Format, wanted: list[str] | None, root: Path | None = None
) -> Iterator[tuple[int, Record]]:
    """The records of a file in order, each with its number from 0; of Parquet only the columns `wanted` (None: all).

    Numbers count rows, in JSON lines and text lines: blank ones are no rows, yet counted. Plain text gives records
    with the first of `wanted` alone. A link that leaves `root` is not followed. Raises DataError where the file
    cannot be read on.
    """
    if form.kind == "parquet":
        yield from _parquet_records(path, wanted, root)
        return
    if form.kind == "dataset":
        yield from table_records(arrow_tables(open_pairs(path), _BATCH_ROWS), wanted)
        return
    lines = _Lines(path, form, root)
    if form.kind == "jsonl":
        yield from _json_records(lines)
    elif form.kind == "csv":
        yield from _csv_records(lines)
    elif form.kind == "tsv":
        yield from _tsv_records(lines)
    else:
        name = (wanted or ["text"])[0]
        for number, line in lines:
            line = _utf8(line)
            if isinstance(line, Broken):
                yield number, line
            elif line.strip():
                yield number, {name: line.rstrip("\r\n")}


class _Lines:
    """The lines of a file with their ends, by number from 0; bytes that are no UTF-8 as lone surrogates.

    A line that is too long is `Broken`, and so is the rest of a file that expands too far.
    """

    def __init__(self, path: Path, form: Format, root: Path | None) -> None:
        self.path, self._form, self._root = path, form, root

    def __iter__(self) -> Iterator[tuple[int, str | Broken]]:
        number = 0
        try:
            with open_bytes(self.path, self._form.packing, self._root) as file:
                self._refuse_binary(file.peek(_SNIFFED)[:_SNIFFED])
                while line := file.readline(MAX_ROW_BYTES + 1):
                    if number == 0:
                        line = line.removeprefix(b"\xef\xbb\xbf")
                    if len(line) > MAX_ROW_BYTES:
                        yield number, _too_large(line)
                        while line and not line.endswith(b"\n"):
                            line = file.readline(MAX_ROW_BYTES)
                    else:
                        yield number, line.decode(errors="surrogateescape")
                    number += 1
        except Expands as error:
            yield number, Broken("", str(error))
        except (OSError, EOFError) as error:  # gzip raises both for a damaged file
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"{printable(self.path)} cannot be read after row {number - 1}: {reason}; check the file"
            ) from error

    def _refuse_binary(self, start: bytes) -> None:
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{printable(self.path)} is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
        if start.count(0) * _MAX_NULS > len(start):  # a stray one may stand in a text
            raise DataError(f"{printable(self.path)} is no text but binary; check its name and its format")


def _too_large(line: bytes | str) -> Broken:
    start = line[:_SHOWN_BYTES]
    shown = start.decode(errors="backslashreplace") if isinstance(start, bytes) else _escaped(start)
    return Broken(shown, f"larger than {MAX_ROW_BYTES:,} bytes; its beginning is kept")


def _escaped(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _utf8(line: str | Broken) -> str | Broken:
    """The line, or why it is no UTF-8."""
    if isinstance(line, Broken) or is_utf8(line):
        return line
    data = line.encode(errors="surrogateescape").rstrip(b"\r\n")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        shown = data.decode(errors="backslashreplace")
        return Broken(shown, not_utf8(error))
    return line


def is_utf8(text: str) -> bool:
    """Whether a text has no lone surrogate, which in a field of CSV or TSV stands for a byte that is no UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def undecoded(form: Format | None, record: Mapping[str, Any], columns: Iterable[str]) -> str | None:
    """Which of `columns` of a record of CSV or TSV holds bytes that are no UTF-8, and what to do; None where none does.

    A reader asks it of the columns that it reads: what stands in others is nobody's matter.
    """
    if form is None or form.kind not in _SEPARATED:
        return None
    name = next((name for name in columns if not is_utf8(record.get(name) or "")), None)
    return None if name is None else f"{name!r} is not UTF-8; {CONVERT}"


def undecoded_header(form: Format | None, names: Iterable[str]) -> str | None:
    """Of a header of CSV or TSV the same."""
    is_read = form is None or form.kind not in _SEPARATED or all(map(is_utf8, names))
    return None if is_read else f"its header is not UTF-8; {CONVERT}"


def _json_records(lines: _Lines) -> Iterator[tuple[int, Record]]:
    is_first = True
    for number, raw in lines:
        line = _utf8(raw)
        if isinstance(line, Broken):
            yield number, line
            continue
        line = line.strip()
        if not line:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if is_first and line == "[":
                raise DataError(f"{printable(lines.path)} is one JSON array; give one object a line") from None
            yield number, Broken(line, f"not JSON: {first_line(error)}")
        else:
            yield number, record if isinstance(record, dict) else Broken(line, "no JSON object; expected one a line")
        is_first = False


def _header(lines: _Lines, names: list[str] | None) -> list[str]:
    if not names or not any(names):
        raise DataError(f"{printable(lines.path)} has no header line; expected the names of its columns")
    check_distinct(lines.path, names, filter(None, names))
    return names


def check_distinct(path: Path, available: Sequence[str], wanted: Iterable[str]) -> None:
    """Raise DataError where a column of `wanted` is in the table more than once: which one is meant?"""
    twice = next((name for name in wanted if available.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{printable(path)} has the column {twice!r} twice; give each column a name of its own")


def _record(names: list[str], fields: list[str], raw: str) -> Record:
    if len(fields) != len(names):
        return Broken(_escaped(raw).rstrip("\r\n"), f"{len(fields)} fields; the header has {len(names)}")
    return dict(zip(names, fields, strict=True))


def _tsv_records(lines: _Lines) -> Iterator[tuple[int, Record]]:
    """A line is a record, a tab ends a field, and nothing else means anything: quotes are characters of the text."""
    names: list[str] | None = None
    number = 0
    for _, line in lines:
        if isinstance(line, str):
            line = line.removesuffix("\n").removesuffix("\r")
            if not line:
                continue
            if names is None:
                names = _header(lines, line.split("\t"))
                continue
            yield number, _record(names, line.split("\t"), line)
        else:
            yield number, line
        number += 1
    if names is None:
        _header(lines, None)


class _Unfit(Exception):
    """A record of CSV does not end where it could."""


class _Feed:
    """Gives csv.reader its lines, remembers those of the record under way, and takes them back."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = self._pieces(lines)
        self._back: deque[tuple[int, str | Broken]] = deque()
        self.taken: list[tuple[int, str]] = []
        self._size = 0

    @staticmethod
    def _pieces(lines: _Lines) -> Iterator[tuple[int, str | Broken]]:
        """Lines as csv knows them, which "\\r" ends too."""
        for number, line in lines:
            if isinstance(line, str) and "\r" in line:
                yield from ((number, piece) for piece in _AFTER_RETURN.split(line) if piece)
            else:
                yield number, line

    def next(self) -> tuple[int, str | Broken] | None:
        return self._back.popleft() if self._back else next(self._lines, None)

    def __iter__(self) -> Iterator[str]:
        while (found := self.next()) is not None:
            number, line = found
            if isinstance(line, Broken) or self._size + len(line) > MAX_ROW_BYTES:
                self._back.appendleft(found)
                raise _Unfit
            self.taken.append((number, line))
            self._size += len(line)
            yield line

    def peek_broken(self) -> Broken | None:
        """The next line where it is no line, taken out."""
        found = self.next()
        if found is None or not isinstance(found[1], Broken):
            if found is not None:
                self._back.appendleft(found)
            return None
        return found[1]

    def begin(self) -> None:
        """The lines taken so far are done with."""
        self.taken, self._size = [], 0

    def give_back(self) -> tuple[int, str]:
        """Take all lines of the record back but the first, which is returned."""
        first, *rest = self.taken
        self._back.extendleft(reversed(rest))
        self.begin()
        return first


def _csv_records(lines: _Lines) -> Iterator[tuple[int, Record]]:
    """A record that is no CSV costs its first line; the next line begins anew.

    So a quote that is opened and never closed fails where it stands, and does not take the rest of the file.
    """
    csv.field_size_limit(_CSV_FIELD)
    feed = _Feed(lines)
    names: list[str] | None = None
    rows = csv.reader(feed, strict=True)
    number = 0
    while True:
        broken = feed.peek_broken()
        if broken is not None:
            yield number, broken
            number += 1
            continue
        try:
            fields = next(rows)
        except StopIteration:
            break
        except (csv.Error, _Unfit) as error:
            is_open = len(feed.taken) > 1 or "end of data" in str(error)
            line, raw = feed.give_back()
            rows = csv.reader(feed, strict=True)
            why = "a quote is opened and not closed" if is_open or isinstance(error, _Unfit) else error
            if names is None:
                raise DataError(f"{printable(lines.path)} has no header line: {why}") from error
            yield number, Broken(_escaped(raw).rstrip("\r\n"), f"not CSV at line {line + 1}: {why}")
            number += 1
            continue
        raw = "".join(text for _, text in feed.taken)
        feed.begin()
        if not fields:
            continue
        if names is None:
            names = _header(lines, fields)
            continue
        yield number, _record(names, fields, raw)
        number += 1
    if names is None:
        _header(lines, None)


def values_of(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """A column as Python values; a binary one as texts, with bytes that are no UTF-8 as lone surrogates."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    if not is_binary:
        try:
            return column.to_pylist()
        except UnicodeDecodeError:
            column = column.cast(pa.large_binary())
    return [None if value is None else value.decode(errors="surrogateescape") for value in column.to_pylist()]


def table_records(
    tables: Iterable[pa.Table | pa.RecordBatch], wanted: list[str] | None
) -> Iterator[tuple[int, Record]]:
    """The rows of tables with the columns `wanted` that they have, by number from 0; `{}` where they have none."""
    number = 0
    for table in tables:
        names = [name for name in (table.schema.names if wanted is None else wanted) if name in table.schema.names]
        columns = [values_of(table.column(name)) for name in names]
        for values in zip(*columns, strict=True) if columns else repeat((), table.num_rows):
            large = next((v for v in values if isinstance(v, str) and len(v) > MAX_ROW_BYTES), None)
            yield number, dict(zip(names, values, strict=True)) if large is None else _too_large(large)
            number += 1


def _parquet_records(path: Path, wanted: list[str] | None, root: Path | None) -> Iterator[tuple[int, Record]]:
    try:
        with open_regular(path, root=root) as opened, pq.ParquetFile(opened) as file:
            available = file.schema_arrow.names
            names = [name for name in (available if wanted is None else wanted) if name in available]
            check_distinct(path, available, names)
            some = names or available[:1]  # batches without columns would have no rows either
            batches = file.iter_batches(batch_rows(file.metadata), columns=some, use_threads=False)
            yield from table_records(batches, names)
    except (pa.ArrowException, OSError, OverflowError) as error:  # the last: a date beyond the year 9999
        raise DataError(f"{printable(path)} cannot be read as Parquet: {first_line(error)}; check the file") from error


def column_names(path: Path, root: Path | None = None) -> list[str]:
    """The columns of a Parquet file."""
    with open_regular(path, root=root) as opened:
        return list(pq.read_schema(opened).names)


def batch_rows(metadata: Any, most: int = _BATCH_ROWS) -> int:
    """How many rows of a Parquet file are held at a time: fewer where they are large."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    largest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=1)
    return max(1, min(most, _BATCH_BYTES // max(1, largest)))


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """The file, opened here: pyarrow takes a path with a colon for a URI, and none that is not UTF-8."""
    with path.open("rb") as opened, pq.ParquetFile(opened) as file:
        yield file


def to_numpy(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A column of numbers, or of fixed-size lists of them, as an array [rows] or [rows, size]."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)
    return array.to_numpy(zero_copy_only=False)


def to_arrow(values: np.ndarray) -> pa.Array:
    """The way back from `to_numpy`."""
    if values.ndim == 1:
        return pa.array(np.ascontiguousarray(values))
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])
