"""Choose how the nearest vectors are found: measured on the person's own queries, the fastest that finds enough."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.files import not_utf8
from udever.search.exact import shorten
from udever.search.exact import top_k as exact_top_k
from udever.search.locate import only_writer
from udever.search.seal import damage, unsealed
from udever.search.store import EXACT_UP_TO, Store, Tuning, Where, parse_manifest

TOP_K = 10
_LEAST_CHUNKS = 1_000
"""With fewer there is nothing to gain."""

_LEAST_DIMENSIONS = 32
_EFFORTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)
_SAMPLED_QUERIES = 64
_EPSILON = 1e-5
"""Scores this close are equal: a store's products are rounded in another order than ours."""

_SURE = 1.2816
"""Standard errors below the measured recall that other queries' recall is above nine times out of ten."""

_NEARLY = 1.1
"""Of settings at most this much slower than the fastest, the smallest index wins."""


@dataclass(frozen=True)
class Tuned:
    """What was tried, in order, each with its recall and median latency, and what was chosen."""

    tried: list[Tuning]
    chosen: Tuning
    recall: float


@dataclass(frozen=True)
class _Exam:
    """Queries [queries, dimensions]; of each, what it was taken from and how near the last of its true hits is.

    Hits are counted by their score: of chunks that are equally near, one is as right as the other.
    """

    queries: NDArray[np.float32]
    own: list[str | None]
    """The chunk that a query is: finding itself proves nothing."""
    least: NDArray[np.float32]
    num_true: int

    def share(self, place: int, scores: NDArray[np.floating]) -> float:
        """How much of the truth `scores` hold for the query at `place`, itself left out."""
        return min(1.0, float((scores >= self.least[place] - _EPSILON).sum()) / self.num_true)

    def take(self, store: Store, tuning: Tuning) -> Tuning:
        """`tuning` with its recall@10 and the median of its latency."""
        shares, seconds = [], []
        for place, (query, own) in enumerate(zip(self.queries, self.own, strict=True)):
            started = time.perf_counter()
            found = store.nearest(query, TOP_K + (own is not None), Where(), tuning)
            seconds.append(time.perf_counter() - started)
            others = [hit.score for hit in found if hit.id != own][:TOP_K]
            shares.append(self.share(place, np.asarray(others)))
        recall = float(np.mean(shares))
        error = float(np.std(shares, ddof=1)) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
        measured = {"recall": recall, "recall_low": recall - _SURE * error}
        return tuning.model_copy(update={**measured, "latency_ms": 1000 * float(np.median(seconds))})


def read_queries(path: Path) -> list[str]:
    """The queries of a text file, one a line, blank lines left out; DataError where there is none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is {not_utf8(error)}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as text: {error}; give a file with a query a line") from error
    queries = [line.strip() for line in lines if line.strip()]
    if not queries:
        raise DataError(f"{path} holds no queries; expected one a line")
    return queries


def has_outgrown(tuning: Tuning | None, num_chunks: int) -> bool:
    """Whether there are so many chunks now that the way they are searched should be chosen again."""
    return num_chunks > EXACT_UP_TO and (tuning is None or num_chunks > 2 * tuning.num_chunks)


def _exam(ids: list[str], embeddings: NDArray[np.float32], queries: NDArray[np.float32] | None) -> _Exam:
    """The person's own queries, or chunks in their stead, with what is truly nearest to them."""
    is_own = queries is None
    own: list[str | None]
    if queries is None:
        rows = np.random.default_rng(0).choice(len(ids), min(_SAMPLED_QUERIES, len(ids)), replace=False)
        queries, own = embeddings[rows], [ids[row] for row in rows]
    else:
        own = [None] * len(queries)
    scores, nearest = exact_top_k(queries, embeddings, TOP_K + is_own)
    num_true = max(1, min(TOP_K, len(ids) - is_own))
    least = [
        ([score for score, row in zip(line, places, strict=True) if ids[row] != name] or [-1.0])[:num_true][-1]
        for line, places, name in zip(scores, nearest, own, strict=True)
    ]
    return _Exam(queries, own, np.asarray(least, dtype=np.float32), num_true)


