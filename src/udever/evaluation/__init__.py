"""Tasks, models under test, their scores, and how sure a difference is."""

from udever.evaluation.comparison import Comparison
from udever.evaluation.held_out import (
    METRICS,
    Scores,
    score_bm25,
    score_embedder,
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
    "Scores",
    "as_mteb",
    "paired_bootstrap",
    "score_bm25",
    "score_embedder",
    "score_held_out",
    "score_pairs",
    "write_held_out",
]
