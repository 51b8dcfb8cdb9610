"""Pairs nobody trained on as folder tasks, and models scored on them.

Each kind of pair is a retrieval task of its own (`symmetric` in its task.json for symmetric pairs); the queries of all
are pooled.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.evaluation.evaluate import folder_jobs
from udever.evaluation.lexical import lexical_model
from udever.evaluation.models_under_test import ModelUnderTest
from udever.evaluation.mteb_meta import full_name
from udever.evaluation.mteb_model import as_mteb
from udever.evaluation.results import read_items, read_scores
from udever.evaluation.run import run
from udever.evaluation.tasks import SPEC_FILE, FolderTask, find_tasks
from udever.pairs.schema import KINDS, Kind, Pair
from udever.pairs.settings import sides_of

if TYPE_CHECKING:
    from udever.embedder import Embedder

METRICS = {"mrr@10": "mrr_at_10", "recall@1": "recall_at_1", "recall@5": "recall_at_5", "recall@20": "recall_at_20"}
"""What is reported of held-out pairs -> mteb's name of it."""

_MAIN = METRICS["mrr@10"]
_FIRST = "mrr_at_1000"
"""1 / rank of the first right answer: what ranks are read from."""


@dataclass(frozen=True)
class Scores:
    """Each metric for each query, in the order of tasks and query ids.

    `ranks` are those of the first right answer, 0 where none was found among a thousand.
    """

    per_query: Mapping[str, NDArray[np.float64]]
    num_documents: int
    ranks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def num_queries(self) -> int:
        """Queries scored."""
        return len(next(iter(self.per_query.values())))

    @property
    def means(self) -> dict[str, float]:
        """Each metric, averaged over all queries."""
        return {metric: float(self.per_query[metric].mean()) for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out query as a reader may want to see it: `group` is its kind and the language of its answers."""

    text: str
    group: str
    source: str
    answer: str


def write_held_out(
    pairs: Sequence[Pair],
    folder: str | Path,
    *,
    others: Sequence[Pair] = (),
    corpus: Sequence[str] = (),
    max_queries: int | None = None,
    seed: int = 0,
) -> list[FolderTask]:
    """Write a task for each kind of pair into a folder that is new or empty, and return them.

    Anchors become queries, positives documents, equal texts one; order is that of first appearance. Searched besides
    are the positives of `others` of the same kind, and `corpus`. All positives of an anchor are relevant to it, and so
    are those of every pair, of `others` too, in the same group or, for classification, of the same class. A query and a
    document of the same text have the same id and are no answer to one another, since every model and BM25 find it; a
    query without another answer is left out. `max_queries` keeps a sample of all queries drawn with `seed`; the corpus
    stays whole. Raises DataError when no query remains.
    """
    if max_queries is not None and max_queries < 1:
        raise DataError(f"max_queries is {max_queries}; expected at least 1, or none for all")
    by_kind, beside = _by_kind(pairs), _by_kind(others)
    found = check_queries(pairs, others)
    queries = [(kind, query) for kind, relevant in found.items() for query in relevant]
    if max_queries is not None and max_queries < len(queries):
        kept = np.random.default_rng(seed).choice(len(queries), max_queries, replace=False)
        queries = [queries[row] for row in np.sort(kept)]
    for kind, some in by_kind.items():
        relevant = {query: found[kind][query] for of, query in queries if of == kind}
        if not relevant:
            continue
        positives = [pair.positive for pair in [*some, *beside[kind]]]
        documents = list(dict.fromkeys([*positives, *corpus]))
        asked = {pair.anchor: pair for pair in reversed(some)}
        _write_task(Path(folder) / f"held_out_{kind}", documents, relevant, asked)
    return find_tasks(Path(folder))


def check_queries(
    pairs: Sequence[Pair], others: Sequence[Pair] = (), otherwise: str = ""
) -> dict[Kind, dict[str, set[str]]]:
    """For each kind of pair the queries that `write_held_out` would write, and the answers to each.

    Raises DataError where there is no query; `otherwise` is what else can be done about it.
    """
    beside = _by_kind(others)
    found: dict[Kind, dict[str, set[str]]] = {
        kind: _relevant(some, beside[kind]) for kind, some in _by_kind(pairs).items()
    }
    if not any(found.values()):
        raise DataError(
            f"{len(pairs)} pairs make no query that can be scored, since both sides of each are the same text; give "
            f"pairs of two different texts{otherwise}"
        )
    return found


def _by_kind(pairs: Sequence[Pair]) -> dict[Kind, list[Pair]]:
    return {kind: [pair for pair in pairs if pair.kind == kind] for kind in KINDS}


def read_questions(tasks: Sequence[FolderTask]) -> list[Question]:
    """The queries of tasks that `write_held_out` wrote, in the order of `Scores`."""
    questions: list[Question] = []
    for task in tasks:
        corpus, queries, qrels = (task.read("pairs", part) for part in ("corpus", "queries", "qrels"))
        texts = dict(zip(corpus["id"], corpus["text"], strict=True))
        answers = dict(zip(reversed(qrels["query_id"]), reversed(qrels["corpus_id"]), strict=True))
        columns = (queries[name] for name in ("id", "text", "group", "source"))
        rows = sorted(zip(*columns, strict=True))
        questions += [Question(text, group, source, texts[answers[name]]) for name, text, group, source in rows]
    return questions


def score_held_out(
    models: Sequence[ModelUnderTest], tasks: Sequence[FolderTask], results: Path, *, show_progress: bool = False
) -> dict[str, Scores]:
    """Score models on tasks that `write_held_out` wrote; what is in the folder of results already is kept.

    Raises DataError where one of them cannot be scored.
    """
    outcomes = run(models, folder_jobs(tasks), results, show_progress=show_progress)
    for tested, outcome in zip(models, outcomes, strict=True):
        for task, reason in outcome.failed.items():
            raise DataError(f"{tested.name} cannot be scored on {task}: {reason}")
    folders = {tested.name: outcome.folder for tested, outcome in zip(models, outcomes, strict=True)}
    return {name: _read(folder, tasks) for name, folder in folders.items() if folder is not None}


def read_held_out(results: Path, tasks: Sequence[FolderTask], names: Mapping[str, str]) -> dict[str, Scores]:
    """What `score_held_out` left in a folder of results: `names` are those of the models by what they are called here.

    Raises DataError where one of them is not there.
    """
    folders = {model.name: model.folder for model in read_scores([results])}
    found: dict[str, Scores] = {}
    for called, name in names.items():
        folder = folders.get(full_name(name))
        if folder is None:
            raise DataError(f"{results} has no scores of {name!r}; it has those of {', '.join(folders)}")
        found[called] = _read(folder, tasks)
    return found


def _read(folder: Path, tasks: Sequence[FolderTask]) -> Scores:
    wanted = {metric: "" if metric == _MAIN else metric for metric in (*METRICS.values(), _FIRST)}
    found = {
        metric: np.concatenate([read_items(folder, task.name, kept)[task.only_split, "pairs"].values for task in tasks])
        for metric, kept in wanted.items()
    }
    num_documents = sum(len(task.read("pairs", "corpus")["id"]) for task in tasks)
    reciprocal = found[_FIRST]
    ranks = np.zeros(len(reciprocal), np.int64)
    ranks[reciprocal > 0] = np.rint(1 / reciprocal[reciprocal > 0])
    return Scores({ours: found[theirs] for ours, theirs in METRICS.items()}, num_documents, ranks)


def score_pairs(
    embedder: "Embedder | None", pairs: Sequence[Pair], others: Sequence[Pair] = (), corpus: Sequence[str] = ()
) -> Scores:
    """Score an embedder, or BM25 for None, on pairs as `write_held_out` has them, leaving no files."""
    # A revision names results on disk; here are none, and a fingerprint reads all weights.
    load = partial(lexical_model, "bm25", "1") if embedder is None else partial(as_mteb, embedder, revision="1")
    tested = ModelUnderTest("it", None, load)
    with tempfile.TemporaryDirectory() as scratch:
        tasks = write_held_out(pairs, Path(scratch) / "tasks", others=others, corpus=corpus)
        return score_held_out([tested], tasks, Path(scratch) / "results")[tested.name]


def _shared_names(pair: Pair) -> Iterator[str]:
    """What makes the positives of two pairs answer the anchors of both: their group; their class."""
    if pair.group is not None:
        yield f"group {pair.group}"
    if pair.kind == "classification":
        yield f"label {pair.label}"


def _relevant(pairs: Sequence[Pair], others: Sequence[Pair]) -> dict[str, set[str]]:
    """The answers, among those of `others` too, to each query of `pairs` that has one besides itself."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for pair in [*pairs, *others]:
        for name in _shared_names(pair):
            by_name[name].add(pair.positive)
    relevant: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        relevant[pair.anchor].add(pair.positive)
        for name in _shared_names(pair):
            relevant[pair.anchor] |= by_name[name]
    for pair in others:
        if pair.anchor in relevant:
            relevant[pair.anchor].add(pair.positive)
    answered = {query: answers - {query} for query, answers in relevant.items()}
    return {query: answers for query, answers in answered.items() if answers}


def _group(pair: Pair) -> str:
    """What a table of parts puts a query under: what is looked for and its language."""
    language = pair.positive_language or "?"
    if pair.kind != "asymmetric":
        return f"{pair.kind}, {language}"
    return f"code, {language}" if language.endswith("-Code") else f"text, {language}"


def _write_task(
    folder: Path, documents: Sequence[str], relevant: Mapping[str, set[str]], asked: Mapping[str, Pair]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = list(dict.fromkeys([*documents, *relevant]))
    # Counted backwards: mteb gives equal scores to the higher id, and a tie goes to the earlier text.
    ids = {text: f"{len(texts) - number:09}" for number, text in enumerate(texts)}
    qrels = [(query, answer) for query, answers in relevant.items() for answer in sorted(answers)]
    tables = {
        "corpus": {"id": [ids[text] for text in documents], "text": documents},
        "queries": {
            "id": [ids[text] for text in relevant],
            "text": list(relevant),
            "group": [_group(asked[text]) for text in relevant],
            "source": [asked[text].source or "" for text in relevant],
        },
        "qrels": {"query_id": [ids[a] for a, _ in qrels], "corpus_id": [ids[b] for _, b in qrels]},
    }
    asking, answering = sides_of(next(iter(asked.values())).kind)
    spec = {"name": folder.name, "type": "retrieval", "languages": ["mul"], "main_score": _MAIN}
    spec |= {"metrics": [*METRICS.values(), _FIRST][1:], "symmetric": asking == answering, "ignore_identical_ids": True}
    folder.mkdir(parents=True)
    (folder / SPEC_FILE).write_text(json.dumps(spec, indent=1), encoding="utf-8")
    for part, columns in tables.items():
        with (folder / f"pairs.{part}.parquet").open("wb") as file:
            pq.write_table(pa.table(columns), file)
