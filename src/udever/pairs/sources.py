"""The datasets of a mixture: which rows of which files, and in which order they are walked."""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from udever.data_sets import files_of, open_dataset
from udever.errors import DataError
from udever.files import TABLES, is_saved_dataset
from udever.nearest import meant, path_suggestion
from udever.pairs.columns import are_blank, column_type
from udever.pairs.files import Rows, dataset_batches, digest_files, files_under, hold, read_batches, size_in_memory
from udever.pairs.schedule import adjust, key_of, languages_of, permute
from udever.pairs.schema import KINDS
from udever.pairs.settings import BY_FILE, UNIT, DatasetSettings
from udever.pairs.split import HELD_OUT, TRAIN, Division, divide
from udever.storage import unchanged

pc: Any = pyarrow.compute  # its functions are made at run time: type checkers see none


@dataclass(frozen=True, slots=True)
class Traits:
    """What all rows of a dataset share."""

    name: str
    in_batch_negatives: bool = True
    instruction: str | None = None
    document_instruction: str | None = None
    closeness: float = 0.0
    neighbours: float = 0.0


def find_files(settings: DatasetSettings) -> list[Path]:
    """The tables of a dataset, sorted within each pattern. Raises DataError for a path or pattern without a file."""
    found: list[Path] = []
    for given in settings.paths:
        paths = [Path(given)]
        if not paths[0].exists() and glob.has_magic(given):
            names = sorted(glob.glob(given, recursive=True))  # noqa: PTH207 # Path.glob takes no absolute pattern
            paths = [Path(name) for name in names if Path(name).is_file()]
            if not paths:
                raise DataError(f"dataset {settings.name!r}: no file matches {given}; check the pattern")
        if not paths[0].is_file() and not is_saved_dataset(paths[0]):
            hint = path_suggestion(given, f"give {TABLES}")
            raise DataError(f"dataset {settings.name!r}: {given} is not a file; {hint}")
        found += paths
    return found


def open_table(settings: DatasetSettings) -> tuple[Rows, str]:
    """All rows of a dataset that does not stream, and a digest of its content."""
    columns = sorted(settings.reading.items())
    how = {"others": settings.text is None, "keep_empty": settings.skip_empty}
    if settings.hub is not None:
        dataset = open_hub(settings, streaming=False)
        digest = digest_files(files_of(dataset))
        size = sum(file.stat().st_size for file in files_of(dataset))
        read = partial(dataset_batches, dataset, settings.reading, settings.hub, **how)
        return hold(read, f"{digest} {columns}{_variant(settings)}", size), digest
    paths = find_files(settings)
    is_same = unchanged(file for path in paths for file in files_under(path))
    digest = digest_paths(paths)

    def read_all() -> Iterator[pa.RecordBatch]:
        for path, name in zip(paths, _names(paths), strict=True):
            for batch in read_batches(path, settings.reading, **how):
                yield _of_file(batch, name) if settings.held_out_by == BY_FILE else batch

    size = sum(size_in_memory(path) for path in paths)
    by_file = f" by file {_names(paths)}" if settings.held_out_by == BY_FILE else ""
    return hold(read_all, f"{digest} {columns}{_variant(settings)}{by_file}", size, is_same), digest


def open_hub(settings: DatasetSettings, *, streaming: bool) -> Any:
    """The data set that `hub` names, as `datasets` has it. Raises DataError where it cannot be had."""
    return open_dataset(
        str(settings.hub),
        settings.hub_split,
        config=settings.config,
        revision=settings.revision,
        streaming=streaming,
        choose_by="as hub_split",
    )


def _variant(settings: DatasetSettings) -> str:
    """What else than files and columns decides what the cache holds."""
    return (" with empty rows" if settings.skip_empty else "") + (" alone" if settings.text is not None else "")


