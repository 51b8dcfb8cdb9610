"""Step 4: scores of an embedder on small parts of the evaluation sets, all of one run on the same texts.

Tatoeba: is the nearest of the English sentences the translation; XQuAD: nDCG@10 of questions over the passages of
their own language, and of each language with English both ways; TyDi QA: nDCG@10; STS benchmark: Spearman's
correlation; functions: MRR@10 of English docstrings over the functions of a programming language, from files that the
backbone has not read; CoSQA: nDCG@10 of web questions over Python. Nothing of it is trained on.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import CODE, DATA, LANGUAGES, SEEDLING, TATOEBA, language_of
from pretrain import is_kept_for_scoring

from udever import Embedder
from udever.report.plane import nearest_kinds
from udever.evaluation.statistics import Items, interval, statistic

MOST_CHARS = 400
NUM_SAMPLES = 300
PLANE_LANGUAGES = ("eng-Latn", "cmn-Hans", "deu-Latn", "arb-Arab")


@dataclass(frozen=True)
class Set:
    """One task in one language or pair of languages.

    `kind` is "bitext" (right[i] = i), "sts" (gold scores of left[i] with right[i]) or "retrieval" (queries left,
    documents right, `gold[i]` the index of the one relevant document).
    """

    task: str
    kind: str
    languages: tuple[str, ...]
    left: list[str]
    right: list[str]
    gold: list[float] = field(default_factory=list)
    metric: str = "ndcg@10"


TYPES = {"bitext": "BitextMining", "sts": "STS", "retrieval": "Retrieval"}


def _rows(path: str) -> list[dict[str, Any]]:
    return pq.read_table(DATA / "eval" / f"{path}.parquet").to_pylist()


def _some(rows: list[Any], limit: int) -> list[Any]:
    """At most `limit` of them, drawn with a fixed seed, in order."""
    if len(rows) <= limit:
        return rows
    return [rows[i] for i in sorted(np.random.default_rng(0).permutation(len(rows))[:limit])]


def bitext_sets(limit: int) -> Iterator[Set]:
    """Tatoeba, every scored language with English."""
    for language in LANGUAGES:
        if language != "eng-Latn":
            rows = _some(_rows(f"tatoeba/{TATOEBA.get(language, language[:3])}-eng"), limit)
            left, right = [row["sentence1"] for row in rows], [row["sentence2"] for row in rows]
            yield Set("Tatoeba", "bitext", (language, "eng-Latn"), left, right, metric="accuracy")


def sts_sets(limit: int) -> Iterator[Set]:
    """The test rows of the STS benchmark, translated, the same in every language."""
    for path in sorted((DATA / "eval" / "stsb_multi").glob("*.parquet")):
        rows = _some([row for row in pq.read_table(path).to_pylist() if row["split"] == "test"], limit)
        left, right = [row["sentence1"] for row in rows], [row["sentence2"] for row in rows]
        gold = [row["score"] for row in rows]
        yield Set("STS benchmark", "sts", (language_of(path.stem),), left, right, gold, "spearman")


def _retrieval(path: str, num_queries: int, num_documents: int) -> dict[str, Any]:
    """Passages by id, questions by id, and the one passage of each question."""
    relevant = {row["query_id"]: row["corpus_id"] for row in _rows(f"{path}.qrels") if row["score"] > 0}
    documents = {row["id"]: row["text"] for row in _some(_rows(f"{path}.corpus"), num_documents)}
    rows = [row for row in _rows(f"{path}.queries") if relevant.get(row["id"]) in documents]
    queries = {row["id"]: row["text"] for row in _some(rows, num_queries)}
    return {"documents": documents, "queries": queries, "relevant": relevant}


def _as_set(task: str, languages: tuple[str, ...], queries: dict[str, Any], documents: dict[str, Any]) -> Set:
    place = {key: number for number, key in enumerate(documents["documents"])}
    kept = [key for key in queries["queries"] if queries["relevant"][key] in place]
    gold = [place[queries["relevant"][key]] for key in kept]
    left = [queries["queries"][key] for key in kept]
    return Set(task, "retrieval", languages, left, list(documents["documents"].values()), gold)


def retrieval_sets(num_queries: int, num_documents: int) -> Iterator[Set]:
    """XQuAD within a language and between it and English; TyDi QA within."""
    xquad = {}
    for path in sorted((DATA / "eval" / "xquad_r").glob("*.corpus.parquet")):
        code = path.name.split(".")[0]
        xquad[language_of(code)] = _retrieval(f"xquad_r/{code}", num_queries, num_documents)
    english = xquad["eng-Latn"]
    for language, own in xquad.items():
        yield _as_set("XQuAD", (language,), own, own)
        if language != "eng-Latn":
            yield _as_set("XQuAD", (language, "eng-Latn"), own, english)
            yield _as_set("XQuAD", ("eng-Latn", language), english, own)
    for path in sorted((DATA / "eval" / "tydiqa_goldp").glob("*.corpus.parquet")):
        code = path.name.split(".")[0]
        own = _retrieval(f"tydiqa_goldp/{code}", num_queries, num_documents)
        yield _as_set("TyDi QA", (language_of(code),), own, own)


def code_sets(limit: int) -> Iterator[Set]:
    """Docstrings over functions of the files kept for scoring; CoSQA's questions over its Python."""
    own = _retrieval("cosqa/en-python", limit, 2 * limit)
    yield _as_set("CoSQA", ("eng-Latn", "python-Code"), own, own)
    columns = ["anchor", "positive", "positive_language", "file"]
    rows = pq.read_table(SEEDLING / "mined" / "code.parquet", columns=columns).to_pylist()
    for language in CODE:
        found = {
            row["anchor"]: row["positive"]
            for row in rows
            if row["positive_language"] == language and len(row["anchor"]) > 30 and is_kept_for_scoring(row["file"])
        }
        pairs = _some(list(found.items()), limit)
        documents = list(dict.fromkeys(b for _, b in pairs))
        gold = [documents.index(b) for _, b in pairs]
        languages = ("eng-Latn", f"{language}-Code")
        yield Set("functions", "retrieval", languages, [a for a, _ in pairs], documents, gold, "mrr@10")


