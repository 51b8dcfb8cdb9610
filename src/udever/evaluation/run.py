"""Scoring models on tasks: what is there is kept, what is missing is evaluated, what fails does not stop the rest."""

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udever.errors import DataError, UdeverError, first_line
from udever.evaluation.models_under_test import ModelUnderTest
from udever.evaluation.mteb_meta import environment, full_name, require_mteb
from udever.evaluation.results import Score, TaskRecord, model_folder, read_scores, read_task, write_model, write_task
from udever.progress import Advance, progress_bar
from udever.storage import atomic_file

if TYPE_CHECKING:
    from udever.evaluation.item_scores import Collector

_INDEX_FILE = ".known.json"


@dataclass(frozen=True)
class TaskJob:
    """A task to score. `data` is a fingerprint of its data; None where mteb's release stands for it."""

    name: str
    data: str | None
    make: Callable[[], Any]
    also_called: str | None = None
    fingerprint: Callable[[], str] | None = None

    def check_unchanged(self) -> None:
        """Raise DataError where the data are no longer those of `data`."""
        if self.fingerprint is not None and self.fingerprint() != self.data:
            raise DataError("its data were changed while it was scored; run the same command again")


@dataclass
class Outcome:
    """What became of one model: tasks that were scored now, were there before, failed, or do not apply to it."""

    name: str
    revision: str
    folder: Path | None
    scored: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    cost: dict[str, int] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, list[Score]]:
        """The main scores of every task that was scored or there before, by name, a score for each split and subset."""
        wanted = {*self.scored, *self.kept}
        found: dict[str, list[Score]] = {}
        for model in read_scores([self.folder]) if self.folder is not None and wanted else ():
            for score in model.scores:
                if score.task in wanted:
                    found.setdefault(score.task, []).append(score)
        return found


class KnownTasks:
    """What earlier runs found out that takes seconds to find out: revisions by key, and the tasks behind a name."""

    def __init__(self, results: Path) -> None:
        self._path = results / _INDEX_FILE
        try:
            self._content: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._content = {}  # only a shortcut: what is not known is found out again

    def get(self, kind: str, key: str | None) -> Any:
        """What was noted, or None."""
        return self._content.get(kind, {}).get(key) if key is not None else None

    def note(self, kind: str, key: str | None, value: Any) -> None:
        """Note it and write it down."""
        if key is None or self.get(kind, key) == value:
            return
        self._content.setdefault(kind, {})[key] = value
        with atomic_file(self._path) as temporary:
            temporary.write_text(json.dumps(self._content, indent=1, ensure_ascii=False), encoding="utf-8")


def mteb_version() -> str:
    """The installed mteb's version, without importing it; "none" where there is none."""
    try:
        return version("mteb")
    except PackageNotFoundError:
        return "none"


def run(
    models: Sequence[ModelUnderTest], jobs: Sequence[TaskJob], results: Path, *, show_progress: bool = False
) -> list[Outcome]:
    """Score every model on every job and write each result as it comes; see `results` for the files.

    A job that fails, for whatever reason, is noted in its Outcome. A model that cannot be loaded raises ModelError
    when it is the only one, and is noted under "model" otherwise.
    """
    known = KnownTasks(results)
    outcomes = []
    for tested in models:
        outcome = _kept(tested, jobs, results, known)
        if outcome is None:
            try:
                outcome = _score(tested, jobs, results, known, show_progress=show_progress)
            except UdeverError as error:
                if len(models) == 1:
                    raise
                outcome = Outcome(full_name(tested.name), "", None, failed={"model": str(error)})
        outcomes.append(outcome)
    return outcomes


def _kept(tested: ModelUnderTest, jobs: Sequence[TaskJob], results: Path, known: KnownTasks) -> Outcome | None:
    """The outcome where every result is there, found without loading anything; None otherwise."""
    found = known.get("revisions", tested.key)
    if found is None:
        return None
    folder = model_folder(results, found[0], found[1])
    skipped = known.get("skipped", tested.key) or {}
    wanted = [job for job in jobs if job.name not in skipped]
    if not all(_is_there(folder, job) for job in wanted):
        return None
    here = {job.name: skipped[job.name] for job in jobs if job.name in skipped}
    return Outcome(found[0], found[1], folder, kept=[job.name for job in wanted], skipped=here)


def _is_there(folder: Path, job: TaskJob) -> bool:
    """Whether the job's result is there and was made from the same data by the same mteb."""
    content = read_task(folder, job.name)
    if content is None or content.get("mteb_version") != mteb_version():
        return False
    return job.data is None or content.get("dataset_revision") == job.data


