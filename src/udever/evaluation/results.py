"""Results on disk: one JSON per model, revision and task in mteb's format, and the items behind each score.

    RESULTS/<model name, / as __>/<revision>/
        model_meta.json          what mteb writes of a model; our own details under "udever"
        <TaskName>.json          mteb's TaskResult; each score also has main_score_low and main_score_high
        <TaskName>.items.parquet the values of single items, for intervals between two models

A task is there when its JSON is there: it is written last. Reading needs neither torch nor mteb.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from udever.errors import DataError, first_line
from udever.evaluation.statistics import Interval, Items, interval, paired_interval
from udever.nearest import path_suggestion
from udever.storage import atomic_file

META_FILE = "model_meta.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Score:
    """The main score of one task, split and subset, with its 95 % interval where the items allow one.

    `trained_on` says that the model's card names the task among what it was trained on.
    """

    task: str
    task_type: str
    split: str
    subset: str
    languages: tuple[str, ...]
    metric: str
    value: float
    low: float | None
    high: float | None
    trained_on: bool


@dataclass(frozen=True)
class ModelScores:
    """Every score of one model at one revision; `folder` is where the items behind them are."""

    name: str
    revision: str
    num_parameters: int | None
    dimensions: int | None
    meta: Mapping[str, Any]
    scores: tuple[Score, ...]
    folder: Path | None = None


@dataclass(frozen=True)
class TaskRecord:
    """What a run learned of one task: `scores[split]` are mteb's dictionaries, with hf_subset and languages."""

    task: str
    task_type: str
    metric: str
    dataset_revision: str
    scores: Mapping[str, Sequence[Mapping[str, Any]]]
    seconds: float
    mteb_version: str
    items: Sequence[Items] = ()
    trained_on: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PairedScore:
    """How much higher one model scores than another on one task, split and subset."""

    task: str
    split: str
    subset: str
    metric: str
    interval: Interval


def model_folder(results: Path, name: str, revision: str) -> Path:
    """Where the results of a model at a revision are."""
    return results / name.replace("/", "__").replace(" ", "_") / revision


def write_model(folder: Path, meta: Mapping[str, Any]) -> None:
    """Write `model_meta.json`; `meta` holds at least mteb's `name` and `revision`."""
    assert {"name", "revision"} <= meta.keys()
    _write_json(folder / META_FILE, meta)


def write_task(folder: Path, record: TaskRecord) -> None:
    """Write the items, then the scores with their intervals. Raises DataError for a main score that is no number."""
    main = [items for items in record.items if not items.metric]
    bounds = {(items.split, items.subset): interval(items) for items in main}
    scores = {
        split: [_with_bounds(record, split, score, bounds.get((split, score["hf_subset"]))) for score in entries]
        for split, entries in record.scores.items()
    }
    if record.items:
        _write_items(folder / f"{record.task}.items.parquet", record.items)
    content = {
        "dataset_revision": record.dataset_revision,
        "task_name": record.task,
        "mteb_version": record.mteb_version,
        "scores": scores,
        "evaluation_time": record.seconds,
        "kg_co2_emissions": None,
        "udever": {
            "format": FORMAT,
            "task_type": record.task_type,
            "metric": record.metric,
            "trained_on": record.trained_on,
            **record.details,
        },
    }
    _write_json(folder / f"{record.task}.json", content)


def read_task(folder: Path, task: str) -> dict[str, Any] | None:
    """The JSON of one task, or None where it is missing. Raises DataError where it is broken."""
    path = folder / f"{task}.json"
    if not path.is_file():
        return None
    content = _read_json(path)
    if not isinstance(content.get("scores"), dict):
        raise DataError(f"{path} has no scores; expected a result in mteb's format, delete it and run again")
    return content


def read_scores(folders: Sequence[Path]) -> list[ModelScores]:
    """Every model found in or below `folders`, by name and revision; the same one met twice is read once.

    Reads what mteb itself wrote too. Raises DataError for a folder without results and for a broken file.
    """
    found: dict[tuple[str, str], ModelScores] = {}
    for folder in folders:
        metas = sorted(Path(folder).rglob(META_FILE))
        if not metas:
            otherwise = "expected a results folder written by `udever eval`"
            raise DataError(f"{folder} holds no {META_FILE}; {path_suggestion(folder, otherwise)}")
        for path in metas:
            model = _read_model(path)
            found.setdefault((model.name, model.revision), model)
    return list(found.values())


