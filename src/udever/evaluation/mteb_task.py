"""Folder tasks as mteb tasks: the tables are ours, the metrics are those of mteb's evaluators."""

from collections.abc import Callable
from typing import Any

from udever.errors import DataError
from udever.evaluation.mteb_meta import require_mteb
from udever.evaluation.tasks import (
    Columns,
    FolderTask,
    TaskType,
    binary_in,
    ids_in,
    labels_in,
    numbers_in,
    text_lists_in,
    texts_in,
)

_MTEB_TYPES: dict[TaskType, tuple[str, str, str]] = {
    "bitext": ("BitextMining", "t2t", "AbsTaskBitextMining"),
    "sts": ("STS", "t2t", "AbsTaskSTS"),
    "classification": ("Classification", "t2c", "AbsTaskClassification"),
    "pair_classification": ("PairClassification", "t2t", "AbsTaskPairClassification"),
    "clustering": ("Clustering", "t2c", "AbsTaskClustering"),
    "retrieval": ("Retrieval", "t2t", "AbsTaskRetrieval"),
    "crosslingual_retrieval": ("Retrieval", "t2t", "AbsTaskRetrieval"),
    "reranking": ("Reranking", "t2t", "AbsTaskRetrieval"),
}
_MAX_PER_CLUSTERING = 16_384


def as_mteb_task(task: FolderTask) -> Any:
    """An mteb AbsTask over the folder's tables, read when mteb loads its data.

    Raises MissingExtra without mteb, DataError where mteb has no such language, and while loading where a table is
    not as it should be.
    """
    require_mteb()  # and with it datasets, which mteb needs itself
    from mteb import abstasks

    _check_languages(task)
    kind, category, base = _MTEB_TYPES[task.spec.type]
    splits = _eval_splits(task)
    try:
        metadata = _metadata_class().model_validate(
            {
                "name": task.name,
                "description": task.spec.description or task.spec.notes or task.name,
                "dataset": {"path": str(task.folder), "revision": task.fingerprint()},
                "type": kind,
                "category": category,
                "modalities": ["text"],
                "eval_splits": splits,
                "eval_langs": {subset: list(languages) for subset, languages in task.subsets.items()},
                "main_score": task.main_score,
                "prompt": task.spec.prompt,
                "symmetric": task.spec.symmetric,
                "metrics": task.spec.metrics,
            }
        )
    except ValueError as error:
        reason = next((line.strip() for line in str(error).splitlines()[2:3]), str(error))
        raise DataError(f"{task.folder}/task.json: {reason}") from error

    def load_data(self: Any, num_proc: int | None = None, **_: Any) -> None:
        if not self.data_loaded:
            self.dataset = _READERS[task.spec.type](task)
            self.data_loaded = True

    members: dict[str, Any] = {"metadata": metadata, "load_data": load_data, **_settings(task)}
    return type(f"Folder{kind}", (getattr(abstasks, base),), members)()


def _metadata_class() -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    class FolderMetadata(TaskMetadata):
        """mteb's, whether both sides of a search are embedded alike, and metrics whose values are kept one by one."""

        symmetric: bool = False
        metrics: tuple[str, ...] = ()

    return FolderMetadata


def _check_languages(task: FolderTask) -> None:
    from mteb.languages import check_language_code

    for language in {name for names in task.subsets.values() for name in names}:
        try:
            check_language_code(language)
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{task.folder}/task.json: language {language!r} is not known; expected such as eng-Latn or python-Code"
            ) from error


def _settings(task: FolderTask) -> dict[str, Any]:
    """Class attributes of the mteb task: those of the public task of the same data, then the folder's own."""
    if task.spec.type == "clustering":
        return {"max_fraction_of_documents_to_embed": None, "max_documents_per_cluster": _smallest(task)}
    if task.spec.type == "retrieval":
        return {"ignore_identical_ids": task.spec.ignore_identical_ids}
    if task.spec.type != "classification":
        return {}
    import mteb

    found: dict[str, Any] = {}
    if task.spec.mteb_name:
        try:
            public = mteb.get_task(task.spec.mteb_name)
        except KeyError as error:
            raise DataError(f"{task.folder}/task.json: mteb has no task {task.spec.mteb_name!r}") from error
        found = {name: getattr(public, name) for name in ("samples_per_label", "n_experiments")}
    own = {"samples_per_label": task.spec.samples_per_label, "n_experiments": task.spec.num_experiments}
    return {**found, **{name: value for name, value in own.items() if value is not None}}


