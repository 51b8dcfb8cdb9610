"""From the columns a file has to those of a pairs file, checked column by column and never row by row.

What is wrong is named with its file and row. A row is looked at in Python only to name it, and where rows come as
dictionaries, to make columns of them.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute

from udever.errors import DataError
from udever.nearest import nearest, suggestion
from udever.pairs.schema import KINDS, SPLITS, Pair

pc: Any = pyarrow.compute  # its functions are made at run time: type checkers see none

COLUMNS = tuple(field.name for field in fields(Pair))
_REQUIRED = ("anchor", "positive")
_ALLOWED = {"kind": KINDS, "split": SPLITS}
_NUMBERED = re.compile(r"negative_\d+")
_SHOWN_ROWS = 50
NUMBERED = ("label", "group", "source")
"""Columns whose values may be whole numbers; they are read as texts."""

_TEXT, _TEXTS, _NUMBERS = pa.large_string(), pa.large_list(pa.large_string()), pa.list_(pa.float64())
# Large: a batch may hold texts of a million characters.
_TYPES = {"negatives": _TEXTS, "scores": _NUMBERS}
ROWS_SCHEMA = pa.schema([(name, _TYPES.get(name, _TEXT)) for name in COLUMNS])
"""The columns of normalised batches: those of a pairs file, with 64-bit offsets."""


def is_column(name: str) -> bool:
    """Whether a column of this name is read: those of `Pair`, `negative`, `negative_1`, ..."""
    return name in COLUMNS or name == "negative" or _NUMBERED.fullmatch(name) is not None


def column_type(name: str) -> pa.DataType:
    """The type of a column that is read, in normalised batches."""
    return _TYPES.get(name, _TEXT)


def check_mapping(columns: Mapping[str, str]) -> None:
    """Raise ValueError for a key of `columns` that is no column of pairs."""
    for name in columns:
        if not is_column(name):
            hint = suggestion(name, [*COLUMNS, "negative"], "known columns:")
            raise ValueError(f"columns names {name!r}, which pairs do not have; {hint}")


def choose_columns(
    available: list[str], mapping: Mapping[str, str], where: str, *, others: bool = True, more: bool = False
) -> dict[str, str]:
    """For each column of pairs that a file with columns `available` gives, its name there.

    `others=False` takes those in `mapping` alone. Raises DataError where one in `mapping` or a required one is missing;
    of those in `mapping` only a required one where `more` rows may come that have the others.
    """
    chosen = {name: name for name in available if others and is_column(name)} | dict(mapping)
    needed = {name: chosen.get(name, name) for name in (*_REQUIRED, *mapping)}
    refused = [needed[name] for name in (_REQUIRED if more else needed) if needed[name] not in available]
    missing = list(dict.fromkeys(refused))
    if missing:
        hint = _hint(available, mapping) if others else _near(missing[0], available)
        raise DataError(
            f"{where} has no column {', '.join(map(repr, missing))} (it has {', '.join(available)}); "
            f"expected {', '.join(dict.fromkeys(needed.values()))}{hint}"
        )
    return chosen


def _near(name: str, available: list[str]) -> str:
    near = nearest(name, available)
    return "" if near is None else f"; did you mean {near!r}?"


def _hint(available: list[str], mapping: Mapping[str, str]) -> str:
    if len(available) == 1 and ";" in available[0]:
        return "; its header is separated by semicolons: save it with commas, or with tabs as .tsv"
    close = {name: nearest(there, available) for name, there in mapping.items() if there not in available}
    found = [
        repr(near) if name == "source" else f"{name} = {json.dumps(near, ensure_ascii=False)}"
        for name, near in close.items()  # `source` is what held_out_by names, too
        if near
    ]
    if found:
        return f"; did you mean {', '.join(found)}?"
    if set(mapping) >= set(_REQUIRED):
        return ""
    guessed = dict(mapping) or guess_columns(available) or {}
    said = {name: json.dumps(guessed[name], ensure_ascii=False) if name in guessed else "..." for name in _REQUIRED}
    named = ", ".join(f"{name} = {there}" for name, there in said.items())
    return f"; name them: columns = {{ {named} }} in a recipe, --anchor and --positive on the command line"


_KNOWN = (
    ("query", "positive"), ("query", "answer"), ("query", "document"), ("query", "passage"), ("query", "text"),
    ("question", "answer"), ("question", "positive"), ("question", "context"), ("question", "passage"),
    ("prompt", "response"), ("instruction", "output"), ("input", "output"),
    ("title", "abstract"), ("title", "text"), ("title", "body"), ("title", "content"),
    ("sentence1", "sentence2"), ("sentence_1", "sentence_2"), ("text1", "text2"), ("text_1", "text_2"),
)  # fmt: skip


def guess_columns(available: list[str]) -> dict[str, str] | None:
    """The anchor and positive of a table that calls them otherwise; None where that is not plain.

    By names that data sets use, whatever their case, or because there are two columns and no more, none of them named
    as what tells rows apart. {} where the
    table has both names itself.
    """
    if set(_REQUIRED) <= set(available):
        return {}
    by_name = {name.strip().casefold(): name for name in reversed(available)}
    for couple in _KNOWN:
        if all(name in by_name for name in couple):
            return {side: by_name[name] for side, name in zip(_REQUIRED, couple, strict=True)}
    told_apart = by_name.keys() & {"id", "_id", "key", "index", "uuid", "language", "lang", "date", "url", "path"}
    if len(available) == 2 and not told_apart and not any(map(is_column, available)):
        return dict(zip(_REQUIRED, available, strict=True))
    return None


def names_in(records: Iterable[Mapping[str, Any]]) -> dict[str, None]:
    """The names that rows given as dictionaries have, in the order they come in."""
    return dict.fromkeys(name for record in records for name in record)


def from_records(
    records: list[dict[str, Any]], chosen: Mapping[str, str], where: str, first_row: int
) -> pa.RecordBatch:
    """Rows given as dictionaries, as a batch of the columns `chosen` (pairs' name -> name there), null where a row has
    none; a value of a wrong type names its row."""
    arrays = []
    for name, there in chosen.items():
        values = [record.get(there) for record in records]
        for row, value in enumerate(values):
            problem = None if value is None else _problem(name, value)
            if problem:
                raise DataError(f"{where} row {first_row + row}: {name!r} {problem}")
        if name in NUMBERED:
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
    if name in NUMBERED and isinstance(value, int) and not isinstance(value, bool):
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


class Blanks:
    """Rows with an empty or missing side: gathered, so that one message names all of them, or let through."""

    def __init__(self, where: str, *, skip: bool = False) -> None:
        self._where, self._skip = where, skip
        self._rows: dict[str, list[int]] = {name: [] for name in _REQUIRED}
        self._num_rows = 0

    def note(self, name: str, blank: pa.Array, first_row: int) -> None:
        """Remember which rows of a batch have no text in the column `name`."""
        self._num_rows = max(self._num_rows, first_row + len(blank))
        self._rows[name] += (first_row + pc.indices_nonzero(blank).to_numpy()).tolist()

    @property
    def any(self) -> bool:
        """Whether rows are blank."""
        return any(self._rows.values())

    def check(self) -> None:
        """Raise DataError where rows are blank and are not to be left out."""
        told = [
            f"{name!r} is empty in {len(rows):,} of {self._num_rows:,} rows ({_listed(rows)})"
            for name, rows in self._rows.items()
            if rows
        ]
        if told and not self._skip:
            raise DataError(
                f"{self._where}: {', '.join(told)}; fill them in, or leave them out with skip_empty = true in the "
                f"recipe's dataset or --skip-empty on the command line"
            )


def _listed(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:_SHOWN_ROWS]))
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}" + (", ..." if len(rows) > _SHOWN_ROWS else "")


def are_blank(anchor: pa.Array, positive: pa.Array) -> pa.Array:
    """Which rows lack a side."""
    return pc.or_(*(pc.fill_null(_is_blank(texts), True) for texts in (anchor, positive)))


def normalise(batch: pa.RecordBatch, where: str, first_row: int, blanks: Blanks | None = None) -> pa.RecordBatch:
    """`batch`, whose columns are named as those of pairs, as `ROWS_SCHEMA`; `first_row` is where it starts.

    Nulls take the defaults of `Pair`, all columns of negatives become one. Rows with an empty or missing side go
    to `blanks`, whose `check` is the caller's; without it they are refused here. Raises DataError naming the row for
    a value of another type, a kind, split or number of scores that cannot be.
    """

    def fail(row: int, what: str) -> DataError:
        return DataError(f"{where} row {first_row + row}: {what}")

    columns = {name: _plain(batch.column(name), name, fail) for name in batch.schema.names}
    negatives = _negatives(columns, batch.num_rows, fail)
    parts = {name: columns.get(name, pa.nulls(batch.num_rows, ROWS_SCHEMA.field(name).type)) for name in COLUMNS}
    parts["negatives"] = negatives
    noted = Blanks(where) if blanks is None else blanks
    for name in _REQUIRED:
        noted.note(name, pc.fill_null(_is_blank(parts[name]), True), first_row)
    if blanks is None:
        noted.check()
    for name, allowed in _ALLOWED.items():
        parts[name] = pc.fill_null(parts[name], getattr(Pair("", ""), name))
        wrong = pc.invert(pc.is_in(parts[name], value_set=pa.array(allowed, _TEXT)))
        _refuse(wrong, partial(_not_allowed, name, allowed, parts[name]), fail)
    without = pc.and_(pc.equal(parts["kind"], "classification"), pc.is_null(parts["label"]))
    _refuse(without, lambda row: "kind is 'classification' and 'label' is missing; expected the class", fail)
    _check_scores(parts["scores"], negatives, fail)
    return pa.RecordBatch.from_arrays([parts[name] for name in COLUMNS], schema=ROWS_SCHEMA)


_Fail = Callable[[int, str], DataError]


def _not_allowed(name: str, allowed: tuple[str, ...], values: pa.Array, row: int) -> str:
    return f"{name} is {values[row].as_py()!r}; expected {' or '.join(allowed)}"


def _refuse(wrong: pa.Array, what: Callable[[int], str], fail: _Fail) -> None:
    """Raise for the first row that is marked."""
    row = pc.index(wrong, pa.scalar(True)).as_py()
    if row >= 0:
        raise fail(row, what(row))


def _plain(column: pa.Array, name: str, fail: _Fail) -> pa.Array:
    """`column` in its type of `ROWS_SCHEMA`, with texts that are valid UTF-8."""
    target = column_type(name)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_list(target) or pa.types.is_large_list(target):
        of_texts = target == _TEXTS
        fits = _is_list(kind) and (_is_text if of_texts else _is_number)(kind.value_type)
    else:
        fits = _is_text(kind) or (name in NUMBERED and pa.types.is_integer(kind))
    if not fits and not pa.types.is_null(kind):
        expected = {"negatives": "a list of texts", "scores": "a list of numbers"}.get(name, "a text")
        row = pc.index(pc.is_valid(column), pa.scalar(True)).as_py()
        raise fail(max(row, 0), f"{name!r} is {kind}; expected {expected}")
    try:
        column = column.cast(target)
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise fail(_first_invalid(column), f"{name!r} is no valid UTF-8; expected a text") from error
    return column


_TEXT_KINDS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,  # as many writers store text; that it is UTF-8 is checked
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_null,
)


def _is_text(kind: pa.DataType) -> bool:
    return any(holds(kind) for holds in _TEXT_KINDS)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _first_invalid(column: pa.Array) -> int:
    for row in range(len(column)):
        try:
            value = column[row].as_py()
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, bytes):
                    item.decode()
        except UnicodeDecodeError:
            return row
    return 0


def _is_blank(texts: pa.Array) -> pa.Array:
    """Which texts hold nothing but white space; null for null.

    Only the first characters are looked at, so that a long text costs no more than a short one.
    """
    start = pc.utf8_slice_codeunits(texts, 0, 32)
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(start)), 0)
    if pc.any(pc.and_kleene(blank, pc.greater(pc.utf8_length(texts), 32))).as_py():
        blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)
    return blank


def _negatives(columns: dict[str, pa.Array], num_rows: int, fail: _Fail) -> pa.Array:
    """One list of negatives a row, from all columns of them; null where a row has none."""
    single = sorted((n for n in columns if n not in COLUMNS), key=lambda n: int(n.partition("_")[2] or 0))
    for name in single:
        blank = pc.fill_null(_is_blank(columns[name]), False)
        _refuse(blank, lambda row, name=name: f"{name!r} is empty; expected a text or null", fail)
    listed = columns.get("negatives")
    if listed is not None:
        flat, parents = listed.flatten(), pc.list_parent_indices(listed)
        blank = pc.fill_null(_is_blank(flat), True)
        _refuse(_rows_with(parents, blank, num_rows), lambda row: "'negatives' holds an empty text; leave it out", fail)
    if not single:
        return pa.nulls(num_rows, _TEXTS) if listed is None else listed
    rows = [list(texts or ()) for texts in (listed.to_pylist() if listed is not None else [()] * num_rows)]
    for name in single:
        for row, text in zip(rows, columns[name].to_pylist(), strict=True):
            if text is not None:
                row.append(text)
    return pa.array([row or None for row in rows], _TEXTS)


def _rows_with(parents: pa.Array, marked: pa.Array, num_rows: int) -> pa.Array:
    """Which rows own a marked item."""
    owners = pc.unique(pc.filter(parents, marked))
    return pc.is_in(pa.array(range(num_rows), parents.type), value_set=owners)


def _check_scores(scores: pa.Array, negatives: pa.Array, fail: _Fail) -> None:
    """One finite score for the positive and each negative, or null."""
    num_scores = pc.list_value_length(scores)
    expected = pc.add(pc.fill_null(pc.list_value_length(negatives), 0), 1)
    wrong = pc.fill_null(pc.not_equal(pc.cast(num_scores, pa.int64()), pc.cast(expected, pa.int64())), False)
    _refuse(
        wrong,
        lambda row: (
            f"'scores' has {num_scores[row]} numbers; expected {expected[row]}: of the positive, then each negative"
        ),
        fail,
    )
    flat = scores.flatten()
    bad = pc.invert(pc.fill_null(pc.is_finite(flat), False))
    owners = _rows_with(pc.list_parent_indices(scores), bad, len(scores))
    _refuse(owners, lambda row: f"'scores' holds {_first_bad(scores[row].as_py())}; expected finite numbers", fail)


def _first_bad(values: list[float | None]) -> float | None:
    return next(value for value in values if value is None or not math.isfinite(value))
