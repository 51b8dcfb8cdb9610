"""The texts of a job's sources, one at a time, so that size does not matter and a bad row is only itself."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from udever.corpus.inputs import Source
from udever.data_sets import arrow_tables, open_dataset
from udever.errors import DataError
from udever.nearest import nearest
from udever.records import Broken, Record, column_names, read_file, table_records

_BATCH = 1024
_SOURCES_LOOKED_AT = 20
_ROWS_LOOKED_AT = 100
_SHOWN = 200


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


class Columns(NamedTuple):
    """Which columns (keys, in JSONL) hold what; all but `text` may be absent."""

    text: str = "text"
    id: str = "id"
    source: str = "source"


def _open_dataset(source: Source) -> Any:
    return open_dataset(source.location, source.split, streaming=source.is_hub, choose_by="with --split")


def read_records(source: Source, wanted: list[str] | None) -> Iterator[tuple[int, Record]]:
    """The rows of a source in order, each with its number from 0, as far as possible with the columns `wanted`.

    As `records.read_file`. Raises DataError where the source cannot be read on.
    """
    if source.format is None:
        return table_records(arrow_tables(_open_dataset(source), _BATCH), wanted)
    if not Path(source.location).exists():
        raise DataError(f"{source.shown} is gone; put it back or leave it out, then run again")
    return read_file(Path(source.location), source.format, wanted, None if source.root is None else Path(source.root))


def _show(value: Any) -> str | None:
    if value is None:
        return None
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shown.encode(errors="backslashreplace").decode()


def _why_no_text(record: dict[str, Any], column: str, names: list[str] | None) -> str | None:
    text = record.get(column)
    if isinstance(text, str):
        return None if text.strip() else f"{column!r} is empty"
    if column not in record:
        return f"no {column!r}; {_instead(column, names or list(record))}"
    return f"{column!r} is {'null' if text is None else type(text).__name__}; expected a text"


def _instead(column: str, names: Iterable[Any]) -> str:
    there = list(map(str, names))
    near = nearest(column, there)
    return f"the row has {', '.join(there)[:_SHOWN] or 'nothing'}" if near is None else f"did you mean {near!r}?"


def _schema_names(source: Source) -> list[str] | None:
    """All columns of a table with a schema, whose records have those alone that were asked for; else None."""
    if source.format is None:
        return _open_dataset(source).column_names
    if source.format.kind == "parquet":
        return column_names(Path(source.location), None if source.root is None else Path(source.root))
    return None


def check_columns(sources: Sequence[Source], columns: Columns) -> None:
    """Raise DataError where no source has the text column in its first rows: its name is mistyped.

    So is that of an id column under another name than usual. A dataset on a hub, and more than a few sources, are not
    looked at.
    """
    if len(sources) > _SOURCES_LOOKED_AT or any(source.is_hub for source in sources):
        return
    wanted = {columns.text} | ({columns.id} - {Columns().id})
    first: tuple[Source, Iterable[Any]] | None = None
    for source in sources:
        for _, record in islice(read_records(source, list(columns)), _ROWS_LOOKED_AT):
            if not isinstance(record, Broken):
                wanted -= record.keys()
                first = first or (source, record)
    if wanted and first is not None:
        source, record = first
        name = min(wanted, key=columns.index)
        raise DataError(f"{source.shown} has no column {name!r}; {_instead(name, _schema_names(source) or record)}")


def read_rows(source: Source, columns: Columns) -> Iterator[Row | BadRow]:
    """The texts of a source in order; what is no text, is empty or has no id comes as a `BadRow`.

    The id is the column's where the first record has one, else the row's number, behind the source's name
    where the job has several sources: ids of a file and row numbers mixed could name two texts alike. A row
    without an entry of its own is from `source.name`. Whether texts are UTF-8 is for the caller to see.
    """
    with_ids: bool | None = None
    prefix = "" if source.alone else f"{source.name}:"
    names: list[str] | None = None
    for number, record in read_records(source, list(columns)):
        if isinstance(record, Broken):
            yield BadRow(source.name, number, None, record.content, record.reason)
            continue
        with_ids = columns.id in record if with_ids is None else with_ids
        name = record.get(columns.id) if with_ids else f"{prefix}{number}"
        if names is None and columns.text not in record:
            names = _schema_names(source)
        reason = _why_no_text(record, columns.text, names)
        if isinstance(name, bool) or not isinstance(name, str | int):
            reason, name = f"{columns.id!r} is {name!r:.{_SHOWN}}; expected a string or a whole number", None
        if reason is not None:
            shown = None if name is None else _show(str(name))
            yield BadRow(source.name, number, shown, _show(record.get(columns.text)), reason)
            continue
        origin = record.get(columns.source)
        yield Row(source.name, number, str(name), record[columns.text], source.name if origin is None else str(origin))
