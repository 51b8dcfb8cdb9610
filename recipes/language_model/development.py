"""Development tasks: what an arrangement of the experiment is chosen by, so that the evaluation sets stay unseen.

STS: every fourth row of the STS benchmark's development part. Retrieval: MLQA's development questions over the passages
of their language, and over the English ones; MLQA's English rows are left out of training for such a choice.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

STS = {"de": "deu-Latn", "en": "eng-Latn", "es": "spa-Latn", "ru": "rus-Cyrl", "zh": "zho-Hans"}
QUESTIONS = {
    "ar": "ara-Arab", "de": "deu-Latn", "es": "spa-Latn", "hi": "hin-Deva", "vi": "vie-Latn", "zh": "zho-Hans",
}  # fmt: skip
NUM_QUESTIONS = 150
MAX_CHARACTERS = 700


def write_development(data: Path, output: Path) -> None:
    """`stsb_dev`, `mlqa_dev` and `mlqa_across` as task folders in `output`, from DATA/eval and DATA/pairs."""
    _write_sts(data / "eval" / "stsb_multi", output / "stsb_dev")
    groups: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for row in pq.read_table(data / "pairs" / "qa_mlqa_dev.parquet").to_pylist():
        groups[row["group"]][row["anchor_language"]] = row["anchor"], row["positive"][:MAX_CHARACTERS]
    own, across = output / "mlqa_dev", output / "mlqa_across"
    for folder in (own, across):
        folder.mkdir(parents=True, exist_ok=True)
    for language in QUESTIONS:
        chosen = [groups[name] for name in sorted(groups) if {language, "en"} <= groups[name].keys()][:NUM_QUESTIONS]
        _write_retrieval(own, language, [group[language] for group in chosen])
        pairs = [(group[language][0], group["en"][1]) for group in chosen]
        _write_retrieval(across, f"{language}-en", pairs)
    _write_spec(own, "retrieval", {name: [code, code] for name, code in QUESTIONS.items()})
    _write_spec(across, "retrieval", {f"{name}-en": [code, "eng-Latn"] for name, code in QUESTIONS.items()})


def _write_sts(source: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for language in STS:
        rows = pq.read_table(source / f"{language}.parquet", filters=[("split", "=", "dev")]).to_pylist()
        pq.write_table(pa.Table.from_pylist(rows[::4]), output / f"{language}.parquet")
    _write_spec(output, "sts", {name: [code] for name, code in STS.items()})


def _write_retrieval(folder: Path, name: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Questions over the passages of all of them."""
    ids = {passage: f"p{number}" for number, passage in enumerate(sorted({passage for _, passage in pairs}))}
    queries = [{"id": f"q{number}", "text": question} for number, (question, _) in enumerate(pairs)]
    judged = [{"query_id": f"q{number}", "corpus_id": ids[text], "score": 1} for number, (_, text) in enumerate(pairs)]
    corpus = [{"id": key, "title": "", "text": passage} for passage, key in ids.items()]
    for part, rows in (("queries", queries), ("qrels", judged), ("corpus", corpus)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.{part}.parquet")


def _write_spec(folder: Path, kind: str, subsets: dict[str, list[str]]) -> None:
    score, split = {"sts": ("cosine_spearman", "dev"), "retrieval": ("ndcg_at_10", "validation")}[kind]
    spec = {
        "name": folder.name,
        "type": kind,
        "main_score": score,
        "languages": sorted({code for codes in subsets.values() for code in codes}),
        "licence": "LicenseRef-STS-benchmark" if kind == "sts" else "CC-BY-SA-3.0",
        "source_repo": "PhilipMay/stsb-multi-mt" if kind == "sts" else "facebookresearch/MLQA",
        "splits": {split: {}},
    }
    if kind == "retrieval":
        spec["subset_languages"] = subsets
    (folder / "task.json").write_text(json.dumps(spec, indent=2))
