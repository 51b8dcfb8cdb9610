"""What the arms say: results.jsonl as measures an arm, and the numbers behind each finding.

A measure is a mean over languages of one kind of score. Where an arm was run with three seeds its interval is
Student's over the seeds (two degrees of freedom); differences between such arms are taken seed by seed.
"""

import csv
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from common import LANGUAGES, TRAIN, WORK

DIFFERENCES = (
    ("main-en", "small-en"),
    ("main-en", "random-en"),
    ("bilingual-en", "main-en"),
    ("small-en", "small-before"),
    ("random-en", "random-before"),
    ("bilingual-en", "bilingual-before"),
    ("aligned-en", "aligned-before"),
)
"""Arms of different backbones that are compared."""

UNSEEN = tuple(language for language, codes in LANGUAGES.items() if not codes)
STUDENT = 4.303
"""The 97.5 % point of Student's distribution with two degrees of freedom."""

MEASURES = {
    "sts_en": "STS, English",
    "sts": "STS, 10 others",
    "retrieval_en": "retrieval, English",
    "retrieval": "retrieval, others",
    "tatoeba": "Tatoeba, seen",
    "tatoeba_unseen": "Tatoeba, unseen",
    "cross": "XQuAD with English",
    "code": "English to code",
    "all": "all",
}
"""What is averaged: `all` is the mean of STS and retrieval in every language, Tatoeba (seen), XQuAD across, code."""


def read_results() -> dict[str, dict[str, Any]]:
    """The arms by name."""
    lines = (WORK / "results.jsonl").read_text().splitlines()
    return {line["arm"]["name"]: line for line in map(json.loads, lines)}


def read_percent() -> dict[str, float]:
    """Each language's share of what the backbones read, in percent."""
    with (WORK / "shares.csv").open(newline="") as file:
        return {row["language"]: float(row["percent"]) for row in csv.DictReader(file)}


def mean(values: Iterable[float]) -> float:
    """The mean; NaN without values."""
    values = list(values)
    return float(np.mean(values)) if values else float("nan")


def monolingual(arm: dict[str, Any], language: str, kinds: tuple[str, ...] = ("STS", "Retrieval")) -> float:
    """Mean over the kinds of task of the scores within `language`."""
    by_kind = [
        [s["value"] for s in arm["scores"] if s["languages"] == [language] and s["type"] == kind] for kind in kinds
    ]
    return mean(mean(values) for values in by_kind if values)


def tested(arm: dict[str, Any], kind: str) -> list[str]:
    """Languages with a score of this kind within the language."""
    return sorted({s["languages"][0] for s in arm["scores"] if s["type"] == kind and len(s["languages"]) == 1})


def tatoeba(arm: dict[str, Any], language: str) -> float:
    """How often the nearest English sentence is the translation."""
    return mean(s["value"] for s in arm["scores"] if s["task"] == "Tatoeba" and s["languages"][0] == language)


def measures(arm: dict[str, Any]) -> dict[str, float]:
    """Every one of `MEASURES`."""
    found: dict[str, float] = {}
    for name, kind in (("sts", "STS"), ("retrieval", "Retrieval")):
        others = [language for language in tested(arm, kind) if language != "eng-Latn"]
        found[f"{name}_en"] = monolingual(arm, "eng-Latn", (kind,))
        found[name] = mean(monolingual(arm, language, (kind,)) for language in others)
    seen = [language for language in LANGUAGES if language not in UNSEEN and language != "eng-Latn"]
    found["tatoeba"] = mean(tatoeba(arm, language) for language in seen)
    found["tatoeba_unseen"] = mean(tatoeba(arm, language) for language in UNSEEN)
    across = [s for s in arm["scores"] if s["task"] == "XQuAD" and len(s["languages"]) == 2]
    found["cross"] = mean(s["value"] for s in across)
    found["code"] = mean(s["value"] for s in arm["scores"] if s["languages"][-1].endswith("-Code"))
    within = [
        mean(monolingual(arm, language, (kind,)) for language in tested(arm, kind)) for kind in ("STS", "Retrieval")
    ]
    found["all"] = mean([*within, found["tatoeba"], found["cross"], found["code"]])
    return found


def seeds_of(results: dict[str, Any], name: str) -> list[str]:
    """The arm and its repetitions with other seeds, by seed."""
    return [key for key in (name, f"{name}-seed1", f"{name}-seed2") if key in results]


