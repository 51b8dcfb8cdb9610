"""What a job reads: files, folders, globs and `datasets` become one list of sources in a fixed order.

Their texts come one at a time, so that size does not matter and a bad row is only itself.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from udever.data_sets import arrow_tables, open_dataset
from udever.errors import DataError, FileRefused
from udever.files import (
    READ,
    Format,
    format_of,
    is_hub_name,
    is_saved_dataset,
    open_regular,
    printable,
    text_format,
)
from udever.nearest import nearest, path_suggestion
from udever.records import Broken, Record, column_names, read_file, table_records, undecoded, undecoded_header
from udever.storage import JOB, cut_glob, is_job


@dataclass(frozen=True, slots=True)
class Source:
    """One file, saved dataset or hub dataset. `name` is what rows and messages call it; always valid UTF-8.

    `format` is None for a dataset, `is_hub` says that it is on a hub. `alone` says that it is the job's only
    source by the way it was asked for, so that row numbers suffice as ids. `root` is the folder that was
    given instead of the file: a link that leaves it is not followed.
    """

    name: str
    location: str
    format: Format | None
    alone: bool
    split: str | None = None
    is_hub: bool = False
    root: str | None = None

    @property
    def shown(self) -> str:
        """The location for messages."""
        return printable(self.location)


def _walk(root: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Every file below `root` by name, without hidden ones and those in hidden or linked folders or outputs of jobs."""

    def refused(error: OSError) -> None:
        skipped["folder: cannot be read"] += 1

    for folder, names, files in os.walk(root, onerror=refused):
        if folder != str(root) and JOB in files:
            skipped["folder: output of a corpus job"] += 1
            names.clear()
            continue
        kept = []
        for name in sorted(names):
            if name.startswith("."):
                skipped["folder: hidden"] += 1
            elif (Path(folder) / name).is_symlink():
                skipped["folder: symbolic link"] += 1
            else:
                kept.append(name)
        names[:] = kept
        for name in files:
            if name.startswith("."):
                skipped["file: hidden"] += 1
            else:
                yield Path(folder) / name


def _usable(root: Path, file: Path, skipped: Counter[str]) -> bool:
    """Whether a file that was not named itself can be opened; counted if not."""
    try:
        open_regular(file, root=root).close()
    except FileRefused as error:
        skipped[f"file: {error.reason}"] += 1
        return False
    return True


def _told(passed: Counter[str]) -> str:
    return "; passed over: " + ", ".join(f"{n} {why}" for why, n in passed.most_common(5)) if passed else ""


def _folder(path: Path, skipped: Counter[str]) -> list[Source]:
    if is_job(path):
        raise DataError(f"{printable(path)} is the output of a corpus job; give the texts it was made from")
    found: list[Source] = []
    here: Counter[str] = Counter()
    for file in sorted(_walk(path, here)):
        form = format_of(file)
        if form is None or not form.in_folders:
            here[f"file: {printable(file.suffix.lower()) or 'without a suffix'}, not read in folders"] += 1
        elif _usable(path, file, here):
            found.append(Source(_named(file, path), str(file), form, False, root=str(path)))
    skipped.update(here)
    if not found:
        raise DataError(f"{printable(path)} holds no files that are read ({READ}){_told(here)}; give another folder")
    return found


def _glob(given: str, skipped: Counter[str]) -> list[Source]:
    """The files that match, by name; hidden ones, and those in hidden folders or in outputs of jobs, are left out."""
    root, parts = cut_glob(given)
    found: list[Source] = []
    here: Counter[str] = Counter()
    outputs: dict[Path, bool] = {}
    for file in sorted(file for file in root.glob("/".join(parts)) if not file.is_dir()):
        name = file.relative_to(root)
        folders = [root / folder for folder in name.parents]
        outputs |= {folder: is_job(folder) for folder in folders if folder not in outputs}
        if any(part.startswith(".") for part in name.parts):
            here["file: hidden"] += 1
        elif any(outputs[folder] for folder in folders):
            here["file: output of a corpus job"] += 1
        elif _usable(root, file, here):
            found.append(Source(_named(file, root), str(file), text_format(file), False, root=str(root)))
    skipped.update(here)
    if not found:
        raise DataError(f"no file matches {printable(given)}{_told(here)}; check the pattern")
    return found


