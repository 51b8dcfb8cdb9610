"""Tasks, models under test, their scores, and how sure a difference is."""

from udever.evaluation.comparison import Comparison
from udever.evaluation.held_out import (
    METRICS,
    Question,
    Scores,
    read_questions,
    score_held_out,
    score_pairs,
    write_held_out,
)
from udever.evaluation.mteb_model import MtebModel, as_mteb
from udever.evaluation.statistics import Interval, paired_bootstrap

__all__ = [
    "METRICS",
    "Comparison",
    "Interval",
    "MtebModel",
    "Question",
    "Scores",
    "as_mteb",
    "paired_bootstrap",
    "read_questions",
    "score_held_out",
    "score_pairs",
    "write_held_out",
]