def student(values: list[float]) -> tuple[float, float | None]:
    """Mean and half width of its 95 % interval; None unless there are three."""
    half = STUDENT * float(np.std(values, ddof=1)) / 3**0.5 if len(values) == 3 else None
    return mean(values), half


def over_seeds(results: dict[str, Any], name: str, measure: str) -> tuple[float, float | None]:
    """A measure of an arm over its seeds."""
    return student([measures(results[key])[measure] for key in seeds_of(results, name)])


def difference(results: dict[str, Any], a: str, b: str, measure: str) -> tuple[float, float | None]:
    """By how much `a` is above `b`, seed by seed as far as both go."""
    pairs = list(zip(seeds_of(results, a), seeds_of(results, b), strict=False))
    return student([measures(results[x])[measure] - measures(results[y])[measure] for x, y in pairs])


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def gains(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What pairs in a language add to its monolingual score, over pairs in English alone, beside its share."""
    percent, english, rows = read_percent(), results["main-en"], []
    for language in sorted({*tested(english, "STS"), *tested(english, "Retrieval")}):
        row = {"language": language, "percent": percent[language], "english": monolingual(english, language)}
        own = results.get(f"main-{TRAIN.get(language)}")
        for name, arm in (("before", results.get("main-before")), ("own", own), ("all", results.get("main-all"))):
            row[name] = monolingual(arm, language) if arm else None
        rows.append(row)
    return rows


def profiles(results: dict[str, Any]) -> dict[str, float]:
    """Correlation over test languages of the gains of two arms over the backbone as it was, for every two."""
    names = [f"main-{code}" for code in TRAIN.values() if f"main-{code}" in results]
    before = results["main-before"]
    languages = sorted({*tested(before, "STS"), *tested(before, "Retrieval")})
    rows = {n: [monolingual(results[n], x) - monolingual(before, x) for x in languages] for n in names}
    return {f"{a} {b}": float(np.corrcoef(rows[a], rows[b])[0, 1]) for i, a in enumerate(names) for b in names[i + 1 :]}


def numbers(results: dict[str, Any]) -> dict[str, Any]:
    """Every number that docs/replication.md gives."""
    arms = {
        name: {k: v for k, v in arm.items() if k not in ("scores", "arm")}
        | {"settings": arm["arm"], "measures": measures(arm)}
        for name, arm in results.items()
    }
    summary = {
        name: {measure: over_seeds(results, name, measure) for measure in MEASURES}
        for name in results
        if "seed" not in name
    }
    against = {
        name: {measure: difference(results, name, "main-en", measure) for measure in MEASURES}
        for name in summary
        if name.startswith("main-") and name != "main-en"
    }
    against |= {
        f"{a} - {b}": {measure: difference(results, a, b, measure) for measure in MEASURES}
        for a, b in DIFFERENCES
        if a in results and b in results
    }
    found: dict[str, Any] = {
        "arms": arms,
        "summary": summary,
        "difference_to_main-en": against,
        "gains": gains(results),
    }
    found["share"] = share_correlations(results)
    found["profiles"] = profiles(results)
    return found


def share_correlations(results: dict[str, Any]) -> dict[str, float | int]:
    """Rank correlations with the share in pre-training, over languages that were read."""
    percent, rows = read_percent(), gains(results)
    found: dict[str, float | int] = {}
    shares = [row["percent"] for row in rows]
    for arm in ("main-before", "main-en", "main-all", "random-en"):
        if arm not in results:
            continue
        for kind in ("STS", "Retrieval"):
            languages = tested(results[arm], kind)
            values = [monolingual(results[arm], language, (kind,)) for language in languages]
            found[f"{arm} {kind}"] = rank_correlation([percent[x] for x in languages], values)
            found[f"num {kind}"] = len(languages)
        seen = [x for x in LANGUAGES if x not in UNSEEN and x != "eng-Latn"]
        found[f"{arm} Tatoeba"] = rank_correlation([percent[x] for x in seen], [tatoeba(results[arm], x) for x in seen])
        found["num Tatoeba"] = len(seen)
    if "main-all" in results:
        found["gain of all"] = rank_correlation(shares, [row["all"] - row["english"] for row in rows])
        found["num gain of all"] = len(rows)
    own = [row for row in rows if row["own"] is not None and row["language"] != "eng-Latn"]
    if len(own) > 2:
        gained = [row["own"] - row["english"] for row in own]
        found["gain of own"] = rank_correlation([row["percent"] for row in own], gained)
        found["num gain of own"] = len(own)
    return found
