"""Two rankings of one search, by meaning and by words, joined by their scores; and what words weigh."""

import json
import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from udever.errors import DataError

DEPTH = 50
"""How many of the best by meaning and by words are joined."""

WORDS_DEPTH = 200
"""How many of the best by words say how widely BM25 is spread."""

WORDS_WEIGHT = 0.05
"""The cosine that one standard deviation of BM25 is worth, where nothing was measured.

About half a deviation of cosines, as dev/LOG.md has it.
"""

WEIGHT_FILE = "search.json"
"""Beside a model: `words_weight`, as `udever adapt` chose it."""

_Name = TypeVar("_Name", bound=Hashable)
Ranking = Sequence[tuple[_Name, float]]
"""Names with their scores, best first."""


def fuse(
    by_meaning: Ranking[_Name], by_words: Ranking[_Name], num_texts: int, words_weight: float
) -> dict[_Name, float]:
    """Each name's cosine and BM25, added: from 0 to 1, the share of what the meaning itself and the best words had.

    BM25 counts in standard deviations over all `num_texts` that were searched, of which those behind WORDS_DEPTH count
    as 0: words that few texts say weigh more than words that many do. Joined are `by_meaning` and the first DEPTH of
    `by_words`; what one of them lacks has there what the last of DEPTH has (by words 0 where there are fewer). Best
    first, equal ones in the order of `by_meaning`. Compare "An analysis of fusion functions for hybrid
    retrieval" (arXiv 2210.11934).
    """
    found = np.array([score for _, score in by_words[:WORDS_DEPTH]])
    spread = math.sqrt(max(0.0, (found @ found) / num_texts - (found.sum() / num_texts) ** 2)) if len(found) else 0.0
    meaning, words = dict(by_meaning), dict(by_words[:DEPTH])
    weight = words_weight / spread if spread > 0 else 0.0
    floor = by_meaning[:DEPTH][-1][1] if by_meaning else 0.0
    least = by_words[DEPTH - 1][1] if len(by_words) >= DEPTH else 0.0
    most = 1 + weight * (by_words[0][1] if by_words else 0.0)
    scores = {
        name: (max(0.0, meaning.get(name, floor)) + weight * words.get(name, least)) / most
        for name in dict.fromkeys([*meaning, *words])
    }
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def write_words_weight(folder: Path, weight: float) -> None:
    """Note beside a model what words weigh where it searches."""
    (folder / WEIGHT_FILE).write_text(json.dumps({"words_weight": weight}, indent=2) + "\n", encoding="utf-8")


def read_words_weight(model: str) -> float:
    """What words weigh beside the model in a folder: as noted there, else WORDS_WEIGHT.

    Raises DataError for a note that cannot be read.
    """
    path = Path(model) / WEIGHT_FILE
    if not path.is_file():
        return WORDS_WEIGHT
    try:
        weight = float(json.loads(path.read_text(encoding="utf-8"))["words_weight"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path} cannot be read ({error}); expected {{"words_weight": a number}}') from error
    if not 0 <= weight <= 10:
        raise DataError(f"{path}: words_weight is {weight}; expected 0 to 10")
    return weight
