"""Labelled texts: what a filter is made from."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError, RecipeError
from udever.nearest import nearest
from udever.records import is_utf8

Kind = Literal["one", "several"]
"""Whether every text has exactly one of the labels, or any number of them."""

_SHOWN = 100


class Fields(NamedTuple):
    """Which columns hold what; language and group may be None."""

    text: str = "text"
    label: str = "label"
    language: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Examples:
    """Texts with their labels, and where columns name them, their languages and groups. Lists of one length.

    Texts of a group (translations of one text, say) are never on both sides of a test; one whose group is None is in
    none.
    """

    texts: list[str]
    labels: list[tuple[str, ...]]
    languages: list[str] | None
    kind: Kind
    groups: list[str | None] | None = None

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({label for labels in self.labels for label in labels}))

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """[texts, labels]: which text has which label."""
        place = {name: column for column, name in enumerate(self.names)}
        truth = np.zeros((len(self), len(self.names)), dtype=bool)
        for row, labels in enumerate(self.labels):
            truth[row, [place[label] for label in labels]] = True
        return truth


def _label(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DataError(f"{where}: the label is {value!r:.{_SHOWN}}; expected a name or a whole number")
    return str(value).strip()


def _labels(value: Any, separator: str | None, where: str) -> tuple[str, ...]:
    if isinstance(value, list):
        found = value
    elif separator is not None:
        if value is not None and not isinstance(value, str):
            raise DataError(f"{where}: the labels are {value!r:.{_SHOWN}}; expected a text to cut at {separator!r}")
        found = [part for part in (value or "").split(separator) if part.strip()]
    else:
        return (_label(value, where),)
    return tuple(sorted({_label(one, where) for one in found}))


def _check_characters(name: str, value: Any, where: str) -> None:
    """Raise DataError for a text, or one of a list, that could not be written: JSON can name half a character."""
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    if not all(map(is_utf8, texts)):
        raise DataError(f"{where}: {name!r} has a lone surrogate, which is no character; expected a text")


def _named(value: Any) -> str | None:
    """What a cell of languages or groups says; None for an empty one, which pandas writes as NaN."""
    is_empty = value is None or (isinstance(value, float) and math.isnan(value))
    return None if is_empty else str(value).strip() or None


def read_examples(
    records: Iterable[tuple[str, dict[str, Any]]], fields: Fields, separator: str | None = None
) -> Examples:
    """Examples from records, each with the place to name it by.

    A label that is a list, or a text cut at `separator`, makes every text one of any number of labels, none
    included; else it is one name or whole number. A text whose group is empty is in none. Raises DataError, naming
    the place, for a column that is absent or holds something else, for a language that is empty, and where there are
    fewer than two labels; RecipeError for a `separator` that is empty.
    """
    if separator == "":
        raise RecipeError("separator is empty; give the characters between two labels, such as ;")
    texts: list[str] = []
    labels: list[tuple[str, ...]] = []
    languages: list[str] = []
    groups: list[str | None] = []
    several = separator is not None
    for where, record in records:
        absent = [name for name in fields if name is not None and name not in record]
        if absent:
            near = nearest(absent[0], record)
            hint = f"it has {', '.join(map(str, record))[:_SHOWN]}" if near is None else f"did you mean {near!r}?"
            raise DataError(f"{where} has no {absent[0]!r}; {hint}")
        for name in filter(None, fields):
            _check_characters(name, record[name], where)
        text, label = record[fields.text], record[fields.label]
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: {fields.text!r} is {text!r:.{_SHOWN}}; expected a text")
        several = several or isinstance(label, list)
        texts.append(text)
        labels.append(_labels(label, separator, where))
        if fields.language is not None:
            language = _named(record[fields.language])
            if language is None:
                raise DataError(f"{where}: {fields.language!r} is empty; expected the language of every text")
            languages.append(language)
        if fields.group is not None:
            groups.append(_named(record[fields.group]))
    examples = Examples(
        texts=texts,
        labels=labels,
        languages=languages if fields.language else None,
        kind="several" if several else "one",
        groups=groups if fields.group else None,
    )
    _check(examples)
    return examples


def _check(examples: Examples) -> None:
    if not examples.names or (examples.kind == "one" and len(examples.names) < 2):
        given = ", ".join(examples.names) or "none"
        raise DataError(f"{len(examples)} examples have {len(examples.names)} labels ({given}); expected at least two")
    constant = examples.truth.all(axis=0)
    if examples.kind == "several" and constant.any():
        name = examples.names[int(constant.argmax())]
        raise DataError(f"every example has the label {name!r}; give some without it")
