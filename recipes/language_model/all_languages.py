"""Training pairs of all languages that the public sets hold, for the arm of all languages.

Where a set has one text in many languages, a row takes its two sides in languages drawn apart, so that the language of
a text never tells which other text of its batch belongs to it. No set that is evaluated on is among them, nor the
graded pairs of the STS benchmark.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from data import MAX_CHARACTERS, SCHEMA, cut

SHORT_CHARACTERS = 140
"""Where a character is about a token: Chinese, Japanese, Korean, Thai, Khmer, Lao and Burmese."""
DENSE = ("zh", "zh-tw", "ja", "ko", "th", "km", "lo", "my")
MIN_CHARACTERS = 12
"""Of a translation in the language of its other side; what is shorter are names and menus."""


@dataclass(frozen=True)
class Set:
    """A file of pairs, its kind and share of the steps, at most `rows` of it.

    Of every group of translations `draws` rows are made.
    """

    file: str
    kind: str
    share: float
    rows: int = 20_000
    draws: int = 1


SETS = (
    Set("nli_cad_en", "symmetric", 0.10),
    Set("nli_xnli_dev", "symmetric", 0.16, draws=4),
    Set("nli_indonli", "symmetric", 0.02),
    Set("nli_csts_zh", "symmetric", 0.03),
    Set("qa_mlqa_dev", "asymmetric", 0.10, draws=2),
    Set("qa_tydi", "asymmetric", 0.10),
    Set("qa_jaquad", "asymmetric", 0.04),
    Set("qa_xglue_de", "asymmetric", 0.04),
    Set("qa_medquad_en", "asymmetric", 0.03),
    Set("docs_heading_passage", "asymmetric", 0.06),
    Set("docs_courses_react", "asymmetric", 0.05),
    Set("docs_d365", "asymmetric", 0.03),
    Set("parallel_beginner_courses", "symmetric", 0.10),
    Set("parallel_react_docs", "symmetric", 0.05),
    Set("parallel_python_docs_multi", "symmetric", 0.03),
    Set("parallel_d365", "symmetric", 0.03),
    Set("parallel_d365_operations", "symmetric", 0.03),
)


def write_all(folder: Path, output: Path, seed: int = 0) -> dict[Path, float]:
    """Write the pairs of every set into `output`, where they are not there; return the files and their shares."""
    output.mkdir(parents=True, exist_ok=True)
    for wanted in SETS:
        path = output / f"{wanted.file}.parquet"
        if not path.is_file():
            chosen = random.Random(seed)
            kept = list(_crossed(pq.read_table(folder / path.name).to_pylist(), wanted, chosen))
            chosen.shuffle(kept)
            half = path.with_suffix(".part")  # a run that is stopped here finds no half-written file
            pq.write_table(pa.Table.from_pylist(kept[: wanted.rows], SCHEMA), half)
            half.replace(path)
    return {output / f"{wanted.file}.parquet": wanted.share for wanted in SETS}


def _crossed(rows: list[dict[str, Any]], wanted: Set, chosen: random.Random) -> Iterator[dict[str, Any]]:
    """Every row that stands alone; of a group of translations rows whose sides are in languages drawn apart."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["group"] is None:
            yield _row(row, row, wanted.kind)
        else:
            groups[row["group"]].append(row)
    for group in groups.values():
        texts = _translations(group)
        for _ in range(wanted.draws):
            if group[0]["anchor_language"] == group[0]["positive_language"]:
                yield _row(chosen.choice(group), chosen.choice(group), wanted.kind)
            elif texts:
                (one, asked), (other, answered) = chosen.sample(sorted(texts.items()), 2)
                row = group[0] | {"anchor": asked, "positive": answered, "negative": None}
                row |= {"anchor_language": one, "positive_language": other}
                yield _row(row, row, wanted.kind)


def _translations(group: list[dict[str, Any]]) -> dict[str, str]:
    """The texts of a group of translations by language; {} where fewer than two are long enough and unlike."""
    texts: dict[str, str] = {}
    for row in group:
        for side in ("anchor", "positive"):
            if len(row[side]) >= MIN_CHARACTERS and row[side] not in texts.values():
                texts.setdefault(row[f"{side}_language"], row[side])
    return texts if len(texts) > 1 else {}


def _row(asking: Mapping[str, Any], answering: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The anchor of one row and the positive and negative of the other."""
    asked, answered = asking["anchor_language"], answering["positive_language"]
    negative = answering["negative"]
    return {
        "anchor": cut(asking["anchor"], _length(asked)),
        "positive": cut(answering["positive"], _length(answered)),
        "negatives": [cut(negative, _length(answered))] if negative else [],
        "scores": None,
        "kind": kind,
        "group": asking["group"],
        "anchor_language": asked,
        "positive_language": answered,
        "source": answering["source"],
        "licence": answering["licence"],
    }


def _length(language: str) -> int:
    return SHORT_CHARACTERS if language in DENSE else MAX_CHARACTERS