def _smallest(task: FolderTask) -> int:
    """mteb draws this many texts for each clustering: no more than there are."""
    return min(_MAX_PER_CLUSTERING, *(len(task.read(subset).get("text", [])) or 1 for subset in task.files))


def _eval_splits(task: FolderTask) -> list[str]:
    if task.spec.type in ("retrieval", "crosslingual_retrieval") or any(len(p) > 1 for p in task.files.values()):
        return [task.only_split]
    subset = next(iter(sorted(task.files)))
    columns = task.read(subset)
    return [split for split in task.split_rows(columns, task.path(subset)) if split != "train"] or ["train"]


def _by_split(task: FolderTask, make: Callable[[Columns, Any], dict[str, list[Any]]]) -> dict[str, Any]:
    """{subset: DatasetDict} of simple tables: every row is checked, then each split takes its own."""
    from datasets import Dataset, DatasetDict

    loaded: dict[str, Any] = {}
    for subset in task.subsets:
        columns = task.read(subset)
        path = task.path(subset)
        checked = make(columns, path)
        splits = task.split_rows(columns, path)
        if loaded and splits.keys() != next(iter(loaded.values())).keys():
            raise DataError(f"{path} has the splits {', '.join(splits)}; expected those of the other subsets")
        loaded[subset] = DatasetDict(
            {
                split: Dataset.from_dict({name: [values[row] for row in rows] for name, values in checked.items()})
                for split, rows in splits.items()
            }
        )
    return loaded


def _simple(task: FolderTask) -> dict[str, Any]:
    """Tables whose columns are mteb's but for their names."""
    wanted = _COLUMNS[task.spec.type]
    return _by_split(
        task, lambda columns, path: {name: read(columns, ours, path) for name, (ours, read) in wanted.items()}
    )


def _bitext(task: FolderTask) -> dict[str, Any]:
    if not any("gold" in parts for parts in task.files.values()):
        return _simple(task)
    return {subset: {task.only_split: _pools(task, subset)} for subset in task.subsets}


def _pools(task: FolderTask, subset: str) -> dict[str, Any]:
    """Two pools and a table of gold indexes: the gold sentences of the first are looked for in the whole second."""
    sides = {}
    for side in ("sentence1", "sentence2"):
        columns = task.read(subset, side)
        sides[side] = texts_in(columns, "text", task.path(subset, side))
    columns = task.read(subset, "gold")
    path = task.path(subset, "gold")
    pairs = list(zip(*(numbers_in(columns, name, path) for name in ("index1", "index2")), strict=True))
    for row, (first, second) in enumerate(pairs):
        if not (0 <= first < len(sides["sentence1"]) and 0 <= second < len(sides["sentence2"])):
            raise DataError(
                f"{path}, row {row}: index1 and index2 are {first:.0f} and {second:.0f}; expected row numbers of "
                f"sentence1 and sentence2, counted from zero"
            )
    return {
        "sentence1": [sides["sentence1"][int(first)] for first, _ in pairs],
        "sentence2": sides["sentence2"],
        "gold": [(row, int(second)) for row, (_, second) in enumerate(pairs)],
    }


def _classification(task: FolderTask) -> dict[str, Any]:
    def make(columns: Columns, path: Any) -> dict[str, list[Any]]:
        labels = labels_in(columns, "label", path)
        # numbers, since scikit-learn's metrics for two classes want them; "10" comes behind "9"
        names = sorted(set(labels), key=lambda label: (not label.isdecimal(), label.isdecimal() and int(label), label))
        numbers = {label: number for number, label in enumerate(names)}
        return {"text": texts_in(columns, "text", path), "label": [numbers[label] for label in labels]}

    loaded = _by_split(task, make)
    for subset, splits in loaded.items():
        if "train" not in splits:
            raise DataError(f"{task.path(subset)} has no rows of split 'train', which classification fits on")
    return loaded


def _retrieval(task: FolderTask) -> dict[str, Any]:
    return {subset: {task.only_split: _search(task, subset, subset)} for subset in task.files}


def _crosslingual_retrieval(task: FolderTask) -> dict[str, Any]:
    """Every language's questions over every other language's documents; ids say what belongs together."""
    names = sorted(task.files)
    return {f"{a}-{b}": {task.only_split: _search(task, a, b)} for a in names for b in names if a != b}


