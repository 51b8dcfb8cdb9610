"""Development tasks: what an arrangement of the experiment is chosen by, so that the evaluation sets stay unseen.

STS: every eighth row of the STS benchmark's development part. Retrieval: MLQA's development questions over the passages
of their language, and over the English ones; MLQA's English rows are left out of training for such a choice. For the
languages of the pairs: headings of documentation in twenty languages over the sections below them, and segments of the
same courses that search their English originals.
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
LANGUAGES = STS | QUESTIONS | {
    "bn": "ben-Beng", "fi": "fin-Latn", "fr": "fra-Latn", "it": "ita-Latn", "ja": "jpn-Jpan", "km": "khm-Khmr",
    "ko": "kor-Hang", "my": "mya-Mymr", "sw": "swh-Latn", "ta": "tam-Taml", "th": "tha-Thai", "tr": "tur-Latn",
}  # fmt: skip
"""The twenty languages of headings and segments, high and low in any backbone's pre-training."""
NUM_QUESTIONS, NUM_SEGMENTS = 100, 60
MAX_CHARACTERS = 400
SHORT = 280
"""Characters of a section or a segment, as the experiment's training texts."""


def write_development(data: Path, output: Path) -> None:
    """The tasks as folders in `output`, from DATA/eval and DATA/pairs."""
    _write_sts(data / "eval" / "stsb_multi", output / "stsb_dev")
    groups: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for row in pq.read_table(data / "pairs" / "qa_mlqa_dev.parquet").to_pylist():
        groups[row["group"]][row["anchor_language"]] = row["anchor"], row["positive"][:MAX_CHARACTERS]
    own, across = output / "mlqa_dev", output / "mlqa_across"
    for language in QUESTIONS:
        chosen = [groups[name] for name in sorted(groups) if {language, "en"} <= groups[name].keys()][:NUM_QUESTIONS]
        _write_retrieval(own, language, [group[language] for group in chosen])
        pairs = [(group[language][0], group["en"][1]) for group in chosen]
        _write_retrieval(across, f"{language}-en", pairs)
    _write_spec(own, "retrieval", {name: [code, code] for name, code in QUESTIONS.items()})
    _write_spec(across, "retrieval", {f"{name}-en": [code, "eng-Latn"] for name, code in QUESTIONS.items()})
    _write_headings(data / "pairs" / "docs_courses_react.parquet", output / "headings")
    _write_segments(data / "pairs" / "parallel_beginner_courses.parquet", output / "segments")


def _write_sts(source: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for language in STS:
        rows = pq.read_table(source / f"{language}.parquet", filters=[("split", "=", "dev")]).to_pylist()
        pq.write_table(pa.Table.from_pylist(rows[::8]), output / f"{language}.parquet")
    _write_spec(output, "sts", {name: [code] for name, code in STS.items()})


def _write_headings(source: Path, output: Path) -> None:
    """The first headings of each language that are unlike each other."""
    columns = ["anchor", "positive", "anchor_language"]
    by_language: dict[str, dict[str, str]] = defaultdict(dict)
    for row in pq.read_table(source, columns=columns).to_pylist():
        by_language[row["anchor_language"]].setdefault(row["anchor"], row["positive"][:SHORT])
    for language in LANGUAGES:
        _write_retrieval(output, language, list(by_language[language].items())[:NUM_SEGMENTS])
    _write_spec(output, "retrieval", {name: [code, code] for name, code in LANGUAGES.items()})


def _write_segments(source: Path, output: Path) -> None:
    """For each language the first segments of 40 characters and more in English, each with its translation."""
    columns = ["anchor", "positive", "positive_language"]
    by_language: dict[str, dict[str, str]] = defaultdict(dict)
    for row in pq.read_table(source, columns=columns).to_pylist():
        if 40 <= len(row["anchor"]) <= SHORT:
            by_language[row["positive_language"]].setdefault(row["anchor"], row["positive"][:SHORT])
    output.mkdir(parents=True, exist_ok=True)
    for language in [name for name in LANGUAGES if name != "en"]:
        pairs = list(by_language[language].items())[:NUM_SEGMENTS]
        columns_of = {"sentence1": [text for _, text in pairs], "sentence2": [english for english, _ in pairs]}
        pq.write_table(pa.table(columns_of), output / f"{language}-en.parquet")
    subsets = {f"{name}-en": [code, "eng-Latn"] for name, code in LANGUAGES.items() if name != "en"}
    _write_spec(output, "bitext", subsets)


def _write_retrieval(folder: Path, name: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Questions over the passages of all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {passage: f"p{number}" for number, passage in enumerate(sorted({passage for _, passage in pairs}))}
    queries = [{"id": f"q{number}", "text": question} for number, (question, _) in enumerate(pairs)]
    judged = [{"query_id": f"q{number}", "corpus_id": ids[text], "score": 1} for number, (_, text) in enumerate(pairs)]
    corpus = [{"id": key, "title": "", "text": passage} for passage, key in ids.items()]
    for part, rows in (("queries", queries), ("qrels", judged), ("corpus", corpus)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.{part}.parquet")


SCORES = {"sts": ("cosine_spearman", "dev"), "retrieval": ("ndcg_at_10", "validation"), "bitext": ("f1", "validation")}
SETS = {
    "stsb_dev": ("PhilipMay/stsb-multi-mt", "LicenseRef-STS-benchmark"),
    "mlqa_dev": ("facebookresearch/MLQA", "CC-BY-SA-3.0"),
    "mlqa_across": ("facebookresearch/MLQA", "CC-BY-SA-3.0"),
    "headings": ("microsoft/IoT-For-Beginners, microsoft/edgeai-for-beginners, reactjs/react.dev", "CC-BY-4.0, MIT"),
    "segments": ("microsoft/IoT-For-Beginners, microsoft/edgeai-for-beginners", "MIT"),
}


def _write_spec(folder: Path, kind: str, subsets: dict[str, list[str]]) -> None:
    score, split = SCORES[kind]
    source, licence = SETS[folder.name]
    spec = {
        "name": folder.name,
        "type": kind,
        "main_score": score,
        "languages": sorted({code for codes in subsets.values() for code in codes}),
        "licence": licence,
        "source_repo": source,
        "splits": {split: {}},
    }
    if kind != "sts":
        spec["subset_languages"] = subsets
    (folder / "task.json").write_text(json.dumps(spec, indent=2))
