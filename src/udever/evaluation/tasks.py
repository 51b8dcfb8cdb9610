"""A folder as an evaluation task: `task.json` and one table per subset. Reads and checks; no mteb.

`docs/evaluation.md` has the layout. Every complaint names the file and, counted from 0, the row.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from udever.errors import DataError, first_line
from udever.evaluation.subset_languages import languages_of, mteb_language
from udever.files import format_of, pairs_format, text_format
from udever.nearest import path_suggestion
from udever.records import Broken, read_file, undecoded, undecoded_header
from udever.settings import Settings, explain

TaskType = Literal[
    "bitext",
    "sts",
    "classification",
    "pair_classification",
    "clustering",
    "retrieval",
    "crosslingual_retrieval",
    "reranking",
]
Columns = dict[str, list[Any]]

SPEC_FILE = "task.json"
MAIN_SCORES: dict[TaskType, str] = {
    "bitext": "f1",
    "sts": "cosine_spearman",
    "classification": "accuracy",
    "pair_classification": "max_ap",
    "clustering": "v_measure",
    "retrieval": "ndcg_at_10",
    "crosslingual_retrieval": "ndcg_at_10",
    "reranking": "map_at_1000",
}
_SHORT_SCORES = {"map": "map_at_1000", "mrr": "mrr_at_1000", "ndcg": "ndcg_at_10"}
_PARTS = ("corpus", "queries", "qrels", "sentence1", "sentence2", "gold")
_TEST_FIRST = (("test",), ("dev", "valid", "validation", "val"))
_NAME = re.compile(r"[\w.+-]+")


class TaskSpec(Settings):
    """The content of `task.json`; `docs/evaluation.md` says what each key does."""

    name: str
    type: TaskType
    languages: tuple[str, ...] = Field(min_length=1)
    main_score: str = ""
    mteb_name: str | None = None
    description: str = ""
    prompt: str | None = None
    licence: str = ""
    notes: str = ""
    source_repo: str = ""
    source_commit: str = ""
    splits: dict[str, Any] = Field(default_factory=dict)
    eval_splits: dict[str, tuple[str, ...]] | tuple[str, ...] = ()
    subset_languages: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    samples_per_label: int | None = Field(default=None, ge=1)
    num_experiments: int | None = Field(default=None, ge=1)
    titles: bool = True
    symmetric: bool = False
    ignore_identical_ids: bool = False
    metrics: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _name_is_a_file_name(self) -> Self:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; expected letters, digits, '_', '-', '+' and '.'")
        return self


class FolderTask:
    """One task of a folder: its description and where its tables are. Nothing is read until asked for."""

    def __init__(self, folder: Path, overrides: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.overrides = dict(overrides or {})
        self.spec = _read_spec(folder / SPEC_FILE, self.overrides)
        self.files = _files(folder)
        if not self.files:
            raise DataError(f"{folder} has no table; expected SUBSET.jsonl or SUBSET.parquet beside it")

    @property
    def name(self) -> str:
        """The task's name: what its result file is called."""
        return self.spec.name

    @property
    def main_score(self) -> str:
        """The metric, as mteb calls it."""
        given = self.spec.main_score or MAIN_SCORES[self.spec.type]
        return _SHORT_SCORES.get(given, given)

    @property
    def subsets(self) -> dict[str, tuple[str, ...]]:
        """Every subset with its languages as mteb writes them, by name."""
        names = sorted(self.files)
        if self.spec.type == "crosslingual_retrieval":
            if len(names) < 2:
                raise DataError(f"{self.folder} has one language; expected two or more for cross-lingual retrieval")
            names = [f"{a}-{b}" for a in names for b in names if a != b]
        known = [mteb_language(language) for language in self.spec.languages]
        return {
            name: tuple(mteb_language(code) for code in self.spec.subset_languages[name])
            if name in self.spec.subset_languages
            else languages_of(name, known)
            for name in names
        }

    def fingerprint(self) -> str:
        """A hash of everything that decides the task's scores: its tables, its description, and the overrides."""
        digest = hashlib.sha256(json.dumps(self.overrides, sort_keys=True).encode())
        tables = {path for parts in self.files.values() for path in parts.values()}
        for path in sorted({*tables, self.folder / SPEC_FILE}):
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def read(self, subset: str, part: str = "") -> Columns:
        """A table as columns. Raises DataError where it is missing or cannot be read."""
        path = self.files.get(subset, {}).get(part)
        if path is None:
            wanted = f"{subset}.{part}" if part else subset
            raise DataError(f"{self.folder} has no {wanted}.parquet (or .jsonl, .csv, .tsv), which {self.name} needs")
        return read_columns(path)

    def path(self, subset: str, part: str = "") -> Path:
        """The file of a table that was read."""
        return self.files[subset][part]

    def split_rows(self, columns: Columns, path: Path) -> dict[str, list[int]]:
        """The rows of every split that is scored, and of "train" where there is one.

        `eval_splits` decides; without it the test splits are scored, or else the development splits, or else all.
        """
        named = columns.get("split")
        if named is None:
            return {self.only_split: list(range(_num_rows(columns)))}
        rows: dict[str, list[int]] = {}
        for row, split in enumerate(named):
            if not isinstance(split, str) or not split:
                raise DataError(f"{path}, row {row}: split is {split!r}; expected the name of a split")
            rows.setdefault(split, []).append(row)
        wanted = self._wanted(rows, path)
        found = {name: sorted(row for part in parts for row in rows[part]) for name, parts in wanted.items()}
        if "train" in rows and self.spec.type == "classification":
            found.setdefault("train", rows["train"])
        return found

    @property
    def only_split(self) -> str:
        """The split of tables that name none."""
        given = list(self.spec.eval_splits) or [s for s in self.spec.splits if s.split("_")[0] in sum(_TEST_FIRST, ())]
        return given[0] if given else "test"

    def _wanted(self, rows: Mapping[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
        given = self.spec.eval_splits
        if given:
            wanted = dict(given) if isinstance(given, dict) else {name: (name,) for name in given}
            missing = [part for parts in wanted.values() for part in parts if part not in rows]
            if missing:
                raise DataError(f"{path} has no rows of split {missing[0]!r}; it has {', '.join(sorted(rows))}")
            return wanted
        for family in _TEST_FIRST:
            found = [split for split in rows if split.split("_")[0] in family]
            if found:
                return {split: (split,) for split in found}
        rest = [split for split in rows if split != "train"] or list(rows)
        return {split: (split,) for split in rest}


def find_tasks(folder: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> list[FolderTask]:
    """The task in `folder`, or those in the folders below it, by name. `overrides[task]` replace keys of its task.json.

    Raises DataError where there is none, where two share a name, and where an override names no task.
    """
    if not folder.is_dir():
        otherwise = f"expected one with {SPEC_FILE}, or a folder of such folders"
        raise DataError(f"{folder} is not a folder; {path_suggestion(folder, otherwise)}")
    places = [folder] if (folder / SPEC_FILE).is_file() else sorted(p.parent for p in folder.glob(f"*/{SPEC_FILE}"))
    if not places:
        raise DataError(f"{folder} has no {SPEC_FILE}, nor has any folder in it; see docs/evaluation.md for the layout")
    tasks: dict[str, FolderTask] = {}
    for place in places:
        task = FolderTask(place, (overrides or {}).get(place.name))
        if task.name in tasks:
            raise DataError(f"{place} and {tasks[task.name].folder} are both called {task.name!r}; rename one of them")
        tasks[task.name] = task
    return list(tasks.values())


def read_columns(path: Path) -> Columns:
    """A table as lists; a key that a row lacks is None there. Raises DataError naming the row that cannot be read."""
    rows = list(read_rows(path))
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def read_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a table one by one; of Parquet the `columns` alone. Raises DataError naming what cannot be read."""
    form = pairs_format(path)
    for number, row in read_file(path, form, columns):
        if isinstance(row, Broken):
            raise DataError(f"{path}, row {number}: {row.reason}")
        unread = undecoded(form, row, row)
        if unread is not None:
            raise DataError(f"{path}, row {number}: {unread}")
        yield row


def is_table(path: Path) -> bool:
    """Whether a file in a folder is a table by its name."""
    form = format_of(path)
    return form is not None and form.kind != "txt" and form.in_folders and path.is_file()


def texts_in(columns: Columns, name: str, path: Path) -> list[str]:
    """A column of texts. Raises DataError naming the row that holds none."""
    return _checked(columns, name, path, lambda value: isinstance(value, str), "a text")


def numbers_in(columns: Columns, name: str, path: Path) -> list[float]:
    """A column of finite numbers. Raises DataError naming the row that holds none."""
    found = _checked(columns, name, path, lambda value: math.isfinite(_number(value)), "a number")
    return list(map(_number, found))


def labels_in(columns: Columns, name: str, path: Path) -> list[str]:
    """A column of labels, numbers among them, as strings. Raises DataError naming the row without one."""
    found = _checked(columns, name, path, lambda value: isinstance(value, str | int) and value != "", "a label")
    return list(map(str, found))


def ids_in(columns: Columns, name: str, path: Path) -> list[str]:
    """A column of distinct ids. Raises DataError naming the row that repeats one."""
    seen: dict[str, int] = {}
    for row, value in enumerate(texts_in(columns, name, path)):
        if value in seen:
            raise DataError(f"{path}, row {row}: {name} {value!r} is that of row {seen[value]} too; ids must differ")
        seen[value] = row
    return columns[name]


def binary_in(columns: Columns, name: str, path: Path) -> list[int]:
    """A column of labels 0 and 1. Raises DataError naming the row with something else."""
    found = _checked(
        columns, name, path, lambda value: value in (0, 1, "0", "1") and type(value) is not float, "0 or 1"
    )
    return list(map(int, found))


def text_lists_in(columns: Columns, name: str, path: Path) -> list[list[str]]:
    """A column of non-empty lists of texts. Raises DataError naming the row with something else."""

    def fits(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)

    return _checked(columns, name, path, fits, "a list of texts, at least one")


def _checked(columns: Columns, name: str, path: Path, fits: Callable[[Any], bool], expected: str) -> list[Any]:
    if not _num_rows(columns):
        raise DataError(f"{path} has no rows")
    if name not in columns:
        hint = undecoded_header(format_of(path), columns) or f"it has {', '.join(columns)}"
        raise DataError(f"{path} has no column {name!r}; {hint}")
    for row, value in enumerate(columns[name]):
        if not fits(value):
            raise DataError(f"{path}, row {row}: {name} is {_shown(value)}; expected {expected}")
    return columns[name]


def _num_rows(columns: Columns) -> int:
    return len(next(iter(columns.values()), []))


def _number(value: object) -> float:
    """The number, which CSV writes as text, or NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan


def _shown(value: object) -> str:
    return "missing" if value is None or value == "" else repr(value)[:60]


def _read_spec(path: Path, overrides: Mapping[str, Any]) -> TaskSpec:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object; see docs/evaluation.md for its keys")
    try:
        return TaskSpec.model_validate_json(json.dumps({**content, **overrides}))
    except ValidationError as error:
        raise DataError(f"{path}: {explain(error, TaskSpec)}") from error


def _files(folder: Path) -> dict[str, dict[str, Path]]:
    """Tables by subset and part; a part without a subset ("corpus.parquet") belongs to "default"."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        form = text_format(path)  # raises for a table that would be passed over without a word
        if not is_table(path):
            continue
        name = path.name.removesuffix("".join(path.suffixes[-2:] if form.packing else path.suffixes[-1:]))
        stem, _, part = name.rpartition(".")
        if part not in _PARTS:
            stem, part = name, ""
        parts = found.setdefault(stem or "default", {})
        if part in parts:
            raise DataError(f"{path} and {parts[part].name} are the same table; remove one of them")
        parts[part] = path
    return found
