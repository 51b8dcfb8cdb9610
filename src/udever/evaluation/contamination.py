"""Contamination: which texts of evaluation tasks occur, word for word or nearly, among training texts.

The evaluation texts are held in memory; the training texts stream past, in any number. Texts are compared after
NFKC, case folding and joining of white space. A near duplicate shares at least `threshold` of its shingles
(Jaccard; see `udever.text.minhash`), punctuation left out.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any
from unicodedata import category, normalize

import numpy as np

from udever.errors import DataError, RecipeError, first_line
from udever.evaluation.tasks import find_tasks, is_table, read_rows
from udever.files import TABLES, is_hub_name, is_saved_dataset, pairs_format
from udever.nearest import path_suggestion
from udever.progress import progress_bar
from udever.text.minhash import MinHashIndex

THRESHOLD = 0.8
MIN_CHARS = 25
"""Shorter texts, half of it in scripts where a character says as much as two, agree by chance and are not compared."""

_BATCH_TEXTS = 8192
_RECENT_TEXTS = 500_000
_NOT_TEXT = {"id", "kind", "group", "split", "source", "licence", "license", "language", "label"}
_UNTOUCHED, _NEAR, _EXACT = 0, 1, 2
_TEXT_COLUMNS = ("text", "sentence1", "sentence2", "query", "positives", "negatives")


@dataclass(frozen=True, slots=True, order=True)
class TextPlace:
    """Where a text stands; `part` is "queries" or "corpus" in retrieval tasks and "" elsewhere."""

    task: str
    split: str
    part: str
    subset: str


@dataclass(frozen=True, slots=True)
class Example:
    """A text of a task and the training text that repeats it, with that text's file."""

    text: str
    train_text: str
    train_file: str
    exact: bool


@dataclass(frozen=True, slots=True)
class OverlapRow(TextPlace):
    """What one split of a task (of one subset, in `Overlap.subsets`) shares with the training texts.

    Counts are of distinct texts. `num_short` texts were too short to compare and are in no other count.
    """

    num_texts: int
    num_short: int
    num_exact: int
    num_near: int
    examples: tuple[Example, ...] = ()

    @property
    def share(self) -> float:
        """Exact and near duplicates over the texts compared, 0 to 1."""
        return (self.num_exact + self.num_near) / max(1, self.num_texts)

    @property
    def is_train(self) -> bool:
        """Whether the split only fits a classifier, so that what it shares inflates no score."""
        return self.split.startswith("train")


@dataclass(frozen=True)
class Overlap:
    """The outcome: one row a task, split and part; the same by subset; what was read."""

    rows: tuple[OverlapRow, ...]
    subsets: tuple[OverlapRow, ...]
    num_train_rows: int
    num_train_texts: int
    num_held_out_rows: int
    threshold: float
    min_chars: int

    @property
    def worst_share(self) -> float:
        """The largest share of any test split, 0 to 1."""
        return max((row.share for row in self.rows if not row.is_train), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain values for JSON."""
        plain = asdict(self)
        for name in ("rows", "subsets"):
            for row, record in zip(getattr(self, name), plain[name], strict=True):
                record["share"] = row.share
        return plain


def texts_of(value: object) -> Iterator[str]:
    """The texts in a cell: itself, or those of a list."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (item for item in value if isinstance(item, str))


def read_eval_texts(folder: str | Path) -> Iterator[tuple[TextPlace, str]]:
    """Yield each text of each row of each task under `folder`, which may be a task's own folder.

    A file without a column `split` is of the split that `FolderTask.only_split` names. Raises DataError for a
    folder without tasks, a file that cannot be read, or a task without texts.
    """
    for task in find_tasks(Path(folder)):
        num_texts = 0
        for subset, parts in task.files.items():
            for part, path in parts.items():
                for row in read_rows(path):
                    part = part if part in ("queries", "corpus") else ""
                    place = TextPlace(task.name, row.get("split") or task.only_split, part, subset)
                    for name in _TEXT_COLUMNS:
                        for text in texts_of(row.get(name)):
                            num_texts += 1
                            yield place, text
        if not num_texts:
            raise DataError(f"{task.folder} holds no text; expected a column {', '.join(_TEXT_COLUMNS)}")


def _text_columns(path: Path) -> list[str] | None:
    """The columns of a Parquet file that hold texts, so that vectors are not read; None for other files."""
    if pairs_format(path).kind != "parquet":
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    def is_text(kind: pa.DataType) -> bool:
        inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
        return pa.types.is_string(inner) or pa.types.is_large_string(inner)

    try:
        with path.open("rb") as file:
            return [field.name for field in pq.read_schema(file) if is_text(field.type)]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}") from error


