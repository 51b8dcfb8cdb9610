"""Reading tables of pairs in batches of rows, in memory that does not grow with the table, and holding them.

Arrow record batches are held in memory or, where they are large, memory-mapped from the cache folder.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from udever.data_sets import arrow_tables, files_of, open_pairs
from udever.errors import DataError, OutputError, first_line
from udever.files import (
    TABLES,
    Format,
    format_of,
    is_hub_name,
    is_saved_dataset,
    open_regular,
    pairs_format,
    text_format,
)
from udever.nearest import path_suggestion
from udever.pairs.columns import (
    ROWS_SCHEMA,
    Blanks,
    are_blank,
    choose_columns,
    from_records,
    guess_columns,
    names_in,
    normalise,
)
from udever.pairs.schema import SCHEMA, Pair, Split, to_table
from udever.records import Broken, batch_rows, check_distinct, read_file, undecoded, undecoded_header
from udever.storage import atomic_file, cache_folder, check_file

pc: Any = pyarrow.compute  # its functions are made at run time: type checkers see none

IN_MEMORY_BYTES = 64_000_000
"""Data up to this size is held in memory; what is larger is written once to the cache folder and mapped."""

_FORMAT = "1"

BATCH_ROWS = 8192
_BATCH_CHARACTERS = 64_000_000
_SEPARATED = ("csv", "tsv")
_NAMED_ROWS = 500
"""As many rows of JSON lines tell which columns there are."""
_UNPACKED = 6  # about how much larger packed text becomes
_NAMES = {
    "parquet": "Parquet",
    "jsonl": "JSON lines",
    "csv": "CSV",
    "tsv": "TSV",
    "txt": "text",
}


Choose = Callable[..., dict[str, str]]
"""`columns.choose_columns` for a file: `choose(available, more=False)`."""


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

    def equal(self, name: str, value: str) -> NDArray[np.bool_]:
        """Which rows have this value in a column that is never null."""
        parts = [pc.equal(part, value).to_numpy(zero_copy_only=False) for part in self.column(name)]
        return np.concatenate(parts or [np.zeros(0, bool)])


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


def write_pairs(pairs: Sequence[Any], path: str | Path, schema: pa.Schema = SCHEMA) -> None:
    """Write `pairs`, or rows of another `schema`, to a Parquet file (zstd), whole or not at all."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:  # pyarrow takes no path that is not UTF-8
        pq.write_table(to_table(pairs, schema), file, compression="zstd")


def check_pairs_output(path: Path, inputs: Iterable[Path]) -> None:
    """Raise OutputError where pairs written to `path` could not be read again, by its name, or replace an input."""
    form = format_of(path)
    if form is None or form.kind != "parquet":
        raise OutputError(f"{path} is no name for pairs; give one that ends in .parquet")
    check_file(path, inputs, own=(".parquet", ".pq"))


def read_pairs(path: str | Path, split: Split | None = None) -> list[Pair]:
    """Read a Parquet or JSONL file of pairs; keep the rows of `split` alone where it is given.

    Columns and values the file lacks (null) take the defaults of `Pair`; columns `Pair` lacks are left out.
    Negatives may stand in `negatives` (a list), `negative`, or `negative_1`, `negative_2`, ... Raises DataError
    for a missing file or column, an empty side, or a kind or split that does not exist, and names the row.
    """
    rows = Rows(read_batches(path))
    pairs = [pair for pair in rows if split is None or pair.split == split]
    if not pairs:
        of_split = f" of split {split!r}" if split else ""
        raise DataError(f"{path} holds no pairs{of_split}; expected at least one row")
    return pairs


def read_batches(
    path: str | Path, mapping: Mapping[str, str] | None = None, *, others: bool = True, keep_empty: bool = False
) -> Iterator[pa.RecordBatch]:
    """The rows of a table, a file or a data set, as normalised batches (`columns.normalise`).

    `mapping` names the table's column for a column of pairs; `others=False` reads no column besides, of lines of text
    too. Rows with an
    empty side are given all the same: after the last row DataError names all of them, unless `keep_empty`. Raises
    DataError in one line for a table that is none or is broken, a missing column, and a bad row, which it names.
    """
    path = Path(path)
    form = table_format(path, texts=not others)
    read = partial({"parquet": _parquet_batches, "dataset": _named_dataset}.get(form.kind, _record_batches), path, form)
    if form.kind == "txt":  # lines have one column, whatever it is called
        mapping = dict.fromkeys(mapping or {}, "text")
    return _normalised(read, str(path), mapping or {}, others, keep_empty)


