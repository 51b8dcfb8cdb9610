"""Every text of a folder of evaluation tasks, and where it stands: task, split, subset, queries or corpus."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from udever.errors import DataError
from udever.evaluation.tasks import find_tasks

_BATCH_ROWS = 8192
_TEXT_COLUMNS = ("text", "sentence1", "sentence2", "query", "positives", "negatives")
_PARTS = {"queries": "queries", "corpus": "corpus"}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a text stands; `part` is "queries" or "corpus" in retrieval tasks and "" elsewhere."""

    task: str
    split: str
    part: str
    subset: str


def read_batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a Parquet or JSONL file some thousands at a time, without the columns of numbers.

    Raises DataError naming file and row for what cannot be read.
    """
    try:
        if path.suffix == ".jsonl":
            yield from _read_jsonl(path)
            return
        with pq.ParquetFile(path) as file:
            names = [field.name for field in file.schema_arrow if _is_text(field.type)]
            for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                yield batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}; give Parquet or JSONL") from error


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return pa.types.is_string(inner) or pa.types.is_large_string(inner)


def _read_jsonl(path: Path) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path} line {number} is no JSON ({error}); expected one object a line") from error
            if not isinstance(row, dict):
                raise DataError(f"{path} line {number} is {type(row).__name__}; expected one object a line")
            rows.append(row)
            if len(rows) == _BATCH_ROWS:
                yield rows
                rows = []
    if rows:
        yield rows


def texts_of(value: object) -> Iterator[str]:
    """The texts in a cell: itself, or those of a list."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (item for item in value if isinstance(item, str))


def read_eval_texts(folder: str | Path) -> Iterator[tuple[Place, str]]:
    """Yield each text of each row of each task under `folder`, which may be a task's own folder.

    A file without a column `split` is of the split that `FolderTask.only_split` names. Raises DataError for a
    folder without tasks, a file that cannot be read, or a task without texts.
    """
    for task in find_tasks(Path(folder)):
        num_texts = 0
        for subset, parts in task.files.items():
            for part, path in parts.items():
                for rows in read_batches(path):
                    for row in rows:
                        place = Place(task.name, row.get("split") or task.only_split, _PARTS.get(part, ""), subset)
                        for name in _TEXT_COLUMNS:
                            for text in texts_of(row.get(name)):
                                num_texts += 1
                                yield place, text
        if not num_texts:
            raise DataError(f"{task.folder} holds no text; expected a column {', '.join(_TEXT_COLUMNS)}")
