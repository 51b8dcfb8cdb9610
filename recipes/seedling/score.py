"""Development scores of a run or a model folder; every choice is made by these, none by anything under eval/.

python score.py RUN_OR_FOLDER ... [--full]

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
from pathlib import Path

import model as seedling
import numpy as np
import pyarrow.parquet as pq
import torch
from common import DATA, WORK, position
from distill import load_model
from scipy.stats import spearmanr

from udever import Embedder

Encode = "Callable[[list[str]], np.ndarray]"
QUESTIONS = ("qa_mlqa_dev", "qa_jaquad", "qa_tydi", "docs_heading_passage", "docs_d365", "docs_courses_react")


def rows_of(name: str, columns: list[str], limit: int, by: tuple[str, ...]) -> list[dict]:
    """Development rows of a table, at most `limit` for each value of `by`, chosen by hash."""
    table = pq.read_table(WORK / "data" / f"{name}.parquet", columns=columns, filters=[("split", "=", "development")])
    rows = sorted(table.to_pylist(), key=lambda row: position(str(row)))
    counts: dict[tuple, int] = defaultdict(int)
    kept = []
    for row in rows:
        key = tuple(row[name] for name in by)
        counts[key] += 1
        if counts[key] <= limit:
            kept.append(row)
    return kept


def make_sets(limit: int) -> dict:
    """Everything that is scored, as texts."""
    targets = pq.read_table(WORK / "data" / "targets.parquet", columns=["text"])["text"].to_pylist()
    bitext: dict[str, dict[str, list]] = {"sentences": defaultdict(list), "words": defaultdict(list)}
    columns = ["text", "language", "target", "source", "split"]
    table = pq.read_table(WORK / "data" / "students.parquet", columns=columns, filters=[("split", "=", "development")])
    seen: set[tuple[str, int]] = set()
    for row in sorted(table.to_pylist(), key=lambda row: position(str(row))):
        name = "words" if row["source"].startswith("freedict") else "sentences"
        skip = row["language"] == "en" or row["source"].startswith("cldr") or (row["language"], row["target"]) in seen
        if not skip and len(bitext[name][row["language"]]) < limit:
            seen.add((row["language"], row["target"]))
            bitext[name][row["language"]].append((row["text"], targets[row["target"]]))
    sts = defaultdict(list)
    for row in pq.read_table(DATA / "pairs" / "sts_stsb_multi_train.parquet").to_pylist():
        if position(row["group"]) < limit / 1000:
            sts[row["anchor_language"]].append((row["anchor"], row["positive"], row["score"]))
    contrast = rows_of(
        "contrast", ["anchor", "positive", "source", "split", "kind", "anchor_language"], 10**6, ("kind",)
    )
    questions: dict[str, list] = {}
    for source in QUESTIONS:
        questions[source] = [(r["anchor"], r["positive"]) for r in contrast if r["source"] == source][: 2 * limit]
    code = [r for r in contrast if r["source"].startswith(("code_", "python_library"))]
    functions = {"functions": [(r["anchor"], r["positive"]) for r in code][: 8 * limit]}
    return {"bitext": bitext, "sts": sts, "questions": questions, "functions": functions}


def mrr(queries: np.ndarray, documents: np.ndarray, right: np.ndarray) -> float:
    """Mean reciprocal rank, cut at 10, of each query's one right document."""
    scores = queries @ documents.T
    own = scores[np.arange(len(queries)), right]
    rank = 1 + (scores > own[:, None]).sum(1)
    return float(np.where(rank <= 10, 1 / rank, 0).mean())


def score(encode: Encode, sets: dict) -> dict[str, float]:
    """All scores of one model."""
    result: dict[str, float] = {}
    for name, by_language in sets["bitext"].items():
        found = {}
        for language, pairs in by_language.items():
            if len(pairs) >= 20:
                texts, english = encode([a for a, _ in pairs]), encode([b for _, b in pairs])
                found[language] = float(((texts @ english.T).argmax(1) == np.arange(len(pairs))).mean())
        result[name] = float(np.mean(list(found.values())))
        result |= {f"{name}/{language}": value for language, value in found.items()}
    sts = {}
    for language, rows in sets["sts"].items():
        cosine = (encode([a for a, _, _ in rows]) * encode([b for _, b, _ in rows])).sum(1)
        sts[language] = float(spearmanr(cosine, [s for _, _, s in rows]).statistic)
    result["sts/en"] = sts.pop("en")
    result["sts"] = float(np.mean(list(sts.values())))
    for name in ("questions", "functions"):
        found = {}
        for source, pairs in sets[name].items():
            if not pairs:
                continue
            documents = {text: i for i, text in enumerate(dict.fromkeys(b for _, b in pairs))}
            right = np.array([documents[b] for _, b in pairs])
            found[source] = mrr(encode([a for a, _ in pairs]), encode(list(documents)), right)
        result[name] = float(np.mean(list(found.values())))
        result |= {f"{name}/{source}": value for source, value in found.items() if len(found) > 1}
    return result


def encoder(name: str) -> Encode:
    """Texts -> unit vectors, of a run of distill.py or of a model folder."""
    if (WORK / name / "ema.pt").exists():
        loaded = seedling.embedder(load_model(WORK / name))
    else:
        loaded = Embedder.load(Path(name), max_length=256)

    def encode(texts: list[str]) -> np.ndarray:
        # Long functions and passages tell little more after 256 tokens, and take their time.
        return loaded.encode([text[:1500] for text in texts])

    return encode


def main() -> None:
    """Score what the command line names."""
    torch.set_num_threads(1)
    full = "--full" in sys.argv
    sets = make_sets(300 if full else 100)
    for name in [argument for argument in sys.argv[1:] if not argument.startswith("--")]:
        started = time.time()
        result = score(encoder(name), sets)
        folder = WORK / "scores"
        folder.mkdir(exist_ok=True)
        (folder / f"{Path(name).name}.json").write_text(json.dumps(result, indent=1))
        print(
            name,
            {k: round(v, 3) for k, v in result.items() if "/" not in k or k == "sts/en"},
            f"{time.time() - started:.0f} s",
        )


if __name__ == "__main__":
    main()