def _names(paths: Sequence[Path]) -> list[str]:
    """What files are called where the rows of one are held out together: no folder, unless names are alike."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [path.as_posix() for path in paths]


def _of_file(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    names = pa.repeat(name, batch.num_rows).cast(column_type(UNIT))
    return batch.set_column(batch.schema.get_field_index(UNIT), UNIT, names)


def digest_paths(paths: Sequence[Path]) -> str:
    """A digest of the content of tables; DataError for one that cannot be read."""
    return digest_files(file for path in paths for file in files_under(path))


def choose_rows(
    rows: Rows,
    settings: DatasetSettings,
    seed: str,
    division: Division | None = None,
    *,
    taught: NDArray[np.bool_] | None = None,
    least: int = 2,
) -> NDArray[np.int64] | None:
    """The numbers of the rows the settings keep, ascending; None for all. Raises DataError for fewer than `least`.

    With `division` it says which rows are of the split, and not the file. With `taught` only rows marked in it stay.
    """
    keep = np.concatenate([_spoken(*columns, settings) for columns in _languages(rows)] or [np.zeros(0, bool)])
    if division is None:
        keep &= rows.equal("split", settings.split)
    else:
        keep &= division.sides == (HELD_OUT if settings.split == "held_out" else TRAIN)
    if settings.skip_empty:
        keep &= ~_empty(rows)
    if taught is not None:
        keep &= taught
    chosen = np.flatnonzero(keep)
    if settings.cap is not None and len(chosen) > settings.cap:
        chosen = np.sort(chosen[permute(np.arange(settings.cap), len(chosen), key_of(seed, "cap"))])
    if len(chosen) < least:
        filters = f"split {settings.split!r}" + (f" and languages {settings.languages}" if settings.languages else "")
        raise DataError(
            f"dataset {settings.name!r} holds {len(chosen)} of its {len(rows):,} rows with {filters}; "
            f"{_meant_language(rows, settings, f'expected at least {least}')}"
        )
    if settings.kind == "classification":
        _need_labels(rows, chosen, settings)
    return None if len(chosen) == len(rows) else chosen


def _meant_language(rows: Rows, settings: DatasetSettings, otherwise: str) -> str:
    """What a language that no row has was likely meant to be, else `otherwise`."""
    there = {name for both in _languages(rows) for side in both for name in pc.unique(side).to_pylist() if name}
    unknown = next((name for name in settings.languages or () if name not in there), None)
    return otherwise if unknown is None else meant(unknown, sorted(there), otherwise)


def _empty(rows: Rows) -> NDArray[np.bool_]:
    sides = zip(rows.column("anchor"), rows.column("positive"), strict=True)
    return np.concatenate([are_blank(*both).to_numpy(zero_copy_only=False) for both in sides])


def count_empty(rows: Rows) -> int:
    """How many rows lack a side; none where the settings do not let them through."""
    return int(_empty(rows).sum()) if len(rows) else 0


def _languages(rows: Rows) -> Iterator[tuple[pa.Array, pa.Array]]:
    return zip(rows.column("anchor_language"), rows.column("positive_language"), strict=True)


def _spoken(anchor: pa.Array, positive: pa.Array, settings: DatasetSettings) -> NDArray[np.bool_]:
    if settings.languages is None:
        return np.ones(len(anchor), bool)
    wanted = pa.array(settings.languages, anchor.type)
    both = pc.and_(pc.is_in(anchor, value_set=wanted), pc.is_in(positive, value_set=wanted))
    return both.to_numpy(zero_copy_only=False)


_DIVISIONS: dict[str, Division] = {}
_REMEMBERED = 8


def division_of(rows: Rows, settings: DatasetSettings, digest: str) -> Division | None:
    """Which rows the settings hold out; None where they leave that to the file.

    Raises DataError where the file says it too, or nothing can be held out. A run asks three times for the same rows,
    so the last answers are remembered.
    """
    if settings.held_out is None:
        return None
    if len(rows) and rows.equal("split", "held_out").any():
        raise DataError(
            f"dataset {settings.name!r} has rows whose split is held_out, and the recipe's held_out beside them; "
            f"leave held_out out"
        )
    told = (settings.held_out, settings.held_out_seed, settings.held_out_by, settings.kind, sorted(settings.paths))
    key = f"{digest} {sorted(settings.reading.items())}{_variant(settings)} {told}"
    if key not in _DIVISIONS:
        try:
            pairs = rows if settings.kind is None else [adjust(pair, settings.kind, None) for pair in rows]
            found = divide(pairs, settings.held_out, settings.held_out_seed, settings.unit)
        except DataError as error:
            raise DataError(f"dataset {settings.name!r}: {error}") from error
        while len(_DIVISIONS) >= _REMEMBERED:
            del _DIVISIONS[next(iter(_DIVISIONS))]
        _DIVISIONS[key] = found
    return _DIVISIONS[key]


def _need_labels(rows: Rows, chosen: NDArray[np.int64], settings: DatasetSettings) -> None:
    null = np.concatenate([column.is_null().to_numpy(zero_copy_only=False) for column in rows.column("label")])
    without = chosen[null[chosen]]
    if len(without):
        raise DataError(
            f"dataset {settings.name!r} row {without[0]}: kind is 'classification' and 'label' is missing; "
            f"expected the class"
        )


def split_kinds(rows: Rows, chosen: NDArray[np.int64] | None) -> dict[str, NDArray[np.int64] | None]:
    """The chosen rows of each kind there is; None for all rows of the table."""
    numbers = np.concatenate([pc.index_in(c, value_set=pa.array(KINDS, c.type)) for c in rows.column("kind")])
    if chosen is not None:
        numbers = numbers[chosen]
    found: dict[str, Any] = {kind: np.flatnonzero(numbers == number) for number, kind in enumerate(KINDS)}
    present = {kind: places for kind, places in found.items() if len(places)}
    if len(present) == 1:
        return dict.fromkeys(present, chosen)
    return {kind: places if chosen is None else chosen[places] for kind, places in present.items()}


def count_languages(rows: Rows, chosen: NDArray[np.int64] | None) -> dict[str, int]:
    """How many rows there are of each pair of languages, most first; "?" where none is named."""
    counts: Counter[str] = Counter()
    for names in _within(languages_of(rows), chosen):
        for item in pc.value_counts(names).to_pylist():
            counts[item["values"]] += item["counts"]
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def share_duplicates(rows: Rows, column: str, chosen: NDArray[np.int64] | None) -> float:
    """The share of the chosen rows whose text in `column` stood in a row before; 64-bit hashes are compared."""
    parts = _within(rows.column(column), chosen)
    whole = np.concatenate([np.fromiter(map(hash, texts.to_pylist()), np.int64, len(texts)) for texts in parts])
    return 1 - len(np.unique(whole)) / len(whole)


def _within(column: Iterable[pa.Array], chosen: NDArray[np.int64] | None) -> Iterator[pa.Array]:
    """The chosen rows (all where None) of a column that comes batch by batch."""
    first = 0
    for values in column:
        if chosen is None:
            yield values
            continue
        start, end = np.searchsorted(chosen, [first, first + len(values)])
        yield values.take(pa.array(chosen[start:end] - first))
        first += len(values)
