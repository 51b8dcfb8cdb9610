"""Step 7: development scores of model folders; every choice is made by these, none by anything under eval/.

    python score.py FOLDER ... [--full]      -> SEEDLING_WORK/scores/FOLDER.json

sentences   nearest English sentence among those of the same language's held-out pairs, mean over languages
words       the same for dictionary words
sts         Spearman correlation with human scores (training set of the STS benchmark in 11 languages, which
            nothing here is trained on): English, and mean of the others
questions   MRR@10 of held-out questions and headings over the held-out passages of their source
functions   MRR@10 of held-out docstrings over the held-out functions of all packages
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import DATA, WORK, position
from scipy.stats import spearmanr

from udever import Embedder
from udever.evaluation.item_scores import reciprocal_ranks
from udever.search.exact import top_k

Encode = Callable[[list[str]], np.ndarray]
Couples = list[tuple[str, str]]
QUESTIONS = ("qa_mlqa_dev", "qa_jaquad", "qa_tydi", "docs_heading_passage", "docs_d365", "docs_courses_react")


def development(family: str) -> list[dict]:
    """The development rows of a family of pairs, in an order of their hashes; none where there are no such pairs."""
    path = WORK / "pairs" / f"{family}.parquet"
    if not path.exists():
        return []
    rows = pq.read_table(path, filters=[("split", "=", "development")]).to_pylist()
    return sorted(rows, key=lambda row: position(f"{row['anchor']}\0{row['positive']}"))


def with_english(rows: list[dict], limit: int) -> dict[str, Couples]:
    """Texts of each language and their English, each English text once in a language."""
    found: dict[str, Couples] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    for row in rows:
        sides = {row[f"{side}_language"]: row[side] for side in ("anchor", "positive")}
        if "en" not in sides or len(sides) < 2:
            continue
        (language,) = sides.keys() - {"en"}
        if (language, sides["en"]) not in seen and len(found[language]) < limit:
            seen.add((language, sides["en"]))
            found[language].append((sides[language], sides["en"]))
    return found


def make_sets(limit: int) -> dict:
    """Everything that is scored, as texts."""
    bitext = {name: with_english(development(family), limit)
              for name, family in (("sentences", "translations"), ("words", "words"))}  # fmt: skip
    sts = defaultdict(list)
    for row in pq.read_table(DATA / "pairs" / "sts_stsb_multi_train.parquet").to_pylist():
        if position(row["group"]) < limit / 1000:
            sts[row["anchor_language"]].append((row["anchor"], row["positive"], row["score"]))
    questions: dict[str, Couples] = defaultdict(list)
    for row in [*development("questions"), *development("headings")]:
        if row["source"] in QUESTIONS and len(questions[row["source"]]) < 2 * limit:
            questions[row["source"]].append((row["anchor"], row["positive"]))
    functions = {"functions": [(row["anchor"], row["positive"]) for row in development("code")][: 8 * limit]}
    return {"bitext": bitext, "sts": sts, "questions": questions, "functions": functions}


def mrr(queries: np.ndarray, documents: np.ndarray, right: np.ndarray) -> float:
    """Mean reciprocal rank, cut at 10, of each query's one right document."""
    scores, rows = top_k(queries, documents, 10)
    found = {str(query): dict(zip(map(str, row), map(float, score), strict=True))
             for query, (row, score) in enumerate(zip(rows, scores, strict=True))}  # fmt: skip
    wanted = {str(query): {str(row): 1} for query, row in enumerate(right)}
    return float(reciprocal_ranks(wanted, found, [10])[10].mean())


def mean(scores: dict[str, float]) -> float:
    """Over all; nan where there are none."""
    return float(np.mean(list(scores.values()))) if scores else float("nan")


def score(encode: Encode, sets: dict) -> dict[str, float]:
    """All scores of one model."""
    result: dict[str, float] = {}
    for name, by_language in sets["bitext"].items():
        found = {}
        for language, pairs in by_language.items():
            if len(pairs) >= 20:
                texts, english = encode([a for a, _ in pairs]), encode([b for _, b in pairs])
                found[language] = float(((texts @ english.T).argmax(1) == np.arange(len(pairs))).mean())
        result[name] = mean(found)
        result |= {f"{name}/{language}": value for language, value in found.items()}
    sts = {}
    for language, rows in sets["sts"].items():
        cosine = (encode([a for a, _, _ in rows]) * encode([b for _, b, _ in rows])).sum(1)
        found: Any = spearmanr(cosine, [s for _, _, s in rows])
        sts[language] = float(found.statistic)
    result["sts/en"] = sts.pop("en")
    result["sts"] = mean(sts)
    for name in ("questions", "functions"):
        found = {}
        for source, pairs in sets[name].items():
            if not pairs:
                continue
            documents = {text: i for i, text in enumerate(dict.fromkeys(b for _, b in pairs))}
            right = np.array([documents[b] for _, b in pairs])
            found[source] = mrr(encode([a for a, _ in pairs]), encode(list(documents)), right)
        result[name] = mean(found)
        result |= {f"{name}/{source}": value for source, value in found.items() if len(found) > 1}
    return result


def encoder(folder: str) -> Encode:
    """Texts -> unit vectors of a model folder."""
    loaded = Embedder.load(folder, max_length=256)

    def encode(texts: list[str]) -> np.ndarray:
        # Long functions and passages tell little more after 256 tokens, and take their time.
        return loaded.encode([text[:1500] for text in texts])

    return encode


def main() -> None:
    """Score what the command line names."""
    sets = make_sets(300 if "--full" in sys.argv else 100)
    for name in [argument for argument in sys.argv[1:] if not argument.startswith("--")]:
        started = time.time()
        result = score(encoder(name), sets)
        folder = WORK / "scores"
        folder.mkdir(exist_ok=True)
        (folder / f"{Path(name).name}.json").write_text(json.dumps(result, indent=1))
        shown = {key: round(value, 3) for key, value in result.items() if "/" not in key or key == "sts/en"}
        print(name, shown, f"{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
