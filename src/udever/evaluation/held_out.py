"""Pairs nobody trained on as folder tasks, and models scored on them.

Each kind of pair is a retrieval task of its own (`symmetric` in its task.json for symmetric pairs); the queries of all
are pooled.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.evaluation.tasks import SPEC_FILE, FolderTask, find_tasks
from udever.pairs.schema import KINDS, Kind, Pair
from udever.progress import progress_bar

if TYPE_CHECKING:
    from udever.embedder import Embedder

METRICS = {"mrr@10": "mrr_at_10", "ndcg@10": "ndcg_at_10", "recall@10": "recall_at_10"}
"""What is reported of held-out pairs -> mteb's name of it."""


@dataclass(frozen=True)
class Scores:
    """Each metric for each query, in the order of tasks and query ids."""

    per_query: Mapping[str, NDArray[np.float64]]
    num_documents: int

    @property
    def num_queries(self) -> int:
        """Queries scored."""
        return len(next(iter(self.per_query.values())))

    @property
    def means(self) -> dict[str, float]:
        """Each metric, averaged over all queries."""
        return {metric: float(self.per_query[metric].mean()) for metric in METRICS}


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
    by_kind: dict[Kind, list[Pair]] = {kind: [pair for pair in pairs if pair.kind == kind] for kind in KINDS}
    beside = {kind: [pair for pair in others if pair.kind == kind] for kind in KINDS}
    found = {kind: _relevant(some, beside[kind]) for kind, some in by_kind.items()}
    queries = [(kind, query) for kind, relevant in found.items() for query in relevant]
    if not queries:
        raise DataError(
            f"{len(pairs)} pairs make no query that can be scored; give pairs with different anchor and positive"
        )
    if max_queries is not None and max_queries < len(queries):
        kept = np.random.default_rng(seed).choice(len(queries), max_queries, replace=False)
        queries = [queries[row] for row in np.sort(kept)]
    for kind, some in by_kind.items():
        relevant = {query: found[kind][query] for of, query in queries if of == kind}
        if not relevant:
            continue
        positives = [pair.positive for pair in [*some, *beside[kind]]]
        documents = list(dict.fromkeys([*positives, *corpus]))
        _write_task(Path(folder) / f"held_out_{kind}", kind, documents, relevant)
    return find_tasks(Path(folder))


def score_held_out(model: Any, tasks: Sequence[FolderTask], *, show_progress: bool = False) -> Scores:
    """Score an mteb model (`as_mteb`, `lexical_model`) on tasks that `write_held_out` wrote."""
    from udever.evaluation.mteb_task import as_mteb_task
    from udever.evaluation.run import say_progress, score_task

    parts: list[Mapping[str, NDArray[np.float64]]] = []
    with progress_bar(model.mteb_model_meta.name, len(tasks), enabled=show_progress) as advance:
        for task in tasks:
            advance(0, task.name)
            say_progress(model, task.name, advance)
            _, collector = score_task(model, as_mteb_task(task))
            parts.append({ours: collector.per_query(task.only_split, "pairs", name) for ours, name in METRICS.items()})
            advance()
    num_documents = sum(len(task.read("pairs", "corpus")["id"]) for task in tasks)
    return Scores({metric: np.concatenate([part[metric] for part in parts]) for metric in METRICS}, num_documents)


def score_bm25(tasks: Sequence[FolderTask]) -> Scores:
    """Score BM25 as every table shows it."""
    from udever.evaluation.lexical import lexical_model

    return score_held_out(lexical_model("bm25", "held-out"), tasks)


def score_embedder(embedder: "Embedder", tasks: Sequence[FolderTask], *, show_progress: bool = False) -> Scores:
    """Score an embedder by exact search."""
    from udever.evaluation.mteb_model import as_mteb

    # A revision names results on disk; here are none, and a fingerprint reads all weights.
    return score_held_out(as_mteb(embedder, revision="held-out"), tasks, show_progress=show_progress)


def score_pairs(
    embedder: "Embedder | None", pairs: Sequence[Pair], others: Sequence[Pair] = (), corpus: Sequence[str] = ()
) -> Scores:
    """Score an embedder, or BM25 for None, on pairs as `write_held_out` has them, leaving no files."""
    with tempfile.TemporaryDirectory() as scratch:
        tasks = write_held_out(pairs, scratch, others=others, corpus=corpus)
        return score_bm25(tasks) if embedder is None else score_embedder(embedder, tasks)


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


def _write_task(folder: Path, kind: Kind, documents: Sequence[str], relevant: Mapping[str, set[str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = list(dict.fromkeys([*documents, *relevant]))
    # Counted backwards: mteb gives equal scores to the higher id, and a tie goes to the earlier text.
    ids = {text: f"{len(texts) - number:09}" for number, text in enumerate(texts)}
    qrels = [(query, answer) for query, answers in relevant.items() for answer in sorted(answers)]
    tables = {
        "corpus": {"id": [ids[text] for text in documents], "text": documents},
        "queries": {"id": [ids[text] for text in relevant], "text": list(relevant)},
        "qrels": {"query_id": [ids[a] for a, _ in qrels], "corpus_id": [ids[b] for _, b in qrels]},
    }
    spec = {"name": folder.name, "type": "retrieval", "languages": ["mul"], "main_score": METRICS["mrr@10"]}
    spec |= {"symmetric": kind == "symmetric", "ignore_identical_ids": True}
    folder.mkdir(parents=True)
    (folder / SPEC_FILE).write_text(json.dumps(spec, indent=1), encoding="utf-8")
    for part, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"pairs.{part}.parquet")