def _cut_recall(ids: list[str], embeddings: NDArray[np.float32], exam: _Exam, cut: Tuning) -> float:
    """The most recall that shortened vectors can reach: how much of the truth is among the candidates refined."""
    short = shorten(embeddings, cut.dimensions)
    queries = np.ascontiguousarray(exam.queries[:, : cut.dimensions])
    _, nearest = exact_top_k(queries, short, cut.refine * TOP_K)
    shares = []
    for place, rows in enumerate(nearest):
        others = [row for row in rows if ids[row] != exam.own[place]]
        shares.append(exam.share(place, embeddings[others] @ exam.queries[place]))
    return float(np.mean(shares))


def _choose(tried: list[Tuning], recall: float) -> Tuning:
    good = [tuning for tuning in tried if tuning.kind == "exact" or (tuning.recall_low or 0) >= recall]
    fastest = min(tuning.latency_ms or 0 for tuning in good)
    nearly = [tuning for tuning in good if (tuning.latency_ms or 0) <= _NEARLY * fastest]
    return min(nearly, key=lambda tuning: (tuning.size_bytes or 0, tuning.latency_ms or 0))


def _candidates(
    store: Store, ids: list[str], embeddings: NDArray[np.float32], exam: _Exam, recall: float
) -> list[Tuning]:
    full = embeddings.shape[1]
    candidates = store.candidates(full, full)
    dimensions = full // 2
    while dimensions >= _LEAST_DIMENSIONS:
        cuts = store.candidates(dimensions, full)
        candidates += [cut for cut in cuts if _cut_recall(ids, embeddings, exam, cut) >= recall]
        dimensions //= 2
    return candidates


def retune(store: Store, *, recall: float, queries: NDArray[np.float32] | None, say: Callable[[Tuning], None]) -> Tuned:
    """`tune` on an index that nobody is writing, which is sealed again. Raises DataError where somebody is."""
    with only_writer(store.folder):
        broken = damage(store.folder) if store.folder is not None else []
        if broken:
            raise DataError(f"{store.uri} is damaged: {broken[0]}; make it again with udever index --rebuild")
        with unsealed(store):
            return tune(store, recall=recall, queries=queries, say=say)


def tune(
    store: Store,
    *,
    recall: float = 0.95,
    queries: NDArray[np.float32] | None = None,
    quick: bool = False,
    say: Callable[[Tuning], None] = lambda tuning: None,
) -> Tuned:
    """Try exact search and every kind of index that the store knows, keep the fastest with `recall`@10 at least.

    `queries` [queries, dimensions] are the person's own, embedded; without them chunks stand in, each asked for
    its neighbours. Each kind gets the least effort whose recall is surely (nine times out of ten, for other queries
    of the kind) at least `recall`; shortened vectors (Matryoshka) are tried where they can reach it. `quick` tries
    the first kind alone. `say` is told each result as it comes. The index is built and the choice written to the
    manifest, where later searches find it.
    """
    if not 0 < recall <= 1:
        raise DataError(f"recall is {recall}; expected a share above 0 and up to 1, such as 0.95")
    text = store.read_manifest()
    if text is None:
        raise DataError(f"{store.uri} is no index yet; make it first: udever index PATH -m MODEL")
    manifest = parse_manifest(text, store.uri)
    ids, embeddings = store.embeddings()
    if not ids:
        raise DataError(f"{store.uri} holds no chunks; there is nothing to tune")
    if queries is not None and queries.shape[1] != manifest.dimensions:
        raise DataError(f"queries have {queries.shape[1]} dimensions, the index {manifest.dimensions}")
    exam = _exam(ids, embeddings, queries)
    tried: list[Tuning] = []

    def note(tuning: Tuning) -> None:
        size = {"size_bytes": store.index_bytes(tuning), "num_chunks": len(ids)}
        tried.append(exam.take(store, tuning).model_copy(update=size))
        say(tried[-1])

    note(Tuning(dimensions=manifest.dimensions))
    candidates = [] if len(ids) < _LEAST_CHUNKS else _candidates(store, ids, embeddings, exam, recall)
    for candidate in candidates[:1] if quick else candidates:
        store.build(candidate)
        for effort in _EFFORTS:
            note(candidate.model_copy(update={"effort": effort}))
            if (tried[-1].recall_low or 0) >= recall:
                break
    chosen = _choose(tried, recall)
    store.build(chosen)
    store.write_manifest(manifest.model_copy(update={"tuning": chosen}).model_dump_json())
    return Tuned(tried, chosen, recall)
