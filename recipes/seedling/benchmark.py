"""Step 8: the goals of the seedling from results of `udever eval`, beside other models: Markdown and JSON.

    udever eval -m CANDIDATE -m base -m teacher -m bm25 -m char-tfidf -o RESULTS           # the suite of the package
    for task in tatoeba stsb_multi xquad_r sts12 sts13 sts14 sts15 sts16 sickr banking77 amazon_counterfactual; do
        udever eval -m CANDIDATE -m base -m teacher --data DATA/eval --task $task -o RESULTS
    done
    python benchmark.py RESULTS... [--published PUBLISHED.json] [--output goals.json]

`base` is what base.py wrote, the same network with random weights. Published scores are those of mteb's result files:
{"org__model": {public task: {split: {subset: score}}}}.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from common import WORK

from udever.evaluation.results import ModelScores, read_scores

MANY = 3000
THREE = {
    "af": "afr", "ar": "ara", "az": "aze", "be": "bel", "bg": "bul", "bn": "ben", "bs": "bos", "ca": "cat", "cs": "ces",
    "da": "dan", "de": "deu", "el": "ell", "eo": "epo", "es": "spa", "et": "est", "eu": "eus", "fi": "fin", "fr": "fra",
    "gl": "glg", "he": "heb", "hi": "hin", "hr": "hrv", "hu": "hun", "hy": "hye", "id": "ind", "is": "isl", "it": "ita",
    "ja": "jpn", "ka": "kat", "kk": "kaz", "km": "khm", "ko": "kor", "lt": "lit", "lv": "lvs", "mk": "mkd", "ml": "mal",
    "mr": "mar", "ms": "zsm", "nb": "nob", "nl": "nld", "fa": "pes", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus",
    "sk": "slk", "sl": "slv", "sq": "sqi", "sr": "srp", "sv": "swe", "sw": "swh", "ta": "tam", "te": "tel", "th": "tha",
    "tl": "tgl", "tr": "tur", "uk": "ukr", "ur": "urd", "uz": "uzb", "vi": "vie", "zh": "cmn",
}  # fmt: skip
"""Languages trained on, as Tatoeba calls them."""

Key = tuple[str, str, str]
"""Public task, split, subset."""


@dataclass(frozen=True)
class Goal:
    """A row of the table: the mean of `group` over the scores that `keep` takes."""

    name: str
    keep: Callable[[Key], bool]
    by_task: bool = False


def sentences_by_language() -> Counter[str]:
    """Translated sentences to train on in each language: dictionaries and symbols' names are not counted."""
    table = pq.read_table(WORK / "pairs" / "translations.parquet", columns=["anchor_language", "positive_language"])
    return Counter(name for column in table.columns for name in column.to_pylist())


def goals(counts: Counter[str]) -> list[Goal]:
    """What the seedling is held to."""
    trained = {f"{three}-eng" for three in THREE.values()}
    many = {f"{three}-eng" for two, three in THREE.items() if counts[two] >= MANY}
    english = ("STS12", "STS13", "STS14", "STS15", "STS16", "SICK-R")

    def outside(key: Key, *names: str) -> bool:
        return key[0] in names and key[1] in ("test", "validation") and not key[2].startswith(("en", "eng"))

    return [
        Goal(f"Tatoeba, {len(trained)} languages trained on", lambda k: k[0] == "Tatoeba" and k[2] in trained),
        Goal(f"Tatoeba, {len(many)} with {MANY:,} sentences or more", lambda k: k[0] == "Tatoeba" and k[2] in many),
        Goal("STS benchmark outside English", lambda k: outside(k, "STSBenchmarkMultilingualSTS") and k[1] == "test"),
        Goal("XQuAD outside English", lambda k: outside(k, "XQuADRetrieval")),
        Goal("code search, questions outside English", lambda k: outside(k, "universal_code_search")),
        Goal("English STS (STS12 in part)", lambda k: k[0] in english and k[1] == "test", by_task=True),
        Goal(
            "classification, English",
            lambda k: k[0] in ("Banking77Classification", "AmazonCounterfactualClassification")
            and k[1] == "test" and k[2] in ("en", "default"),
            by_task=True,
        ),
        Goal(
            "classification, German and Japanese",
            lambda k: k[0] == "AmazonCounterfactualClassification" and k[1] == "test" and k[2] in ("de", "ja"),
        ),
        Goal("suite, mean of nine tasks", lambda k: k[0].startswith("universal_"), by_task=True),
    ]  # fmt: skip


PUBLIC = {
    "tatoeba": "Tatoeba", "stsb_multi": "STSBenchmarkMultilingualSTS", "xquad_r": "XQuADRetrieval", "sickr": "SICK-R",
    "banking77": "Banking77Classification", "amazon_counterfactual": "AmazonCounterfactualClassification",
    **{f"sts{year}": f"STS{year}" for year in range(12, 17)},
}  # fmt: skip


Value = tuple[float, float]
"""A score and half of its 95 % interval; nan where that is not known."""


def measured(model: ModelScores) -> dict[Key, Value]:
    """Scores of a run, by public task."""
    return {
        (PUBLIC.get(s.task, s.task), s.split, s.subset): (
            s.value,
            math.nan if s.low is None or s.high is None else (s.high - s.low) / 2,
        )
        for s in model.scores
    }


def published(content: dict) -> dict[Key, Value]:
    """Scores of a result file."""
    return {
        (task, split, subset): (value, math.nan)
        for task, splits in content.items()
        for split, subsets in splits.items()
        if isinstance(subsets, dict)
        for subset, value in subsets.items()
    }


def value_of(goal: Goal, scores: dict[Key, Value], wanted: set[Key]) -> Value | None:
    """Mean over the scores that any run has; by task first where `by_task`. None where one of them is missing.

    Its half interval is the mean of theirs: what it is at most, whether their items have to do with each other
    (translations of one sentence) or not.
    """
    found = {key: scores.get(key, scores.get((*key[:2], "default"))) for key in wanted if goal.keep(key)}
    values = {key: value for key, value in found.items() if value is not None}
    if not found or len(values) < len(found):
        return None
    groups = [[key for key in values if key[0] == task] for task in sorted({key[0] for key in values})]
    if not goal.by_task:
        groups = [list(values)]
    means = [np.mean([values[key] for key in group], axis=0) for group in groups]
    value, half = np.mean(means, axis=0)
    return float(value), float(half)


def written(value: Value | None) -> str:
    """A cell of the table."""
    if value is None:
        return ""
    return f"{value[0]:.3f}" if math.isnan(value[1]) else f"{value[0]:.3f} ± {value[1]:.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--published", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    models: dict[str, dict[Key, Value]] = {}
    for model in read_scores(options.results):
        models.setdefault(model.name.rpartition("/")[2], {}).update(measured(model))
    wanted = {key for scores in models.values() for key in scores}
    if options.published:
        for name, content in json.loads(options.published.read_text()).items():
            if "all-MiniLM" not in name and "udever" not in name:
                models[f"{name.rpartition('__')[2]} (published)"] = published(content)
    rows = {
        goal.name: {name: value_of(goal, scores, wanted) for name, scores in models.items()}
        for goal in goals(sentences_by_language())
    }
    print("| | " + " | ".join(models) + " |\n" + "|---" * (len(models) + 1) + "|")
    for goal, values in rows.items():
        print(f"| {goal} | " + " | ".join(map(written, values.values())) + " |")
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