def _score(
    tested: ModelUnderTest, jobs: Sequence[TaskJob], results: Path, known: KnownTasks, *, show_progress: bool
) -> Outcome:
    require_mteb()
    model = tested.load()
    # the card of a hub name is read when the model is loaded
    tested = replace(tested, trained_on=tested.trained_on | getattr(model, "trained_on", frozenset()))
    meta = model.mteb_model_meta
    folder = model_folder(results, meta.name, meta.revision)
    known.note("revisions", tested.key, [meta.name, meta.revision])
    outcome = Outcome(meta.name, meta.revision, folder)
    outcome.kept = [job.name for job in jobs if _is_there(folder, job)]
    missing = [job for job in jobs if job.name not in outcome.kept]
    if missing:
        write_model(folder, _plain(meta, tested))
    with progress_bar(meta.name, len(missing), enabled=show_progress) as advance:
        for job in missing:
            advance(0, job.name)
            say_progress(model, job.name, advance)
            try:
                _score_one(model, tested, job, outcome)
            except AssertionError:
                raise
            except (
                Exception
            ) as error:  # whatever a task, its data or a hub throws: the others' results are worth keeping
                outcome.failed[job.name] = _line(error)
            advance()
    if outcome.skipped:
        known.note("skipped", tested.key, {**(known.get("skipped", tested.key) or {}), **outcome.skipped})
    outcome.cost = tested.cost()
    return outcome


def say_progress(model: Any, task: str, advance: Advance) -> None:
    """Have a model that counts its texts say within a long task how far it is."""
    if hasattr(model, "watch"):
        start = model.num_embedded
        model.watch = lambda: advance(0, f"{task}, {model.num_embedded - start:,} texts")


def _score_one(model: Any, tested: ModelUnderTest, job: TaskJob, outcome: Outcome) -> None:
    """Evaluate a task and write its result."""
    start = time.monotonic()
    embedded, truncated = getattr(model, "num_embedded", 0), getattr(model, "num_truncated", 0)
    spent = tested.cost()
    task = job.make()
    if not hasattr(model, "encode") and not task._support_search:
        outcome.skipped[job.name] = "it has no vectors, and this task wants some"
        return
    found, collector = score_task(model, task)
    items = [item for split, scores in found.items() for item in collector.items(split, scores)]
    scores = {
        split: [_entry(task, subset, entry) for subset, entry in entries.items()] for split, entries in found.items()
    }
    job.check_unchanged()
    cut = getattr(model, "num_truncated", 0) - truncated
    record = TaskRecord(
        task=job.name,
        task_type=task.metadata.type,
        metric=task.metadata.main_score,
        dataset_revision=job.data or task.metadata.revision,
        scores=scores,
        seconds=time.monotonic() - start,
        mteb_version=mteb_version(),
        items=items,
        trained_on=bool(tested.trained_on & {job.name, job.also_called, task.metadata.name}),
        details={
            "mteb_name": job.also_called if job.data is not None else job.name,
            "seed": task.seed,
            "embedded": getattr(model, "num_embedded", 0) - embedded,
            "truncated": cut,
            "cost": {name: amount - spent.get(name, 0) for name, amount in tested.cost().items()},
            "environment": environment(),
        },
    )
    assert outcome.folder is not None
    write_task(outcome.folder, record)
    outcome.scored.append(job.name)
    if cut:
        outcome.truncated[job.name] = cut
    task.unload_data()


def score_task(model: Any, task: Any) -> tuple[dict[str, Mapping[str, Any]], "Collector"]:
    """mteb's scores of a task by split and subset, and what heard the values of single items."""
    from udever.evaluation.item_scores import NOWHERE, Collector

    task.load_data()
    embed_ahead(model, task)
    collector = Collector(task)
    found: dict[str, Mapping[str, Any]] = {}
    for split in task.eval_splits:
        with warnings.catch_warnings():
            # scikit-learn says of every label that is never predicted that its precision is 0, which is a score
            warnings.filterwarnings("ignore", message=".*is ill-defined and being set to 0.0")
            found[split] = task.evaluate(
                model, split, encode_kwargs={"show_progress_bar": False}, prediction_folder=NOWHERE, num_proc=None
            )
    return found, collector


def embed_ahead(model: Any, task: Any) -> None:
    """Give the model a symmetric task's texts in one piece, before mteb asks for them subset by subset."""
    if not hasattr(model, "embed_ahead") or task.metadata.type in ("Retrieval", "Reranking", "InstructionRetrieval"):
        return
    columns = [name for name, kind in task._get_content_columns().items() if kind == "text"]
    dataset: Any = task.dataset or {}
    texts: dict[str, None] = {}
    for subset in task.hf_subsets:
        splits = dataset.get(subset, dataset)
        for split in task.eval_splits:
            data = splits.get(split)
            if data is None:
                continue
            for name in columns:
                texts.update(dict.fromkeys(text for text in data[name] if isinstance(text, str)))
    if texts:
        model.embed_ahead(list(texts), task.metadata, str(task.metadata.dataset.get("path", task.metadata.name)))


def _entry(task: Any, subset: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores as mteb's result files have them."""
    by_subset = task.metadata.hf_subsets_to_langscripts
    languages = by_subset.get(subset) or dict.fromkeys(name for names in by_subset.values() for name in names)
    return {**scores, "hf_subset": subset, "languages": list(languages), "mteb_version": mteb_version()}


def _plain(meta: Any, tested: ModelUnderTest) -> dict[str, Any]:
    """The model's description as JSON: mteb's fields, and ours."""
    content = meta.to_dict()
    ours = {
        "trained_on": sorted(tested.trained_on),
        "recipe": tested.recipe,
        "training": tested.training,
        "environment": environment(),
    }
    return json.loads(json.dumps({**content, "udever": ours}, default=str))


def _line(error: Exception) -> str:
    text = first_line(error)
    return text if isinstance(error, UdeverError) else f"{type(error).__name__}: {text}"
