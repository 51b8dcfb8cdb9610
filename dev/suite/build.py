"""Assemble the universal suite's task folders from the texts beside this file: `python dev/suite/build.py FOLDER`.

Each source is one text (or pair, or function) a row with a key for each language, so that translations can be read
side by side. Assembling only copies: no text is made here. `tests/evaluation/test_suite.py` holds the folders in the
package against what this builds.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = {
    "ara": "Arab", "cmn": "Hans", "deu": "Latn", "ell": "Grek", "eng": "Latn", "fra": "Latn", "heb": "Hebr",
    "hin": "Deva", "jpn": "Jpan", "kor": "Hang", "por": "Latn", "rus": "Cyrl", "spa": "Latn", "tha": "Thai",
    "tur": "Latn", "vie": "Latn",
}  # fmt: skip
PROGRAMMING = ("python", "javascript", "typescript", "java", "go", "rust", "ruby", "php")
MORE_PARALLEL = ("deu-fra", "spa-por", "ara-heb", "cmn-jpn", "hin-rus", "kor-tur", "tha-vie", "ell-kor")
SIMILARITY_PAIRS = ("deu-eng", "ara-eng", "cmn-eng", "rus-spa", "cmn-ara", "deu-rus")
PARAPHRASE_PAIRS = ("eng-jpn", "fra-hin", "tur-eng")
RERANKING_SUBSETS = ("eng", "jpn", "tur", "eng-jpn", "fra-hin")
PASSAGE_PAIRS = ("deu-eng", "rus-eng", "hin-eng", "jpn-eng", "tur-eng", "eng-cmn", "fra-cmn", "ara-cmn")
UNRELATED = 7
"""How many rows further a pair of similarity takes its second sentence to have one that has nothing to do with it."""
RERANKED = 12
"""Candidates for each query to rerank."""

Rows = list[dict[str, Any]]
Tables = dict[str, Rows]


def read(name: str) -> Rows:
    """The rows of a source."""
    return [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def coded(language: str) -> str:
    """A language as mteb writes it."""
    return f"{language}-Code" if language in PROGRAMMING else f"{language}-{SCRIPTS[language]}"


def task(name: str, kind: str, main_score: str, notes: str, subset_languages: Mapping[str, Iterable[str]]) -> Any:
    """The content of a task.json but for `splits`."""
    by_subset = {subset: [coded(language) for language in names] for subset, names in subset_languages.items()}
    return {
        "name": name,
        "type": kind,
        "main_score": main_score,
        "languages": sorted({language for names in by_subset.values() for language in names}),
        "subset_languages": by_subset,
        "licence": "CC0-1.0",
        "notes": notes,
    }


def parallel() -> tuple[Any, Tables]:
    """Aligned sentences of two languages."""
    rows = read("parallel")
    languages = [key for key in rows[0] if key != "id"]
    pairs = [f"{language}-eng" for language in languages if language != "eng"] + list(MORE_PARALLEL)
    tables = {pair: [{"sentence1": row[pair[:3]], "sentence2": row[pair[4:]]} for row in rows] for pair in pairs}
    notes = (
        "Aligned rows are the gold pairs. Rows come in fours on one topic that differ in number, negation, time or "
        "who does what to whom, so that the topic alone does not find the translation."
    )
    return task("universal_parallel", "bitext", "f1", notes, {pair: pair.split("-") for pair in pairs}), tables


def code() -> tuple[tuple[Any, Tables], tuple[Any, Tables]]:
    """Questions to functions, and functions to functions of the other languages."""
    functions, questions = read("functions"), read("questions")
    documents = {
        language: [{"id": f"{row['id']}-{language}", "title": "", "text": row[language]} for row in functions]
        for language in PROGRAMMING
    }

    def tables(subset: str, queries: Rows, languages: Iterable[str]) -> Tables:
        """One corpus of all `languages`; relevant is what solves the problem that a query's id begins with."""
        found = [document for language in languages for document in documents[language]]
        return {
            f"{subset}.corpus": found,
            f"{subset}.queries": queries,
            f"{subset}.qrels": [
                {"query_id": query["id"], "corpus_id": document["id"], "score": 1}
                for query in queries
                for document in found
                if document["id"].rpartition("-")[0] == query["id"].partition("-")[0]
            ],
        }

    asked: Tables = {}
    asked_languages = {}
    for language in ("eng", "deu", "cmn", "rus"):
        queries = [{"id": row["id"], "text": row[language]} for row in questions]
        asked |= tables(f"{language}-code", queries, PROGRAMMING)
        asked_languages[f"{language}-code"] = [language, *PROGRAMMING]
    shown: Tables = {}
    shown_languages = {}
    for language in PROGRAMMING:
        others = [other for other in PROGRAMMING if other != language]
        queries = [{"id": row["id"], "text": row["text"]} for row in documents[language]]
        shown |= tables(f"{language}-code", queries, others)
        shown_languages[f"{language}-code"] = [language, *others]
    notes = (
        "24 problems, among them near twins, each solved in eight programming languages under neutral names. "
        "Relevant are the solutions of the same problem in every language of the corpus"
    )
    return (
        (task("universal_code_search", "retrieval", "ndcg_at_10", f"{notes}.", asked_languages), asked),
        (
            task(
                "universal_code_to_code", "retrieval", "ndcg_at_10", f"{notes}, but the query's own.", shown_languages
            ),
            shown,
        ),
    )