def dataset_batches(
    dataset: Any, mapping: Mapping[str, str], where: str, *, others: bool = True, keep_empty: bool = False
) -> Iterator[pa.RecordBatch]:
    """The rows of an opened data set, as `read_batches` has them."""
    return _normalised(partial(_dataset_batches, dataset), where, mapping, others, keep_empty)


def _normalised(
    read: Callable[[Choose], Iterator[pa.RecordBatch]],
    where: str,
    mapping: Mapping[str, str],
    others: bool,
    keep_empty: bool,
) -> Iterator[pa.RecordBatch]:
    first = 0
    blanks = Blanks(where, skip=keep_empty)
    for batch in read(partial(choose_columns, mapping=mapping, where=where, others=others)):
        yield normalise(batch, where, first, blanks)
        first += batch.num_rows
    blanks.check()


def table_format(path: Path, *, texts: bool = False) -> Format:
    """The format of a table of pairs, or of `texts`. Raises DataError for a path that is none and no name on a hub."""
    if path.is_dir() and not is_saved_dataset(path):
        raise DataError(
            f"{path} is a folder; give a table of pairs, such as udever pairs {path} -o pairs.parquet makes"
        )
    if texts and path.is_file():
        return text_format(path)
    form = pairs_format(path) if path.exists() or is_hub_name(path) else None
    if form is None or (form.kind != "dataset" and not path.is_file()):
        raise DataError(f"{path} is not a file; {path_suggestion(path, f'give {TABLES}')}")
    return form


def files_under(path: Path, *, texts: bool = False) -> list[Path]:
    """The files on this machine that hold the rows of a table of pairs, or of `texts`."""
    return files_of(open_pairs(path)) if table_format(path, texts=texts).kind == "dataset" else [path]


def column_names(path: Path) -> list[str]:
    """The columns of a table of pairs, of JSON lines those of its first rows; none where it cannot be read."""
    form = table_format(path)
    if form.kind == "dataset":
        return list(open_pairs(path).column_names)
    if form.kind == "parquet":
        try:
            with path.open("rb") as file:
                return pq.read_schema(file).names
        except (pa.ArrowException, OSError):
            return []  # read_batches says what is wrong
    # Rows of JSON lines may leave out what is null.
    records = islice(read_file(path, form, None), _NAMED_ROWS)
    return list(names_in(record for _, record in records if not isinstance(record, Broken)))


def meant_columns(path: Path, columns: Mapping[str, str]) -> dict[str, str]:
    """`columns`, or what the columns of a table named on a command line mean, as far as that is plain."""
    return dict(columns) or guess_columns(column_names(path)) or {}


def without_empty(rows: Rows) -> Rows:
    """The rows that have both sides."""
    blank = [are_blank(batch["anchor"], batch["positive"]) for batch in rows.batches]
    if not any(pc.any(one).as_py() for one in blank):
        return rows
    return Rows(batch.filter(pc.invert(one)) for batch, one in zip(rows.batches, blank, strict=True))


def size_in_memory(path: Path) -> int:
    """About how many bytes the rows of a table take once read; 0 where that cannot be told."""
    try:
        form = table_format(path, texts=True)
        if form.kind == "dataset":
            return sum(file.stat().st_size for file in files_under(path))
        if form.kind != "parquet":
            return path.stat().st_size * (_UNPACKED if form.packing else 1)
        with path.open("rb") as file:
            metadata = pq.read_metadata(file)
        return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    except (pa.ArrowException, OSError):
        return 0  # read_batches says what is wrong


def _broken(path: Path, form: Format, reason: str) -> DataError:
    return DataError(f"{path} cannot be read as {_NAMES[form.kind]}: {reason}")


def _parquet_batches(path: Path, form: Format, choose: Choose) -> Iterator[pa.RecordBatch]:
    row = 0
    try:
        with open_regular(path) as opened, pq.ParquetFile(opened) as file:
            chosen = choose(file.schema_arrow.names)
            check_distinct(path, file.schema_arrow.names, chosen.values())
            for batch in file.iter_batches(batch_rows(file.metadata, BATCH_ROWS), columns=sorted(set(chosen.values()))):
                yield _rename(batch, chosen)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        after = f"after row {row - 1}: " if row else ""
        raise _broken(path, form, f"{after}{first_line(error)}") from error