def normalise(text: str) -> str:
    """NFKC, folded case, every run of white space one space."""
    return " ".join(normalize("NFKC", text).casefold().split())


def _length(text: str) -> int:
    """Characters, those of Kana, Han and Hangul (U+2E80 to U+D7FF, and above U+20000) counted twice."""
    return len(text) + sum("\u2e80" <= sign <= "\ud7ff" or sign >= "\U00020000" for sign in text)


@cache
def _punctuation() -> dict[int, str]:
    return {code: " " for code in range(0x20000) if category(chr(code)).startswith("P")}


def _words(text: str) -> str:
    """`text` without punctuation, unless hardly anything else is in it."""
    words = text.translate(_punctuation())
    return words if len(words.replace(" ", "")) * 2 >= len(text) else text


class _EvalTexts:
    """The distinct normalised texts of the tasks under a folder, what was found of each, and where they stand."""

    def __init__(self, folder: str | Path, min_chars: int) -> None:
        self.numbers: dict[str, int] = {}
        self.places: dict[TextPlace, set[int]] = defaultdict(set)
        self.short: dict[TextPlace, set[str]] = defaultdict(set)
        self.matches: dict[int, tuple[str, str]] = {}
        for place, raw in read_eval_texts(folder):
            text = normalise(raw)
            if _length(text) < min_chars:
                self.short[place].add(text)
            else:
                self.places[place].add(self.numbers.setdefault(text, len(self.numbers)))
        self.texts = list(self.numbers)
        self.state = np.full(len(self.texts), _UNTOUCHED, dtype=np.uint8)
        self._near = MinHashIndex([_words(text) for text in self.texts])

    def meet(self, texts: Sequence[str], files: Sequence[str], threshold: float) -> None:
        """Mark what equals or is near one of `texts`, distinct training texts from `files`."""
        for text, file in zip(texts, files, strict=True):
            if text in self.numbers:
                self._mark(self.numbers[text], _EXACT, text, file)
        for index, number in self._near.near(
            [_words(text) for text in texts], threshold=threshold, open_=self.state == _UNTOUCHED
        ):
            self._mark(number, _NEAR, texts[index], files[index])

    def _mark(self, number: int, state: int, text: str, file: str) -> None:
        if self.state[number] < state:
            self.state[number] = state
            self.matches[number] = (text, file)

    def rows(self, num_examples: int, *, by_subset: bool) -> tuple[OverlapRow, ...]:
        """Count by place, or by place with its subsets put together."""
        texts: dict[TextPlace, set[Any]] = defaultdict(set)
        short: dict[TextPlace, set[Any]] = defaultdict(set)
        for whole, parts in ((texts, self.places), (short, self.short)):
            for place, numbers in parts.items():
                merged = place if by_subset else TextPlace(place.task, place.split, place.part, "")
                whole[merged] |= numbers
        return tuple(
            self._row(place, texts[place], len(short[place]), num_examples) for place in sorted({*texts, *short})
        )

    def _row(self, place: TextPlace, numbers: set[int], num_short: int, num_examples: int) -> OverlapRow:
        found = np.array(sorted(numbers), dtype=np.int64)
        states = self.state[found]
        # Near duplicates first: an exact one explains itself.
        order = np.argsort(np.where(states == _UNTOUCHED, 3, states), kind="stable")[:num_examples]
        examples = tuple(
            Example(self.texts[number], *self.matches[number], bool(self.state[number] == _EXACT))
            for number in found[order].tolist()
            if number in self.matches
        )
        exact, near = int((states == _EXACT).sum()), int((states == _NEAR).sum())
        return OverlapRow(
            place.task, place.split, place.part, place.subset, len(found), num_short, exact, near, examples
        )


