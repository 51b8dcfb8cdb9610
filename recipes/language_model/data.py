"""English training pairs and the evaluation tasks of the experiment, from a folder of public sets.

Sets that are used, by the names of their files there: entailment (counterfactual SNLI, the English rows of XNLI's
development set), similarity (the English training part of the STS benchmark, each pair with its grade), questions and
passages (TyDi QA's English training questions, MLQA's English development questions, MedQuAD), headings and the
sections under them (documentation). No pair has a side that is not English, none is code.
"""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MAX_CHARACTERS = 280
"""Longer texts are cut here, at a space: about 64 tokens. Short texts make more steps of the same hour."""

XTREME = (
    "ara", "heb", "vie", "ind", "jav", "tgl", "eus", "mal", "tam", "tel", "afr", "nld",
    "deu", "ell", "ben", "hin", "mar", "urd", "pes", "fra", "ita", "por", "spa", "bul",
    "rus", "jpn", "kat", "kor", "tha", "swh", "cmn", "kaz", "tur", "est", "fin", "hun",
)  # fmt: skip
"""The 36 languages of Tatoeba in XTREME (arXiv 2003.11080), which the paper's two groups are of."""


LANGUAGES = {
    "ar": "ara-Arab", "de": "deu-Latn", "el": "ell-Grek", "es": "spa-Latn", "hi": "hin-Deva", "ru": "rus-Cyrl",
    "th": "tha-Thai", "tr": "tur-Latn", "vi": "vie-Latn", "zh": "zho-Hans",
}  # fmt: skip
"""XQuAD's languages beside English, as its files are called and as mteb names them."""


@dataclass(frozen=True)
class Source:
    """One set of pairs: its file, how many of its English rows are taken, their kind and their share of the steps.

    Pairs of a `graded` set are learned in the order of their grades, not against each other; arms.py alone has them.
    """

    file: str
    rows: int
    kind: str
    share: float
    graded: bool = False


SOURCES = (
    Source("nli_cad_en", 6006, "symmetric", 0.40),
    Source("nli_xnli_dev", 830, "symmetric", 0.06),
    Source("qa_tydi", 3696, "asymmetric", 0.18),
    Source("qa_mlqa_dev", 1148, "asymmetric", 0.08),
    Source("qa_medquad_en", 5000, "asymmetric", 0.08),
    Source("docs_heading_passage", 6000, "asymmetric", 0.12),
    Source("docs_courses_react", 773, "asymmetric", 0.04),
    Source("docs_d365", 1100, "asymmetric", 0.04),
    Source("sts_stsb_multi_train", 5710, "symmetric", 0.10, graded=True),
)


CODES = LANGUAGES | {"en": "eng-Latn", "fr": "fra-Latn", "sw": "swh-Latn"}

XNLI = ("en", "fr", "es", "zh", "ar", "de", "ru", "tr", "vi", "hi", "th", "sw")
"""Languages of XNLI's development set whose pairs are trained on one at a time."""


def write_pairs(folder: Path, output: Path, seed: int = 0, *, graded: bool = False) -> dict[str, int]:
    """Write a file of English pairs for each source into `output`, `graded` ones if asked; return how many each has."""
    output.mkdir(parents=True, exist_ok=True)
    counts = {}
    for source in [source for source in SOURCES if graded or not source.graded]:
        rows = list(_rows(folder / f"{source.file}.parquet", source))
        random.Random(seed).shuffle(rows)
        rows = rows[: source.rows]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), output / f"{source.file}.parquet")
        counts[source.file] = len(rows)
    return counts


SCHEMA = pa.schema(
    [
        ("anchor", pa.string()),
        ("positive", pa.string()),
        ("negatives", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
        ("kind", pa.string()),
        ("group", pa.string()),
        ("anchor_language", pa.string()),
        ("positive_language", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
    ]
)


def write_entailment(folder: Path, output: Path) -> None:
    """XNLI's development pairs, the same 830 in every language, as `entailment.LANGUAGE.parquet` in `output`."""
    for language in XNLI:
        rows = list(_rows(folder / "nli_xnli_dev.parquet", Source("nli_xnli_dev", 830, "symmetric", 1.0), language))
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), output / f"entailment.{language}.parquet")


def _rows(path: Path, source: Source, language: str = "en") -> Iterator[dict[str, Any]]:
    wanted = [("anchor_language", "=", language), ("positive_language", "=", language)]
    for row in pq.read_table(path, filters=wanted).to_pylist():
        yield {
            "anchor": cut(row["anchor"]),
            "positive": cut(row["positive"]),
            "negatives": [cut(row["negative"])] if row["negative"] else [],
            "scores": [row["score"] / 5] if source.graded else None,
            "kind": source.kind,
            "anchor_language": CODES[language],
            "positive_language": CODES[language],
            "source": row["source"],
            "licence": row["licence"],
        }


def cut(text: str, length: int = MAX_CHARACTERS) -> str:
    """At most `length` characters, ending at a space where there is one in the second half."""
    if len(text) <= length:
        return text
    head = text[:length]
    end = head.rfind(" ")
    return head[:end] if end > length // 2 else head


def write_tasks(folder: Path, output: Path) -> None:
    """The tasks of the headline as folders: XQuAD, XQuAD over English passages, STS benchmark, Tatoeba."""
    for name in ("xquad_r", "stsb_multi"):
        shutil.copytree(folder / name, output / name, dirs_exist_ok=True)
    _write_across(folder / "xquad_r", output / "xquad_across")
    _write_tatoeba(folder / "tatoeba", output / "tatoeba")


def _write_across(xquad: Path, output: Path) -> None:
    """Questions in each language, the passages in English: ids are the same in all languages."""
    output.mkdir(parents=True, exist_ok=True)
    spec = json.loads((xquad / "task.json").read_text())
    names = sorted(LANGUAGES)
    for name in names:
        shutil.copy(xquad / "en.corpus.parquet", output / f"{name}-en.corpus.parquet")
        for part in ("queries", "qrels"):
            shutil.copy(xquad / f"{name}.{part}.parquet", output / f"{name}-en.{part}.parquet")
    spec = {key: spec[key] for key in ("languages", "licence", "source_repo", "source_commit")} | {
        "name": "xquad_across",
        "type": "retrieval",
        "main_score": "ndcg_at_10",
        "splits": {"validation": {}},
        "subset_languages": {f"{name}-en": [LANGUAGES[name], "eng-Latn"] for name in names},
    }
    (output / "task.json").write_text(json.dumps(spec, indent=2))


def _write_tatoeba(tatoeba: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    spec = json.loads((tatoeba / "task.json").read_text())
    spec["languages"] = [language for language in spec["languages"] if language[:3] in {*XTREME, "eng"}]
    spec["splits"] = {
        split: {name: rows for name, rows in subsets.items() if name[:3] in XTREME}
        for split, subsets in spec["splits"].items()
    }
    (output / "task.json").write_text(json.dumps(spec, indent=2))
    for language in XTREME:
        shutil.copy(tatoeba / f"{language}-eng.parquet", output)