def _search(task: FolderTask, asked: str, searched: str) -> Any:
    """Queries and qrels of the subset `asked`, the corpus of `searched`."""
    from datasets import Dataset

    columns, path = task.read(searched, "corpus"), task.path(searched, "corpus")
    corpus = {"id": ids_in(columns, "id", path), "text": texts_in(columns, "text", path)}
    has_titles = task.spec.titles and "title" in columns
    corpus["title"] = texts_in(columns, "title", path) if has_titles else [""] * len(corpus["id"])
    columns, path = task.read(asked, "queries"), task.path(asked, "queries")
    queries = {"id": ids_in(columns, "id", path), "text": texts_in(columns, "text", path)}
    columns, path = task.read(asked, "qrels"), task.path(asked, "qrels")
    known = set(queries["id"]), set(corpus["id"])
    rows = zip(texts_in(columns, "query_id", path), texts_in(columns, "corpus_id", path), strict=True)
    scores = numbers_in(columns, "score", path) if "score" in columns else [1.0] * len(columns["query_id"])
    relevant: dict[str, dict[str, int]] = {}
    for row, ((query, document), score) in enumerate(zip(rows, scores, strict=True)):
        if query not in known[0] or document not in known[1]:
            missing = f"query {query!r}" if query not in known[0] else f"document {document!r}"
            raise DataError(f"{path}, row {row}: there is no {missing}")
        if not score.is_integer():
            raise DataError(f"{path}, row {row}: score is {score:g}; expected a whole number, 0 for not relevant")
        relevant.setdefault(query, {})[document] = int(score)
    return {
        "corpus": Dataset.from_dict(corpus),
        "queries": Dataset.from_dict(queries),
        "relevant_docs": relevant,
        "top_ranked": None,
    }


def _reranking(task: FolderTask) -> dict[str, Any]:
    loaded: dict[str, Any] = {}
    for subset in task.subsets:
        columns = task.read(subset)
        path = task.path(subset)
        queries = texts_in(columns, "query", path)
        lists = {name: text_lists_in(columns, name, path) for name in ("positives", "negatives")}
        splits = task.split_rows(columns, path)
        loaded[subset] = {split: _candidates(queries, lists, rows) for split, rows in splits.items()}
    return loaded


def _candidates(queries: list[str], lists: dict[str, list[list[str]]], rows: list[int]) -> Any:
    """mteb's form of reranking: one corpus of all candidates, and for each query which of them are its own."""
    from datasets import Dataset

    corpus: dict[str, list[str]] = {"id": [], "title": [], "text": []}
    relevant: dict[str, dict[str, int]] = {}
    top_ranked: dict[str, list[str]] = {}
    for row in rows:
        query = f"q{row}"
        relevant[query], top_ranked[query] = {}, []
        # ids in the order of mteb's own: the metric sorts equal scores by id backwards, so a tie is no success
        for name, relevance in (("positives", 1), ("negatives", 0)):
            for place, text in enumerate(lists[name][row]):
                document = f"{'a' if relevance else 'b'}{row}-{place:05}"
                corpus["id"].append(document)
                corpus["title"].append("")
                corpus["text"].append(text)
                relevant[query][document] = relevance
                top_ranked[query].append(document)
    return {
        "corpus": Dataset.from_dict(corpus),
        "queries": Dataset.from_dict({"id": list(top_ranked), "text": [queries[row] for row in rows]}),
        "relevant_docs": relevant,
        "top_ranked": top_ranked,
    }


_SENTENCES = {name: (name, texts_in) for name in ("sentence1", "sentence2")}
_COLUMNS: dict[TaskType, dict[str, tuple[str, Callable[[Columns, str, Any], list[Any]]]]] = {
    "bitext": {**_SENTENCES},
    "sts": {**_SENTENCES, "score": ("score", numbers_in)},
    "pair_classification": {**_SENTENCES, "labels": ("label", binary_in)},
    "clustering": {"sentences": ("text", texts_in), "labels": ("label", labels_in)},
}
"""mteb's columns of a simple table: ours, and what reads and checks it."""

_READERS: dict[TaskType, Callable[[FolderTask], dict[str, Any]]] = {
    "bitext": _bitext,
    "sts": _simple,
    "classification": _classification,
    "pair_classification": _simple,
    "clustering": _simple,
    "retrieval": _retrieval,
    "crosslingual_retrieval": _crosslingual_retrieval,
    "reranking": _reranking,
}