def intents() -> tuple[Any, Tables]:
    """English training rows with the test rows of each language."""
    rows = read("intents")
    languages = [key for key in rows[-1] if key not in ("split", "label")]
    tables = {
        language: [
            {"text": row["eng" if row["split"] == "train" else language], "label": row["label"], "split": row["split"]}
            for row in rows
        ]
        for language in languages
    }
    notes = (
        "What customers of a shop write. Every subset trains on the same English rows; its test rows are "
        "translations of one another, worded without the training rows' key words."
    )
    return task("universal_intents", "classification", "accuracy", notes, {name: [name] for name in languages}), tables


def topics() -> tuple[Any, Tables]:
    """Texts of ten languages to be grouped by what they are about."""
    rows = read("topics")
    languages = list(dict.fromkeys(row["language"] for row in rows))
    tables = {"mixed": [{"text": row["text"], "label": row["label"], "split": "test"} for row in rows]}
    notes = "Two texts for each topic and language in one pool: who groups by language scores near zero."
    return task("universal_topics", "clustering", "v_measure", notes, {"mixed": languages}), tables


def similarity() -> tuple[Any, Tables]:
    """Graded pairs of one language, and of two."""
    rows = read("similarity")
    subsets = [key for key in rows[0] if key != "score"] + list(SIMILARITY_PAIRS)
    tables = {
        subset: [
            {"sentence1": row[subset[:3]][0], "sentence2": other[subset[-3:]][1], "score": score, "split": "test"}
            for number, row in enumerate(rows)
            for other, score in ((row, row["score"]), (rows[(number + UNRELATED) % len(rows)], 0.0))
        ]
        for subset in subsets
    }
    notes = (
        "Graded 0 to 5 by meaning. Pairs that mean the same share few words, pairs that do not share many; as many "
        "pairs again have nothing to do with each other."
    )
    languages = {subset: dict.fromkeys(subset.split("-")) for subset in subsets}
    return task("universal_similarity", "sts", "cosine_spearman", notes, languages), tables


def paraphrases() -> tuple[tuple[Any, Tables], tuple[Any, Tables]]:
    """A sentence, what means the same, and what looks the same: as labelled pairs and to be reranked."""
    rows = read("paraphrases")
    subsets = [*rows[0], *PARAPHRASE_PAIRS]
    pairs: Tables = {}
    ranked: Tables = {}
    for subset in subsets:
        first, second = subset[:3], subset[-3:]
        pairs[subset] = [
            {"sentence1": row[first][0], "sentence2": text, "label": label, "split": "test"}
            for number, row in enumerate(rows)
            for text, label in (
                (row[second][1], 1),
                (row[second][2], 0),
                (rows[(number + 1) % len(rows)][second][1], 0),
                (rows[(number + 2) % len(rows)][second][2], 0),
            )
        ]
    for subset in RERANKING_SUBSETS:
        first, second = subset[:3], subset[-3:]
        ranked[subset] = []
        for number, row in enumerate(rows):
            others = [rows[(number + step) % len(rows)][second] for step in range(1, RERANKED)]
            negatives = [row[second][2], *(text for other in others for text in other[1:])][: RERANKED - 1]
            ranked[subset].append({"query": row[first][0], "positives": [row[second][1]], "negatives": negatives})
    languages = {subset: dict.fromkeys(subset.split("-")) for subset in subsets}
    notes = "The match says the same in other words; the closest negative uses the same words and says another thing."
    return (
        (task("universal_paraphrases", "pair_classification", "max_ap", notes, languages), pairs),
        (
            task("universal_reranking", "reranking", "map_at_1000", notes, {name: languages[name] for name in ranked}),
            ranked,
        ),
    )


def passages() -> tuple[Any, Tables]:
    """Questions of one language, the passages that answer them in another."""
    rows = read("passages")
    tables: Tables = {}
    for pair in PASSAGE_PAIRS:
        asked, told = pair.split("-")
        tables[f"{pair}.corpus"] = [{"id": row["id"], "title": "", "text": row["passage"][told]} for row in rows]
        tables[f"{pair}.queries"] = [{"id": row["id"], "text": row["question"][asked]} for row in rows]
        tables[f"{pair}.qrels"] = [{"query_id": row["id"], "corpus_id": row["id"], "score": 1} for row in rows]
    notes = "Question in the first language, passage in the second; four passages on each of eleven things."
    languages = {pair: pair.split("-") for pair in PASSAGE_PAIRS}
    return task("universal_answers", "retrieval", "ndcg_at_10", notes, languages), tables


def splits_of(tables: Tables) -> dict[str, dict[str, Any]]:
    """Rows by split, subset and, in retrieval, part."""
    found: dict[str, dict[str, Any]] = {}
    for name, rows in tables.items():
        subset, _, part = name.partition(".")
        for row in rows:
            counts = found.setdefault(row.get("split", "test"), {})
            if part:
                counts.setdefault(subset, {}).setdefault(part, 0)
                counts[subset][part] += 1
            else:
                counts[subset] = counts.get(subset, 0) + 1
    return found


def build(folder: Path) -> None:
    """Write every task's folder below `folder`."""
    for content, tables in (parallel(), *code(), intents(), topics(), similarity(), *paraphrases(), passages()):
        place = folder / content["name"]
        place.mkdir(parents=True, exist_ok=True)
        content["splits"] = splits_of(tables)
        (place / "task.json").write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        for name, rows in tables.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (place / f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
