"""What words weigh in a search by meaning and words: as noted beside a model, or where nothing was."""

import json
from pathlib import Path

from udever.errors import DataError

WORDS_WEIGHT = 0.05
"""The cosine that one standard deviation of BM25 is worth, where nothing was measured.

About half a deviation of cosines, as dev/LOG.md has it.
"""

WEIGHT_FILE = "search.json"
"""Beside a model: `words_weight`, as `udever adapt` chose it."""


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