def read_items(folder: Path, task: str, metric: str = "") -> dict[tuple[str, str], Items]:
    """The items of a task's main score, or of another `metric`, by split and subset; empty where none were kept."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = folder / f"{task}.items.parquet"
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
        if "metric" in table.column_names:
            table = table.filter(pc.field("metric") == metric)
        keys = [table[name].to_pylist() for name in ("split", "subset", "statistic")]
        values = table["value"].to_numpy().astype(np.float64)
        gold = table["gold"].to_numpy(zero_copy_only=False).astype(np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}; delete it and run again") from error
    groups: dict[tuple[str, str, Any], list[int]] = {}
    for row, key in enumerate(zip(*keys, strict=True)):
        groups.setdefault(key, []).append(row)
    return {
        (split, subset): Items(
            split, subset, statistic, values[rows], None if statistic == "mean" else gold[rows], metric
        )
        for (split, subset, statistic), rows in groups.items()
    }


def paired_intervals(a: ModelScores, b: ModelScores) -> list[PairedScore]:
    """`a` minus `b` wherever both were scored on the same data and kept their items.

    Raises DataError where one of them was not read from disk.
    """
    if a.folder is None or b.folder is None:
        raise DataError(f"{a.name} and {b.name} must both come from read_scores: the items are on disk")
    shared = {(s.task, s.split, s.subset): s for s in a.scores}
    found: list[PairedScore] = []
    for task in dict.fromkeys(score.task for score in b.scores):
        if not any(key[0] == task for key in shared) or not _same_data(a.folder, b.folder, task):
            continue
        left, right = read_items(a.folder, task), read_items(b.folder, task)
        for split, subset in left:
            score = shared.get((task, split, subset))
            if score is not None and (split, subset) in right:
                between = paired_interval(left[split, subset], right[split, subset])
                found.append(PairedScore(task, split, subset, score.metric, between))
    return found


def _same_data(a: Path, b: Path, task: str) -> bool:
    left, right = read_task(a, task), read_task(b, task)
    return left is not None and right is not None and left["dataset_revision"] == right["dataset_revision"]


def _with_bounds(
    record: TaskRecord, split: str, score: Mapping[str, Any], bounds: tuple[float, float] | None
) -> dict[str, Any]:
    if not math.isfinite(score["main_score"]):
        raise DataError(
            f"{record.task}, {split}/{score['hf_subset']}: {record.metric} is {score['main_score']}; the model gives "
            f"every text the same similarity, or the gold values are all alike"
        )
    low, high = bounds if bounds is not None and all(map(math.isfinite, bounds)) else (None, None)
    return {**_defined(score), "main_score_low": low, "main_score_high": high}


def _defined(value: Any) -> Any:
    """The same value with null for what is not defined (mteb gives NaN, which is not JSON)."""
    if isinstance(value, Mapping):
        return {str(key): _defined(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_items(path: Path, items: Sequence[Items]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def repeated(name: str) -> Any:
        values = [text for part in items for text in [getattr(part, name)] * len(part.values)]
        return pa.array(values, pa.string()).dictionary_encode()

    gold = [np.full(len(part.values), np.nan) if part.gold is None else part.gold for part in items]
    table = pa.table(
        {
            **{name: repeated(name) for name in ("split", "subset", "statistic", "metric")},
            "value": np.concatenate([part.values for part in items]),
            "gold": np.concatenate(gold),
        }
    )
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd")


def _read_model(path: Path) -> ModelScores:
    meta = _read_json(path)
    if not isinstance(meta.get("name"), str) or not isinstance(meta.get("revision"), str):
        raise DataError(f"{path} has no name or no revision; expected what `udever eval` or mteb writes")
    dimensions = meta.get("embed_dim")
    return ModelScores(
        name=meta["name"],
        revision=meta["revision"],
        num_parameters=meta.get("n_parameters"),
        dimensions=dimensions if isinstance(dimensions, int) else None,
        meta=meta,
        scores=tuple(_scores(path.parent)),
        folder=path.parent,
    )


def _scores(folder: Path) -> Iterator[Score]:
    for path in sorted(folder.glob("*.json")):
        if path.name == META_FILE:
            continue
        content = read_task(folder, path.stem)
        assert content is not None
        ours = content.get("udever") or {}
        try:
            for split, entries in content["scores"].items():
                for entry in entries:
                    yield Score(
                        task=content["task_name"],
                        task_type=ours.get("task_type") or _type_of(content["task_name"]),
                        split=split,
                        subset=entry["hf_subset"],
                        languages=tuple(entry["languages"]),
                        metric=ours.get("metric", "main_score"),
                        value=float(entry["main_score"]),
                        low=entry.get("main_score_low"),
                        high=entry.get("main_score_high"),
                        trained_on=bool(ours.get("trained_on", False)),
                    )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not a result in mteb's format: {error}; delete it and run again") from error


def _type_of(task: str) -> str:
    """The type of a public task, for a result that mteb wrote itself; "unknown" without mteb."""
    try:
        import mteb

        return str(mteb.get_task(task).metadata.type)
    except (ImportError, KeyError):
        return "unknown"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}; delete it and run again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object; delete it and run again")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