def train_files(paths: Sequence[str | Path]) -> list[Path]:
    """The tables of pairs among `paths`, data sets too, and in the folders among them, sorted within a folder."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir() and not is_saved_dataset(path):
            inside = _tables_in(path)
            if not inside:
                raise DataError(f"{path} holds no table of pairs; give {TABLES}")
            found += inside
        elif not path.exists() and not is_hub_name(path):
            raise DataError(f"{path} does not exist; {path_suggestion(path, f'give training pairs, {TABLES}')}")
        else:
            pairs_format(path)
            found.append(path)
    return found


def _tables_in(folder: Path) -> list[Path]:
    """The tables and the saved data sets below `folder`, without what lies in the latter."""
    saved = {path for path in folder.rglob("*") if is_saved_dataset(path)}
    found = [path for path in folder.rglob("*") if path in saved or is_table(path)]
    return sorted(path for path in found if saved.isdisjoint(path.parents))


@dataclass
class _Train:
    """The training texts as they stream past, and how many there were."""

    files: Sequence[Path]
    num_rows: int = 0
    num_held_out: int = 0
    num_texts: int = 0

    def stream(self) -> Iterator[tuple[str, str]]:
        """Yield (normalised text, file) of every text column, texts of the last 500,000 only once."""
        recent: set[int] = set()  # an English anchor stands beside each of its translations
        for path in self.files:
            num_before = self.num_texts
            for text in self._texts(read_rows(path, _text_columns(path))):
                self.num_texts += 1
                key = hash(text)
                if key not in recent:
                    if len(recent) >= _RECENT_TEXTS:
                        recent.clear()
                    recent.add(key)
                    yield normalise(text), str(path)
            if self.num_texts == num_before:
                raise DataError(f"{path} holds no training text; expected columns such as anchor and positive")

    def _texts(self, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
        for row in rows:
            if row.get("split") == "held_out":
                self.num_held_out += 1
                self.num_texts += 1
                continue
            self.num_rows += 1
            for name, value in row.items():
                if name not in _NOT_TEXT and not name.endswith(("_language", "_id")):
                    yield from texts_of(value)


def overlap(
    train: Sequence[str | Path],
    eval_folder: str | Path,
    *,
    threshold: float = THRESHOLD,
    min_chars: int = MIN_CHARS,
    num_examples: int = 0,
    show_progress: bool = False,
) -> Overlap:
    """Compare every text of the pairs files `train` (files or folders) with every text of the tasks in `eval_folder`.

    Rows of split "held_out" are not trained on; they are counted and left out. `threshold` is from 0.7 to 1.
    Raises DataError for what cannot be read, RecipeError for a threshold or length out of range.
    """
    if not 0.7 <= threshold <= 1:
        raise RecipeError(f"threshold is {threshold}; expected 0.7 to 1, since MinHash misses less similar texts")
    if min_chars < 0 or num_examples < 0:
        raise RecipeError(f"min_chars is {min_chars}, examples {num_examples}; expected 0 or more")
    source = _Train(train_files(train))
    evaluated = _EvalTexts(eval_folder, min_chars)
    with progress_bar("comparing training texts", None, enabled=show_progress) as advance:
        stream = source.stream()
        while batch := list(islice(stream, _BATCH_TEXTS)):
            advance(len(batch))
            distinct = dict(reversed(batch))
            evaluated.meet(list(distinct), list(distinct.values()), threshold)
    return Overlap(
        rows=evaluated.rows(num_examples, by_subset=False),
        subsets=evaluated.rows(0, by_subset=True),
        num_train_rows=source.num_rows,
        num_train_texts=source.num_texts - source.num_held_out,
        num_held_out_rows=source.num_held_out,
        threshold=threshold,
        min_chars=min_chars,
    )