def _named_dataset(path: Path, _: Format, choose: Choose) -> Iterator[pa.RecordBatch]:
    return _dataset_batches(open_pairs(path), choose)


def _dataset_batches(dataset: Any, choose: Choose) -> Iterator[pa.RecordBatch]:
    chosen = choose(list(dataset.column_names))
    for table in arrow_tables(dataset, BATCH_ROWS):
        for batch in table.combine_chunks().to_batches():
            yield _rename(batch, chosen)


def _rename(batch: pa.RecordBatch, chosen: Mapping[str, str]) -> pa.RecordBatch:
    """`batch` with the columns `chosen` (pairs' name -> name there) under the pairs' names."""
    return pa.RecordBatch.from_arrays([batch.column(name) for name in chosen.values()], names=list(chosen))


def _record_batches(path: Path, form: Format, choose: Choose) -> Iterator[pa.RecordBatch]:
    seen: dict[str, None] = {}
    first = 0
    for records in _blocks(path, form):
        seen |= names_in(records)
        unread = undecoded_header(form, seen)
        if unread is not None:
            raise DataError(f"{path}: {unread}")
        # Rows of JSON lines may leave out what is null; the header of a table names all there is.
        chosen = choose(list(seen), more=form.kind == "jsonl")
        for number, record in enumerate(records, first):
            unread = undecoded(form, record, chosen.values())
            if unread is not None:
                raise DataError(f"{path} row {number}: {unread}")
        yield from_records(records, chosen, str(path), first)
        first += len(records)
    if first:
        choose(list(seen))


def _blocks(path: Path, form: Format) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file as dictionaries, as many at a time as make a batch."""
    records: list[dict[str, Any]] = []
    size = 0
    separated = form.kind in _SEPARATED
    for number, record in read_file(path, form, None):
        if isinstance(record, Broken):
            place = f"row {number}" if separated else f"line {number + 1}"
            raise _broken(path, form, f"{place}: {record.reason}")
        if separated:  # an empty field is all they have for a missing value
            record = {name: value or None for name, value in record.items()}
        records.append(record)
        size += sum(len(value) for value in record.values() if isinstance(value, str | list))
        if len(records) == BATCH_ROWS or size > _BATCH_CHARACTERS:
            yield records
            records, size = [], 0
    if records:
        yield records


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the content of files, in the order given. Raises DataError for one that cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            with path.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from error
    return digest.hexdigest()


def digest_batches(batches: Iterable[pa.RecordBatch]) -> str:
    """SHA-256 over rows in memory."""
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.serialize())
    return digest.hexdigest()


def hold(
    read: Callable[[], Iterator[pa.RecordBatch]], key: str, size_bytes: int, is_same: Callable[[], bool] = lambda: True
) -> Rows:
    """The rows that `read` gives; from the cache where `key` (which names their content) is there already.

    Raises DataError where afterwards what was read is not the same as when `key` was made.
    """
    if size_bytes <= IN_MEMORY_BYTES:
        return Rows(read())
    path = cache_folder() / f"{hashlib.sha256(f'{_FORMAT} {key}'.encode()).hexdigest()}.arrow"
    if path.is_file():
        with suppress(pa.ArrowException, OSError):  # a cache that is broken or of another version is written anew
            return _mapped(path)
    _write(path, read())
    if not is_same():
        path.unlink()
        raise DataError("a table was changed while it was read; run the same command again")
    return _mapped(path)


def _write(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    try:
        with atomic_file(path) as temporary, pa.ipc.new_file(str(temporary), ROWS_SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)
    except OutputError as error:
        raise OutputError(f"{error} (set UDEVER_CACHE to a folder with room for the data)") from error


def _mapped(path: Path) -> Rows:
    file = pa.ipc.open_file(pa.memory_map(str(path)))
    if file.schema != ROWS_SCHEMA:
        raise pa.ArrowInvalid(f"{path} has other columns")
    return Rows(file.get_batch(number) for number in range(file.num_record_batches))
