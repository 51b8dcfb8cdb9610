"""Reading parallel texts: the same text in several languages, a row each."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from udever.errors import DataError
from udever.evaluation.tasks import read_columns
from udever.files import READ
from udever.nearest import nearest, path_suggestion

_LANGUAGE = re.compile(r"[a-z]{3}-[A-Z][a-z]{3}|[a-z+#]+-Code")


@dataclass(frozen=True)
class Parallel:
    """The same texts in several languages: `texts[language][row]`; `num_repeated` rows were left out."""

    languages: tuple[str, ...]
    texts: Mapping[str, Sequence[str]]
    num_repeated: int = 0

    @property
    def num_rows(self) -> int:
        """How many texts there are in each language."""
        return len(self.texts[self.languages[0]])


def read_parallel(
    path: str | Path, languages: Sequence[str] = (), *, limit: int | None = None, seed: int = 0
) -> Parallel:
    """Read texts from a table with a column per language (`eng-Latn`), a row per text.

    `languages` choose the columns. For a file with `sentence1` and `sentence2` they name the two, which otherwise
    come from the task.json beside it and the file's name (fra-eng). A row that repeats a text of an earlier row is
    left out: its nearest neighbour would be the repetition. `limit` draws that many rows. Raises DataError for
    fewer than two languages or rows, and for an empty text, naming its row.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not a file; {path_suggestion(path, f'give {READ}')}")
    table = read_columns(path)
    names = list(table)
    if {"sentence1", "sentence2"} <= set(names) and not set(languages) & set(names):
        chosen = tuple(languages) or _languages_beside(path)
        if len(chosen) != 2:
            raise DataError(f"{path} has sentence1 and sentence2; name their languages with --language, twice")
        columns = dict(zip(chosen, ("sentence1", "sentence2"), strict=True))
    else:
        chosen = tuple(languages) or tuple(name for name in names if _LANGUAGE.fullmatch(name))
        columns = {name: name for name in chosen}
    missing = [column for column in columns.values() if column not in names]
    if missing and (near := nearest(missing[0], names)) is not None:
        raise DataError(f"{path} has no column {missing[0]!r}; did you mean {near!r}?")
    if missing or len(columns) < 2:
        raise DataError(
            f"{path} has the columns {', '.join(names)}; expected two or more named as languages, such as eng-Latn and "
            "fra-Latn, or name columns with --language"
        )
    rows = list(zip(*(table[column] for column in columns.values()), strict=True))
    kept = _distinct(path, rows, tuple(columns))
    if limit is not None and len(kept) > limit:
        drawn = np.random.default_rng(seed).choice(len(kept), size=limit, replace=False)
        kept_rows = [kept[index] for index in sorted(drawn)]
    else:
        kept_rows = kept
    if len(kept_rows) < 2:
        raise DataError(f"{path} has {len(kept_rows)} distinct rows; expected at least two")
    texts = {language: [row[number] for row in kept_rows] for number, language in enumerate(columns)}
    return Parallel(tuple(columns), texts, len(rows) - len(kept))


def _distinct(path: Path, rows: Sequence[tuple[Any, ...]], languages: Sequence[str]) -> list[tuple[str, ...]]:
    seen: list[set[str]] = [set() for _ in languages]
    kept: list[tuple[str, ...]] = []
    for number, row in enumerate(rows):
        for language, text in zip(languages, row, strict=True):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{path} row {number}: {language} is {text!r}; expected a text")
        if not any(text in known for text, known in zip(row, seen, strict=True)):
            kept.append(row)
            for text, known in zip(row, seen, strict=True):
                known.add(text)
    return kept


def _languages_beside(path: Path) -> tuple[str, ...]:
    """The languages of fra-eng.parquet by the task.json in its folder; empty where that does not tell."""
    try:
        known = json.loads((path.parent / "task.json").read_text(encoding="utf-8"))["languages"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    parts = path.stem.split("-")
    found = [language for part in parts for language in known if str(language).startswith(f"{part}-")]
    return tuple(found) if len(parts) == len(found) == 2 else ()