def _named(path: Path, root: Path | None = None) -> str:
    return printable(path.name if root is None else path.relative_to(root).as_posix())


def _one(given: str, split: str | None, alone: bool, skipped: Counter[str]) -> list[Source]:
    path = Path(given)
    if is_saved_dataset(path):
        return [Source(_named(path), str(path), None, alone, split)]
    if path.is_dir():
        return _folder(path, skipped)
    if path.exists():
        form = text_format(path)
        open_regular(path).close()  # refused now, before any work
        return [Source(_named(path), str(path), form, alone)]
    if has_magic(given):
        return _glob(given, skipped)
    if is_hub_name(given):
        return [Source(given, given, None, alone, split, is_hub=True)]
    otherwise = "give a file, folder, glob, saved dataset or a hub dataset (org/name)"
    raise DataError(f"{printable(given)} does not exist; {path_suggestion(given, otherwise)}")


def find_sources(inputs: list[str], split: str | None = None, skipped: Counter[str] | None = None) -> list[Source]:
    """The sources of `inputs`, in the order given, files of a folder or glob by name.

    A folder stands for its files of known format at any depth, or is a dataset saved to disk. What is passed
    over in folders and globs, outputs of jobs among it, is counted in `skipped`, by reason. Raises DataError for what
    does not exist, matches nothing, is given twice, or is a file of a structure that is not read.
    """
    if not inputs:
        raise DataError("no input was given; give a file, folder, glob or dataset")
    counts: Counter[str] = Counter() if skipped is None else skipped
    sources = [source for given in inputs for source in _one(given, split, len(inputs) == 1, counts)]
    seen: dict[str, Source] = {}
    for source in sources:
        if source.name in seen:
            raise DataError(
                f"two inputs are called {source.name} ({seen[source.name].shown} and {source.shown}); "
                f"give each once, or their common folder"
            )
        seen[source.name] = source
    return sources


def check_split(sources: list[Source], split: str | None) -> None:
    """Raise DataError for a split that somebody asks for where nothing is a dataset."""
    if split is not None and all(source.format is not None for source in sources):
        raise DataError(f"split {split!r} is given and no input is a dataset; leave out --split, files have none")


_BATCH = 1024
_SOURCES_LOOKED_AT = 20
_ROWS_LOOKED_AT = 100
_SHOWN = 200


class InputRow(NamedTuple):
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
    return _escaped(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _escaped(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


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


def check_named(source: Source, wanted: Iterable[str]) -> None:
    """Raise DataError where a table with a schema lacks a column of `wanted`; of others their records tell."""
    names = _schema_names(source)
    absent = [name for name in wanted if names is not None and name not in names]
    if absent:
        raise DataError(f"{source.shown} has no column {absent[0]!r}; {_instead(absent[0], names or ())}")


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
        unread = undecoded_header(source.format, record)
        if unread is not None:
            raise DataError(f"{source.shown}: {unread}")
        name = min(wanted, key=columns.index)
        raise DataError(f"{source.shown} has no column {name!r}; {_instead(name, _schema_names(source) or record)}")


def read_rows(source: Source, columns: Columns) -> Iterator[InputRow | BadRow]:
    """The texts of a source in order; what is no text, is empty or has no id comes as a `BadRow`.

    The id is the column's where that has another name than usual or is in the first record, else the row's number,
    behind the source's name where the job has several sources: ids of a file and row numbers mixed could name two
    texts alike. A row without an entry of its own is from `source.name`. Whether texts of other formats than CSV and
    TSV are UTF-8 is for the caller to see.
    """
    with_ids = True if columns.id != Columns().id else None
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
        reason = reason or undecoded(source.format, record, columns)
        if reason is not None:
            shown = None if name is None else _show(str(name))
            yield BadRow(source.name, number, shown, _show(record.get(columns.text)), _escaped(reason))
            continue
        origin = record.get(columns.source)
        yield InputRow(
            source.name, number, str(name), record[columns.text], source.name if origin is None else str(origin)
        )
