"""Retrieval on held-out pairs: BM25, the model before and after, and how sure the difference is."""

from udever.evaluation.compare import Scores, score_bm25, score_embedder
from udever.evaluation.comparison import Results
from udever.evaluation.held_out import RetrievalSet, Subset
from udever.evaluation.metrics import METRICS, score_ranking
from udever.evaluation.mteb_model import MtebModel, as_mteb
from udever.evaluation.statistics import Interval, paired_bootstrap

__all__ = [
    "METRICS",
    "Interval",
    "MtebModel",
    "Results",
    "RetrievalSet",
    "Scores",
    "Subset",
    "as_mteb",
    "paired_bootstrap",
    "score_bm25",
    "score_embedder",
    "score_ranking",
]