def parallel_texts(limit: int) -> dict[str, dict[str, list[str]]]:
    """Texts that are each other's translation: XQuAD's questions, and Python's documentation in two languages."""
    codes = {language: LANGUAGES[language][0] for language in PLANE_LANGUAGES}
    by_id = {}
    for language, code in codes.items():
        by_id[language] = {row["id"]: row["text"] for row in _rows(f"xquad_r/{code}.queries")}
    ids = _some(sorted(set.intersection(*(set(texts) for texts in by_id.values()))), limit)
    path = DATA / "pairs" / "parallel_python_docs.parquet"
    rows = pq.read_table(path, columns=["anchor", "positive", "anchor_language"]).to_pylist()
    wanted = {row["anchor"]: row["positive"] for row in rows if 60 < len(row["anchor"]) < 300}
    docs = _some(list(wanted.items()), limit)
    first = "eng-Latn" if rows[0]["anchor_language"] == "en" else "cmn-Hans"
    second = "cmn-Hans" if first == "eng-Latn" else "eng-Latn"
    return {
        "questions": {language: [texts[key] for key in ids] for language, texts in by_id.items()},
        "Python documentation": {first: [a for a, _ in docs], second: [b for _, b in docs]},
    }


@dataclass(frozen=True)
class Sets:
    """Everything that is scored."""

    sets: list[Set]
    parallel: dict[str, dict[str, list[str]]]


def make_sets(limit: int = 150) -> Sets:
    """Every set, `limit` rows or questions each at most."""
    fewer = limit * 2 // 3
    sets = [*bitext_sets(limit), *sts_sets(2 * fewer), *retrieval_sets(fewer, limit), *code_sets(fewer)]
    return Sets(sets, parallel_texts(limit))


def encoder(embedder: Embedder) -> Callable[[list[str], str], np.ndarray]:
    """Texts and role -> unit vectors; a text is embedded once."""
    known: dict[str, dict[str, np.ndarray]] = {"query": {}, "document": {}, "symmetric": {}}
    calls = {"query": embedder.encode_query, "document": embedder.encode_document, "symmetric": embedder.encode}

    def encode(texts: list[str], role: str) -> np.ndarray:
        texts = [text[:MOST_CHARS] for text in texts]
        new = list(dict.fromkeys(text for text in texts if text not in known[role]))
        if new:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # long passages are cut, as they are in training
                known[role].update(zip(new, calls[role](new), strict=True))
        return np.stack([known[role][text] for text in texts])

    return encode


def items_of(found: Set, encode: Callable[[list[str], str], np.ndarray]) -> Items:
    """The values behind one score."""
    subset = "-".join(found.languages)
    if found.kind == "sts":
        cosine = (encode(found.left, "symmetric") * encode(found.right, "symmetric")).sum(1)
        return Items("test", subset, "spearman", cosine.astype(np.float64), np.array(found.gold, dtype=np.float64))
    roles = ("symmetric", "symmetric") if found.kind == "bitext" else ("query", "document")
    similarity = encode(found.left, roles[0]) @ encode(found.right, roles[1]).T
    if found.kind == "bitext":
        right = similarity.argmax(1) == np.arange(len(similarity))
        return Items("test", subset, "mean", right.astype(np.float64))
    ranked = np.argsort(-similarity, axis=1, kind="stable")[:, :10]
    hits = ranked == np.array(found.gold, dtype=np.int64)[:, None]  # one right answer a query: the ideal gain is 1
    discounts = {"mrr@10": 1 / np.arange(1, 11), "ndcg@10": 1 / np.log2(np.arange(2, 12)), "recall@10": np.ones(10)}
    return Items("test", subset, "mean", hits @ discounts[found.metric][: hits.shape[1]])


def score(embedder: Embedder, sets: Sets) -> dict[str, Any]:
    """All scores of one embedder, each with its 95 % interval over items, and what parallel texts lie next to."""
    encode = encoder(embedder)
    scores = []
    for found in sets.sets:
        items = items_of(found, encode)
        bounds = interval(items, num_samples=NUM_SAMPLES) or (None, None)
        low, high = (None if b is None else round(b, 4) for b in bounds)
        scores.append({"task": found.task, "type": TYPES[found.kind], "languages": list(found.languages),
                       "metric": found.metric, "value": round(statistic(items), 4), "low": low, "high": high,
                       "num": len(found.left)})  # fmt: skip
    nearest = {}
    for name, texts in sets.parallel.items():
        vectors = np.concatenate([encode(own, "symmetric") for own in texts.values()])
        kinds = nearest_kinds(vectors, len(vectors) // len(texts))
        nearest[name] = [round(float((kinds == number).mean()), 4) for number in range(3)]
    return {"scores": scores, "nearest": nearest}
